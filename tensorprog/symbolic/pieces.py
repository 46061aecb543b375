"""Splitting expressions at their kinks: abs, sign, step, max, min and comparisons.

    exp(min(u, 0))   ->   u >= 0: exp(0),   -u >= 0: exp(u)
    max(u, w, 0)     ->   u - w >= 0, u >= 0: u,   w - u >= 0, w >= 0: w,   -u >= 0, -w >= 0: 0

Every piece is a list of affine conditions (each >= 0) and an expression without the kinks.  A polynomial of one
argument changes its sign at its real roots of odd multiplicity.  Conditions that follow from others are left out,
and a piece whose conditions contradict each other (Farkas' lemma: one is the negative of what follows) is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations, pairwise, product

import numpy as np

from tensorprog.ir.expr import MINUS_ONE, ONE, ZERO, Expr, Num, Op, call, div, mul, neg, num, rebuild, sub
from tensorprog.symbolic import poly, roots
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.poly import Linear, Poly, number

Conditions = tuple[Linear, ...]
Piece = tuple[Conditions, Expr]
Polynomial = Callable[[Expr], Poly | None]

DEGREE = 8  # of polynomials whose roots are looked for
SAME = 1e-13  # relative, of coefficients of affine forms


class NotClosed(Exception):
    """No rule gives this expectation in closed form."""


def halves(e: Expr, polynomial: Polynomial) -> list[Piece]:
    """The pieces of `e`; NotClosed when a kink is at a form that is neither affine nor of one argument."""
    if not isinstance(e, Op):
        return [((), e)]
    args = _branches(e.fn, e) if e.fn in EXTREMES else e.args
    pieces: list[Piece] = []
    for parts in product(*(halves(a, polynomial) for a in args)):
        conditions = restricted((), (c for p in parts for c in p[0]))
        if conditions is not None:
            pieces += _resolve(e.fn, tuple(p[1] for p in parts), conditions, polynomial)
    return pieces


def count(e: Expr) -> int:
    """How many kinked functions stand in `e`."""
    return int(e.fn in KINKED) + sum(map(count, e.args)) if isinstance(e, Op) else 0


def _resolve(fn: str, args: tuple[Expr, ...], conditions: Conditions, polynomial: Polynomial) -> list[Piece]:
    if fn in EXTREMES:
        return _extremes(fn, args, conditions, polynomial)
    if fn not in CHOICES:
        return [(conditions, rebuild(fn, args))]
    p = polynomial(sub(args[0], args[1]) if len(args) == 2 else args[0])
    if p is not None and poly.degree(p) == 0:
        return [(conditions, rebuild(fn, args))]
    above, below = CHOICES[fn](*args)
    return [
        (kept, above if positive else below)
        for region, positive in _sides(p)
        if (kept := restricted(conditions, region)) is not None
    ]


# the values where the (first minus second) argument is positive, and where it is negative
CHOICES: dict[str, Callable[..., tuple[Expr, Expr]]] = {
    "abs": lambda a: (a, neg(a)),
    "sign": lambda a: (ONE, MINUS_ONE),
    "step": lambda a: (ONE, ZERO),
    "gt": lambda a, b: (ONE, ZERO),
    "ge": lambda a, b: (ONE, ZERO),
    "lt": lambda a, b: (ZERO, ONE),
    "le": lambda a, b: (ZERO, ONE),
}
EXTREMES = {"max": ONE, "min": MINUS_ONE}
KINKED = frozenset([*CHOICES, *EXTREMES])


# ---------------------------------------------------------------- max and min


def _branches(fn: str, e: Expr) -> list[Expr]:
    """The arguments of nested maxima (or minima) as those of one; |a| = max(a, -a)."""
    if isinstance(e, Op) and e.fn == fn:
        return list(dict.fromkeys(b for a in e.args for b in _branches(fn, a)))
    if isinstance(e, Op) and e.fn == "abs" and fn == "max":
        return [e.args[0], neg(e.args[0])]
    return [e]


def _extremes(fn: str, args: tuple[Expr, ...], conditions: Conditions, polynomial: Polynomial) -> list[Piece]:
    """Each argument where it is the largest (smallest)."""
    fixed = [a for a in args if (p := polynomial(a)) is not None and poly.degree(p) == 0]
    rest = [a for a in dict.fromkeys(args) if a not in fixed]
    args = (*rest, reduce(lambda a, b: call(fn, a, b), fixed)) if fixed else tuple(rest)
    pieces: list[Piece] = []
    for a in args:
        regions = [conditions]
        for b in args:
            if b is not a:
                sides = _sides(polynomial(mul(EXTREMES[fn], sub(a, b))))
                positive = [region for region, sign in sides if sign]
                joined = (restricted(r, region) for r in regions for region in positive)
                regions = [r for r in joined if r is not None]
        pieces += [(r, a) for r in regions]
    return pieces


# ---------------------------------------------------------------- signs of polynomials


def _sides(p: Poly | None) -> list[tuple[Conditions, bool]]:
    """The regions on which a polynomial has one sign, and whether it is positive there."""
    if p is None:
        raise NotClosed("a kink of a form that is not a polynomial")
    if poly.degree(p) == 1:
        form = poly.linear(p, len(next(iter(p))))
        assert form is not None
        return [((form,), True), ((form.scaled(MINUS_ONE),), False)]
    i, n, coefs = _coefficients(p)
    ends: list[Fraction | None] = [None, *(r for r, m in roots.real_roots(coefs) if m % 2), None]
    positive = (coefs[-1] > 0) == (len(ends) % 2 == 0)
    sides = []
    for low, high in pairwise(ends):
        above = () if low is None else (_from(i, n, low),)
        below = () if high is None else (_from(i, n, high).scaled(MINUS_ONE),)
        sides.append(((*above, *below), positive))
        positive = not positive
    return sides


def point_masses(p: Poly) -> list[tuple[Expr, Linear]]:
    """dirac(p(u)) = sum of weight * dirac(form(u)), for an affine form or simple roots: weight 1 / |p'(root)|."""
    if poly.degree(p) == 1:
        form = poly.linear(p, len(next(iter(p))))
        assert form is not None
        return [(ONE, form)]
    i, n, coefs = _coefficients(p)
    found = roots.real_roots(coefs)
    if any(m > 1 for _, m in found):
        raise NotClosed("a point mass at a multiple root")
    slope = roots.derivative(coefs)
    return [(div(ONE, _exact(abs(roots.value(slope, r)))), _from(i, n, r)) for r, _ in found]


