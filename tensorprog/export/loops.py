"""Families that refer to each other in a circle: which axis the loop runs over, in which direction and order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import final

from tensorprog.errors import fail
from tensorprog.export.body import Loop, Writer, less, solve
from tensorprog.export.names import Names
from tensorprog.ir.expr import MINUS_ONE, Expr, Num, Sym, add, neg, substitute, symbols
from tensorprog.ir.program import Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Program, Var, operands

INDEX = "step"


@final
@dataclass(frozen=True, slots=True)
class Edge:
    """One family reads another, `offset` indices later."""

    reader: str
    source: str
    offset: int


def loop_lines(group: list[Instr], program: Program, names: Names) -> list[str]:
    """The loop that computes a circle of families.

    Raises TensorProgError when that is no loop over one axis in one direction.
    """
    for positions in _positions(group):
        backwards = _backwards(group, positions)
        at = {i.var.name: _place(i.var, positions, i.var.name in backwards) for i in group}
        edges = _edges(group, positions, at)
        ordered = None if edges is None else _order(group, [e for e in edges if e.offset == 0])
        for sign in (1, -1):
            if edges is not None and ordered is not None and all(e.offset * sign <= 0 for e in edges):
                return _lines(ordered, positions, at, sign, program, names)
    raise fail(f"'{group[0].var.name.split('.')[0]}' is computed in a loop over several axes, or in two directions",
               group[0].var.span, "such a program cannot be exported")


def _place(var: Var, positions: Mapping[str, int], backwards: bool) -> Expr:
    """The index of a family in that of the loop; one that runs backwards begins at its last element."""
    extent = var.axes[positions[var.name]].extent
    return add(extent, MINUS_ONE, neg(Sym(INDEX))) if backwards else Sym(INDEX)


def _backwards(group: list[Instr], positions: Mapping[str, int]) -> frozenset[str]:
    """The families whose index falls where that of the first one grows."""
    turned: dict[str, bool] = {group[0].var.name: False}
    for _ in group:
        for instr in group:
            if instr.var.name in turned:
                for name, index in _reads(instr, positions, Sym(INDEX)):
                    if name in positions:
                        falls = not symbols(add(index[positions[name]], Sym(INDEX))) & {INDEX}
                        turned.setdefault(name, turned[instr.var.name] ^ falls)
    return frozenset(name for name, falls in turned.items() if falls)


def _positions(group: list[Instr]) -> Iterator[dict[str, int]]:
    """Ways to choose an axis of each family: the same place in all, or any."""
    shapes = [len(i.var.axes) for i in group]
    for k in range(min(shapes)):
        yield {i.var.name: k for i in group}
    if len(set(shapes)) > 1 and len(group) <= 8:
        for choice in product(*map(range, shapes)):
            yield {i.var.name: k for i, k in zip(group, choice, strict=True)}


def _edges(group: list[Instr], positions: Mapping[str, int], at: Mapping[str, Expr]) -> list[Edge] | None:
    """What is read within the circle; None where an offset is no constant."""
    found = []
    for instr in group:
        for name, index in _reads(instr, positions, at[instr.var.name]):
            if name in positions:
                here = index[positions[name]]
                shift = less(here, at[name]) if at[name] == Sym(INDEX) else less(at[name], here)
                if not (isinstance(shift, Num) and float(shift.value).is_integer()):
                    return None
                found.append(Edge(instr.var.name, name, int(shift.value)))
    return found


def _reads(instr: Instr, positions: Mapping[str, int], at: Expr) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    """Every read in the index of the loop, for the element `at`."""
    var, op = instr.var, instr.op
    own: dict[str, Expr] = {var.axes[positions[var.name]].index: at}
    match op:
        case MatMul(operand=h, map=m) if h is not None:
            yield h, _through(m.source, solve(m, var, own).values)
        case Linear(terms=terms):
            for t in terms:
                values = solve(t.map, var, own).values
                if t.operand is not None:
                    yield t.operand, _through(t.map.source, values)
                for s in t.scalars:
                    yield s.var, _through(s.index, values)
        case Pointwise(args=args):
            for a in args:
                yield a.var, _through(a.index, own)
        case Inner(left=u, right=v):
            for r in (u, v):
                if r is not None:
                    yield r.var, _through(r.index, own)
        case MaxOver(operand=h, over=over):
            yield h, (*_through(tuple(Sym(a.index) for a in var.axes), own), *(Sym("") for _ in range(over)))
        case _:
            return


def _through(index: tuple[Expr, ...], values: Mapping[str, Expr]) -> tuple[Expr, ...]:
    return tuple(substitute(e, values) for e in index)


def _order(group: list[Instr], edges: list[Edge]) -> list[Instr] | None:
    """The definitions of one iteration, operands first; None if they need each other."""
    waiting, done = list(group), list[Instr]()
    while waiting:
        known = {i.var.name for i in done}
        ready = [i for i in waiting if all(e.source in known for e in edges if e.reader == i.var.name)]
        if not ready:
            return None
        done.append(ready[0])
        waiting.remove(ready[0])
    return done


def _lines(
    group: list[Instr], positions: Mapping[str, int], at: Mapping[str, Expr], sign: int, program: Program, names: Names
) -> list[str]:
    index = _index(group, positions)
    named = Names(names.weights, names.families, {**names.plain, INDEX: names.plain[index]})
    extents = list(dict.fromkeys(i.var.axes[positions[i.var.name]].extent for i in group))
    writer = Writer(program, named, Loop(INDEX, positions, at, len(extents) == 1))
    texts = [writer.number(e) for e in extents]
    whole = texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"
    lines = [f"{names.families[i.var.name]} = {{}}" for i in group]
    lines.append(f"for {named.plain[INDEX]} in {f'range({whole})' if sign > 0 else f'reversed(range({whole}))'}:")
    guard = ""
    for instr in group:
        body = writer.lines(instr)
        grid = writer.grid_line(instr.var, body)
        body = body if grid is None else [grid, *body]
        if len(extents) > 1:
            extent = writer.number(instr.var.axes[positions[instr.var.name]].extent)
            lines += [f"    if {named.plain[INDEX]} < {extent}:"] if extent != guard else []
            guard = extent
            body = [f"    {line}" for line in body]
        lines += [f"    {line}" for line in body]
    return lines + [f"{names.families[name]} = stacked({names.families[name]}, {1 + positions[name]})"
                    for name in _read_outside(group, program)]


def _read_outside(group: list[Instr], program: Program) -> list[str]:
    """The families of the circle that others read, or that are outputs."""
    inside = {i.var.name for i in group}
    read = {o.var for o in program.outputs}
    read |= {name for i in program.instrs if i.var.name not in inside for name in operands(i.op)}
    return [i.var.name for i in group if i.var.name in read]


def _index(group: list[Instr], positions: Mapping[str, int]) -> str:
    """The index that most families have."""
    names = [i.var.axes[positions[i.var.name]].index for i in group]
    return max(names, key=names.count)
