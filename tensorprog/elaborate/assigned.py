"""Families that a program fills element by element: `h[0] = ...`, `h[t + 1] = ...`."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from tensorprog.elaborate.builder import Builder
from tensorprog.errors import Span
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.program import Axis, Dim, Linear, Map, Read, Term, identity


@dataclass
class Growing:
    """A family under construction: `pieces` are (domain, target, element) in internal index names."""

    var: str
    outer: tuple[Axis, ...]
    dim: Dim | None
    span: Span
    pieces: list[tuple[tuple[Axis, ...], tuple[Expr, ...], Read | None]] = field(default_factory=list)

    def axes(self) -> tuple[Axis, ...]:
        """The axes as far as they are filled."""
        count = len(self.pieces[0][1])
        return tuple(Axis(f"k{d}", self._extent(d)) for d in range(count))

    def _extent(self, d: int) -> Expr:
        extent: Expr = ex.ZERO
        for domain, target, _ in self.pieces:
            extent = _larger(extent, ex.add(_upper(target[d], domain), ex.ONE))
        return extent

    def covers(self, target: tuple[Expr, ...]) -> bool:
        """Whether a piece has assigned this very element already."""
        return any(t == target for _, t, _ in self.pieces)

    def define(self, builder: Builder) -> None:
        """Emit the family."""
        terms = []
        for domain, target, read in self.pieces:
            source = () if read is None else read.index
            map_ = Map(domain, identity(self.outer) + target, source)
            terms.append(Term(None if read is None else read.var, map_, ex.ZERO if read is None else ex.ONE))
        builder.define(self.var, self.outer + self.axes(), self.dim, Linear(tuple(terms), assigned=True), self.span)


def _upper(e: Expr, domain: tuple[Axis, ...]) -> Expr:
    """The largest value of an index expression that rises or falls with each index."""
    ends: dict[str, Expr] = {}
    for axis in domain:
        slope = ex.add(ex.substitute(e, {axis.index: ex.ONE}), ex.neg(ex.substitute(e, {axis.index: ex.ZERO})))
        falls = isinstance(slope, Num) and slope.value < 0
        ends[axis.index] = ex.ZERO if falls else ex.add(axis.extent, ex.MINUS_ONE)
    return ex.substitute(e, ends)


def _larger(a: Expr, b: Expr) -> Expr:
    """The larger of two sizes; decided here when one is seen to be (sizes are at least 1)."""
    slopes = _slopes(ex.add(a, ex.neg(b)))
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
