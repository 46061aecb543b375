"""Polynomials in the arguments of a nonlinearity, with expressions of the parameters as coefficients.

    Poly = {(p1, ..., pn): coefficient}    stands for    sum coefficient * u1^p1 ... un^pn
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import final

from tensorprog.ir.expr import MINUS_ONE, ONE, ZERO, Expr, Num, Sym, add, mul, num, power

Powers = tuple[int, ...]
Poly = dict[Powers, Expr]


@final
@dataclass(frozen=True, slots=True)
class Linear:
    """The affine form  coefs . u + const."""

    coefs: tuple[Expr, ...]
    const: Expr

    def scaled(self, factor: Expr) -> Linear:
        """factor * self"""
        return Linear(tuple(mul(factor, c) for c in self.coefs), mul(factor, self.const))

    def plus(self, other: Linear) -> Linear:
        """self + other"""
        return Linear(
            tuple(add(a, b) for a, b in zip(self.coefs, other.coefs, strict=True)), add(self.const, other.const)
        )

    @property
    def support(self) -> tuple[int, ...]:
        """The arguments that occur."""
        return tuple(i for i, c in enumerate(self.coefs) if c != ZERO)


def constant(e: Expr, n: int) -> Poly:
    """The polynomial of degree 0."""
    return {} if e == ZERO else {(0,) * n: e}


def variable(i: int, n: int) -> Poly:
    """The polynomial u_i."""
    return {unit(i, n): ONE}


def unit(i: int, n: int) -> Powers:
    """The powers of u_i alone."""
    return tuple(int(j == i) for j in range(n))


def plus(p: Poly, q: Poly) -> Poly:
    """p + q"""
    total = dict(p)
    for powers, c in q.items():
        total[powers] = add(total.get(powers, ZERO), c)
    return {k: c for k, c in total.items() if c != ZERO}


def times(p: Poly, q: Poly) -> Poly:
    """p q"""
    total: Poly = {}
    for pp, pc in p.items():
        for qp, qc in q.items():
            powers = tuple(a + b for a, b in zip(pp, qp, strict=True))
            total[powers] = add(total.get(powers, ZERO), mul(pc, qc))
    return {k: c for k, c in total.items() if c != ZERO}


def scaled(factor: Expr, p: Poly) -> Poly:
    """factor * p"""
    return {k: c for k, c in ((k, mul(factor, c)) for k, c in p.items()) if c != ZERO}


def degree(p: Poly) -> int:
    """The total degree; 0 for the zero polynomial."""
    return max((sum(k) for k in p), default=0)


def linear(p: Poly, n: int) -> Linear | None:
    """`p` as an affine form; None when its degree is above 1."""
    if degree(p) > 1:
        return None
    return Linear(tuple(p.get(unit(i, n), ZERO) for i in range(n)), p.get((0,) * n, ZERO))


def from_linear(form: Linear) -> Poly:
    """The polynomial of an affine form."""
    n = len(form.coefs)
    terms = {unit(i, n): c for i, c in enumerate(form.coefs)} | {(0,) * n: form.const}
    return {k: c for k, c in terms.items() if c != ZERO}


def recentred(p: Poly, i: int, origin: Expr, flip: Expr) -> Poly:
    """p as a polynomial in z where u_i = origin + flip * z, flip^2 = 1."""
    if origin == ZERO and flip == ONE:
        return p
    total: Poly = {}
    for powers, c in p.items():
        total = plus(total, dict(_binomial(powers, c, i, origin, flip)))
    return total


def _binomial(powers: Powers, c: Expr, i: int, origin: Expr, flip: Expr) -> Iterator[tuple[Powers, Expr]]:
    p = powers[i]
    for k in range(p + 1):
        weight = mul(num(comb(p, k)), flip if k % 2 else ONE, power(origin, num(p - k)), c)
        if weight != ZERO:
            yield (*powers[:i], k, *powers[i + 1 :]), weight


def negated(e: Expr) -> Expr:
    """-e"""
    return mul(MINUS_ONE, e)


def number(e: Expr) -> float | None:
    """The value of a constant, None for an expression of parameters."""
    return float(e.value) if isinstance(e, Num) else None


def index(e: Expr, args: tuple[str, ...]) -> int | None:
    """Which argument `e` is, if it is one."""
    return args.index(e.name) if isinstance(e, Sym) and e.name in args else None
