"""E f(u) and E f(u) g(v) by piecewise quadrature, for functions of one Gaussian each and scalar parameters.

Marginals are reduced once to Hermite series; entries that the series does not resolve (kinks or large variance
at correlation near +-1) are integrated by nested piecewise rules; correlation +-1 and variance 0 are exact cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np

from tensorprog.ir.expr import Expr, Op, Sym, evaluate, mul, substitute, symbols
from tensorprog.symbolic import orthant
from tensorprog.symbolic.cubature import cubature
from tensorprog.symbolic.deviations import Values, interpolated
from tensorprog.symbolic.kinks import Function
from tensorprog.symbolic.line import Curve, curve, rule
from tensorprog.symbolic.nested import line_product, nested
from tensorprog.symbolic.orthant import EPS, Array
from tensorprog.symbolic.rounding import doubt
from tensorprog.symbolic.series import LONG, ORDER, Series, mehler, series

REACH = 13.0
FAR_REACH = 30.0  # for functions that grow exponentially
ACCEPT = 2e-11  # relative error of the series that is good enough
FLOOR = 4e-14  # the same, relative to the root mean squares
SETTLED = 1e-8  # relative error from which rules adapted to each function are tried
RESOLVABLE = 1e-6  # functions with a larger defect oscillate too much for nested rules
RESOLVED = 256  # functions that are kept
MANY = 96  # laws from which they are interpolated
WORTH = 8  # entries that the series does not settle for each marginal, from which a long one is made
GROWING = frozenset(["exp", "sinh", "cosh"])


@final
@dataclass(frozen=True, slots=True)
class Side:
    """A function of one run and its Gaussian symbol."""

    e: Expr
    arg: str


def function_of(arg: str, params: Mapping[str, Any]) -> Callable[[Expr], Function]:
    """Expressions as numerical functions of `arg`, for parameters that are scalars."""
    env = {k: float(np.asarray(v).reshape(-1)[0]) for k, v in params.items()}

    def read(e: Expr) -> Function:
        return lambda x: np.broadcast_to(np.asarray(evaluate(e, {**env, arg: x}), dtype=float), x.shape)

    return read


def doubt_of(side: Side, params: Mapping[str, Any]) -> Function:
    """What rounding may move a function by, in units of the rounding unit."""
    env = {k: float(np.asarray(v).reshape(-1)[0]) for k, v in params.items()}
    return lambda x: np.broadcast_to(doubt(side.e, {**env, side.arg: x}), x.shape)


def reach_of(e: Expr) -> float:
    """How many deviations matter."""
    return FAR_REACH if _grows(e) else REACH


def _grows(e: Expr) -> bool:
    return isinstance(e, Op) and (e.fn in GROWING or any(_grows(a) for a in e.args))


def curve_of(side: Side, mean: Array, deviation: Array, reach: float, params: Mapping[str, Any]) -> Curve:
    """The function of a run resolved where its laws live, and somewhat beyond: data that are alike share it."""
    low, high = float(np.min(mean - reach * deviation)), float(np.max(mean + reach * deviation))
    narrow = float(np.min(deviation, where=deviation > 0, initial=high - low))
    numbers = ((k, float(np.asarray(v).reshape(-1)[0])) for k, v in params.items() if k in symbols(side.e))
    return _resolved(side, tuple(numbers), _outward(low, high), _power_below(narrow))


@lru_cache(maxsize=RESOLVED)
def _resolved(side: Side, numbers: tuple[tuple[str, float], ...], span: tuple[float, float], narrow: float) -> Curve:
    params = dict(numbers)
    return curve(side.e, function_of(side.arg, params), doubt_of(side, params), span, narrow)


def _outward(low: float, high: float) -> tuple[float, float]:
    """The ends of an interval moved out by at most an eighth of its length, to round numbers."""
    if not 0 < high - low < math.inf:
        return low, high
    step = _power_below((high - low) / 8)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _power_below(x: float) -> float:
    """The largest power of 2 that is not above."""
    return math.ldexp(0.5, math.frexp(x)[1]) if 0 < x < math.inf else x


def one_mean(side: Side, mean: Array, variance: Array, params: Mapping[str, Any]) -> tuple[Array, Array]:
    """E f(u) for arrays of laws."""
    mean, variance = np.broadcast_arrays(mean, variance)
    m, s = mean.ravel(), np.sqrt(variance.ravel())
    f = function_of(side.arg, params)(side.e)
    value, error = np.array(f(m)), np.zeros(len(m))
    live = s > 0
    if np.any(live):
        reach = reach_of(side.e)
        c = curve_of(side, m[live], s[live], reach, params)
        found = _many(c, m[live], s[live], reach) if np.count_nonzero(live) > MANY and np.ptp(m[live]) == 0 else None
        value[live], error[live] = _line(c, m[live], s[live], reach) if found is None else found
    return value.reshape(mean.shape), error.reshape(mean.shape)


def _line(c: Curve, mean: Array, deviation: Array, reach: float) -> tuple[Array, Array]:
    at = rule(mean, deviation, c.breaks, reach, 1.5)
    value, error = at.mean(at.values(c.f))
    return value, error + c.defect * np.abs(value) + at.rounding(at.values(c.doubt))


def _many(c: Curve, mean: Array, deviation: Array, reach: float) -> tuple[Array, Array] | None:
    """Many laws of one mean from a few; None where that does not converge."""

    def few(some: Array) -> Values:
        value, error = _line(c, mean[: len(some)], some, reach)
        return Values(value[None], np.max(np.abs(value), keepdims=True), error)

    found = interpolated(deviation, few)
    return None if found is None else (found.first(), np.full(len(mean), found.error))


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """The joint law of two variables: arrays that broadcast to `shape`."""

    mean: tuple[Array, Array]
    variance: tuple[Array, Array]
    c: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape."""
        return np.broadcast_shapes(*(x.shape for x in (*self.mean, *self.variance, self.c)))

    def at(self, mask: Array) -> Pair:
        """The marked entries, flat."""
        m, n, a, b, c = (np.broadcast_to(x, self.shape)[mask] for x in (*self.mean, *self.variance, self.c))
        return Pair((m, n), (a, b), c)


