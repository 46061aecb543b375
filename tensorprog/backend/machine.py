"""Running the instructions of a tape: schedule, tiles, threads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.build import is_built, load
from tensorprog.backend.combine import Combination, combined
from tensorprog.backend.emit import Kind, combination_kind, expect_kind, module, series_kind
from tensorprog.backend.lower import Given, Lowered, lower
from tensorprog.ir.schedule import levels
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.tape.blocks import Key
from tensorprog.tape.execute import Run
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
MEMORY = 1 << 29
"""Bytes that data and results of one block take at most, whatever is allowed."""
CACHE = 1 << 19
"""Bytes that the slots of a tile should take."""
MOST_COLS = 128


@final
@dataclass(frozen=True, slots=True)
class Machine:
    """A compiled tape."""

    lowered: Lowered
    source: str
    arrays: tuple[Any, ...]
    steps: Ints
    expectations: tuple[Expectation, ...]
    wanted: Mapping[Key, Ints]

    @property
    def is_built(self) -> bool:
        """Whether its machine code is on disk; making it takes seconds."""
        return is_built(self.source)

    @property
    def given(self) -> tuple[Given, ...]:
        """The slots that are inner products of data."""
        return self.lowered.given

    def side(self, memory: int) -> int:
        """The largest block, in examples of a side, where data and results may take `memory` bytes."""
        numbers = len(self.given) + sum(len(w) for w in self.wanted.values()) + 1
        return int(max(1, min(1024, np.sqrt(min(memory, MEMORY) / (8 * numbers)))))

    def prepare(self, left: Run, right: Run) -> tuple[Floats, Floats]:
        """L and R for all examples of two runs."""
        return self.lowered.left.matrix(left, left.examples[0]), self.lowered.right.matrix(right, right.examples[0])

    def values(
        self, left: Floats, right: Floats, given: Floats
    ) -> tuple[dict[Key, Floats], NDArray[np.bool_], Floats]:
        """(values [slots, I, J] of the wanted keys, pairs in doubt [I, J], worst error of every expectation).

        left [rows, I], right [rows', J], given [numbers, I, J].
        """
        rows, cols = left.shape[1], right.shape[1]
        out = np.concatenate(list(self.wanted.values()))
        found, doubt = np.zeros((len(out), rows, cols)), np.zeros((rows, cols))
        cuts = np.linspace(0, rows, workers(rows) + 1).astype(int)
        parts = [
            (found[:, a:b], doubt[a:b], np.ascontiguousarray(left[:, a:b]), given[:, a:b])
            for a, b in zip(cuts, cuts[1:], strict=False)
        ]
        with ThreadPoolExecutor(len(parts)) as pool:
            worst = list(pool.map(lambda p: self._strip(out, np.ascontiguousarray(right), *p), parts))
        ends = np.cumsum([len(w) for w in self.wanted.values()])
        split = {k: found[e - len(w) : e] for (k, w), e in zip(self.wanted.items(), ends, strict=True)}
        return split, doubt > 0, np.max(worst, axis=0, initial=0.0)

    def _strip(  # noqa: PLR0913
        self, out: Ints, right: Floats, found: Floats, doubt: Floats, left: Floats, given: Floats
    ) -> Floats:
        """Some rows of a block, in tiles; returns the worst errors."""
        cols = min(MOST_COLS, right.shape[1])
        rows = int(max(1, min(16, left.shape[1], CACHE // (8 * self.lowered.size * cols))))
        slots, doubts = np.zeros((self.lowered.size, rows, cols)), np.zeros((rows, cols))
        worst: Floats = np.zeros(len(self.expectations))
        at = np.array([g.out for g in self.given], dtype=np.int64)
        load(self.source).run(slots, doubts, worst, left, right, self.steps, at, given, out, found, doubt, *self.arrays)
        return worst


def workers(rows: int) -> int:
    """Threads for so many rows of a kernel."""
    return max(1, min(os.cpu_count() or 1, rows // 16))


def compiled(tape: Tape, keys: Sequence[Key]) -> Machine:
    """The machine for the keys of a tape.  NotTraceable when an expectation has no scalar code."""
    lowered = lower(tape)
    wanted = {k: lowered.start[k] + np.arange(tape.slots[k].size) for k in keys}
    inputs = [o.rows for e in lowered.expects for _, o in e.known if o.where == "own"]
    inputs += [m.cross for m in lowered.mehlers]
    kept = np.concatenate([*wanted.values(), *inputs])
    kinds: list[Kind] = []
    entries: list[tuple[int, Ints, Ints, Any]] = []  # (rank, out, index, coef) of every kind
    expectations: list[Expectation] = []
    for n, e in enumerate(lowered.expects):
        kind = expect_kind(e, n, len(expectations))
        index = np.stack([*e.outs, *(o.rows for _, o in e.known)], axis=1)
        _collect(kinds, entries, kind, 0, e.outs[0], index, np.zeros((len(index), 0)))
        expectations += e.expectations
    for m in lowered.mehlers:
        same = (np.full(len(m.out), n) for n in (*m.strides, len(expectations)))
        index = np.stack([m.out, m.cross, m.left, m.right, *same], axis=1)
        _collect(kinds, entries, series_kind(), 0, m.out, index, np.zeros((len(index), 0)))
        expectations.append(m.expectation)
    combinations = combined(lowered.sums, kept, lowered.size)
    for c in combinations:
        index = np.stack([c.out, *(r for rows in c.rows for r in rows)], axis=1)
        _collect(kinds, entries, combination_kind(c.forms, c.first), 1 if c.first else 2, c.out, index, c.coef)
    steps, arrays = _scheduled(entries, _levels(lowered, combinations))
    return Machine(lowered, module(kinds), arrays, steps, tuple(expectations), wanted)


def _collect(  # noqa: PLR0913
    kinds: list[Kind], entries: list[Any], kind: Kind, rank: int, out: Ints, index: Ints, coef: Floats
) -> None:
    """Entries of a kind join those that are there."""
    for n, known in enumerate(kinds):
        if known.name == kind.name:
            r, o, i, c = entries[n]
            entries[n] = (r, np.concatenate([o, out]), np.concatenate([i, index]), np.concatenate([c, coef]))
            return
    kinds.append(kind)
    entries.append((rank, out, index, coef))


def _levels(lowered: Lowered, combinations: Sequence[Combination]) -> Ints:
    """The level of every slot."""
    edges = [
        (rows, c.out)
        for c in combinations
        for form, operands in zip(c.forms, c.rows, strict=True)
        for where, rows in zip(form, operands, strict=True)
        if where == "own"
    ]
    edges += [(o.rows, out) for e in lowered.expects for out in e.outs for _, o in e.known if o.where == "own"]
    edges += [(m.cross, m.out) for m in lowered.mehlers]
    return levels(lowered.size, [(a[a > 0], b[a > 0]) for a, b in edges])


def _scheduled(entries: Sequence[Any], level: Ints) -> tuple[Ints, tuple[Any, ...]]:
    """Steps (kind, from, to) in the order of levels, and the arrays of every kind in that order."""
    steps: list[tuple[int, int, int, int, int]] = []
    arrays: list[Any] = []
    for n, (rank, out, index, coef) in enumerate(entries):
        order = np.argsort(level[out], kind="stable")
        depth = level[out][order]
        cuts = np.flatnonzero(np.diff(depth, prepend=-1))
        for a, b in zip(cuts, [*cuts[1:], len(out)], strict=True):
            steps.append((int(depth[a]), rank, n, int(a), int(b)))
        arrays += [np.ascontiguousarray(index[order]), np.ascontiguousarray(coef[order])]
    table = np.array([s[2:] for s in sorted(steps)], dtype=np.int64).reshape(-1, 3)
    return table, tuple(arrays)

