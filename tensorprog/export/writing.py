"""Expressions as Python text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tensorprog.export.library import PYTHON_NAMES
from tensorprog.export.whole import whole
from tensorprog.ir.expr import COMPARE, Expr, Num, Op, Sym, num, show


def number_text(e: Expr, texts: Mapping[str, str]) -> str:
    """An expression in numbers and arrays; names are replaced by texts, which must bind like a name."""
    text = show(_spelled(e, texts)).replace("^", "**")
    return f"({text})" if isinstance(e, Op) else text


def index_text(e: Expr, texts: Mapping[str, str]) -> str:
    """An expression in whole numbers, computed in whole numbers: see `whole`."""
    return show(_spelled(whole(e), texts)).replace("^", "**")


def conjunction(conditions: Sequence[str]) -> str:
    """All of these conditions, of numbers or of arrays."""
    return " & ".join(conditions)


def _spelled(e: Expr, texts: Mapping[str, str]) -> Expr:
    """Names, functions, comparisons and numbers as Python has them."""
    if isinstance(e, Sym):
        return Sym(texts.get(e.name, e.name))
    if isinstance(e, Num):
        return e if isinstance(e.value, Fraction) and Fraction(show(e)) == e.value else _exact(e)
    args = tuple(_spelled(a, texts) for a in e.args)
    if e.fn in COMPARE:
        return Sym(f"(({show(Op(e.fn, args))}) * 1)")
    return Op(PYTHON_NAMES.get(e.fn, e.fn), args)


def _exact(e: Num) -> Expr:
    """A number to the last digit."""
    value = float(e.value)
    if value.is_integer() and abs(value) < 1e12:
        return num(int(value))
    text = str(int(value)) if value.is_integer() else repr(value)
    return Sym(text if e.value >= 0 else f"({text})")
