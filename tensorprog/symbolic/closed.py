"""Tier 1: E[f(l) g(r)] as a finite sum of Gaussian moments under gates.

f and g are normal forms (`gates.Group`); a product of one group of each is evaluated by

1. tilting: exp(w.x) moves the mean by cov w, exp(-q z^2 / 2) shrinks the covariance (completing the square);
2. recentring at the knots and adding a noise variable for each normcdf or erf;
3. Stein's recursion down to probabilities of at most two half-lines (`law`).

Waves (sin, cos) are exponentials with imaginary w; with gates they are not served here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, final

import numpy as np

from tensorprog.ir.expr import ONE, ZERO, Expr
from tensorprog.symbolic.gates import Group, groups
from tensorprog.symbolic.law import Gates, Law
from tensorprog.symbolic.moments import Moments, joint_lists
from tensorprog.symbolic.normal import normal_form
from tensorprog.symbolic.orthant import EPS, Array
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.poly import Powers
from tensorprog.symbolic.tiles import cut, tiles
from tensorprog.symbolic.tilt import tilted
from tensorprog.symbolic.waves import wave_pair
from tensorprog.symbolic.weights import Params, Weights, affine, monomials, number

MOST_GATES = 2
Row = tuple[Weights, Any, bool]  # an affine form of the variables, with standard normal noise or without


@final
@dataclass(frozen=True, slots=True)
class Sums:
    """The groups of both factors; `value` and `error` are their expectation and its rounding error."""

    left: tuple[Group, ...]
    right: tuple[Group, ...]
    sizes: tuple[int, int]

    @property
    def polynomial(self) -> bool:
        """Whether both factors are polynomials."""
        return not any(
            g.exponent or g.wave or g.others or any(k.kind for k in g.knots) for g in (*self.left, *self.right)
        )

    def evaluate(self, moments: Moments, params: Params) -> tuple[Array, Array]:
        """E[f g] and an estimate of its absolute error, of the common shape of the moments."""
        shape = np.broadcast_shapes(moments.shape, *(np.shape(v) for v in params.values()))
        value, error = np.empty(shape), np.empty(shape)
        for tile in tiles(shape):
            mean, cov = joint_lists(moments)
            law = Law([cut(m, tile) for m in mean], [[cut(c, tile) for c in row] for row in cov])
            value[tile], error[tile] = self._sum(law, {k: cut(np.asarray(v), tile) for k, v in params.items()})
        return value, np.where(np.isfinite(value), error, np.inf)

    def _sum(self, base: Law, params: Params) -> tuple[Array, Array]:
        value, error = np.zeros(()), np.zeros(())
        laws: dict[Any, tuple[Law, Array]] = {}
        for a, b in product(self.left, self.right):
            key = (a.exponent, b.exponent)
            if key not in laws:
                laws[key] = tilted(base, a, b, params)
            with np.errstate(over="ignore", invalid="ignore"):
                v, e = _pair(*laws[key], a, b, params)
                value, error = value + v, error + e
        return value, error


def closed_sums(left: Expr, left_args: tuple[str, ...], right: Expr, right_args: tuple[str, ...]) -> Sums:
    """The closed form of E[left * right].  NotClosed when there is none."""
    a = groups(normal_form(left, left_args), len(left_args))
    b = groups(normal_form(right, right_args), len(right_args))
    for x, y in product(a, b):
        _check(x, y)
    return Sums(a, b, (len(left_args), len(right_args)))


def _check(a: Group, b: Group) -> None:
    gates = [k.kind for g in (a, b) for k in g.knots if k.kind] + [o.kind for g in (a, b) for o in g.others]
    if sum(kind != "D" for kind in gates) > MOST_GATES:
        raise NotClosed("more than two gates")
    if gates and (a.wave or b.wave):
        raise NotClosed("a wave under a gate")


# ---------------------------------------------------------------- one product of groups


def _pair(law: Law, log: Array, a: Group, b: Group, params: Params) -> tuple[Array, Array]:
    if a.wave or b.wave:
        return wave_pair(law, log, a, b, params)
    enlarged, gates = _enlarge(law, a, b, params)
    mass = np.exp(log)
    value, error = np.zeros(()), np.zeros(())
    for powers, weight in monomials(a, b, params, len(enlarged.mean)):
        moment = enlarged.expect(powers, gates)
        scale = np.abs(moment) if _is_sharp(enlarged, powers, gates) else enlarged.spread(powers)
        value = value + weight * mass * moment
        error = error + np.abs(weight) * mass * scale * (4 + np.abs(log)) * EPS
    return value, error


def _is_sharp(law: Law, powers: Powers, gates: Gates) -> bool:
    """Whether a moment has full relative precision: no gates, or two centred half-lines of the variables themselves."""
    if not gates:
        return True
    if len(gates) != 2 or any(np.any(law.mean[i]) for i, _ in gates):
        return False
    return len(law.mean) == 2 or not any(powers)


def _enlarge(law: Law, a: Group, b: Group, params: Params) -> tuple[Law, Gates]:
    """The law of the centred variables z and of the other gates, and the gates by index."""
    knots = (*a.knots, *b.knots)
    rows: list[Row] = []
    gates: list[tuple[int, str]] = []
    for i, knot in enumerate(knots):
        flip = number(knot.flip, params)
        rows.append(({i: flip}, -flip * number(knot.origin, params), False))
        gates += [(i, knot.kind)] if knot.kind else []
    for gate, offset in [(g, 0) for g in a.others] + [(g, len(a.knots)) for g in b.others]:
        gates.append((len(rows), gate.kind))
        rows.append((*affine(gate.form, offset, params), gate.soft))
    if len(rows) == len(knots) and all(k.flip == ONE and k.origin == ZERO for k in knots):
        return law, tuple(gates)
    return _mapped(law, rows), tuple(gates)


def _mapped(law: Law, rows: list[Row]) -> Law:
    """The law of the affine images row . x + const (+ standard normal noise)."""
    mean = [sum((law.mean[i] * c for i, c in row.items()), start=const) for row, const, _ in rows]
    n = range(len(rows))
    cov = [[_image(law, rows[i], rows[j]) + float(i == j and rows[i][2]) for j in n] for i in n]
    return Law([np.asarray(m) for m in mean], cov)


def _image(law: Law, x: Row, y: Row) -> Array:
    return np.asarray(sum(c * d * law.cov[i][j] for i, c in x[0].items() for j, d in y[0].items()))
