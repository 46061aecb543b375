"""What is sampled, and in which order: the limit program with wide vectors of `samples` coordinates.

A dot Z term sums over all earlier products, sum_j R[i, j] y[j], where R[i, j] is zero unless Z[i] is a
function of leaf j.  Inside loops the order of computation rests on these zeros, so they are found first,
element by element, as the least solution of: i depends on j through vectors and through the terms that are
not zero.

Coefficients R whose derivative contains a `dirac` cannot be averaged.  They become regressions of the target on
its leaves (Stein's lemma, E[hat_j Z] = sum_k Cov(hat_j, hat_k) R_k), written here as inner products of the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from tensorprog.errors import fail
from tensorprog.finite.forward import needed
from tensorprog.finite.plan import Plan
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Dim, Inner, Instr, Linear, Map, MatMul, Pointwise, Program, Read, identity, operands
from tensorprog.ir.schedule import Step, check_assigned, components, dependencies, levels, schedule
from tensorprog.ir.tables import Ints, Sizes, Table, count, flat_index, map_table
from tensorprog.limit.analyse import Limit
from tensorprog.limit.responses import Response

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@final
@dataclass(frozen=True, slots=True)
class Sampler:
    """The program that is sampled, and for regression coefficients their target and joint leaves."""

    program: Program
    responses: tuple[Response, ...]
    regressions: Mapping[str, tuple[str, tuple[str, ...]]]


def sampler(limit: Limit, roots: Collection[str], samples: int) -> Sampler:
    """The limit program as far as `roots` need it.  TensorProgError when it contains a dirac that cannot be sampled."""
    regressions = regressions_of(limit)
    leaves = {r.coefficient: r for r in limit.responses}
    splits = {name: len(limit.program.var(target).axes) for name, (target, _) in regressions.items()}
    instrs = [_regression(i, leaves[i.var.name], splits[i.var.name]) if i.var.name in splits else i
              for i in limit.program.instrs]
    program = needed(replace(limit.program, instrs=tuple(_sampled(i, samples) for i in instrs)), roots)
    for i in program.instrs:
        if _has_dirac(i):
            name = i.var.name.removeprefix("d.").split(".")[0]
            raise fail(f"'{name}' needs the derivative of a step function, which has no samples", i.var.span)
    kept = {i.var.name for i in program.instrs}
    return Sampler(program, tuple(r for r in limit.responses if r.coefficient in kept), regressions)


def _sampled(instr: Instr, samples: int) -> Instr:
    wide = instr.var.dim is not None and instr.var.dim.wide
    return replace(instr, var=replace(instr.var, dim=Dim(ex.num(samples), True))) if wide else instr


def _regression(instr: Instr, response: Response, split: int) -> Instr:
    index = identity(instr.var.axes)
    return replace(instr, op=Inner(Read(response.target, index[:split]), Read(response.leaf, index[split:])))


# ---------------------------------------------------------------- regressions


def regressions_of(limit: Limit) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Coefficient -> (target, leaves): all coefficients of a target and a matrix of which one meets a dirac."""
    joint: dict[tuple[str, str, bool], list[Response]] = {}
    for r in limit.responses:
        op = limit.program.instr(r.leaf).op if any(i.var.name == r.leaf for i in limit.program.instrs) else None
        if isinstance(op, MatMul):
            joint.setdefault((r.target, op.weight, op.transposed), []).append(r)
    coefficients = {r.coefficient for r in limit.responses}
    found = {}
    for (target, _, _), members in joint.items():
        if any(_meets_dirac(limit.program, r.coefficient, coefficients) for r in members):
            found.update({r.coefficient: (target, tuple(m.leaf for m in members)) for r in members})
    return found


def _has_dirac(instr: Instr) -> bool:
    return isinstance(instr.op, Pointwise) and _mentions(instr.op.fn, "dirac")


def _mentions(e: ex.Expr, fn: str) -> bool:
    return isinstance(e, ex.Op) and (e.fn == fn or any(_mentions(a, fn) for a in e.args))


def _meets_dirac(program: Program, coefficient: str, others: Collection[str]) -> bool:
    seen, waiting = {coefficient}, [coefficient]
    while waiting:
        instr = program.instr(waiting.pop())
        if _has_dirac(instr):
            return True
        new = set(operands(instr.op)) - seen - set(others)
        seen |= new
        waiting.extend(new)
    return False


# ---------------------------------------------------------------- order


def plan_of(chosen: Sampler, sizes: Sizes) -> Plan:
    """The steps of the sampled program at these sizes.  Raises TensorProgError as `schedule` does."""
    if not chosen.responses:
        return Plan(chosen.program, dict(sizes), schedule(chosen.program, sizes))
    causal = Causal(chosen, sizes)
    causal.settle()
    tables = {(i.var.name, *key): table for i in chosen.program.instrs for key, table in causal.tables(i).items()}
    return Plan(chosen.program, dict(sizes), tuple(causal.schedule()), _tables=tables)