def two_means(
    left: Side, right: Side, law: Pair, params: Mapping[str, Any], floor: float = FLOOR
) -> tuple[Array, Array]:
    """E f(u) g(v): reduce the marginals, sum the series, redo what it does not resolve; one variable is integrated.

    Resolved is what has an error below `floor` times the root mean squares, or a small relative one.
    """
    equal = _coincide(law)
    if np.all(equal):
        value, error = np.empty(law.shape), np.empty(law.shape)
    else:
        value, error = _of_two(left, right, law, equal, params, floor)
    if np.any(equal):
        product, one = mul(left.e, substitute(right.e, {right.arg: Sym(left.arg)})), law.at(equal)
        value[equal], error[equal] = one_mean(Side(product, left.arg), one.mean[0], one.variance[0], params)
    return value, error


def _coincide(law: Pair) -> Array:
    """The entries where both variables are the same, up to the rounding of their covariance."""
    a, b = law.variance
    same = (law.mean[0] == law.mean[1]) & (a == b) & (law.c >= 0) & (orthant.minor(a, b, law.c) == 0)
    return np.broadcast_to(same, law.shape)


def _of_two(  # noqa: PLR0913
    left: Side, right: Side, law: Pair, known: Array, params: Mapping[str, Any], floor: float
) -> tuple[Array, Array]:
    """Where an entry is `known` from elsewhere, anything: marginals are those of all, as few as their shapes tell."""
    reach = max(reach_of(left.e), reach_of(right.e))
    same = _same(left, right, law)
    found = [_curve(side, law, i, reach, params) for i, side in enumerate((left,) if same else (left, right))]
    curves = [found[0], found[-1]]
    f, g = _marginals(curves, same, law, reach, ORDER)
    a, b = law.variance
    product = a * b
    rho = np.where(known, 0.0, np.clip(orthant.ratio(law.c, np.sqrt(product)), -1.0, 1.0))
    det = np.where(product > 0, orthant.ratio(orthant.minor(a, b, law.c), product), 1.0)
    value, error = (np.array(np.broadcast_to(x, law.shape)) for x in mehler(f, g, rho))
    worth = np.count_nonzero(_unsettled(value, error, f, g, floor)) > WORTH * (f.norm.size + g.norm.size)
    if worth and max(c.defect for c in curves) < RESOLVABLE:
        f, g = _marginals(curves, same, law, reach, LONG)
        value, error = (np.array(np.broadcast_to(x, law.shape)) for x in mehler(f, g, rho))
    if np.any(law.c == 0):
        _independent(value, error, f, g, law)
    todo = _unsettled(value, error, f, g, floor)
    todo &= np.broadcast_to((product > 0) & (rho != 0), law.shape) & (max(c.defect for c in curves) < RESOLVABLE)
    if np.any(todo):
        r, d = (np.broadcast_to(x, law.shape)[todo] for x in (rho, det))
        v, e = _redone((left, right), law.at(todo), curves, r, d, reach, params)
        better = ~(error[todo] <= e)
        value[todo] = np.where(better, v, value[todo])
        error[todo] = np.where(better, e, error[todo])
    return value, error


