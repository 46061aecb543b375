"""Splitting off point masses: f = regular + sum weight_i * dirac(u - t_i)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import final

from tensorprog.errors import fail
from tensorprog.ir.expr import (
    HALF,
    MINUS_ONE,
    ONE,
    ZERO,
    Expr,
    Op,
    Sym,
    add,
    call,
    div,
    mul,
    rebuild,
    sub,
    substitute,
)
from tensorprog.symbolic import poly
from tensorprog.symbolic.normal import Normalizer
from tensorprog.symbolic.pieces import DEGREE, NotClosed, point_masses
from tensorprog.symbolic.poly import Linear

STEPS = {"step": (0, None), "ge": (0, 1), "gt": (0, 1), "le": (1, 0), "lt": (1, 0)}


@final
@dataclass(frozen=True, slots=True)
class Split:
    """regular + sum of weight * dirac(u - t) over points (t, weight), weights free of u."""

    regular: Expr
    points: tuple[tuple[Expr, Expr], ...] = ()


def has_dirac(e: Expr) -> bool:
    """Whether a point mass occurs in `e`."""
    return isinstance(e, Op) and (e.fn == "dirac" or any(has_dirac(a) for a in e.args))


def split_points(e: Expr, arg: str) -> Split:
    """`e` without its point masses, and these.  NotClosed inside other functions than sums and products."""
    if not has_dirac(e):
        return Split(e)
    assert isinstance(e, Op)
    if e.fn == "dirac":
        return _point(e.args[0], arg)
    parts = [split_points(a, arg) for a in e.args]
    if e.fn == "add":
        return Split(add(*(p.regular for p in parts)), tuple(t for p in parts for t in p.points))
    if e.fn == "mul":
        return reduce(lambda a, b: _product(a, b, arg), parts)
    if e.fn == "pow":
        raise fail("the expectation diverges: a power of a point mass (derivative of a step)")
    raise NotClosed(f"a point mass inside {e.fn}")


def collected(e: Expr, arg: str) -> Expr:
    """`e` with its point masses written out as a sum, one for each place; those of weight zero are gone."""
    try:
        split = split_points(e, arg)
    except NotClosed:
        return e
    weights: dict[Expr, Expr] = {}
    for t, weight in split.points:
        weights[t] = add(weights.get(t, ZERO), weight)
    return add(split.regular, *(mul(w, call("dirac", sub(Sym(arg), t))) for t, w in weights.items()))


def _point(e: Expr, arg: str) -> Split:
    p = Normalizer((arg,)).polynomial(e, DEGREE)
    if p is None or poly.degree(p) == 0:
        raise NotClosed("a point mass of a form that is not a polynomial")
    return Split(ZERO, tuple(_located(weight, form) for weight, form in point_masses(p)))


def _located(weight: Expr, form: Linear) -> tuple[Expr, Expr]:
    """(t, w) with  weight * dirac(slope * u + const) = w * dirac(u - t)"""
    slope = form.coefs[0]
    return div(mul(MINUS_ONE, form.const), slope), div(weight, call("abs", slope))


def _product(a: Split, b: Split, arg: str) -> Split:
    if a.points and b.points:
        raise fail("the expectation diverges: the product of two point masses (derivatives of steps)")
    points = [*_times(a.points, b.regular, arg), *_times(b.points, a.regular, arg)]
    return Split(mul(a.regular, b.regular), tuple(points))


def _times(points: tuple[tuple[Expr, Expr], ...], factor: Expr, arg: str) -> list[tuple[Expr, Expr]]:
    return [(t, mul(w, value_at(factor, arg, t))) for t, w in points]


def value_at(e: Expr, arg: str, t: Expr) -> Expr:
    """`e` at arg = t, with the mean of both sides at a jump."""
    return substitute(_balanced(e), {arg: t})


def _balanced(e: Expr) -> Expr:
    """step(x) as (1 + sign(x)) / 2, and comparisons likewise."""
    if not isinstance(e, Op):
        return e
    args = tuple(_balanced(a) for a in e.args)
    if e.fn not in STEPS:
        return rebuild(e.fn, args)
    first, second = STEPS[e.fn]
    difference = args[first] if second is None else sub(args[first], args[second])
    return mul(HALF, add(ONE, call("sign", difference)))


