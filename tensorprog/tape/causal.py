"""Which elements of a program are functions of which.

A dot Z term sums over all earlier products, sum_j R[i, j] y[j], where R[i, j] is zero unless Z[i] is a
function of leaf j.  Inside loops the order of computation rests on these zeros, so they are found first,
element by element, as the least solution of: i depends on j through vectors and through the terms that are
not zero.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from tensorprog.errors import fail
from tensorprog.ir.program import Instr, Linear, Map, MatMul, Program, Read, Term, operands
from tensorprog.ir.schedule import Step, check_assigned, components, dependencies, levels
from tensorprog.ir.tables import Ints, Sizes, Table, count, flat_index, map_table
from tensorprog.limit.responses import Response

Key = tuple[Map, str | None]
Bools = NDArray[np.bool_]


class Causal:
    """Which coefficients R[i, j] are not zero (`alive`), found by iteration from none.

    Coefficients in `regressions` have no formula of their own and read what their instruction reads.
    """

    def __init__(
        self, program: Program, responses: Sequence[Response], sizes: Sizes, regressions: Collection[str] = ()
    ) -> None:
        self.program, self.responses, self.sizes, self.regressions = program, responses, sizes, regressions
        self.alive: dict[str, Bools] = {
            r.coefficient: np.zeros(self._count(r.coefficient), dtype=bool) for r in responses
        }

    def _count(self, name: str) -> int:
        return count(self.program.var(name).axes, self.sizes)

    def settle(self) -> None:
        """Iterates to the least solution."""
        while True:
            found = {r.coefficient: self._reached(r) for r in self.responses}
            if all((found[name] == self.alive[name]).all() for name in found):
                return
            self.alive = found

    # ------------------------------------------------------------ who is a function of whom

    def _reached(self, response: Response) -> Bools:
        """Of all pairs (target element, leaf element), those in which the first is a function of the second."""
        families = self._between(response.target)
        ends = np.cumsum([self._count(f) for f in families])
        start = {f: int(end) - self._count(f) for f, end in zip(families, ends, strict=True)}
        if response.leaf not in start:
            return np.zeros(self._count(response.coefficient), dtype=bool)
        reads = [
            (start[f] + target, start[name] + source)
            for f in families
            for name, target, source in self._vector_reads(f)
            if name in start
        ]
        leaf = np.arange(self._count(response.leaf))
        first = _relation([(start[response.leaf] + leaf, leaf)], (int(ends[-1]), len(leaf)))
        reach = _closure(_relation(reads, (int(ends[-1]),) * 2), first)
        at = start[response.target]
        return np.asarray(reach[at : at + self._count(response.target)].toarray().ravel() > 0)

    def _between(self, target: str) -> list[str]:
        """The vector families that the target is a function of, back to the matrix products."""
        seen, waiting = [target], [target]
        while waiting:
            op = self.program.instr(waiting.pop()).op
            read = () if isinstance(op, MatMul) else dict.fromkeys(operands(op))
            new = [o for o in read if self.program.var(o).dim is not None and o not in seen]
            seen += new
            waiting += new
        return seen

    def _vector_reads(self, name: str) -> list[tuple[str, Ints, Ints]]:
        instr = self.program.instr(name)
        return [] if isinstance(instr.op, MatMul) else self.dependencies(instr)

    def dependencies(self, instr: Instr) -> list[tuple[str, Ints, Ints]]:
        """(family, elements of the result, elements of the family that they read), without what a zero multiplies."""
        if instr.var.name in self.regressions:
            alive = self.alive[instr.var.name]
            reads = dependencies(instr, self.program, self.sizes)
            return [(f, target[alive[target]], source[alive[target]]) for f, target, source in reads]
        tables = self.tables(instr)
        if not tables or not isinstance(instr.op, Linear):
            return dependencies(instr, self.program, self.sizes)
        rest = Linear(tuple(t for t in instr.op.terms if (t.map, t.operand) not in tables))
        found = dependencies(replace(instr, op=rest), self.program, self.sizes)
        for term in instr.op.terms:
            if (term.map, term.operand) in tables:
                found += self._term_reads(term, tables[term.map, term.operand])
        return found

    def _term_reads(self, term: Term, table: Table) -> list[tuple[str, Ints, Ints]]:
        found = [] if term.operand is None else [(term.operand, table.target, table.source)]
        for s in term.scalars:
            source = self._element(s, table)
            found.append((s.var, table.target[source >= 0], source[source >= 0]))
        return found

    def _element(self, read: Read, table: Table) -> Ints:
        axes = self.program.var(read.var).axes
        return flat_index(read.index, axes, {**self.sizes, **table.index}, self.sizes, len(table))

    def tables(self, instr: Instr) -> dict[Key, Table]:
        """The pairs of dot Z terms whose coefficient is not zero, by map and operand."""
        if not isinstance(instr.op, Linear):
            return {}
        keep: dict[Key, Bools] = {}
        whole: dict[Key, Table] = {}
        for term in instr.op.terms:
            key, responses = (term.map, term.operand), [s for s in term.scalars if s.var in self.alive]
            if responses:
                whole[key] = self._whole(instr, term)
                alive = np.logical_and.reduce([self._alive(s, whole[key]) for s in responses])
                keep[key] = keep[key] | alive if key in keep else alive
        return {key: _restricted(whole[key], keep[key]) for key in keep}

    def _alive(self, read: Read, table: Table) -> Bools:
        element = self._element(read, table)
        return (element >= 0) & self.alive[read.var][np.maximum(element, 0)]

    def _whole(self, instr: Instr, term: Term) -> Table:
        axes = () if term.operand is None else self.program.var(term.operand).axes
        source = () if term.operand is None else term.map.source
        return map_table(Map(term.map.domain, term.map.target, source), instr.var.axes, axes, self.sizes)

    # ------------------------------------------------------------ steps

    def schedule(self) -> list[Step]:
        """Steps that compute every element after what it reads."""
        steps: list[Step] = []
        for group in components(self.program.instrs):
            check_assigned(group, self.program, self.sizes)
            if len(group) == 1 and group[0].var.name not in operands(group[0].op):
                steps.append(Step(group[0], np.arange(count(group[0].var.axes, self.sizes))))
            else:
                steps += self._wavefronts(group)
        return steps

    def _wavefronts(self, group: list[Instr]) -> list[Step]:
        ends = np.cumsum([self._count(i.var.name) for i in group])
        start = {i.var.name: int(end) - self._count(i.var.name) for i, end in zip(group, ends, strict=True)}
        edges = [
            (start[name] + source, start[i.var.name] + target)
            for i in group
            for name, target, source in self.dependencies(i)
            if name in start
        ]
        level = levels(int(ends[-1]), edges)
        if (level < 0).any():
            raise fail(f"'{group[0].var.name}' depends on itself", group[0].var.span)
        steps = []
        for depth in range(int(level.max(initial=-1)) + 1):
            for instr in group:
                first = start[instr.var.name]
                elements = np.flatnonzero(level[first : first + self._count(instr.var.name)] == depth)
                steps += [Step(instr, elements)] if len(elements) else []
        return steps


def _closure(graph: csr_matrix, first: csr_matrix) -> csr_matrix:
    """The least relation with reach = first + graph reach."""
    reach = first
    while True:
        longer = ((graph @ reach + first) > 0).astype(np.int64)
        if (longer != reach).nnz == 0:
            return reach
        reach = longer


def _relation(pairs: list[tuple[Ints, Ints]], size: tuple[int, int]) -> csr_matrix:
    none = np.zeros(0, dtype=np.int64)
    row = np.concatenate([none, *(p[0] for p in pairs)])
    col = np.concatenate([none, *(p[1] for p in pairs)])
    return coo_matrix((np.ones(len(row), dtype=np.int64), (row, col)), shape=size).tocsr()


def _restricted(table: Table, keep: Bools) -> Table:
    return Table(table.target[keep], table.source[keep], {k: v[keep] for k, v in table.index.items()})