def _unsettled(value: Array, error: Array, f: Series, g: Series, floor: float) -> Array:
    return np.asarray(~(error <= np.maximum(ACCEPT * np.abs(value), floor * np.sqrt(f.norm * g.norm))))


def _independent(value: Array, error: Array, f: Series, g: Series, law: Pair) -> None:
    """At covariance 0 the product of the means, with the errors of these, in place."""
    here = np.broadcast_to(law.c == 0, law.shape)
    means = f.coefficients[0], g.coefficients[0]
    doubts = f.error * np.abs(means[1]) + g.error * np.abs(means[0]) + f.error * g.error
    value[here] = np.broadcast_to(means[0] * means[1], law.shape)[here]
    error[here] = np.broadcast_to(doubts + EPS * np.abs(means[0] * means[1]), law.shape)[here]


def _curve(side: Side, law: Pair, i: int, reach: float, params: Mapping[str, Any]) -> Curve:
    mean, variance = np.broadcast_arrays(law.mean[i], law.variance[i])
    return curve_of(side, mean, np.sqrt(variance), reach, params)


def _same(left: Side, right: Side, law: Pair) -> bool:
    """Whether functions and laws are the same, so that the left serves both."""
    renamed = substitute(right.e, {right.arg: Sym(left.arg)})
    return renamed == left.e and all(map(np.array_equal, _flat(law, 0), _flat(law, 1)))


def _marginals(curves: list[Curve], same: bool, law: Pair, reach: float, order: int) -> tuple[Series, Series]:
    """Both series."""
    shapes = [np.broadcast_shapes(law.mean[i].shape, law.variance[i].shape) for i in (0, 1)]
    found = [_marginal(curves[i], *_flat(law, i), reach, order) for i in ((0,) if same else (0, 1))]
    return found[0].reshaped(shapes[0]), found[-1].reshaped(shapes[1])


def _flat(law: Pair, i: int) -> tuple[Array, Array]:
    mean, variance = np.broadcast_arrays(law.mean[i], law.variance[i])
    return mean.ravel(), variance.ravel()


def _marginal(c: Curve, mean: Array, variance: Array, reach: float, order: int) -> Series:
    """The series of every marginal [N]; at variance 0 the value alone."""
    found = series(c, mean, np.sqrt(np.where(variance > 0, variance, 1e-300)), reach, order)
    values, dead = c.f(mean), variance == 0
    first = np.arange(len(found.coefficients))[:, None] == 0
    rows = np.where(dead, np.where(first, values, 0.0), found.coefficients)
    rest, error = (np.where(dead, 0.0, x) for x in (found.rest, found.error))
    return Series(rows, rest, np.where(dead, values**2, found.norm), error)


def reduced(side: Side, mean: Array, variance: Array, reach: float, params: Mapping[str, Any]) -> Series:
    """The series of a function for flat arrays of laws."""
    return _marginal(curve_of(side, mean, np.sqrt(variance), reach, params), mean, variance, reach, ORDER)


def _redone(
    sides: tuple[Side, Side],
    law: Pair,
    curves: list[Curve],
    rho: Array,
    det: Array,
    reach: float,
    params: Mapping[str, Any],
) -> tuple[Array, Array]:
    """By iterated quadrature; what that does not settle by rules adapted to each function, for flat arrays."""
    (f, g), (a, b) = sides, law.variance
    value, error = cubature(mul(f.e, g.e), (f.arg, g.arg), list(law.mean), [[a, law.c], [law.c, b]], params, math.inf)
    open_ = ~(error <= SETTLED * np.abs(value))
    if np.any(open_):
        parts = (law.mean[0], np.sqrt(a), law.mean[1], np.sqrt(b))
        laws = np.stack([np.broadcast_to(x, law.shape)[open_] for x in parts])
        v, e = _adapted(curves, laws, rho[open_], det[open_], reach)
        better = ~(error[open_] <= e)
        value[open_], error[open_] = np.where(better, v, value[open_]), np.where(better, e, error[open_])
    return value, error


def _adapted(curves: list[Curve], laws: Array, rho: Array, det: Array, reach: float) -> tuple[Array, Array]:
    """Nested rules, or a line rule at |rho| = 1."""
    v, e = np.empty(len(rho)), np.empty(len(rho))
    line = det == 0
    f, g = curves
    if np.any(line):
        v[line], e[line] = line_product(f, g, laws[:, line], np.sign(rho[line]), reach)
    if not np.all(line):
        v[~line], e[~line] = nested(f, g, laws[:, ~line], rho[~line], det[~line], reach)
    return v, e