def _coefficients(p: Poly) -> tuple[int, int, list[Fraction]]:
    """(i, n, coefficients) of a polynomial of u_i alone, of n arguments, with constant coefficients."""
    support = sorted({i for powers in p for i, k in enumerate(powers) if k})
    if len(support) > 1 or poly.degree(p) > DEGREE or any(number(c) is None for c in p.values()):
        raise NotClosed("the sign of a polynomial whose roots are not looked for")
    n = len(next(iter(p))) if p else 1
    i = support[0] if support else 0
    coefs = [Fraction(0)] * (poly.degree(p) + 1)
    for powers, c in p.items():
        assert isinstance(c, Num)
        coefs[powers[i]] = Fraction(c.value)
    return i, n, coefs


def _from(i: int, n: int, root: Fraction) -> Linear:
    """u_i - root"""
    return Linear(tuple(ONE if j == i else ZERO for j in range(n)), neg(_exact(root)))


def _exact(x: Fraction) -> Expr:
    """A fraction that is meant; the float next to one that is not."""
    return num(x) if x.denominator <= roots.SMALL else num(float(x))


# ---------------------------------------------------------------- conditions


def restricted(conditions: Conditions, forms: Iterable[Linear]) -> Conditions | None:
    """`conditions` and form >= 0, without those that follow from others; None when they contradict each other."""
    for form in forms:
        if follows(form.scaled(MINUS_ONE), conditions):
            return None
        if not follows(form, conditions):
            for c in conditions:
                others = tuple(k for k in conditions if k != c)
                conditions = others if follows(c, (*others, form)) else conditions
            conditions = (*conditions, form)
    return conditions


def follows(form: Linear, conditions: Conditions) -> bool:
    """Whether form >= 0 follows: it is a sum of conditions with weights >= 0, and a constant >= 0."""
    target = _row(form)
    if form in conditions or target is None:
        return form in conditions
    rows = [r for r in map(_row, conditions) if r is not None]
    return any(_combines(chosen, target) for k in range(1, len(target)) for chosen in combinations(rows, k))


def _combines(rows: Sequence[Array], target: Array) -> bool:
    basis = np.array(rows)
    weights = np.linalg.lstsq(basis[:, :-1].T, target[:-1], rcond=None)[0]
    rest = target - weights @ basis
    allowed = SAME * (np.max(np.abs(target)) + np.max(np.abs(basis)) * np.max(np.abs(weights)))
    return bool(np.all(weights > 0) and np.all(np.abs(rest[:-1]) <= allowed) and rest[-1] >= -allowed)


def _row(form: Linear) -> Array | None:
    """(coefficients, constant), None when they are not all numbers."""
    values = [number(c) for c in (*form.coefs, form.const)]
    return None if None in values else np.array(values, dtype=float)
