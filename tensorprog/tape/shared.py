"""Shared matrices: which contributions to two products meet in the same element of the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.errors import fail
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Instr, MatMul, Program, Use
from tensorprog.ir.tables import Ints, Sizes, count, flat_index, grid
from tensorprog.tape.coefficients import Coefficient, coefficient, joined

ONE = Coefficient(np.ones(()))


@final
@dataclass(frozen=True, slots=True)
class Taps:
    """Contributions to targets, padded: `source[t, r]` (-1: none), through weight element `element[t, r]`.

    `operand` None stands for the number 1.  For a use of a weight `out` and `row` are, per target, the
    element of the output and the element of the row family.  `elements` are those that a column uses.
    """

    operand: str | None
    source: Ints
    element: Ints
    coef: Coefficient
    gain: Coefficient
    out: Ints
    row: Ints
    elements: tuple[frozenset[int], ...]

    def meets(self, r: int, other: Taps, q: int) -> bool:
        """Whether column r and column q of the other use an element of the weight in common."""
        return not self.elements[r].isdisjoint(other.elements[q])


def taps_of(
    program: Program, instr: Instr, sizes: Sizes, gain: Coefficient, parameters: frozenset[str]
) -> Taps:
    """The contributions to every element of a matrix product."""
    op = instr.op
    assert isinstance(op, MatMul)
    length = count(op.map.domain, sizes)
    env = {**sizes, **grid(op.map.domain, sizes)}
    target = flat_index(op.map.target, instr.var.axes, env, sizes, length)
    source, element, coef = _entries(
        program, op.weight, op.windex, op.operand, op.map.source, op.coef, env, sizes, length, parameters
    )
    size = count(instr.var.axes, sizes)
    keep = (target >= 0) & (source >= 0)
    return _padded(
        op.operand,
        size,
        target[keep],
        source[keep],
        element[keep],
        coef[keep],
        gain,
        np.zeros(0, np.int64),
        np.arange(size),
    )


def use_taps(program: Program, use: Use, sizes: Sizes, parameters: frozenset[str]) -> Taps:
    """The contributions to every (output element, row element) of a use."""
    length = count(use.domain, sizes)
    env = {**sizes, **grid(use.domain, sizes)}
    row = flat_index(use.row_index, program.var(use.row).axes, env, sizes, length)
    out_axes = program.var(program.outputs[0].var).axes
    out = flat_index(use.out, out_axes, env, sizes, length)
    source, element, coef = _entries(
        program, use.weight, use.windex, use.col, use.col_index, use.coef, env, sizes, length, parameters
    )
    keep = (row >= 0) & (source >= 0) & (out >= 0)
    codes, target = np.unique(out[keep] * count(program.var(use.row).axes, sizes) + row[keep], return_inverse=True)
    outs, rows = np.divmod(codes, max(1, count(program.var(use.row).axes, sizes)))
    return _padded(use.col, len(codes), target, source[keep], element[keep], coef[keep], ONE, outs, rows)


def _entries(  # noqa: PLR0913
    program: Program,
    weight: str,
    windex: tuple[Expr, ...],
    operand: str | None,
    index: tuple[Expr, ...],
    coef: Expr,
    env: Sizes,
    sizes: Sizes,
    length: int,
    parameters: frozenset[str],
) -> tuple[Ints, Ints, Coefficient]:
    if operand is None:
        source = np.zeros(length, dtype=np.int64)
    else:
        source = flat_index(index, program.var(operand).axes, env, sizes, length)
    element = flat_index(windex, program.weight(weight).axes, env, sizes, length)
    if (element[source >= 0] < 0).any():
        raise fail(f"weight '{weight.split('.')[0]}' is read outside its range", program.weight(weight).span)
    return source, element, coefficient(coef, env, parameters, (length,))


def _padded(
    operand: str | None,
    size: int,
    target: Ints,
    source: Ints,
    element: Ints,
    coef: Coefficient,
    gain: Coefficient,
    out: Ints,
    row: Ints,
) -> Taps:
    place, width = _columns(target, element, size)
    taps = Taps(
        operand,
        np.full((size, width), -1),
        np.full((size, width), -1),
        Coefficient(np.zeros((size, width)), {p: np.zeros((size, width)) for p in coef.slopes}),
        gain,
        out,
        row,
        tuple(frozenset(np.unique(element[place == r]).tolist()) for r in range(width)),
    )
    taps.source[target, place], taps.element[target, place] = source, element
    taps.coef.value[target, place] = coef.value
    for p, slope in coef.slopes.items():
        taps.coef.slopes[p][target, place] = slope
    return taps


def _columns(target: Ints, element: Ints, size: int) -> tuple[Ints, int]:
    """The column of every contribution: one for each element of the weight where these are few, so that columns meet
    only themselves; else the rank among the contributions to its target."""
    counts = np.bincount(target, minlength=size)
    width = int(counts.max(initial=0))
    used, place = np.unique(element, return_inverse=True)
    once = len(np.unique(target * max(1, len(used)) + place)) == len(target)
    if once and len(used) <= 4 * width:
        return place, len(used)
    order = np.argsort(target, kind="stable")
    place = np.empty(len(target), dtype=np.int64)
    place[order] = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place, width


def meeting(left: Taps, right: Taps, li: Ints, rj: Ints) -> tuple[Ints, Ints]:
    """The pairs of targets that have an element of the weight in common."""
    if (left.element == left.element[:1]).all():
        return li, rj
    common = np.zeros(len(li), dtype=bool)
    for r in range(left.element.shape[1]):
        for q in range(right.element.shape[1]):
            if left.meets(r, right, q):
                a = left.element[li, r]
                common |= (a == right.element[rj, q]) & (a >= 0)
    return li[common], rj[common]


def join(left: Taps, right: Taps, li: Ints, rj: Ints) -> tuple[Ints, Ints, Ints, Coefficient]:
    """For every pair k and contributions r, r' with the same weight element: (k, source, source', coefficient)."""
    rows, a, b, coef = [], [], [], list[Coefficient]()
    for r in range(left.source.shape[1]):
        for q in range(right.source.shape[1]):
            if not left.meets(r, right, q):
                continue
            le, re = left.element[:, r], right.element[:, q]
            k = np.flatnonzero((le[li] == re[rj]) & (le[li] >= 0))
            rows.append(k)
            a.append(left.source[li[k], r])
            b.append(right.source[rj[k], q])
            coef.append(left.gain * left.coef[li[k], r] * right.coef[rj[k], q])
    if not rows:
        return (np.zeros(0, np.int64),) * 3 + (joined([]),)
    return np.concatenate(rows), np.concatenate(a), np.concatenate(b), joined(coef)
