"""Derivatives of steps that vanish: u * step(u), a relu, has the derivative step(u), not step(u) + u * dirac(u)."""

from __future__ import annotations

from tensorprog.ir.expr import ZERO, Expr, Num, Op, Sym, rebuild, substitute


def without_vanishing_diracs(e: Expr) -> Expr:
    """`e` without the products g(u) * dirac(u) in which g(0) = 0."""
    if not (isinstance(e, Op) and e.fn in {"add", "mul"}):
        return e
    inner = rebuild(e.fn, tuple(without_vanishing_diracs(a) for a in e.args))
    return ZERO if isinstance(inner, Op) and inner.fn == "mul" and _vanishes(inner.args) else inner


def _vanishes(factors: tuple[Expr, ...]) -> bool:
    points = [f.args[0] for f in factors if isinstance(f, Op) and f.fn == "dirac"]
    return not any(map(_pole, factors)) and any(_zero(f, at) for f in factors for at in points)


def _pole(factor: Expr) -> bool:
    """Whether a factor may be infinite where another one is zero."""
    if not (isinstance(factor, Op) and factor.fn == "pow"):
        return False
    exponent = factor.args[1]
    return not (isinstance(exponent, Num) and exponent.value > 0)


def _zero(factor: Expr, at: Expr) -> bool:
    """Whether a factor is zero where `at` is."""
    if isinstance(factor, Op) and factor.fn == "dirac":
        return False
    return factor == at or (isinstance(at, Sym) and substitute(factor, {at.name: ZERO}) == ZERO)
