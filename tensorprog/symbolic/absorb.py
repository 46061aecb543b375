"""Parameters that act as an affine map of the argument go into the law.

    f(u; p) = alpha(p)^j h(alpha(p) u + beta(p)),
    E f(u; p) = alpha^j E h(w),  w ~ N(alpha mean + beta, alpha^2 variance)

as in tanh((u - m) / s) after a layer normalization.  Then h has no parameters, and one plan serves all entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, final

import numpy as np

from tensorprog.ir.expr import ONE, ZERO, Expr, Op, evaluate, num, rebuild, substitute, symbols
from tensorprog.symbolic.normal import Normalizer
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.poly import Linear

MOST_PARAMETERS = 6
POINTS = 512


@final
@dataclass(frozen=True, slots=True)
class Absorbed:
    """slope^power * function(slope * u + offset)"""

    function: Expr
    slope: Expr = ONE
    offset: Expr = ZERO
    power: int = 0

    def law(self, mean: Array, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """(slope, mean of slope * u + offset)"""
        slope = np.asarray(evaluate(self.slope, params), dtype=float)
        return slope, slope * mean + np.asarray(evaluate(self.offset, params), dtype=float)


def absorb(e: Expr, arg: str) -> Absorbed:
    """`e` with the parameters of one affine form absorbed, if they act through it only; else `e` as it is."""
    names = sorted(symbols(e) - {arg})
    if not names or arg not in symbols(e):
        return Absorbed(e)
    smooth = _without_points(e)
    for form in dict.fromkeys(_forms(e, arg)):
        for values in _neutral(form):
            function = substitute(e, values)
            for power in range(3):
                found = Absorbed(function, form.coefs[0], form.const, power)
                if _holds(smooth, substitute(smooth, values), found, arg, names):
                    return found
    return Absorbed(e)


def _without_points(e: Expr) -> Expr:
    """dirac as a density, which transforms alike and has values."""
    if not isinstance(e, Op):
        return e
    return rebuild("normpdf" if e.fn == "dirac" else e.fn, tuple(_without_points(a) for a in e.args))


def _forms(e: Expr, arg: str) -> Iterator[Linear]:
    """The affine arguments of the functions in `e`, differences for max, min and comparisons."""
    if not isinstance(e, Op):
        return
    for a in e.args:
        yield from _forms(a, arg)
        if e.fn not in ("add", "mul") and arg in symbols(a):
            try:
                form = Normalizer((arg,)).affine(a)
            except NotClosed:
                continue
            if form is not None and form.support:
                yield form


def _neutral(form: Linear) -> Iterator[dict[str, Expr]]:
    """Values 0 or 1 of the parameters of a form with which it is u itself."""
    names = sorted(symbols(form.coefs[0]) | symbols(form.const))
    if not 0 < len(names) <= MOST_PARAMETERS:
        return
    for bits in product((0, 1), repeat=len(names)):
        values: dict[str, Expr] = {n: num(b) for n, b in zip(names, bits, strict=True)}
        try:
            slope, offset = substitute(form.coefs[0], values), substitute(form.const, values)
        except ZeroDivisionError:
            continue
        if slope == ONE and offset == ZERO:
            yield values


def _holds(e: Expr, function: Expr, found: Absorbed, arg: str, names: list[str]) -> bool:
    """Whether e = slope^power * function(slope * u + offset), at random points of both signs where e is defined."""
    rng = np.random.default_rng(0)
    params = {n: rng.uniform(0.3, 2.0, POINTS) * rng.choice([-1, 1], POINTS) for n in names}
    u = rng.normal(size=POINTS) * 2
    with np.errstate(all="ignore"):
        slope, w = found.law(u, params)
        wanted = np.broadcast_to(np.asarray(evaluate(e, {**params, arg: u}), dtype=float), u.shape)
        value = slope**found.power * np.asarray(evaluate(function, {**params, arg: w}), dtype=float)
    defined = np.isfinite(wanted)
    return bool(np.sum(defined) >= 8 and np.allclose(value[defined], wanted[defined], rtol=1e-9, atol=1e-12))


