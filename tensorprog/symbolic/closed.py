"""Tier 1: E[f(l) g(r)] as a finite sum of Gaussian moments under gates.

f and g are normal forms (`gates.Group`); a product of one group of each is evaluated by

1. tilting: exp(w.x) moves the mean by cov w, exp(-q z^2 / 2) shrinks the covariance (completing the square);
2. recentring at the knots, and noise for each normcdf or erf;
3. Stein's recursion down to probabilities of at most four half-lines (`law`).

Waves (sin, cos) are exponentials with imaginary w (`waves`), under at most two gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, final

import numpy as np

from tensorprog.ir.expr import Expr
from tensorprog.symbolic.enlarge import enlarge
from tensorprog.symbolic.gates import Group, groups
from tensorprog.symbolic.law import Gates, Law, united
from tensorprog.symbolic.moments import Moments, joint_lists
from tensorprog.symbolic.normal import normal_form
from tensorprog.symbolic.orthant import EPS, Array, is_array
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.poly import Powers
from tensorprog.symbolic.tiles import cut, tiles
from tensorprog.symbolic.tilt import Mass, tilted
from tensorprog.symbolic.waves import wave_pair
from tensorprog.symbolic.weights import Params, monomials

MOST_GATES = 4
MOST_WAVE_GATES = 2
LARGE = 12.0  # exp of it times the rounding error is what closed forms may lose
Moment = Callable[[Powers, Gates], tuple[Array, Array]]  # a moment and its absolute error


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

    @property
    def most_gates(self) -> int:
        """The most half-lines in one moment."""
        return sum(max((len(g.kinds) for g in side), default=0) for side in (self.left, self.right))

    def evaluate(self, moments: Moments, params: Params) -> tuple[Array, Array]:
        """E[f g] and an estimate of its absolute error, of the common shape of the moments."""
        shape = np.broadcast_shapes(moments.shape, *(np.shape(v) for v in params.values()))
        value, error = np.empty(shape), np.empty(shape)
        for tile in tiles(shape):
            mean, cov = joint_lists(moments)
            law = Law([cut(m, tile) for m in mean], [[cut(c, tile) for c in row] for row in cov])
            value[tile], error[tile] = self.on(law, {k: cut(np.asarray(v), tile) for k, v in params.items()})
        return value, np.where(np.isfinite(value), error, np.inf)

    def on(self, base: Law, params: Params) -> tuple[Array, Array]:
        """The same for the law of (l, r)."""
        value, error = np.zeros(()), np.zeros(())
        laws: dict[Any, tuple[Law, Mass]] = {}
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
    gates = a.kinds + b.kinds
    if sum(kind != "D" for kind in gates) > MOST_GATES:
        raise NotClosed("more than four gates")
    if len(gates) > MOST_WAVE_GATES and (a.wave or b.wave):
        raise NotClosed("a wave under more than two gates")


# ---------------------------------------------------------------- one product of groups


def _pair(law: Law, mass: Mass, a: Group, b: Group, params: Params) -> tuple[Array, Array]:
    if a.wave or b.wave:
        return wave_pair(law, mass, a, b, params)
    enlarged, gates = enlarge(law, a, b, params)
    heavy = mass.exponent > LARGE
    apart = 0 < len(gates) <= 2 and is_array(heavy) and np.any(heavy)
    moment = _divided(heavy, enlarged, mass) if apart else _plain(enlarged, mass)
    value, error = np.zeros(()), np.zeros(())
    for powers, weight in monomials(a, b, params, len(enlarged.mean)):
        v, e = moment(powers, gates)
        value, error = value + weight * v, error + np.abs(weight) * e
    return value, error


def _plain(law: Law, mass: Mass) -> Moment:
    """The mass times the moments of a law."""
    whole = mass.value

    def moment(powers: Powers, gates: Gates) -> tuple[Array, Array]:
        value = law.expect(powers, gates)
        scale = np.abs(value) if _is_sharp(law, powers, gates) else law.scale(powers, gates)
        return whole * value, whole * scale * ((4 + np.abs(mass.exponent)) * EPS + law.doubt())

    return moment


def _divided(heavy: Array, law: Law, mass: Mass) -> Moment:
    """The same; where the mass is large and the gates are far out, the two exponents are joined before exp."""
    shape = np.broadcast_shapes(heavy.shape, law.shape)
    mask, exponent, factor = (np.broadcast_to(x, shape) for x in (heavy, mass.exponent, mass.factor))
    log = Mass(exponent[mask], factor[mask]).log
    parts = _joined(law.part(mask, log), log), _plain(law.part(~mask), Mass(exponent[~mask], factor[~mask]))

    def moment(powers: Powers, gates: Gates) -> tuple[Array, Array]:
        (v, e), (w, f) = (part(powers, gates) for part in parts)
        return united(mask, v, w), united(mask, e, f)

    return moment


def _joined(law: Law, log: Array) -> Moment:
    """Moments of a law that has the log itself."""

    def moment(powers: Powers, gates: Gates) -> tuple[Array, Array]:
        value, mass = law.expect(powers, gates), law.expect((0,) * len(powers), gates)
        size = np.abs(value) + law.spread(powers) * np.abs(mass)
        return value, size * (8 + 4 * np.abs(log)) * EPS + law.spread(powers) * law.doubt()

    return moment


def _is_sharp(law: Law, powers: Powers, gates: Gates) -> bool:
    """Whether a moment has full relative precision.

    It is a single product without gates, or where a centred variable meets one centred half-line (Stein); the formula
    for two centred half-lines of the variables themselves is as precise.
    """
    if not gates:
        return True
    if len(gates) == 1 and sum(powers) == 1 and gates[0][1] != "D":
        return not any(np.any(law.mean[i]) for i in (gates[0][0], powers.index(1)))
    if len(gates) != 2 or any(np.any(law.mean[i]) for i, _ in gates):
        return False
    return len(law.mean) == 2 or not any(powers)
