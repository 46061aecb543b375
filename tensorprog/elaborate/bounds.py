"""The smallest and largest value of index expressions, and comparisons of sizes (which are at least 1)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Op
from tensorprog.ir.program import Axis


def lowest(e: Expr, axes: Sequence[Axis]) -> Expr:
    """The smallest value of an index expression that rises or falls with each index."""
    return _end(e, axes, rising=False)


def highest(e: Expr, axes: Sequence[Axis]) -> Expr:
    """The largest value of an index expression that rises or falls with each index."""
    return _end(e, axes, rising=True)


def _end(e: Expr, axes: Sequence[Axis], rising: bool) -> Expr:
    ends: dict[str, Expr] = {}
    for axis in axes:
        slope = ex.sub(ex.substitute(e, {axis.index: ex.ONE}), ex.substitute(e, {axis.index: ex.ZERO}))
        falls = isinstance(slope, Num) and slope.value < 0
        ends[axis.index] = ex.ZERO if falls == rising else ex.sub(axis.extent, ex.ONE)
    return ex.substitute(e, ends)


def outside(e: Expr, extent: Expr, axes: Sequence[Axis]) -> bool:
    """Whether a linear index expression surely leaves 0, ..., extent - 1 somewhere on these axes."""
    if not _linear(e) or any(a.extent == ex.ZERO for a in axes):
        return False
    below, above = lowest(e, axes), ex.sub(highest(e, axes), extent)
    return (isinstance(below, Num) and below.value < 0) or (isinstance(above, Num) and above.value >= 0)


def _linear(e: Expr) -> bool:
    if not isinstance(e, Op):
        return True
    if e.fn == "mul":
        return all(isinstance(a, Num) for a in e.args[:-1]) and _linear(e.args[-1])
    return e.fn == "add" and all(_linear(a) for a in e.args)


def larger(a: Expr, b: Expr) -> Expr:
    """The larger of two sizes; decided here when one is seen to be."""
    slopes = _slopes(ex.sub(a, b))
    if slopes is not None and all(s >= 0 for s in slopes):
        return a
    if slopes is not None and all(s <= 0 for s in slopes):
        return b
    return ex.call("max", a, b)


def _slopes(e: Expr) -> list[float] | None:
    """The value of an affine expression at sizes 1 and its slope in each size; None if it is not affine."""
    names = sorted(ex.symbols(e))
    at = [float(ex.evaluate(e, dict.fromkeys(names, Fraction(k)))) for k in (1, 2, 3)]
    slopes = [at[0]]
    for name in names:
        sizes = dict.fromkeys(names, Fraction(1)) | {name: Fraction(2)}
        slopes.append(float(ex.evaluate(e, sizes)) - at[0])
    affine = at[1] - at[0] == sum(slopes[1:]) == at[2] - at[1]
    return slopes if affine else None
