"""The slots of a tape and how they are asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Read
from tensorprog.ir.tables import Ints, Sizes, count, distinct, flat_index, grid
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments, Side
from tensorprog.tape.blocks import Block, Ensemble, Key
from tensorprog.tape.causal import Causal
from tensorprog.tape.coefficients import Coefficient, coefficient
from tensorprog.tape.shared import Taps, taps_of
from tensorprog.tape.support import Supports

MAX_PAIRS = 1 << 26
Line = tuple[Ints, Ints, tuple[int, int] | None]
"""Index pairs of a key that were expanded last, and how far they are from those before."""


@final
@dataclass
class Slots:
    """The slots of one key: `at` maps a pair code to a slot; slot 0 is the constant zero."""

    rows: int
    cols: int
    at: Ints = field(init=False)
    size: int = 1

    def __post_init__(self) -> None:
        if self.rows * self.cols > MAX_PAIRS:
            raise fail(f"{self.rows} x {self.cols} index pairs are more than this evaluation can hold")
        self.at = np.zeros(self.rows * self.cols, dtype=np.int64)


def acausal(limit: Limit, sizes: Sizes) -> dict[Key, NDArray[np.bool_]]:
    """Coefficients of dot Z terms whose target is no function of the leaf, such as a later step of a loop."""
    if not limit.responses:
        return {}
    causal = Causal(limit.program, limit.responses, sizes)
    causal.settle()
    return {("scalar", name): ~alive for name, alive in causal.alive.items()}


class Asking:
    """The slots and blocks of a pair of runs, whose own tapes are `selves`, or of one run (None).

    `zeros` marks index pairs of keys that are known to be zero.
    """

    def __init__(
        self,
        limit: Limit,
        moments: Moments,
        sizes: tuple[Sizes, Sizes],
        selves: tuple[Asking, Asking] | None = None,
        zeros: Mapping[Key, NDArray[np.bool_]] | None = None,
    ) -> None:
        self.limit, self.moments = limit, moments
        self.program = limit.program
        self.sizes = sizes
        self.parameters = frozenset(name for name, _ in self.program.params if name in sizes[0])
        self.selves = selves or (self, self)
        self.zeros = dict(zeros or {})
        if selves is None:
            self._exclude(acausal(limit, sizes[0]))
        self.slots: dict[Key, Slots] = {}
        self.blocks: list[Block] = []
        self.terms: list[tuple[int, ...]] = []
        self.ensembles: dict[Key, Ensemble] = {}
        self.laws: dict[Hashable, int] = {}
        self.waiting: list[tuple[Key, Ints, Ints]] = []
        self.lines: dict[Key, Line] = {}
        self._taps: dict[tuple[str, int], Taps] = {}
        self.supports = Supports(moments, sizes, self.taps, moments.vanishes)

    def _exclude(self, zeros: Mapping[Key, NDArray[np.bool_]]) -> None:
        for key, where in zeros.items():
            self.zeros[key] = self.zeros[key] | where if key in self.zeros else where

    @property
    def single(self) -> bool:
        """Whether this is the tape of one run."""
        return self.selves[0] is self

    def add(self, block: Block, *term: int) -> None:
        """Append a block; `term` tells it from the others that add to its key, whatever the sizes are."""
        self.blocks.append(block)
        self.terms.append(term)

    # ------------------------------------------------------------ asking for slots

    def moment(self, u: str, v: str, li: Ints, rj: Ints) -> tuple[Key, Ints]:
        """Slots of E[Z^u[li] Z^v'[rj]]; out-of-range indices (-1) give zero."""
        kind = "data" if self._is_data(u) else "moment"
        if kind == "moment" and self.moments.vanishes(u, v):
            return ("zero",), np.zeros(len(li), dtype=np.int64)
        if self.single and (v, u) < (u, v):
            u, v, li, rj = v, u, rj, li
        support = self.supports.of(u, v) if kind == "moment" else None
        if support is not None:
            li = np.where((li >= 0) & (rj >= 0) & support[li, rj], li, -1)
        return self.ask((kind, u, v), li, rj, self._count(u, 0), self._count(v, 1))

    def taps(self, name: str, side: int) -> Taps:
        """The contributions to a matrix product, with the elements of the weight that they use."""
        if (name, side) not in self._taps:
            gain = self._coefficient(self.limit.gains[name], self.sizes[side])
            instr = self.program.instr(name)
            self._taps[name, side] = taps_of(self.program, instr, self.sizes[side], gain, self.parameters)
        return self._taps[name, side]

    def _coefficient(self, e: Expr, env: Mapping[str, Any], shape: tuple[int, ...] = ()) -> Coefficient:
        return coefficient(e, env, self.parameters, shape)

    def mean(self, u: str, at: Ints) -> tuple[Key, Ints]:
        """Slots of E[Z^u[at]] on the tape of one run."""
        if self.moments.vanishes(u):
            return ("zero",), np.zeros(len(at), dtype=np.int64)
        return self.ask(("mean", u), at, np.where(at < 0, -1, 0), self._count(u, 0), 1)

    def scalar(self, s: str, at: Ints) -> tuple[Key, Ints]:
        """Slots of a scalar family on the tape of one run."""
        return self.ask(("scalar", s), at, np.where(at < 0, -1, 0), self._count(s, 0), 1)

    def ask(self, key: Key, li: Ints, rj: Ints, rows: int, cols: int) -> tuple[Key, Ints]:
        """Slots of a key at index pairs; new ones are queued for expansion."""
        slots = self.slots.setdefault(key, Slots(rows, cols)) if key not in self.slots else self.slots[key]
        valid = (li >= 0) & (rj >= 0)
        codes = np.where(valid, li * slots.cols + rj, 0)
        if key in self.zeros:
            valid &= ~self.zeros[key][codes]
        new = distinct(codes[valid & (slots.at[codes] == 0)], len(slots.at))
        if len(new):
            slots.at[new] = np.arange(slots.size, slots.size + len(new))
            slots.size += len(new)
            self.waiting.append((key, new // slots.cols, new % slots.cols))
        return key, np.where(valid, slots.at[codes], 0)

    def _is_data(self, name: str) -> bool:
        dim = self.program.var(name).dim
        return dim is not None and not dim.wide

    def _count(self, name: str, side: int) -> int:
        return count(self.program.var(name).axes, self.sizes[side])

    def _elements(self, read: Read, side: Side, at: Ints, s: int) -> Ints:
        """The elements that a read of a side names, for elements `at` of the side's own axes."""
        sizes, axes = self.sizes[s], self.program.var(read.var).axes
        indices, size = grid(side.axes, sizes), count(side.axes, sizes)
        if size <= len(at):  # each element of the side once
            return flat_index(read.index, axes, {**sizes, **indices}, sizes, size)[at]
        return flat_index(read.index, axes, {**sizes, **{k: v[at] for k, v in indices.items()}}, sizes, len(at))

    def _number(self, e: Expr, side: Side, at: Ints, s: int) -> Any:
        env = {**self.sizes[s], **{k: v[at] for k, v in grid(side.axes, self.sizes[s]).items()}}
        return np.broadcast_to(np.asarray(ex.evaluate(e, env), dtype=np.float64), (len(at),))
