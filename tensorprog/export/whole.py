"""Index arithmetic in whole numbers: one quotient of whole numbers, divided last.

    a/b + c/d = (a d + c b) / (b d)      (a/b) // (c/d) = (a d) // (b c)      (a/b) % (c/d) = ((a d) % (b c)) / (b d)

What an index stands for is whole, but its parts need not be: L/2 + i/2.  Denominators are positive, as sizes are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from tensorprog.ir.expr import COMPARE, ONE, Expr, Num, Op, Sym, add, div, mul, num, power, rebuild

WHOLE = "whole"
"""The helper that makes whole numbers of what a function of real numbers gives."""

_CLOSED = ("max", "min", "abs", "sign", "step")  # functions with whole values at whole arguments


def whole(e: Expr) -> Expr:
    """An expression of whole value with `//` in place of every other division."""
    above, below = _ratio(e)
    return above if below == ONE else Op("floordiv", (above, below))


def _ratio(e: Expr) -> tuple[Expr, Expr]:
    """Numerator and denominator, both whole at whole indices and sizes."""
    if isinstance(e, Num):
        value = Fraction(e.value).limit_denominator(10**6) if isinstance(e.value, float) else e.value
        return num(value.numerator), num(value.denominator)
    if isinstance(e, Sym):
        return e, ONE
    if e.fn == "pow":
        return _power(*e.args)
    parts = [_ratio(a) for a in e.args]
    if e.fn == "mul":
        return _reduced(mul(*(a for a, _ in parts)), mul(*(b for _, b in parts)))
    if e.fn not in ("add", "floordiv", "mod", *COMPARE):
        return _function(e.fn, parts), ONE
    below = _common(b for _, b in parts)
    above = tuple(mul(a, div(below, b)) for a, b in parts)
    if e.fn == "add":
        return _reduced(add(*above), below)
    return rebuild(e.fn, above), below if e.fn == "mod" else ONE


def _power(base: Expr, exponent: Expr) -> tuple[Expr, Expr]:
    above, below = _ratio(base)
    if not isinstance(exponent, Num):
        return rebuild("pow", (_joined(above, below), whole(exponent))), ONE
    if Fraction(exponent.value).denominator > 1:
        return Op(WHOLE, (power(_joined(above, below), exponent),)), ONE
    size = num(abs(int(exponent.value)))
    return (power(above, size), power(below, size)) if exponent.value > 0 else (power(below, size), power(above, size))


def _function(fn: str, parts: list[tuple[Expr, Expr]]) -> Expr:
    value = rebuild(fn, tuple(_joined(a, b) for a, b in parts))
    return value if fn in _CLOSED and all(b == ONE for _, b in parts) else Op(WHOLE, (value,))


def _joined(above: Expr, below: Expr) -> Expr:
    return above if below == ONE else div(above, below)


def _common(denominators: Iterable[Expr]) -> Expr:
    """A common multiple."""
    factor: int = 1
    rest: Expr = ONE
    for b in denominators:
        constant, other = _split(b)
        factor = math.lcm(factor, constant)
        rest = rest if other == rest else mul(rest, other)
    return mul(num(factor), rest)


def _reduced(above: Expr, below: Expr) -> tuple[Expr, Expr]:
    """Without a common constant."""
    (a, left), (b, right) = _split(above), _split(below)
    return mul(num(a // math.gcd(a, b)), left), mul(num(b // math.gcd(a, b)), right)


def _split(e: Expr) -> tuple[int, Expr]:
    """The constant factor and the rest."""
    if isinstance(e, Num):
        return int(e.value), ONE
    if isinstance(e, Op) and e.fn == "mul" and isinstance(e.args[0], Num):
        return int(e.args[0].value), mul(*e.args[1:])
    return 1, e
