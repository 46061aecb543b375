"""Where a function of one variable is not smooth, and a partition of the line on which it is resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from tensorprog.ir.expr import Expr, Num, Op, sub
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.symbolic.orthant import EPS, Array

Function = Callable[[Array], Array]
KINKED = frozenset(["abs", "sign", "step", "max", "min", "gt", "ge", "lt", "le"])
SMOOTH = frozenset(["add", "mul"])
REACH = 1e6  # how far kinks of forms that are not affine are looked for
DEGREE = 16
PANELS = 600
RESOLVED = 1e-13


def kinks(e: Expr, function_of: Callable[[Expr], Function]) -> tuple[float, ...]:
    """The arguments of abs, sign, step, max, min and comparisons at 0, ascending.

    `function_of` gives the numerical function of the one variable for a subexpression.
    """
    if not isinstance(e, Op):
        return ()
    found = {t for a in e.args for t in kinks(a, function_of)}
    if e.fn in KINKED:
        switch = sub(e.args[0], e.args[1]) if len(e.args) == 2 else e.args[0]
        found |= set(_roots(function_of(switch), sorted(found)))
    return tuple(sorted(found))


def is_smooth(e: Expr) -> bool:
    """Whether nothing in an expression jumps or bends, whatever its symbols are; roots of them do."""
    if not isinstance(e, Op):
        return True
    if e.fn == "pow":
        exponent = e.args[1]
        return isinstance(exponent, Num) and exponent.value == int(exponent.value) and is_smooth(e.args[0])
    kinked = e.fn not in SMOOTH and (e.fn not in FUNCTIONS or bool(FUNCTIONS[e.fn].kinks))
    return not kinked and all(map(is_smooth, e.args))


def _roots(f: Function, knots: list[float]) -> list[float]:
    """The zeros of a function that is smooth between `knots`; exact where it is affine."""
    ends = [-np.inf, *knots, np.inf]
    return [t for low, high in pairwise(ends) for t in _roots_between(f, low, high)]


def _roots_between(f: Function, low: float, high: float) -> list[float]:
    line = _line(f, _samples(low, high))
    if line is None:
        return _scanned(f, low, high)
    t, slope = line
    return [t] if slope and low < t < high else []


def _line(f: Function, x: Array) -> tuple[float, float] | None:
    """(zero, slope) of `f` if it is affine at the four points `x`."""
    values = f(x)
    slope = (values[2] - values[1]) / (x[2] - x[1])
    line = values[1] + slope * (x - x[1])
    if not np.allclose(values, line, rtol=1e-9, atol=1e-12 * np.max(np.abs(values))):
        return None
    return float(x[1] - values[1] / slope) if slope else np.inf, float(slope)


def _samples(low: float, high: float) -> Array:
    if np.isinf(low) and np.isinf(high):
        return np.array([-3.0, -0.7, 1.1, 4.0])
    if np.isinf(low):
        return high - np.array([7.0, 3.0, 1.5, 0.3])
    if np.isinf(high):
        return low + np.array([0.3, 1.5, 3.0, 7.0])
    return low + (high - low) * np.array([0.1, 0.35, 0.6, 0.9])


def _scanned(f: Function, low: float, high: float) -> list[float]:
    """Zeros by sign changes on a grid that is fine near 0, bisected."""
    first, last = np.arcsinh(np.clip([low, high], -REACH, REACH))
    grid = np.sinh(np.linspace(float(first), float(last), 2001))[1:-1]
    sign = np.sign(f(grid))
    at = np.flatnonzero(sign[1:] * sign[:-1] < 0)
    a, b, start = grid[at], grid[at + 1], sign[at]
    for _ in range(80):
        middle = 0.5 * (a + b)
        same = np.sign(f(middle)) == start
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    return [*map(float, 0.5 * (a + b)), *map(float, grid[sign == 0])]


def centres(e: Expr, function_of: Callable[[Expr], Function]) -> frozenset[tuple[float, float]]:
    """(centre, width) of what a function of one variable does: (t, 1/|slope|) for each call of slope * (u - t)."""
    if not isinstance(e, Op):
        return frozenset([(0.0, 1.0)])
    found = frozenset().union(*(centres(a, function_of) for a in e.args))
    if e.fn in FUNCTIONS and len(e.args) == 1:
        line = _line(function_of(e.args[0]), _samples(-np.inf, np.inf))
        if line is not None and line[1]:
            found |= {(line[0], 1 / abs(line[1]))}
    return found


def _seeds(low: float, high: float, features: Iterable[tuple[float, float]]) -> Iterator[float]:
    """centre +- width * 2^k inside [low, high]: no feature can hide between sample points."""
    for centre, width in features:
        yield centre
        size = 0.5 * width
        while size < high - low:
            yield centre - size
            yield centre + size
            size *= 2


def partition(
    e: Expr, function_of: Callable[[Expr], Function], doubt: Function, span: tuple[float, float], narrow: float
) -> tuple[Array, float]:
    """Breakpoints in the span between which a polynomial of degree 16 resolves `e`; the worst relative defect.

    `doubt` is what rounding may move `e` by (`rounding`).  Starts at the kinks and around the centres; halves what is
    not resolved (Chebyshev coefficients that do not decay).  What is left at a root like that of |u|^(1/2), which no
    halving resolves, counts by its mass, relative to a law as `narrow` as that deviation; not where f is infinite.
    """
    (low, high), knots = span, kinks(e, function_of)
    f = function_of(e)
    starts = (*knots, *_seeds(low, high, centres(e, function_of)))
    ends = np.unique([low, high, *(t for t in starts if low < t < high)])
    open_panels, done = np.stack([ends[:-1], ends[1:]]), [ends]
    core = np.abs(open_panels.mean(axis=0) - 0.5 * (low + high)) <= 0.1 * (high - low)
    typical = float(np.max(_defects(f, doubt, open_panels)[1], where=core | ~core.any(), initial=0.0))
    negligible = 1e-18 * typical
    for _ in range(60):
        defect, size, rounding = _defects(f, doubt, open_panels)
        bad = defect > RESOLVED * size + 16 * EPS * rounding + negligible
        if not np.any(bad):
            return np.unique(np.concatenate(done)), 0.0
        middles = open_panels[:, bad].mean(axis=0)
        done.append(middles)
        open_panels = np.stack(
            [np.concatenate([open_panels[0, bad], middles]), np.concatenate([middles, open_panels[1, bad]])]
        )
        if sum(map(len, done)) > PANELS:
            break
    defect, size, rounding = _defects(f, doubt, open_panels)
    whole = defect / np.maximum(size, rounding)
    if not np.all(np.isfinite(f(np.array(knots)))):
        return np.unique(np.concatenate(done)), float(np.max(whole))
    mass = defect * np.diff(open_panels, axis=0)[0] / (narrow * max(typical, 1e-300))
    return np.unique(np.concatenate(done)), float(np.max(np.minimum(whole, mass)))


def _defects(f: Function, doubt: Function, panels: Array) -> tuple[Array, Array, Array]:
    """The size of the last Chebyshev coefficients, of the function, and of its doubt, on every panel."""
    angles = np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1)
    x = 0.5 * (panels[0] + panels[1])[:, None] + 0.5 * (panels[1] - panels[0])[:, None] * np.cos(angles)
    values = f(x)
    last = np.cos(np.outer(angles, np.arange(DEGREE - 2, DEGREE + 1))) * 2 / (DEGREE + 1)
    worst = np.max(np.abs(values @ last), axis=1)
    return worst, np.max(np.abs(values), axis=1), np.max(doubt(x), axis=1)
