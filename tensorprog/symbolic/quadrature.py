"""Tier 2: deterministic quadrature with an error estimate.

One Gaussian argument in each run, or two independent factors in one (`marginals`), with point masses split off
(`points`); up to four arguments in all by iterated quadrature (`cubature`).  Parameters that vary over the entries are
served by grouping equal ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog.ir.expr import ZERO, Expr, evaluate, mul, symbols
from tensorprog.symbolic.cubature import cubature, typical_cost
from tensorprog.symbolic.exponents import tamed
from tensorprog.symbolic.law import Law
from tensorprog.symbolic.marginals import FLOOR, Pair, Side, one_mean, two_means
from tensorprog.symbolic.moments import Moments, joint_lists
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.points import Split, has_dirac, split_points
from tensorprog.symbolic.separate import separate
from tensorprog.symbolic.series import LONG, ORDER

Params = Mapping[str, Any]
MOST_ARGUMENTS = 4
Result = tuple[Array, Array]


@final
@dataclass(frozen=True, slots=True)
class Quadrature:
    """The integrand as a function of the joint variables `args` (left, then right); for `floor` see `two_means`."""

    integrand: Expr
    args: tuple[str, ...]
    factors: tuple[tuple[int, Split], ...] | None  # of one or two variables, when the integrand separates
    floor: float = FLOOR

    def describe(self) -> str:
        """What is done."""
        if self.factors is None:
            return f"nested Gauss rules in {len(self.args)} variables, broken at kinks, {self._cost()}"
        if len(self.factors) < 2:
            return "composite Gauss-Kronrod rule, broken at kinks"
        return (
            f"Hermite series of the marginals (Mehler), order <= {ORDER}, or {LONG} where that leaves many entries;"
            f" nearer to correlation 1 nested Gauss rules, broken at kinks, {self._cost()}"
        )

    def _cost(self) -> str:
        regular = self.integrand if self.factors is None else mul(*(s.regular for _, s in self.factors))
        params = sorted(symbols(regular) - set(self.args))
        return f"about {typical_cost(regular, self.args, params):.0e} evaluations per entry at unit variances"

    def evaluate(self, moments: Moments, params: Params) -> Result:
        """Values and absolute error estimates of the common shape."""
        mean, cov = joint_lists(moments)
        names = sorted(symbols(self.integrand) & set(params))
        used = {name: np.asarray(params[name], dtype=float) for name in names}
        if all(v.size == 1 for v in used.values()):
            with np.errstate(over="ignore", invalid="ignore"):
                value, error = self._uniform(mean, cov, used)
            error = np.where(np.isfinite(value) & np.isfinite(error), error, np.inf)
            return np.array(np.broadcast_to(value, moments.shape)), np.array(np.broadcast_to(error, moments.shape))
        return self._grouped(mean, cov, used, moments.shape)

    def _grouped(self, mean: list[Array], cov: list[list[Array]], params: Params, shape: tuple[int, ...]) -> Result:
        shape = np.broadcast_shapes(shape, *(v.shape for v in params.values()))
        value, error = np.empty(shape), np.empty(shape)
        for mask, single in _equal_parameters(params, shape):
            picked = [np.broadcast_to(m, shape)[mask] for m in mean]
            covs = [[np.broadcast_to(c, shape)[mask] for c in row] for row in cov]
            value[mask], error[mask] = self._uniform(picked, covs, single)
        return value, error

    def _uniform(self, mean: list[Array], cov: list[list[Array]], params: Params) -> Result:
        if self.factors is None:
            return cubature(self.integrand, self.args, mean, cov, params)
        sides = [(i, Side(s.regular, self.args[i]), s.points) for i, s in self.factors]
        if len(sides) == 1:
            return _one(sides[0], mean, cov, params)
        return _two(sides, mean, cov, params, self.floor)


def quadrature(left: Expr, left_args: tuple[str, ...], right: Expr, right_args: tuple[str, ...]) -> Quadrature | None:
    """The quadrature of E[left * right], None without variables, with too many, or with point masses among several.

    Right arguments must not be named as left ones; see `expectation`.
    """
    left, right = tamed(left), tamed(right)
    args = (*left_args, *right_args)
    factors = separate((left, right), args) if args else None
    if factors is not None and len(factors) <= 2:
        return Quadrature(mul(left, right), args, tuple((i, split_points(e, args[i])) for i, e in factors))
    if not 0 < len(args) <= MOST_ARGUMENTS or has_dirac(left) or has_dirac(right):
        return None
    return Quadrature(mul(left, right), args, None)


def _equal_parameters(params: Params, shape: tuple[int, ...]) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Masks of entries with equal parameters, and these."""
    table = np.stack([np.broadcast_to(v, shape).ravel() for v in params.values()])
    unique, inverse = np.unique(table, axis=1, return_inverse=True)
    inverse = inverse.reshape(shape)
    for k in range(unique.shape[1]):
        yield inverse == k, {name: unique[i, k] for i, name in enumerate(params)}


_Part = tuple[int, Side, tuple[tuple[Expr, Expr], ...]]


def _one(part: _Part, mean: list[Array], cov: list[list[Array]], params: Params) -> Result:
    """E f(u), and the density at its points."""
    i, side, points = part
    value, error = _regular(side, mean[i], cov[i][i], params)
    for t, weight in points:
        law = Law([mean[i] - _number(t, params)], [[cov[i][i]]])
        value = value + _number(weight, params) * law.expect((0,), ((0, "D"),))
    return value, error


def _regular(side: Side, mean: Array, variance: Array, params: Params) -> Result:
    if side.e == ZERO:
        return np.zeros(np.broadcast_shapes(mean.shape, variance.shape)), np.zeros(())
    return one_mean(side, mean, variance, params)


def _two(parts: list[_Part], mean: list[Array], cov: list[list[Array]], params: Params, floor: float) -> Result:
    """E f(u) g(v): regular * regular, points * regular, points * points."""
    (i, f, f_points), (j, g, g_points) = parts
    law = Pair((mean[i], mean[j]), (cov[i][i], cov[j][j]), cov[i][j])
    value, error = np.zeros(law.shape), np.zeros(law.shape)
    if f.e != ZERO and g.e != ZERO:
        value, error = two_means(f, g, law, params, floor)
    for (k, points), (other, side) in (((i, f_points), (j, g)), ((j, g_points), (i, f))):
        for point in points:
            v, e = _at_point(point, k, other, side, mean, cov, params)
            value, error = value + v, error + e
    for t, w in f_points:
        for s, x in g_points:
            both = Law(
                [mean[i] - _number(t, params), mean[j] - _number(s, params)],
                [[cov[i][i], cov[i][j]], [cov[i][j], cov[j][j]]],
            )
            value = value + _number(w, params) * _number(x, params) * both.expect((0, 0), ((0, "D"), (1, "D")))
    return value, error


def _at_point(
    point: tuple[Expr, Expr], k: int, j: int, g: Side, mean: list[Array], cov: list[list[Array]], params: Params
) -> Result:
    """weight * density of u_k at t * E[g(u_j) | u_k = t]"""
    t, weight = _number(point[0], params), _number(point[1], params)
    law = Law([mean[k] - t, mean[j]], [[cov[k][k], cov[k][j]], [cov[k][j], cov[j][j]]])
    height = weight * law.expect((0, 0), ((0, "D"),))
    given = law.given(0)
    value, error = _regular(g, given.mean[1], given.cov[1][1], params)
    return height * value, np.abs(height) * error


def _number(e: Expr, params: Params) -> float:
    return float(np.asarray(evaluate(e, params)).reshape(-1)[0])

