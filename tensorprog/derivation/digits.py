"""Numbers and signs as they are written: fractions, roots, powers of pi; what stands above and below a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Op


def is_negative(e: Expr) -> bool:
    """Whether an expression is written with a minus in front."""
    if isinstance(e, Num):
        return e.value < 0
    return isinstance(e, Op) and e.fn == "mul" and is_negative(e.args[0])


def positive(e: Expr) -> Expr:
    """-e, for an expression with a minus in front."""
    if isinstance(e, Op):
        first = positive(e.args[0])
        rest = e.args[1:] if first == ex.ONE else (first, *e.args[1:])
        return rest[0] if len(rest) == 1 else Op("mul", rest)
    return ex.neg(e)


def split(factors: Sequence[Expr]) -> tuple[list[Expr], list[Expr]]:
    """Factors above and below the line."""
    above: list[Expr] = []
    below: list[Expr] = []
    for f in factors:
        shape = recognized(f.value) if isinstance(f, Num) else None
        if isinstance(f, Op) and f.fn == "pow" and is_negative(f.args[1]):
            below.append(ex.Op("pow", (f.args[0], positive(f.args[1]))) if f.args[1] != ex.MINUS_ONE else f.args[0])
        elif isinstance(shape, Fraction):
            above += [Num(Fraction(shape.numerator))] if shape.numerator != 1 else []
            below.append(Num(Fraction(shape.denominator)))
        elif shape is not None and not isinstance(shape, str):
            more = split(shape.args if isinstance(shape, Op) and shape.fn == "mul" else (shape,))
            above, below = above + more[0], below + more[1]
        else:
            above.append(f)
    return above, below


def recognized(value: Fraction | float) -> str | Fraction | Expr:
    """A positive number as digits, as a fraction, or as an expression in roots and powers of pi."""
    if value == math.pi:
        return "pi"
    if isinstance(value, Fraction):
        return _rational(value)
    for k in (0, 1, -1, 2, -2):
        square = value**2 * math.pi**k
        near = Fraction(square).limit_denominator(1000)
        if near and abs(square - near) < 1e-14 * square and near.numerator < 1000:
            found = _root_of(near, k)
            return _rational(found.value) if isinstance(found, Num) and isinstance(found.value, Fraction) else found
    return f"{value:.10g}"


def _rational(value: Fraction) -> str | Fraction:
    decimal = f"{float(value):.6g}"
    if value.denominator == 1:
        return str(value.numerator)
    short = Fraction(decimal) == value and value.denominator % 5 == 0
    return decimal if short or value.denominator > 10**6 else value


def _root_of(square: Fraction, k: int) -> Expr:
    """sqrt(square / pi^k)"""
    inside = [Num(Fraction(_squarefree(n))) for n in (square.numerator, square.denominator)]
    outside = Fraction(math.isqrt(square.numerator // _squarefree(square.numerator)),
                       math.isqrt(square.denominator // _squarefree(square.denominator)))
    root = Op("pow", (ex.PI, ex.num(Fraction(-k, 2)))) if k else ex.ONE
    parts = [Num(outside), *(Op("pow", (n, e)) for n, e in zip(inside, (ex.HALF, ex.num(Fraction(-1, 2))), strict=True)
                            if n != ex.ONE), root]
    kept = tuple(p for p in parts if p != ex.ONE)
    return ex.ONE if not kept else kept[0] if len(kept) == 1 else Op("mul", kept)


def _squarefree(n: int) -> int:
    """n without its square factors."""
    k = math.isqrt(n)
    while k > 1:
        if n % (k * k) == 0:
            return n // (k * k)
        k -= 1
    return n
