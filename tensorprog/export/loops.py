"""Families that refer to each other in a circle, as one loop of Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from tensorprog.errors import fail
from tensorprog.export.body import Loop, Writer
from tensorprog.export.lags import INDEX, Order, Positions, order, steps
from tensorprog.export.names import Names
from tensorprog.ir.check import size_names
from tensorprog.ir.expr import ZERO, Expr, Num
from tensorprog.ir.program import Instr, Program, operands

Range = tuple[Expr, Expr]


def loop_lines(group: list[Instr], program: Program, names: Names) -> list[str]:
    """The loop that computes a circle of families.

    Raises TensorProgError when that is no loop over one axis in one direction.
    """
    sizes = frozenset(size_names(program))
    for positions in _positions(group):
        found = order(group, positions, sizes)
        if found is not None:
            return _lines(found, positions, program, names)
    raise fail(
        f"'{group[0].var.name.split('.')[0]}' is computed in a circle that is not one loop: what a step reads must "
        "lie a known number of steps of one axis before it, or all after it",
        group[0].var.span,
        "such a program cannot be exported",
    )


def _positions(group: list[Instr]) -> Iterator[dict[str, int]]:
    """Ways to choose an axis of each family: the same place in all, or any."""
    shapes = [len(i.var.axes) for i in group]
    for k in range(min(shapes)):
        yield {i.var.name: k for i in group}
    if len(set(shapes)) > 1 and len(group) <= 8:
        for choice in product(*map(range, shapes)):
            yield {i.var.name: k for i, k in zip(group, choice, strict=True)}


def _lines(found: Order, positions: Positions, program: Program, names: Names) -> list[str]:
    index = _index(found.group, positions)
    named = Names(names.weights, names.families, {**names.plain, INDEX: names.plain[index]})
    ranges = {i.var.name: steps(i.var.axes[positions[i.var.name]], found.at[i.var.name]) for i in found.group}
    writer = Writer(program, named, Loop(INDEX, positions, found.at, len(set(ranges.values())) == 1))
    lines = [f"{names.families[i.var.name]} = {{}}" for i in found.group]
    whole = _range(writer, list(ranges.values()))
    lines.append(f"for {named.plain[INDEX]} in {whole if found.sign > 0 else f'reversed({whole})'}:")
    shown = ""
    for instr in found.group:
        body = writer.lines(instr)
        grid = writer.grid_line(instr.var, body)
        body = body if grid is None else [grid, *body]
        guard = _guard(writer, named.plain[INDEX], ranges[instr.var.name], ranges)
        if guard:
            lines += [f"    if {guard}:"] if guard != shown else []
            body = [f"    {line}" for line in body]
        shown = guard
        lines += [f"    {line}" for line in body]
    return lines + [f"{names.families[name]} = stacked({names.families[name]}, {1 + positions[name]})"
                    for name in _read_outside(found.group, program)]


def _range(writer: Writer, ranges: Sequence[Range]) -> str:
    """All steps at which a family has elements."""
    start, end = (list(dict.fromkeys(r[k] for r in ranges)) for k in (0, 1))
    if all(isinstance(e, Num) for e in start):
        start = sorted(start, key=lambda e: e.value if isinstance(e, Num) else 0)[:1]
    first, last = _extreme(writer, "min", start), _extreme(writer, "max", end)
    return f"range({last})" if start == [ZERO] else f"range({first}, {last})"


def _extreme(writer: Writer, fn: str, values: Sequence[Expr]) -> str:
    texts = [writer.number(e) for e in values]
    return texts[0] if len(texts) == 1 else f"{fn}({', '.join(texts)})"


def _guard(writer: Writer, index: str, own: Range, ranges: Mapping[str, Range]) -> str:
    """The condition that a family has an element at a step, where another one may have."""
    differ = [len({r[k] for r in ranges.values()}) > 1 for k in (0, 1)]
    start = f"{writer.number(own[0])} <= " if differ[0] else ""
    end = f" < {writer.number(own[1])}" if differ[1] else ""
    return f"{start}{index}{end}" if start or end else ""


def _read_outside(group: Sequence[Instr], program: Program) -> list[str]:
    """The families of the circle that others read, or that are outputs."""
    inside = {i.var.name for i in group}
    read = {o.var for o in program.outputs}
    read |= {name for i in program.instrs if i.var.name not in inside for name in operands(i.op)}
    return [i.var.name for i in group if i.var.name in read]


def _index(group: Sequence[Instr], positions: Positions) -> str:
    """The index that most families have."""
    names = [i.var.axes[positions[i.var.name]].index for i in group]
    return max(names, key=names.count)
