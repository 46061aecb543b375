"""Limit -> equations: every moment, mean and scalar that the kernels call for, by the rules of `limit.moments`.

    E[h[t] h'[s']] = E[W_s[t] W_s'[s']] + E[U_x[t] U_x'[s']] + E[b b']

It is the system that `evaluate` computes, for indices as symbols.  Each equation is written once, for generic
indices: those of the first run by name, those of the second with a prime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from tensorprog.derivation.algebra import add, product, renamed
from tensorprog.derivation.keys import Key
from tensorprog.derivation.notation import (
    ZERO,
    Element,
    Equation,
    Expectation,
    Kernel,
    Node,
    Scalar,
)
from tensorprog.derivation.relations import Index, Names, Solved, extents, meet, primed, run, solve, whole
from tensorprog.derivation.writing import Writer
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym
from tensorprog.ir.program import (
    Inner,
    Instr,
    Linear,
    MatMul,
    Use,
    identity,
)
from tensorprog.limit.analyse import Limit, TrainedWeight
from tensorprog.limit.moments import Side, Unservable
from tensorprog.limit.uses import twin


@final
@dataclass(frozen=True)
class System:
    """The equations by what they define, the results, the weights of the terms of the NTK, and what is not exact.

    `sampled` are the moments that have no equation, with the reason.
    """

    equations: Mapping[Key, Equation]
    nngp: Equation | None
    ntk: tuple[tuple[str, Node], ...]
    sampled: Mapping[Key, str]


def system(limit: Limit) -> System:
    """The equations of both kernels of a limit."""
    writer = _Results(limit)
    nngp = writer.output() if limit.is_vector or limit.output_var in limit.random else None
    if nngp is None:
        writer.scalar(limit.output_var, identity(limit.program.var(limit.output_var).axes), False)
    ntk = tuple((t.weight, writer.trained(t)) for t in limit.trained)
    writer.run()
    return System(writer.equations, nngp, ntk, writer.sampled)


@final
class _Results(Writer):
    """Writes the kernels, and what they call for."""

    def output(self) -> Equation:
        """The NNGP kernel of the output."""
        out = self.limit.output_var
        axes = self.program.var(out).axes
        i, j = identity(axes), primed(axes)
        left = Kernel("NNGP", (*i, *j))
        if self.limit.powers[out] != 0:
            return Equation(left, ZERO)
        if self.limit.is_vector:
            return Equation(left, self.moment(out, i, out, j))
        return Equation(left, self.covariance(out, i, out, j, self._names(axes, axes)))

    def covariance(self, s: str | None, i: Index, t: str | None, j: Index, names: Names) -> Node:
        """Cov(s[i], t'[j]) of two scalars; None, and what does not stay random, is a number."""
        if s is None or t is None or not {s, t} <= self.limit.random:
            return ZERO
        a, b = self.program.instr(s), self.program.instr(t)
        if isinstance(a.op, Linear):
            return self._linear(a, a.op, i, names, False, lambda n, at: self.covariance(n, at, t, j, names))
        if isinstance(b.op, Linear):
            return self._linear(b, b.op, j, names, True, lambda n, at: self.covariance(s, i, n, at, names))
        if isinstance(a.op, MatMul) and isinstance(b.op, MatMul):
            return self._shared(a, a.op, i, b, b.op, j, names)
        if isinstance(a.op, Inner) and isinstance(b.op, Inner):
            return self._inner_pair(a, i, b, j)
        return Expectation((Element(s, i), Element(t, j, True)))

    def _inner_pair(self, a: Instr, i: Index, b: Instr, j: Index) -> Node:
        """scale * E[u v u' v'] of two inner products."""
        assert isinstance(a.op, Inner) and isinstance(b.op, Inner)
        orders, dim = self.limit.orders, self.program.var(a.op.left.var).dim
        assert dim is not None
        scale = ex.mul(*(orders.leading(e).coef for e in (a.op.coef, b.op.coef, dim.size)))
        sides = self.moments.inner(a.var.name, "l"), self.moments.inner(b.var.name, "r")
        try:
            found = self._groups(self.moments.expectation(*sides))
        except Unservable as reason:
            self.sampled["output", a.var.name] = str(reason)
            found = Expectation(tuple(self._side(s, p) for s, p in zip(sides, (False, True), strict=True)))
        values: dict[str, Expr] = dict(zip((x.index for x in a.var.axes), i, strict=True))
        values |= {f"{x.index}'": e for x, e in zip(b.var.axes, j, strict=True)}
        return product(Scalar(scale), renamed(found, values))

    def _side(self, side: Side, prime: bool) -> Node:
        reads = [Element(r.var, run(r.index, side.axes, prime), prime) for r in side.reads.values()]
        return product(*reads)

    def trained(self, part: TrainedWeight) -> Node:
        """The part of the NTK of one weight."""
        twins = [twin(self.program, u) for u in part.uses]
        if all(t is not None for t in twins):
            scale = ex.div(part.scale, self.limit.gains[twins[0] or ""])
            pairs = [self._twin_pair(a, s or "", b, t or "") for a, s in zip(part.uses, twins, strict=True)
                     for b, t in zip(part.uses, twins, strict=True)]
        else:
            scale = part.scale
            pairs = [self._use_pair(a, b) for a in part.uses for b in part.uses]
        return add(*(product(Scalar(scale), p) for p in pairs))

    def _twin_pair(self, a: Use, s: str, b: Use, t: str) -> Node:
        """E[dg dg'] E[g g'] over all pairs of elements of two products g = W h."""
        left, right = (self.program.var(u.row).axes for u in (a, b))
        names = Names(self.sizes)
        i = tuple(Sym(names.fresh(x.index, False)) for x in left)
        j = tuple(Sym(names.fresh(x.index, True)) for x in right)
        found = Solved({}, tuple(map(whole, i, left)), ()), Solved({}, tuple(map(whole, j, right)), ())
        inner = product(self.moment(a.row, i, b.row, j), self.moment(s, i, t, j))
        return meet(*found, (), (), inner)

    def _use_pair(self, a: Use, b: Use) -> Node:
        """coef coef' E[row row'] E[col col'] over all pairs of entries with the same element of the weight."""
        out = self.program.var(self.limit.output_var).axes
        names = self._names(out, out)
        left = solve(a.out, a.domain, identity(out), extents(out), names, False, self._reads(a))
        right = solve(b.out, b.domain, primed(out), extents(out), names, True, self._reads(b))
        if self.program.var(a.row).dim is None:
            scalars = self.scalar(a.row, left.at(a.row_index), False), self.scalar(b.row, right.at(b.row_index), True)
            row = product(*scalars)
        else:
            row = self.moment(a.row, left.at(a.row_index), b.row, right.at(b.row_index))
        col = self._pair(a.col, left.at(a.col_index), b.col, right.at(b.col_index))
        coef = Scalar(ex.mul(*left.at((a.coef,)), *right.at((b.coef,))))
        return meet(left, right, left.at(a.windex), right.at(b.windex), product(coef, row, col))

    def _reads(self, use: Use) -> tuple[tuple[Expr, Expr], ...]:
        read = list(zip(use.row_index, self._extents(use.row), strict=True))
        return tuple(read + (list(zip(use.col_index, self._extents(use.col), strict=True)) if use.col else []))
