"""Families that a program fills element by element: `h[0] = ...`, `h[t + 1] = ...`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tensorprog.elaborate.bounds import highest, larger
from tensorprog.elaborate.builder import Builder
from tensorprog.errors import Span
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.program import Axis, Dim, Iteration, Linear, Map, Read, Term, identity


@dataclass
class Growing:
    """A family under construction: `pieces` are (domain, target, element) in internal index names."""

    var: str
    outer: tuple[Axis, ...]
    dim: Dim | None
    span: Span
    iterations: tuple[Iteration, ...]
    pieces: list[tuple[tuple[Axis, ...], tuple[Expr, ...], Read | None]] = field(default_factory=list)

    def axes(self) -> tuple[Axis, ...]:
        """The axes as far as they are filled."""
        count = len(self.pieces[0][1])
        return tuple(Axis(f"k{d}", self._extent(d)) for d in range(count))

    def _extent(self, d: int) -> Expr:
        extent: Expr = ex.ZERO
        for domain, target, _ in self.pieces:
            extent = larger(extent, ex.add(highest(target[d], domain), ex.ONE))
        return extent

    def covers(self, domain: tuple[Axis, ...], target: tuple[Expr, ...]) -> bool:
        """Whether a piece has assigned these very elements already."""
        new = _nameless(domain, target)
        return any(_nameless(d, t) == new for d, t, _ in self.pieces)

    def lacks(self, index: tuple[Expr, ...]) -> bool:
        """Whether this element is not assigned so far, as far as numbers tell."""
        targets = [t for _, t, _ in self.pieces]
        return all(isinstance(e, Num) for t in (*targets, index) for e in t) and index not in targets

    def define(self, builder: Builder) -> None:
        """Emit the family."""
        terms = []
        for domain, target, read in self.pieces:
            source = () if read is None else read.index
            map_ = Map(domain, identity(self.outer) + target, source)
            terms.append(Term(None if read is None else read.var, map_, ex.ZERO if read is None else ex.ONE))
        op = Linear(tuple(terms), assigned=True)
        builder.define(self.var, self.outer + self.axes(), self.dim, op, self.span, self.iterations)


def _nameless(domain: tuple[Axis, ...], target: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Index expressions with the indices that they use named by their order and extents."""
    used = [a for a in domain if any(a.index in ex.symbols(e) for e in target)]
    names: dict[str, Expr] = {a.index: Sym(f"{k} < {ex.show(a.extent)}") for k, a in enumerate(used)}
    return tuple(ex.substitute(e, names) for e in target)
