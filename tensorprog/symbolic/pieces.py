"""Splitting expressions at their kinks: abs, sign, step, max, min and comparisons of affine arguments.

    exp(min(u, 0))   ->   u >= 0: exp(0),   -u >= 0: exp(u)

Every piece is a list of affine conditions (each >= 0) and an expression without the kinks.  Conditions that
contradict each other (one argument, constant knots) drop their piece.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from tensorprog.ir.expr import MINUS_ONE, ONE, ZERO, Expr, Op, mul, rebuild, sub
from tensorprog.symbolic.poly import Linear, number

Piece = tuple[tuple[Linear, ...], Expr]
Affine = Callable[[Expr], Linear | None]


class NotClosed(Exception):
    """No rule gives this expectation in closed form."""


def halves(e: Expr, affine: Affine) -> list[Piece]:
    """The pieces of `e`; NotClosed when a kink is at a form that is not affine."""
    if not isinstance(e, Op):
        return [((), e)]
    pieces: list[Piece] = []
    for parts in product(*(halves(a, affine) for a in e.args)):
        conditions = tuple(dict.fromkeys(c for p in parts for c in p[0]))
        if _possible(conditions):
            pieces += _resolve(e.fn, tuple(p[1] for p in parts), conditions, affine)
    return pieces


def _resolve(fn: str, args: tuple[Expr, ...], conditions: tuple[Linear, ...], affine: Affine) -> list[Piece]:
    if fn not in CHOICES:
        return [(conditions, rebuild(fn, args))]
    difference = sub(args[0], args[1]) if len(args) == 2 else args[0]
    form = affine(difference)
    if form is None:
        raise NotClosed(f"{fn} of a form that is not affine")
    if not form.support:
        return [(conditions, rebuild(fn, args))]
    above, below = CHOICES[fn](*args)
    sides = ((form, above), (form.scaled(MINUS_ONE), below))
    return [
        ((*conditions, side), value)
        for side, value in sides
        if side not in conditions and _possible((*conditions, side))
    ] + [(conditions, value) for side, value in sides if side in conditions]


# the values where the (first minus second) argument is positive, and where it is negative
CHOICES: dict[str, Callable[..., tuple[Expr, Expr]]] = {
    "abs": lambda a: (a, mul(MINUS_ONE, a)),
    "sign": lambda a: (ONE, MINUS_ONE),
    "step": lambda a: (ONE, ZERO),
    "max": lambda a, b: (a, b),
    "min": lambda a, b: (b, a),
    "gt": lambda a, b: (ONE, ZERO),
    "ge": lambda a, b: (ONE, ZERO),
    "lt": lambda a, b: (ZERO, ONE),
    "le": lambda a, b: (ZERO, ONE),
}


def _possible(conditions: tuple[Linear, ...]) -> bool:
    """False when conditions on a single argument with constant knots exclude each other."""
    lows: dict[int, list[float]] = {}
    highs: dict[int, list[float]] = {}
    for c in conditions:
        knot = constant_knot(c)
        if knot is not None:
            i, t, upward = knot
            (lows if upward else highs).setdefault(i, []).append(t)
    return all(max(lows[i]) < min(highs[i]) for i in lows if i in highs)


def constant_knot(form: Linear) -> tuple[int, float, bool] | None:
    """(i, t, upward) when form >= 0 means u_i >= t (upward) or u_i <= t, with constant t."""
    support = form.support
    if len(support) != 1:
        return None
    slope, offset = number(form.coefs[support[0]]), number(form.const)
    if slope is None or offset is None:
        return None
    return support[0], -offset / slope, slope > 0
