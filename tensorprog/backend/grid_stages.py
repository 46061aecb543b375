"""Which slots are computed together: components that stay in the cache, and the stages between which they change.

Under a convolution the covariance of two positions meets only those at the same offset, through all layers: slots fall
into components, in the rows and in the columns, and a pair of components is computed from the data to the kernel before
the next one is begun.  An operation that would join too many components (a pooling, the sum over all positions) is
collected from them in an array of all slots, and what reads it is a later stage.  Offsets are not looked for:
components are those of the graph of what reads what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tensorprog.backend.grid_ops import Op
from tensorprog.ir.tables import Ints
from tensorprog.tape.blocks import Key

LARGE = 4096
"""Slots of a key from which a pair of components must be a small part of all."""
PART = 4

Edges = list[tuple[Key, Ints, Key, Ints]]


@final
@dataclass
class Stage:
    """The operations of a stage, and the component of every slot of the keys that are local to it, by projection."""

    ops: list[Op] = field(default_factory=list)
    labels: tuple[dict[Key, Ints], dict[Key, Ints]] = field(default_factory=lambda: ({}, {}))

    def joined(self, g: int, edges: Edges, new: Mapping[Key, int]) -> dict[Key, Ints]:
        """The components with new keys (their numbers of slots) and edges."""
        start = 1 + max((int(x.max()) for x in self.labels[g].values()), default=-1)
        nodes = dict(self.labels[g])
        for key, size in new.items():
            nodes[key] = np.concatenate([[-1], start + np.arange(size - 1)])
            start += size - 1
        a = np.concatenate([np.zeros(0, np.int64), *(nodes[k][i] for k, i, _, _ in edges)])
        b = np.concatenate([np.zeros(0, np.int64), *(nodes[k][i] for _, _, k, i in edges)])
        keep = (a >= 0) & (b >= 0)
        graph = coo_matrix((np.ones(keep.sum()), (a[keep], b[keep])), shape=(start, start))
        found = connected_components(graph, directed=False)[1]
        return {key: np.where(x >= 0, found[x], -1) for key, x in nodes.items()}


@final
@dataclass(frozen=True)
class Staged:
    """The stages; `at` is the stage in which a key is local (keys that are collected have none)."""

    stages: tuple[Stage, ...]
    at: Mapping[Key, int]


def staged(ops: Sequence[Op], sizes: Mapping[Key, tuple[int, int]]) -> Staged:
    """Operations in stages."""
    staging = _Staging(sizes)
    unit: list[Op] = []
    for op in ops:
        if unit and (op.kind == "point" or op.outs != unit[0].outs):
            staging.add(unit)
            unit = []
        unit.append(op)
    staging.add(unit)
    return Staged(tuple(staging.stages), staging.at)


@final
class _Staging:
    def __init__(self, sizes: Mapping[Key, tuple[int, int]]) -> None:
        self.sizes = sizes
        self.stages = [Stage()]
        self.at: dict[Key, int] = {}
        self.ready: dict[Key, int] = {}

    def add(self, unit: list[Op]) -> None:
        """The operations that give one key, or several of the same expectations."""
        stages = [max((self._when(k) for k in op.reads), default=0) for op in unit]
        s, outs = max(stages), unit[0].outs
        reads = max((int(np.prod(self.sizes[k])) for op in unit for k in op.reads), default=0)
        small = int(np.prod(self.sizes[outs[0]])) < reads
        edges = [self._edges(unit, s, g, own=True) for g in (0, 1)]
        if not (small and len(set(stages)) > 1) and self._link(s, edges, outs):
            self._place(unit, s)
        elif small:
            self._collect(unit, stages)
        else:
            self._stage(s + 1)
            self._link(s + 1, [[], []], outs)
            self._place(unit, s + 1)

    def _when(self, key: Key) -> int:
        """The stage in which a key can be read."""
        return self.at.get(key, self.ready.get(key, 0))

    def _collect(self, unit: list[Op], stages: list[int]) -> None:
        """Every operation adds in the stage in which it can."""
        for op, s in zip(unit, stages, strict=True):
            self._link(s, [self._edges([op], s, g, own=False) for g in (0, 1)], ())
            self.stages[s].ops.append(op)
        self._stage(max(stages) + 1)
        self.ready |= dict.fromkeys(unit[0].outs, max(stages) + 1)

    def _stage(self, s: int) -> None:
        while len(self.stages) <= s:
            self.stages.append(Stage())

    def _place(self, unit: list[Op], s: int) -> None:
        self.stages[s].ops += unit
        self.at |= dict.fromkeys(unit[0].outs, s)

    def _edges(self, unit: list[Op], s: int, g: int, own: bool) -> Edges:
        """What the entries of a unit join: outs with what is local, or (not own) what they read among itself."""
        found: Edges = []
        for op in unit:
            reads = [(k, op.tables[g][:, len(op.outs) + c]) for c, k in enumerate(op.reads) if self.at.get(k) == s]
            outs = [(k, op.tables[g][:, c]) for c, k in enumerate(op.outs)] if own else []
            columns = [*outs, *reads]
            found += [(*columns[0], *c) for c in columns[1:]]
        return found

    def _link(self, s: int, edges: list[Edges], new: Sequence[Key]) -> bool:
        """Join components, unless they would become too large."""
        stage = self.stages[s]
        found = [stage.joined(g, edges[g], {k: self.sizes[k][g] for k in new}) for g in (0, 1)]
        most = [max((int(np.bincount(x[x >= 0]).max(initial=0)) for x in f.values()), default=0) for f in found]
        whole = [max((len(x) for x in f.values()), default=0) for f in found]
        large = most[0] * most[1] > LARGE and any(PART * m > n for m, n in zip(most, whole, strict=True))
        if new and any(edges) and large:
            return False
        for g in (0, 1):
            stage.labels[g].update(found[g])
        return True


def locals_of(labels: Ints, count: int) -> tuple[Ints, Ints]:
    """The place of every slot within its component, from 1 on, and the sizes of components with it."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.searchsorted(ordered, ordered)
    place = np.zeros(len(labels), dtype=np.int64)
    place[order] = np.arange(len(labels)) - first + 1
    sizes = 1 + np.bincount(labels[labels >= 0], minlength=count)
    return np.where(labels >= 0, place, 0), sizes


def numbers(labels: NDArray[np.int64]) -> int:
    """The number of components."""
    return int(labels.max(initial=-1)) + 1
