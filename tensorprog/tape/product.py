"""Tapes that are products of two small ones, one of the rows and one of the columns (`projections`).

The slots of a key are pairs (s1, s2) of slots of the key in both projections, and the entries of a block are pairs of
entries of two corresponding blocks: a Mix is the Kronecker product of two matrices, and every index of another block
is known from two short arrays.  Building costs a thousandth of what the tape of all pairs of pixels costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.program import Instr, Program
from tensorprog.ir.tables import Ints, Sizes
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments
from tensorprog.tape.blocks import Block, Contraction, DataGram, Forms, Key, Mix, Product, joined
from tensorprog.tape.projections import (
    Groups,
    NotSeparable,
    ProjectedMoments,
    Projection,
    constants_inlined,
    groups_of,
    places,
)
from tensorprog.tape.tape import Tape

Pair = tuple[Any, Any]
Zeros = Mapping[Key, NDArray[np.bool_]]


class ProjectedTape(Tape):
    """A tape of a projection; sums are expanded as those of the whole program."""

    def __init__(self, whole: Program, *args: Any) -> None:
        super().__init__(*args)
        self.whole = whole

    def _thin(self, instr: Instr, side: int) -> bool:
        return super()._thin(self.whole.instr(instr.var.name), side)


@final
@dataclass(frozen=True)
class ProductTape:
    """Corresponding tapes of both projections; `steps` are the keys in order, with what adds to each.

    `elements(name, side)` are what elements of the projections of a family add to the numbers of its elements.
    """

    tapes: tuple[Tape, Tape]
    steps: tuple[tuple[Key, tuple[Pair, ...]], ...]
    groups: Groups
    limit: Limit

    def shape(self, key: Key) -> tuple[int, int]:
        """The numbers of slots of a key, the constant zero included."""
        return tuple(t.slots[key].size if key in t.slots else 1 for t in self.tapes)  # type: ignore[return-value]

    @property
    def count(self) -> int:
        """The number of slots."""
        return sum(int(np.prod(self.shape(key))) for key, _ in self.steps)

    def elements(self, name: str, side: int) -> tuple[Ints, Ints]:
        """See above."""
        axes, sizes = self.limit.program.var(name).axes, self.tapes[0].sizes[side]
        return places(axes, sizes, self.groups, name, 0), places(axes, sizes, self.groups, name, 1)

    def slots(self, key: Key) -> Ints:
        """The number of the slot s1 * n2 + s2 of every pair of elements [rows, cols] of a scalar family."""
        name, (_, n2) = self.limit.output_var, self.shape(key)
        at = [t.slots[key] for t in self.tapes]
        rows, cols = (self.elements(name, side) for side in (0, 1))
        full = np.zeros((sum(max(r, default=0) for r in rows) + 1, sum(max(c, default=0) for c in cols) + 1), np.int64)
        small = [s.at.reshape(s.rows, s.cols) for s in at]
        i = rows[0][:, None, None, None] + rows[1][None, :, None, None]
        j = cols[0][None, None, :, None] + cols[1][None, None, None, :]
        full[i, j] = small[0][:, None, :, None] * n2 + small[1][None, :, None, :]
        return full


@final
@dataclass(frozen=True)
class ProductTapes:
    """The tapes of a pair of groups of examples; `keys` are the slots of each kernel."""

    cross: ProductTape
    left: ProductTape
    right: ProductTape
    keys: Mapping[str, Key]


def product_tapes(
    limit: Limit, moments: Moments, sizes: tuple[Sizes, Sizes], want: Sequence[str]
) -> ProductTapes:
    """The tapes for a pair of sizes.  Raises NotSeparable, or Unservable where a moment needs sampling."""
    if limit.responses:
        raise NotSeparable("a matrix is used with its transpose")
    limit = constants_inlined(limit)
    moments, groups = Moments(limit, moments.prefer), groups_of(limit, sizes)
    found = [_projected(Projection(limit, groups, g), moments, sizes, want) for g in (0, 1)]
    cross, left, right = (ProductTape((a, b), _steps(a, b), groups, limit) for a, b in zip(*found, strict=True))
    return ProductTapes(cross, left, right, {name: (name,) if name == "ntk" else _nngp(limit) for name in want})


def _nngp(limit: Limit) -> Key:
    return ("nngp",) if limit.is_vector else ("covariance", limit.output_var, limit.output_var)


def _projected(
    projection: Projection, moments: Moments, sizes: tuple[Sizes, Sizes], want: Sequence[str]
) -> tuple[Tape, Tape, Tape]:
    """The cross tape and those of both runs in a projection, without what is known to be zero."""
    own = ProjectedMoments(moments, projection)
    first = _built(own, sizes, want, ({}, {}, {}))
    if any(t.is_recurrent for t in first):
        raise NotSeparable("a loop over an axis")
    zeros = [t.find_zeros() for t in first]
    return _built(own, sizes, want, (zeros[0], zeros[1], zeros[2])) if any(zeros) else first


def _built(
    moments: ProjectedMoments, sizes: tuple[Sizes, Sizes], want: Sequence[str], zeros: tuple[Zeros, Zeros, Zeros]
) -> tuple[Tape, Tape, Tape]:
    whole, limit = moments.whole.program, moments.limit
    a = ProjectedTape(whole, limit, moments, (sizes[0], sizes[0]), None, zeros[1])
    same = sizes[0] == sizes[1]
    b = a if same else ProjectedTape(whole, limit, moments, (sizes[1], sizes[1]), None, zeros[2])
    cross = ProjectedTape(whole, limit, moments, sizes, (a, b), zeros[0])
    for name in want:
        getattr(cross, name)()
    for tape in (cross, a, b):
        tape.build()
    return cross, a, b


# ---------------------------------------------------------------- pairs of blocks


def _steps(first: Tape, second: Tape) -> tuple[tuple[Key, tuple[Pair, ...]], ...]:
    """The keys in the order of computation, and the pairs of blocks of the same term."""
    parts = [_by_term(t) for t in (first, second)]
    of: dict[Key, list[Pair]] = {}
    for term, a in parts[0].items():
        if term in parts[1]:
            b = parts[1][term]
            _check(a, b, first.single)
            of.setdefault(a.key, []).append((a, b))
    graph = {
        key: {k for pair in pairs for k, _ in pair[0].reads(first.single) if k in of} for key, pairs in of.items()
    }
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError:
        raise NotSeparable("a loop over an axis") from None
    return tuple((key, tuple(of[key])) for key in order)


def _by_term(tape: Tape) -> dict[tuple[Any, ...], Block]:
    found: dict[tuple[Any, ...], list[Block]] = {}
    for block, term in zip(tape.blocks, tape.terms, strict=True):
        found.setdefault((block.key, term), []).append(block)
    return {term: joined(blocks) for term, blocks in found.items()}


def _check(a: Block, b: Block, single: bool) -> None:
    """Corresponding blocks differ in their indices and numbers only.  Raises NotSeparable for what is no product."""
    same = type(a) is type(b) and [k for k, _ in a.reads(single)] == [k for k, _ in b.reads(single)]
    if not same or isinstance(a, Contraction | Forms) or (isinstance(a, Mix) and a.scalars):
        raise NotSeparable("a block is no product")
    if isinstance(a, Product) and any(f.scalars for f in a.factors):
        raise NotSeparable("a factor is computed from scalars")
    if isinstance(a, DataGram) and a.right == "":
        raise NotSeparable("a number of the data")

