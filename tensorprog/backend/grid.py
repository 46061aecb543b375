"""Product tapes as machine code: tiles of pairs of examples, threads, entries in doubt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.build import is_built, load
from tensorprog.backend.formula import interpreted
from tensorprog.backend.grid_emit import KINDS, Formulas, module
from tensorprog.backend.grid_forward import folded, forward, ordered_by_key
from tensorprog.backend.grid_known import Known, formulas_of, kinds_of, known_of, settled, single_point, written
from tensorprog.backend.grid_loops import CHUNK, COLUMNS, RUN, TILE
from tensorprog.backend.grid_ops import operations
from tensorprog.backend.grid_points import Point, pointwise
from tensorprog.backend.grid_stages import staged
from tensorprog.backend.grid_tables import Kind, StageTables, Tables, tables
from tensorprog.backend.grid_tiles import Tile, pair_tiles
from tensorprog.cores import cores
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.symbolic.moments import Moments
from tensorprog.tape.blocks import Key, Product
from tensorprog.tape.product import ProductTapes
from tensorprog.tape.product_run import ProductRun

Floats = NDArray[np.float64]
MEMORY = 1 << 31
"""Bytes that the slots of all threads take at most, whatever is allowed."""


@final
@dataclass(frozen=True)
class GridMachine:
    """A compiled product tape; `kind` is the number of the function of every pointwise operation, `singles` are numbers
    and formulas of expectations by themselves, by their ids."""

    tapes: ProductTapes
    names: tuple[str, str]
    points: tuple[Point, ...]
    formulas: tuple[Formulas, ...]
    kind: tuple[int, ...]
    singles: Mapping[int, tuple[int, Formulas]]
    tables: Tables
    source: str

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """All expectations, in the order of the worst errors."""
        return tuple(e for x in self.points for e in x.expectations)

    @property
    def is_built(self) -> bool:
        """Whether its machine code is on disk."""
        return is_built(self.source)

    def tile(self, pairs: int, memory: int, known: int) -> int:
        """Pairs of examples at a time, for so many in all: the same number for all threads; `known` are the rows of
        both sides."""
        most = max(1, min(TILE, min(memory, MEMORY) // (8 * (self.tables.rows + known) * cores())))
        rounds = -(-pairs // (most * cores()))
        return -(-pairs // (rounds * cores()))

    def run(  # noqa: PLR0913
        self, runs: tuple[ProductRun, ProductRun], examples: tuple[int, int], symmetric: bool, keys: Sequence[Key],
        memory: int, progress: Callable[[float], None],
    ) -> tuple[Tile, dict[Key, Floats], Floats]:
        """(pairs of examples, values [slots, pairs] of some keys, worst error of every expectation) for all pairs, once
        each or more often; in one of both orders where the kernel is symmetric."""
        known = known_of(self.points, self.formulas, runs, self.names)
        pairs = examples[0] * (examples[0] + 1) // 2 if symmetric else examples[0] * examples[1]
        width = self.tile(pairs, memory, sum(k.rows.shape[1] for k in known))
        tiles = pair_tiles(examples, symmetric, width)
        values = {k: np.empty((len(tiles), int(np.prod(self.tapes.cross.shape(k))), width)) for k in keys}
        done, waiting = list[int](), iter(enumerate(tiles))
        spaces = [_Space(self, known, width) for _ in range(min(cores(), len(tiles)))]

        def work(space: _Space) -> None:
            for n, tile in waiting:
                space.compute(tile)
                for k, value in values.items():
                    value[n] = space.whole(k, value.shape[1])
                done.append(n)
                progress(len(done) / len(tiles))

        with ThreadPoolExecutor(len(spaces)) as pool:
            list(pool.map(work, spaces))
        whole = {k: value.transpose(1, 0, 2).reshape(value.shape[1], -1) for k, value in values.items()}
        i, j = (np.concatenate([tile[side] for tile in tiles]) for side in (0, 1))
        return (i, j), whole, np.max([s.worst for s in spaces], axis=0, initial=0.0)

    def evaluate(self, e: Expectation, moments: Moments) -> tuple[Floats, Floats]:
        """The values and errors of an expectation on arrays, by the formulas of the machine to the last bit."""
        if id(e) not in self.singles or moments.sizes != (1, 1) or np.any(moments.mean_l) or np.any(moments.mean_r):
            return e.evaluate(moments, {})
        covs = moments.cov_ll[0, 0], moments.cov_rr[0, 0], moments.cov_lr[0, 0]
        left, right, cross = (np.ascontiguousarray(x).reshape(-1) for x in np.broadcast_arrays(*covs))
        number, f = self.singles[id(e)]
        rows = [np.concatenate([np.zeros(0), *interpreted(f.left, {"s00": left})])]
        same = written(f.left) == written(f.right) and np.array_equal(left, right)
        rows += rows if same else [np.concatenate([np.zeros(0), *interpreted(f.right, {"s11": right})])]
        n, slots, worst = len(cross), np.concatenate([cross, np.zeros_like(cross)]), np.zeros(1)
        doubts = np.zeros((n + 1, 2), dtype=np.int64)
        entry = np.zeros((1, COLUMNS), dtype=np.int64)
        entry[0, RUN] = n
        function = getattr(load(self.source), f"point{number}")
        known = *rows, worst, doubts, n, 0, 0, 0, 0, 0, n, n, 0
        count = function(slots, 1, np.zeros(CHUNK), *known, entry, 0, 1, entry, 0, 1, 0, 0)
        values, errors = slots[n:], np.full(n, worst[0])
        at = doubts[:count, 1]
        if count:
            mean, part = np.zeros((1, count)), (left[at][None, None], right[at][None, None], cross[at][None, None])
            values[at], errors[at] = e.evaluate(Moments(mean, part[0], mean, part[1], part[2]), {})
        return values.reshape(covs[2].shape), errors.reshape(covs[2].shape)

    def code(self, kind: Kind) -> int:
        """The number of a function."""
        return KINDS.index(kind) if isinstance(kind, str) else len(KINDS) + self.kind[kind]


@final
class _Space:
    """The arrays of a thread."""

    def __init__(self, machine: GridMachine, known: tuple[Known, Known], tile: int) -> None:
        self.machine, self.known, self.tile = machine, known, tile
        self.slots = np.zeros((machine.tables.rows, tile))
        self.line = np.zeros(machine.tables.width * tile)
        self.marks = np.zeros(CHUNK)
        self.rows = tuple(np.zeros((k.rows.shape[1], tile)) for k in known)
        self.last = np.full(tile, -1), np.full(tile, -1)
        self.worst = np.zeros(len(machine.expectations))
        self.code: Any = load(machine.source)
        self.stages = [(s, *self._arrays(s)) for s in machine.tables.stages]

    def whole(self, key: Key, count: int) -> Floats:
        """The slots of a key that is kept as a whole."""
        first = self.machine.tables.whole[key]
        return np.asarray(self.slots[first : first + count])

    def _arrays(self, stage: StageTables) -> tuple[Ints, Ints, Ints]:
        """Steps, what operations know, and a place for entries in doubt."""
        a, b = stage.axes
        steps = np.array([(self.machine.code(k), o) for k, o in stage.steps], dtype=np.int64)
        most = int(np.diff(a.starts).max()) * int(np.diff(b.starts).max()) + 1
        return steps, self._sides(stage), np.zeros((most, 2), dtype=np.int64)

    def _sides(self, stage: StageTables) -> Ints:
        """For every operation the first rows, strides and numbers of slots of L and R, or the dimension of the data."""
        table = np.zeros((len(stage.ops), 7), dtype=np.int64)
        for n, op in enumerate(stage.ops):
            if op is None:
                continue
            if op.kind == "data":
                table[n, :3] = self.known[0].dim, *(k.elements for k in self.known)
            elif op.kind == "mix":
                table[n, :3] = stage.widths[n]
            elif op.kind == "point" and self.machine.points[op.number].inside is not None:
                table[n, :2] = [k.starts[op.number] for k in self.known]
                table[n, 2:4] = [k.shapes[op.number][1] for k in self.known]
                table[n, 4:6] = [int(np.prod(k.shapes[op.number])) for k in self.known]
                table[n, 6] = sum(len(x.expectations) for x in self.machine.points[: op.number])
        return table

    def compute(self, at: Tile) -> None:
        """All slots that are kept as a whole, for pairs of examples."""
        self.slots[: self.machine.tables.kept] = 0.0
        for known, examples, last, rows in zip(self.known, at, self.last, self.rows, strict=True):
            self.code.fetch(known.rows, examples, last, rows.reshape(-1))
        for stage, steps, sides, doubts in self.stages:
            for count, state in self._until_doubt(stage, steps, sides, doubts):
                self._settle(stage, at, sides, state, doubts[:count])

    def _until_doubt(self, stage: StageTables, steps: Ints, sides: Ints, doubts: Ints) -> Iterator[tuple[int, Ints]]:
        """The numbers of entries in doubt, and where the machine stopped."""
        a, b = stage.axes
        state = np.zeros(4, dtype=np.int64)
        known = (r.reshape(-1) for r in self.rows)
        arrays = self.slots.reshape(-1), self.line, self.tile, self.marks, *known, self.worst, doubts, steps
        indices = stage.first, stage.keys, sides, a.sizes, b.sizes
        entries = a.index, a.coef, a.starts, b.index, b.coef, b.starts
        while count := self.code.run(*arrays, *indices, *entries, state):
            yield count, state

    def _settle(self, stage: StageTables, at: Tile, sides: Ints, state: Ints, doubts: Ints) -> None:
        """Entries in doubt by the expectations themselves."""
        n, (a, b) = int(state[3]), stage.axes
        op = stage.ops[n]
        assert op is not None
        point, c = self.machine.points[op.number], len(op.outs) + len(op.reads)
        i, j = a.index[doubts[:, 0]], b.index[doubts[:, 1]]
        strides = b.sizes[stage.keys[n, :c], state[1]]
        places = stage.first[n, :c] + i[:, :c] * strides + j[:, :c]
        second = [
            k.second[op.number][i[:, c + s] * sides[n, 2 + s] + j[:, c + s]][:, at[s]]
            for s, k in enumerate(self.known)
        ]
        reads = [self.slots[places[:, len(op.outs) + t]] for t in range(len(op.reads))]
        values, errors = settled(point, reads, (second[0], second[1]))
        for t, value in enumerate(values):
            self.slots[places[:, t]] = value
        first = sides[n, 6]
        self.worst[first : first + len(errors)] = np.maximum(self.worst[first : first + len(errors)], errors)


def compiled(tapes: ProductTapes) -> GridMachine:
    """The machine of a cross tape.  NotTraceable when it has no code."""
    lowered, keys = operations(tapes.cross), tuple(dict.fromkeys(tapes.keys.values()))
    sizes = dict(lowered.sizes)
    ops = lowered.ops
    if "ntk" in tapes.keys:
        ops = forward(ops, sizes, tapes.keys["ntk"], keys)
    ops = ordered_by_key(folded(ops, sizes, keys), keys)
    ops, points = pointwise(ops, lowered.expected, sizes, keys)
    arrays = tables(ops, sizes, staged(ops, sizes), keys)
    used = _of_runs(tapes)
    alone = {id(e): e for x in points for e in x.expectations if id(e) in used}
    formulas = tuple(map(formulas_of, (*points, *map(single_point, alone.values()))))
    kind, kinds = kinds_of(formulas)
    n = len(points)
    singles = {i: (k, f) for i, k, f in zip(alone, kind[n:], formulas[n:], strict=True)}
    return GridMachine(tapes, lowered.names, points, formulas[:n], kind[:n], singles, arrays, module(kinds))


def _of_runs(tapes: ProductTapes) -> set[int]:
    """The ids of the expectations of single runs."""
    blocks = [pair[0] for tape in (tapes.left, tapes.right) for _, pairs in tape.steps for pair in pairs]
    return {id(g.expectation) for b in blocks if isinstance(b, Product) for g in b.groups}
