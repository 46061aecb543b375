"""Stages -> the arrays that the machine code of a product tape reads: entries by component, rows of keys, steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.grid_loops import COLUMNS, FEW, RUN
from tensorprog.backend.grid_ops import Op
from tensorprog.backend.grid_stages import Stage, Staged, locals_of, numbers
from tensorprog.ir.tables import Ints
from tensorprog.tape.blocks import Key

Floats = NDArray[np.float64]
Kind = str | int
"""The function of a step: a name, or the number of a pointwise operation."""


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """Entries of all operations of a stage, in the rows or in the columns: operation o has in component c the
    entries starts[o, c] : starts[o, c + 1] of `index` and `coef`.  `sizes` [keys, components] are those of the keys."""

    index: Ints
    coef: Floats
    starts: Ints
    sizes: Ints


@final
@dataclass(frozen=True, slots=True)
class StageTables:
    """A stage: `steps` (kind, operation); `widths` are the numbers of terms of a mix, and whether it is the first to
    write; `first` and `keys` are the first row and the number of the key of every column of an operation."""

    steps: tuple[tuple[Kind, int], ...]
    ops: tuple[Op | None, ...]
    widths: Mapping[int, tuple[int, int, int]]
    first: Ints
    keys: Ints
    axes: tuple[Axis, Axis]


@final
@dataclass(frozen=True, slots=True)
class Tables:
    """All stages; `whole` are the first rows of keys that are kept as a whole, behind each other; `rows` is the number
    of all rows, `width` that of the largest line of a key."""

    stages: tuple[StageTables, ...]
    whole: Mapping[Key, int]
    kept: int
    rows: int
    width: int


def tables(
    ops: Sequence[Op], sizes: Mapping[Key, tuple[int, int]], found: Staged, wanted: Collection[Key]
) -> Tables:
    """The arrays for the stages of some operations."""
    whole, kept = dict[Key, int](), 0
    for key in _whole(ops, found, wanted):
        whole[key], kept = kept, kept + int(np.prod(sizes[key]))
    used = [(n, stage) for n, stage in enumerate(found.stages) if stage.ops]
    made = [_Tabled(stage, n, found.at, whole, kept, sizes) for n, stage in used]
    rows = max(m.rows for m in made)
    return Tables(tuple(m.done() for m in made), whole, kept, rows, 1 + max(n for _, n in sizes.values()))


def _whole(ops: Sequence[Op], found: Staged, wanted: Collection[Key]) -> list[Key]:
    """Keys that are collected, read by a later stage, or wanted."""
    stage = {id(op): n for n, s in enumerate(found.stages) for op in s.ops}
    keys = dict.fromkeys(k for op in ops for k in (*op.outs, *op.reads))
    later = {k for op in ops for k in op.reads if found.at.get(k) != stage[id(op)]}
    return [k for k in keys if k not in found.at or k in later or k in wanted]


@final
class _Tabled:
    def __init__(  # noqa: PLR0913
        self,
        stage: Stage,
        number: int,
        at: Mapping[Key, int],
        whole: Mapping[Key, int],
        kept: int,
        sizes: Mapping[Key, tuple[int, int]],
    ) -> None:
        self.stage, self.whole, self.kept, self.sizes = stage, whole, kept, sizes
        self.here = {k for k, s in at.items() if s == number}
        self.names = list(dict.fromkeys(k for op in stage.ops for k in (*op.outs, *op.reads)))
        self.counts = [max(1, max((numbers(x) for x in stage.labels[g].values()), default=1)) for g in (0, 1)]
        local = [k for k in self.names if k in self.here and k not in whole]
        self.places = [{k: locals_of(stage.labels[g][k], self.counts[g]) for k in local} for g in (0, 1)]
        self.buffers = self._buffers(set(local))
        largest = [max((int(n.max()) for _, n in p.values()), default=0) for p in self.places]
        self.buffer = largest[0] * largest[1]
        self.rows = kept + self.buffer * (1 + max(self.buffers.values(), default=0))

    def _buffers(self, local: set[Key]) -> dict[Key, int]:
        """A buffer for every local key, used again after its last read."""
        last = {k: n for n, op in enumerate(self.stage.ops) for k in (*op.outs, *op.reads)}
        free: list[int] = []
        found: dict[Key, int] = {}
        used = 0
        for n, op in enumerate(self.stage.ops):
            for k in op.outs:
                if k in local and k not in found:
                    if not free:
                        free, used = [used], used + 1
                    found[k] = free.pop()
            free += [found[k] for k in dict.fromkeys((*op.outs, *op.reads)) if k in found and last[k] == n]
        return found

    def _first(self, key: Key) -> int:
        return self.whole[key] if key in self.whole else self.kept + self.buffer * self.buffers[key]

    def done(self) -> StageTables:
        """The arrays."""
        steps: list[tuple[Kind, int]] = []
        ops: list[Op | None] = []
        keys: list[tuple[Key, ...]] = []
        written: set[Key] = set()
        widths: dict[int, tuple[int, int, int]] = {}
        parts: tuple[list[tuple[Ints, Floats, Ints]], ...] = ([], [])

        def add(kind: Kind, op: Op | None, columns: tuple[Key, ...], entries: list[tuple[Ints, Floats, Ints]]) -> None:
            steps.append((kind, len(ops)))
            ops.append(op)
            keys.append(columns)
            for g in (0, 1):
                parts[g].append(entries[g])

        for op in self.stage.ops:
            kind, width, entries = self._op(op)
            new = [k for k in op.outs if k not in self.whole and k not in written]
            written.update(new)
            sets = bool(new) and kind != "gather" and self._covers(op, entries)
            for k in new:
                add("edges" if sets else "clear", None, (k,), [_nothing(n) for n in self.counts])
            widths[len(ops)] = (*width, int(sets))
            add(kind, op, (*op.outs, *op.reads), entries)
        first, number = np.zeros((len(ops), COLUMNS), np.int64), np.zeros((len(ops), COLUMNS), np.int64)
        for n, columns in enumerate(keys):
            first[n, : len(columns)] = [self._first(k) for k in columns]
            number[n, : len(columns)] = [self.names.index(k) for k in columns]
        axes = (_axis(parts[0], self._sizes(0)), _axis(parts[1], self._sizes(1)))
        return StageTables(tuple(steps), tuple(ops), widths, first, number, axes)

    def _covers(self, op: Op, entries: list[tuple[Ints, Floats, Ints]]) -> bool:
        """Whether an operation writes to all slots of its keys, once each."""
        if op.kind not in ("mix", "data", "point") or any(k not in self.places[0] for k in op.outs):
            return False
        found = [[np.diff(entries[g][2]) == self.places[g][k][1] - 1 for k in op.outs] for g in (0, 1)]
        return bool(np.all(found[0]) and np.all(found[1]))

    def _sizes(self, g: int) -> Ints:
        """The numbers of slots of keys in all components; of the whole key where it is kept as a whole."""
        return np.stack([self._key_sizes(k, g) for k in self.names]).astype(np.int64)

    def _key_sizes(self, key: Key, g: int) -> Ints:
        found = self.places[g][key][1] if key in self.places[g] else np.asarray(self.sizes[key][g])
        return np.broadcast_to(found, self.counts[g])

    def _op(self, op: Op) -> tuple[Kind, tuple[int, int], list[tuple[Ints, Floats, Ints]]]:
        """The kind of a step, the widths of a mix, and its entries in the rows and in the columns."""
        entries, widths = [self._entries(op, g) for g in (0, 1)], (0, 0)
        kind: Kind = op.number if op.kind == "point" else op.kind
        used = op.tables[1].shape[1]
        if op.kind == "mix":
            widths = _width(*entries[0]), _width(*entries[1])
            kind, used = ("mix", 1 + widths[1]) if max(widths) <= FEW else ("gather", 2)
        if kind == "mix":
            sizes = self._key_sizes(op.reads[0], 1)
            aligned = _aligned(*entries[1], sizes)
            if aligned is not None:
                widths, kind, used = (widths[0], aligned[3]), "mix", 1 + aligned[3]
            entries = [_padded(*entries[0], widths[0]), aligned[:3] if aligned else _padded(*entries[1], widths[1])]
        one = op.kind == "times" and self.sizes[op.outs[0]] == (2, 2)
        _mark_runs(*entries[1], used, one)
        return "dot" if one else kind, widths, [_by_component(*e, self.counts[g]) for g, e in enumerate(entries)]

    def _entries(self, op: Op, g: int) -> tuple[Ints, Floats, Ints]:
        """Index columns, coefficients and components of the entries, sorted."""
        table, columns = op.tables[g], (*op.outs, *op.reads)
        labels = [self.stage.labels[g][k][table[:, c]] for c, k in enumerate(columns) if k in self.here]
        component = np.max(labels, axis=0) if labels else np.zeros(len(table), np.int64)
        index = np.zeros((len(table), COLUMNS), np.int64)
        index[:, : table.shape[1]] = table
        for c, k in enumerate(columns):
            if k in self.places[g]:
                index[:, c] = self.places[g][k][0][table[:, c]]
        order = np.lexsort((index[:, 1], index[:, 0], component))
        order = order[component[order] >= 0]
        coef = np.zeros((len(order), FEW))
        coef[:, 0] = op.coefs[g][order]
        return index[order], coef, component[order]


def _nothing(count: int) -> tuple[Ints, Floats, Ints]:
    return np.zeros((0, COLUMNS), np.int64), np.zeros((0, FEW)), np.zeros(count + 1, np.int64)


def _by_component(index: Ints, coef: Floats, component: Ints, count: int) -> tuple[Ints, Floats, Ints]:
    return index, coef, np.searchsorted(component, np.arange(count + 1))


def _runs(index: Ints, component: Ints) -> Ints:
    """The first entry of every run with the same component and slot."""
    if not len(index):
        return np.zeros(0, np.int64)
    return np.flatnonzero((np.diff(component, prepend=-1) != 0) | (np.diff(index[:, 0], prepend=-1) != 0))


def _width(index: Ints, coef: Floats, component: Ints) -> int:
    return int(np.diff([*_runs(index, component), len(index)]).max(initial=1))


def _padded(index: Ints, coef: Floats, component: Ints, width: int) -> tuple[Ints, Floats, Ints]:
    """All terms of a slot in one entry."""
    first = _runs(index, component)
    count = np.diff([*first, len(index)])
    wide, values = np.zeros((len(first), COLUMNS), np.int64), np.zeros((len(first), FEW))
    wide[:, 0] = index[first, 0]
    for t in range(width):
        at = np.flatnonzero(count > t)
        wide[at, 1 + t], values[at, t] = index[first[at] + t, 1], coef[first[at] + t, 0]
    return wide, values, component[first]


def _aligned(index: Ints, coef: Floats, component: Ints, sizes: Ints) -> tuple[Ints, Floats, Ints, int] | None:
    """The same with terms in the order of their distances, so that slots at an edge continue a run: they read the zeros
    before the first slot and behind the last one.  None where distances are many."""
    distance = index[:, 1] - index[:, 0]
    found, place = np.unique(distance, return_inverse=True)
    first = _runs(index, component)
    width = len(found)
    if width > FEW or not len(first):
        return None
    row = np.repeat(np.arange(len(first)), np.diff([*first, len(index)]))
    wide, values = np.zeros((len(first), COLUMNS), np.int64), np.zeros((len(first), FEW))
    wide[:, 0] = index[first, 0]
    there = np.zeros((len(first), width), bool)
    wide[row, 1 + place], values[row, place], there[row, place] = index[:, 1], coef[:, 0], True
    for t, d in enumerate(found):
        usual = coef[place == t, 0]
        edge = wide[:, 0] + d
        pad = ~there[:, t] & ((edge == 0) | (edge == sizes[component[first]])) & bool(np.all(usual == usual[0]))
        wide[pad, 1 + t], values[pad, t] = edge[pad], usual[0]
    return wide, values, component[first], width


def _mark_runs(index: Ints, coef: Floats, component: Ints, used: int, one: bool) -> None:
    """The lengths of runs in their first entries: all columns go up by one, but the slot of a sum in `one`."""
    step = np.ones(used, np.int64)
    step[0] = 0 if one else 1
    broken = (np.diff(index[:, :used], axis=0) != step).any(axis=1)
    broken |= (np.diff(coef, axis=0) != 0).any(axis=1) | (np.diff(component) != 0)
    first = np.concatenate([[0], 1 + np.flatnonzero(broken)]) if len(index) else np.zeros(0, np.int64)
    index[first, RUN] = np.diff([*first, len(index)])


def _axis(parts: list[tuple[Ints, Floats, Ints]], sizes: Ints) -> Axis:
    starts = np.cumsum([0, *(len(p[0]) for p in parts[:-1]), 0][: len(parts)])
    return Axis(
        np.ascontiguousarray(np.concatenate([p[0] for p in parts])),
        np.ascontiguousarray(np.concatenate([p[1] for p in parts])),
        np.stack([s + p[2] for s, p in zip(starts, parts, strict=True)]),
        np.ascontiguousarray(sizes),
    )
