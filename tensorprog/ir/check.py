"""What can be wrong with a program only once its sizes are known: axes, weight indices, unassigned reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import Span, TensorProgError, fail
from tensorprog.ir.expr import Expr, Num, Op, evaluate, mul, show, symbols
from tensorprog.ir.program import Axis, Dim, Inner, Instr, Linear, Map, MatMul, Pointwise, Program, Read
from tensorprog.ir.schedule import schedule
from tensorprog.ir.tables import count, flat_index, grid, map_table, read_table, shape

Bools = NDArray[np.bool_]

MAX_ELEMENTS = 1 << 24
"""Elements of a family, or of the domain of a map; index tables of more do not fit into memory."""

TRIED_AXES = (4, 6, 8, 12, 16, 24, 32, 5, 7, 9)
TRIED_DIM = 3


def check_sizes(program: Program, sizes: Mapping[str, int]) -> None:
    """Raises TensorProgError, at the variable or weight, unless the program makes sense at these sizes.

    All extents are whole numbers and not negative, weight families are read inside their range, and states
    are read where they were assigned.
    """
    check_extents(program, sizes)
    for instr in program.instrs:
        _check_weight_index(instr, program, sizes)
        _check_assigned_reads(instr, program, sizes)


def default_sizes(program: Program) -> dict[str, int]:
    """Small sizes at which `check_sizes` and `schedule` pass and no family is empty, for use without data.

    Raises TensorProgError when there are none among those tried: the mistake of the first sizes at which
    all axes are whole.
    """
    mistakes: list[tuple[bool, TensorProgError]] = []
    for sizes in _candidates(program):
        whole = False
        try:
            check_extents(program, sizes, least=1)
            whole = True
            check_sizes(program, sizes)
            schedule(program, sizes)
            return sizes
        except TensorProgError as error:
            mistakes.append((whole, error))
    raise next((error for whole, error in mistakes if whole), mistakes[0][1])


def size_names(program: Program) -> tuple[str, ...]:
    """The sizes that data binds, in order of appearance."""
    names = {s: None for i in program.inputs for e in _input_extents(program, i.name) for s in sorted(symbols(e))}
    return tuple(names)


def parameter_sizes(program: Program) -> frozenset[str]:
    """The sizes on which the shape or the law of a weight depends; they agree between all examples."""
    found: set[str] = set()
    for w in program.weights:
        dims = [d.size for d in (w.rows, w.cols) if d is not None]
        found.update(*(symbols(e) for e in (*dims, w.mean, w.variance, w.lr)))
    return frozenset(found) - {w.name for w in program.widths}


# ---------------------------------------------------------------- candidates


def _candidates(program: Program) -> Iterator[dict[str, int]]:
    """Equal extents for all axes first, then mixed ones."""
    names = size_names(program)
    axes = {s for i in program.inputs for a in i.axes for s in symbols(a.extent)}
    free = [n for n in names if n in axes]
    rest = {n: TRIED_DIM for n in names if n not in axes}
    joint = ((k,) * len(free) for k in TRIED_AXES) if free else iter([()])
    mixed = itertools.islice(itertools.product(TRIED_AXES, repeat=len(free)), 200) if len(free) > 1 else ()
    for values in itertools.chain(joint, mixed):
        yield {**rest, **dict(zip(free, values, strict=True))}


def _input_extents(program: Program, name: str) -> list[Expr]:
    i = program.input(name)
    return [a.extent for a in i.axes] + ([] if i.dim is None else [i.dim])


# ---------------------------------------------------------------- extents


def check_extents(program: Program, sizes: Mapping[str, int], least: int = 0) -> None:
    """Raises TensorProgError unless all axes and finite dimensions are whole and at least `least`."""
    wide = {w.name for w in program.widths}
    for name, extents, span in _families(program):
        values = [_extent(name, e, sizes, span, least) for e in extents if not symbols(e) & wide]
        _check_count(name, values, span)
    for instr in program.instrs:
        for map_ in _maps(instr):
            values = [_extent(instr.var.name, a.extent, sizes, instr.var.span, None) for a in map_.domain]
            _check_count(instr.var.name, values, instr.var.span)


def _families(program: Program) -> Iterator[tuple[str, list[Expr], Span | None]]:
    """Name, extents and place of everything that has axes or a dimension."""
    for i in program.inputs:
        yield i.name, _input_extents(program, i.name), i.span
    for w in program.weights:
        yield w.name, _all_extents(w.axes, (w.rows, w.cols)), w.span
    for instr in program.instrs:
        yield instr.var.name, _all_extents(instr.var.axes, (instr.var.dim,)), instr.var.span


def _all_extents(axes: tuple[Axis, ...], dims: Iterable[Dim | None]) -> list[Expr]:
    return [a.extent for a in axes] + [d.size for d in dims if d is not None]


def _maps(instr: Instr) -> tuple[Map, ...]:
    if isinstance(instr.op, MatMul):
        return (instr.op.map,)
    return tuple(t.map for t in instr.op.terms) if isinstance(instr.op, Linear) else ()


def _extent(name: str, e: Expr, sizes: Mapping[str, int], span: Span | None, least: int | None) -> int:
    """The extent as an int of at least `least`; a range (`least` None) may be empty."""
    what = f"the extent {_show(e)} of {_plain_name(name)}"
    try:
        value: Any = evaluate(e, sizes)
    except (ArithmeticError, ValueError) as error:
        raise fail(f"{what} has no value{_where(e, sizes)}: {error}", span) from None
    if not math.isfinite(value) or value != int(value):
        raise fail(
            f"{what} is {float(value):g}{_where(e, sizes)}, not a whole number",
            span,
            f"use sizes for which {_show(e)} is whole, or integer division //",
        )
    if least is not None and value < least:
        raise fail(f"{what} is {'negative' if value < 0 else 'zero'}{_where(e, sizes)}", span)
    return max(0, int(value))


def _show(e: Expr) -> str:
    """`H / 2` rather than `0.5 * H`."""
    if isinstance(e, Op) and e.fn == "mul" and isinstance(e.args[0], Num):
        factor = Fraction(e.args[0].value).limit_denominator(10**6)
        if factor.numerator == 1:
            return f"{show(mul(*e.args[1:]))} / {factor.denominator}"
    return show(e)


def _check_count(name: str, extents: list[int], span: Span | None) -> None:
    total = math.prod(extents)
    if total > MAX_ELEMENTS:
        raise fail(f"{_plain_name(name)} has {total:.3g} elements; at most {MAX_ELEMENTS} are possible", span)


def _plain_name(name: str) -> str:
    """The name as the user wrote it: `W.2` is the second W of the program."""
    return f"'{name.split('.')[0]}'"


def _where(e: Expr, sizes: Mapping[str, int]) -> str:
    at = ", ".join(f"{s} = {sizes[s]}" for s in sorted(symbols(e)) if s in sizes)
    return f" at {at}" if at else ""


# ---------------------------------------------------------------- reads


def _check_weight_index(instr: Instr, program: Program, sizes: Mapping[str, int]) -> None:
    op = instr.op
    if not isinstance(op, MatMul) or not program.weight(op.weight).axes:
        return
    axes = program.weight(op.weight).axes
    source_axes = () if op.operand is None else program.var(op.operand).axes
    table = map_table(op.map, instr.var.axes, source_axes, sizes)
    env = {**sizes, **table.index}
    outside = np.flatnonzero(flat_index(op.windex, axes, env, sizes, len(table)) < 0)
    if len(outside):
        at = {name: int(v[outside[0]]) for name, v in table.index.items()}
        place = _element(op.weight, op.windex, {**sizes, **at})
        extents = list(shape(axes, sizes))
        raise fail(
            f"weight {place} is outside the range of {op.weight.split('.')[0]}, which has the extents {extents}",
            instr.var.span,
            "a weight family is not padded: every index must be declared",
        )


def _check_assigned_reads(instr: Instr, program: Program, sizes: Mapping[str, int]) -> None:
    for read, domain, valid in _reads(instr, program, sizes):
        if not _is_assigned(program, read.var):
            continue
        source = read_table(read.index, domain, program.var(read.var).axes, sizes)
        outside = np.flatnonzero((source < 0) & valid)
        if len(outside):
            at = {name: int(v[outside[0]]) for name, v in grid(domain, sizes).items()}
            place = _element(read.var, read.index, {**sizes, **at})
            raise fail(f"{place} is read but never assigned", instr.var.span, "assign it, or read inside the range")


def _is_assigned(program: Program, name: str) -> bool:
    op = program.instr(name).op
    return isinstance(op, Linear) and op.assigned


def _reads(instr: Instr, program: Program, sizes: Mapping[str, int]) -> Iterator[tuple[Read, tuple[Axis, ...], Bools]]:
    """Every read with its domain and which of the domain's points matter to the result."""
    op, axes = instr.op, instr.var.axes
    everywhere = np.ones(1, dtype=bool)
    match op:
        case MatMul(operand=h, map=m) if h is not None:
            yield Read(h, m.source), m.domain, _reached(m, axes, sizes)
        case Linear(terms=terms):
            for t in terms:
                valid = _reached(t.map, axes, sizes)
                reads = t.scalars if t.operand is None else (Read(t.operand, t.map.source), *t.scalars)
                yield from ((read, t.map.domain, valid) for read in reads)
        case Pointwise(args=args):
            yield from ((read, axes, everywhere) for read in args)
        case Inner(left=u, right=v):
            yield from ((read, axes, everywhere) for read in (u, v) if read is not None)
        case _:
            return


def _reached(map_: Map, axes: tuple[Axis, ...], sizes: Mapping[str, int]) -> Bools:
    """Which points of the domain have a target inside the result."""
    indices = grid(map_.domain, sizes)
    inside: Bools = flat_index(map_.target, axes, {**sizes, **indices}, sizes, count(map_.domain, sizes)) >= 0
    return inside


def _element(name: str, index: tuple[Expr, ...], env: Mapping[str, Any]) -> str:
    return f"{name.split('.')[0]}[{', '.join(f'{float(evaluate(e, env)):g}' for e in index)}]"