class Causal:
    """Which coefficients R[i, j] are not zero (`alive`), found by iteration from none."""

    def __init__(self, chosen: Sampler, sizes: Sizes) -> None:
        self.chosen, self.program, self.sizes = chosen, chosen.program, sizes
        self.alive: dict[str, Bools] = {
            r.coefficient: np.zeros(count(self.program.var(r.coefficient).axes, sizes), dtype=bool)
            for r in chosen.responses
        }

    def settle(self) -> None:
        """Iterates to the least solution."""
        while True:
            found = {r.coefficient: self._reached(r) for r in self.chosen.responses}
            if all((found[name] == self.alive[name]).all() for name in found):
                return
            self.alive = found

    def _reached(self, response: Response) -> Bools:
        """Of all pairs (target element, leaf element), those in which the first is a function of the second."""
        families = self._between(response.target)
        counts = [count(self.program.var(f).axes, self.sizes) for f in families]
        start = dict(zip(families, np.concatenate([[0], np.cumsum(counts)]).tolist(), strict=False))
        total, leaves = sum(counts), count(self.program.var(response.leaf).axes, self.sizes)
        reads = [(start[f] + target, start[name] + source) for f in families
                 for name, target, source in self._reads(self.program.instr(f)) if name in start]
        graph = _relation(reads, (total, total))
        if response.leaf not in start:
            return np.zeros(len(self.alive[response.coefficient]), dtype=bool)
        own = np.arange(leaves)
        reach = first = _relation([(start[response.leaf] + own, own)], (total, leaves))
        while True:
            longer = ((graph @ reach + first) > 0).astype(np.int64)
            if (longer != reach).nnz == 0:
                break
            reach = longer
        at = start[response.target]
        block: Bools = reach[at : at + counts[families.index(response.target)]].toarray().ravel() > 0
        return block

    def _between(self, target: str) -> list[str]:
        """The vector families that the target is a function of, back to the matrix products."""
        seen, waiting = [target], [target]
        while waiting:
            instr = self.program.instr(waiting.pop())
            if isinstance(instr.op, MatMul):
                continue
            new = [o for o in dict.fromkeys(operands(instr.op)) if self.program.var(o).dim is not None and o not in seen]
            seen += new
            waiting += new
        return seen

    def _reads(self, instr: Instr) -> list[tuple[str, Ints, Ints]]:
        """`dependencies` without what a zero coefficient multiplies, and through vectors only up to a matrix."""
        if isinstance(instr.op, MatMul):
            return []
        return self.dependencies(instr)

    def dependencies(self, instr: Instr) -> list[tuple[str, Ints, Ints]]:
        """(family, elements of the result, elements of the family that they read)."""
        name = instr.var.name
        if name in self.chosen.regressions and name in self.alive:
            reads = dependencies(instr, self.program, self.sizes)
            return [(f, target[self.alive[name][target]], source[self.alive[name][target]]) for f, target, source in reads]
        tables = self.tables(instr)
        if not tables or not isinstance(instr.op, Linear):
            return dependencies(instr, self.program, self.sizes)
        rest = Linear(tuple(t for t in instr.op.terms if (t.map, t.operand) not in tables))
        found = dependencies(replace(instr, op=rest), self.program, self.sizes)
        for term in instr.op.terms:
            table = tables.get((term.map, term.operand))
            if table is not None:
                found += [(s.var, *self._found(s, table)) for s in term.scalars]
                found += [] if term.operand is None else [(term.operand, table.target, table.source)]
        return found

    def _found(self, read: Read, table: Table) -> tuple[Ints, Ints]:
        source = self._element(read, table)
        return table.target[source >= 0], source[source >= 0]

    def _element(self, read: Read, table: Table) -> Ints:
        axes = self.program.var(read.var).axes
        return flat_index(read.index, axes, {**self.sizes, **table.index}, self.sizes, len(table))

    def tables(self, instr: Instr) -> dict[tuple[Map, str | None], Table]:
        """The pairs of dot Z terms whose coefficient is not zero, by map and operand."""
        if not isinstance(instr.op, Linear):
            return {}
        keep: dict[tuple[Map, str | None], Bools] = {}
        whole: dict[tuple[Map, str | None], Table] = {}
        for term in instr.op.terms:
            responses = [s for s in term.scalars if s.var in self.alive]
            key = (term.map, term.operand)
            if responses:
                whole[key] = self._whole(instr, term.map, term.operand)
                alive = np.ones(len(whole[key]), dtype=bool)
                for s in responses:
                    element = self._element(s, whole[key])
                    alive &= (element >= 0) & self.alive[s.var][np.maximum(element, 0)]
                keep[key] = keep.get(key, np.zeros(len(alive), dtype=bool)) | alive
        return {key: _restricted(whole[key], keep[key]) for key in keep}

    def _whole(self, instr: Instr, map_: Map, operand: str | None) -> Table:
        axes = () if operand is None else self.program.var(operand).axes
        one_sided = Map(map_.domain, map_.target, map_.source if operand is not None else ())
        return map_table(one_sided, instr.var.axes, axes, self.sizes)

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
        counts = [count(i.var.axes, self.sizes) for i in group]
        start = dict(zip((i.var.name for i in group), np.concatenate([[0], np.cumsum(counts)]).tolist(), strict=False))
        edges = [(start[name] + source, start[i.var.name] + target)
                 for i in group for name, target, source in self.dependencies(i) if name in start]
        level = levels(sum(counts), edges)
        if (level < 0).any():
            raise fail(f"'{group[0].var.name}' depends on itself", group[0].var.span)
        steps = []
        for depth in range(int(level.max(initial=-1)) + 1):
            for instr, size in zip(group, counts, strict=True):
                elements = np.flatnonzero(level[start[instr.var.name] :][:size] == depth)
                if len(elements):
                    steps.append(Step(instr, elements))
        return steps


def _relation(pairs: list[tuple[Ints, Ints]], size: tuple[int, int]) -> csr_matrix:
    none = np.zeros(0, dtype=np.int64)
    row = np.concatenate([none, *(p[0] for p in pairs)])
    col = np.concatenate([none, *(p[1] for p in pairs)])
    return coo_matrix((np.ones(len(row), dtype=np.int64), (row, col)), shape=size).tocsr()


def _restricted(table: Table, keep: Bools) -> Table:
    return Table(table.target[keep], table.source[keep], {k: v[keep] for k, v in table.index.items()})
