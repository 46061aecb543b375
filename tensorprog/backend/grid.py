"""Product tapes as machine code: tiles of pairs of examples, threads, entries in doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.access import RESULTS
from tensorprog.backend.build import address, called, is_built, pointer
from tensorprog.backend.grid_emit import Formulas, source
from tensorprog.backend.grid_forward import folded, forward, ordered_by_key
from tensorprog.backend.grid_known import Known, Single, formulas_of, known_of, settled
from tensorprog.backend.grid_loops import CHUNK, FETCHING, RUNNING, SCRATCH, SIDES, TILE, step
from tensorprog.backend.grid_ops import operations
from tensorprog.backend.grid_points import Point, pointwise
from tensorprog.backend.grid_stages import staged
from tensorprog.backend.grid_tables import StageTables, Tables, tables
from tensorprog.backend.grid_tiles import Tile, pair_tiles, same_tiles
from tensorprog.backend.trace import NotTraceable
from tensorprog.cores import cores
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.tape.blocks import Key
from tensorprog.tape.product import ProductTape, ProductTapes
from tensorprog.tape.ranges import check_range

Floats = NDArray[np.float64]
Data = Mapping[str, Floats]
Sides = tuple[Data, Data]
MEMORY = 1 << 31
"""Bytes that the slots of all threads take at most, whatever is allowed."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """The operations of one tape: `names` are the data of both sides, `keys` what is computed, `sizes` the numbers of
    slots, `codes` the sources of `formulas`."""

    names: tuple[str, str]
    keys: tuple[Key, ...]
    sizes: Mapping[Key, tuple[int, int]]
    points: tuple[Point, ...]
    formulas: tuple[Formulas, ...]
    codes: tuple[str, ...]
    tables: Tables

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """All expectations, in the order of the worst errors."""
        return tuple(e for x in self.points for e in x.expectations)

    @property
    def sources(self) -> set[str]:
        """The functions that it needs."""
        kinds = {k for stage in self.tables.stages for k, _ in stage.steps}
        return {FETCHING, RUNNING, *map(_step, kinds), *self.codes}

    def tile(self, pairs: int, memory: int, known: int) -> int:
        """Pairs of examples at a time, for so many in all: the same number for all threads; `known` are the rows of
        both sides."""
        most = max(1, min(TILE, min(memory, MEMORY) // (8 * (self.tables.rows + known) * cores())))
        rounds = -(-pairs // (most * cores()))
        return -(-pairs // (rounds * cores()))


@final
@dataclass(frozen=True)
class GridMachine:
    """Compiled product tapes: of pairs of examples, and of the examples of both sides by themselves."""

    cross: Part
    singles: tuple[Part, Part]

    @property
    def is_built(self) -> bool:
        """Whether its machine code is on disk."""
        return all(is_built(s) for part in (self.cross, *self.singles) for s in part.sources)

    def run(
        self, data: Sides, symmetric: bool, memory: int, progress: Callable[[float], None]
    ) -> tuple[Tile, dict[Key, Floats], list[tuple[Expectation, float]]]:
        """(pairs of examples, values [slots, pairs] of all keys, worst error of every expectation) for all pairs, once
        each or more often; in one of both orders where the kernel is symmetric."""
        left, errors = self._single(0, data, memory)
        right, more = (left, []) if symmetric else self._single(1, data, memory)
        known = known_of(self.cross.points, self.cross.formulas, (left, right))
        for second in (s for k in known for s in k.second.values()):
            check_range(second)
        examples = len(left.data), len(right.data)
        pairs = examples[0] * (examples[0] + 1) // 2 if symmetric else examples[0] * examples[1]
        tiles = pair_tiles(examples, symmetric, self.cross.tile(pairs, memory, sum(k.rows.shape[1] for k in known)))
        values, worst = self._compute(self.cross, known, tiles, progress)
        whole = {k: value.transpose(1, 0, 2).reshape(value.shape[1], -1) for k, value in values.items()}
        i, j = (np.concatenate([tile[side] for tile in tiles]) for side in (0, 1))
        return (i, j), whole, [*errors, *more, *worst]

    def _single(self, s: int, data: Sides, memory: int) -> tuple[Single, list[tuple[Expectation, float]]]:
        """The examples of a side by themselves."""
        part, x = self.singles[s], data[s][self.cross.names[s]]
        known, _ = known_of((), (), (Single(x, {}, {}),) * 2)
        tiles = same_tiles(len(x), part.tile(len(x), memory, 2 * known.rows.shape[1]))
        values, worst = self._compute(part, (known, known), tiles, lambda _: None)
        whole = {k: value.transpose(0, 2, 1).reshape(-1, value.shape[1])[: len(x)] for k, value in values.items()}
        return Single(x, whole, part.sizes), worst

    def _compute(
        self, part: Part, known: tuple[Known, Known], tiles: Sequence[Tile], progress: Callable[[float], None]
    ) -> tuple[dict[Key, Floats], list[tuple[Expectation, float]]]:
        """(values [tiles, slots, pairs] of all keys, worst errors)"""
        width = len(tiles[0][0])
        values = {k: np.empty((len(tiles), int(np.prod(part.sizes[k])), width)) for k in part.keys}
        done, waiting = list[int](), iter(enumerate(tiles))
        tabled = [(_steps(s), _sides(part, known, s)) for s in part.tables.stages]
        spaces = [_Space(part, known, width, tabled) for _ in range(min(cores(), len(tiles)))]

        def work(space: _Space) -> None:
            for n, tile in waiting:
                space.compute(tile)
                for k, value in values.items():
                    value[n] = space.whole(k, value.shape[1])
                done.append(n)
                progress(len(done) / len(tiles))

        with ThreadPoolExecutor(len(spaces)) as pool:
            list(pool.map(work, spaces))
        worst = np.max([s.worst for s in spaces], axis=0, initial=0.0)
        return values, list(zip(part.expectations, worst.tolist(), strict=True))


@final
class _Space:
    """The arrays of a thread."""

    def __init__(self, part: Part, known: tuple[Known, Known], tile: int, tabled: list[tuple[Ints, Ints]]) -> None:
        self.part, self.known, self.tile = part, known, tile
        self.slots = np.zeros((part.tables.rows, tile))
        self.line = np.zeros(max(part.tables.width * tile, RESULTS * CHUNK))
        self.rows = tuple(np.zeros((k.rows.shape[1], tile)) for k in known)
        self.last = np.full(tile, -1), np.full(tile, -1)
        self.worst = np.zeros(len(part.expectations))
        self.fetch, self.run = called(FETCHING, 6), called(RUNNING, 24)
        self.stages = [_Stage(self, s, *t) for s, t in zip(part.tables.stages, tabled, strict=True)]

    def whole(self, key: Key, count: int) -> Floats:
        """The slots of a key that is kept as a whole."""
        first = self.part.tables.whole[key]
        return np.asarray(self.slots[first : first + count])

    def compute(self, at: Tile) -> None:
        """All slots that are kept as a whole, for pairs of examples."""
        self.slots[: self.part.tables.kept] = 0.0
        for known, examples, last, rows in zip(self.known, at, self.last, self.rows, strict=True):
            chosen = np.ascontiguousarray(examples)
            places = pointer(known.rows), known.rows.shape[1], pointer(chosen), pointer(last)
            self.fetch(*places, self.tile, pointer(rows))
        for stage in self.stages:
            stage.state[:] = 0
            while count := self.run(*stage.arguments):
                self._settle(stage.tables, at, stage.sides, stage.state, stage.doubts[:count])

    def _settle(self, stage: StageTables, at: Tile, sides: Ints, state: Ints, doubts: Ints) -> None:
        """Entries in doubt by the expectations themselves."""
        n, (a, b) = int(state[3]), stage.axes
        op = stage.ops[n]
        assert op is not None
        point, c = self.part.points[op.number], len(op.outs) + len(op.reads)
        i, j = a.index[doubts[:, 0]], b.index[doubts[:, 1]]
        strides = b.sizes[stage.keys[n, :c], state[1]]
        places = stage.first[n, :c] + i[:, :c] * strides + j[:, :c]
        second = [
            k.second[op.number][at[s]][:, i[:, c + s] * sides[n, 2 + s] + j[:, c + s]].T
            for s, k in enumerate(self.known if point.inside is not None else ())
        ]
        reads = [self.slots[places[:, len(op.outs) + t]] for t in range(len(op.reads))]
        values, errors = settled(point, reads, second)
        for t, value in enumerate(values):
            self.slots[places[:, t]] = value
        first = sides[n, 6]
        self.worst[first : first + len(errors)] = np.maximum(self.worst[first : first + len(errors)], errors)


@final
class _Stage:
    """The arrays of a thread for a stage, and the arguments of `RUNNING`: pointers to them, and numbers."""

    def __init__(self, space: _Space, tables: StageTables, steps: Ints, sides: Ints) -> None:
        a, b = tables.axes
        most = int(np.diff(a.starts).max()) * int(np.diff(b.starts).max())
        self.tables, self.steps, self.sides = tables, steps, sides
        self.doubts, self.state = np.zeros((most + 1, 2), dtype=np.int64), np.zeros(4, dtype=np.int64)
        self.scratch = np.zeros(SCRATCH, dtype=np.int64)
        numbers = space.slots, space.line, *space.rows, space.worst, self.doubts
        indices = tables.first, sides, a.index, a.coef, b.index, b.coef, self.scratch, steps
        sizes = pointer(a.sizes), a.sizes.shape[1], pointer(b.sizes), b.sizes.shape[1]
        rest = tables.keys, a.starts, b.starts, self.state
        before, after, last = (list(map(pointer, x)) for x in (numbers, indices, rest))
        self.arguments = *before, space.tile, *after, len(steps), *sizes, *last


def _step(kind: str | int) -> str:
    return step(kind if isinstance(kind, str) else "points")


def _steps(stage: StageTables) -> Ints:
    """What is done: the address of a function, the operation, whether nothing is done without entries, the keys."""
    rows = []
    for kind, n in stage.steps:
        op = stage.ops[n]
        keys = 1 if op is None else len(op.outs) + len(op.reads)
        rows.append((address(_step(kind)), n, op is not None, keys))
    return np.array(rows, dtype=np.int64)


def _sides(part: Part, known: tuple[Known, Known], stage: StageTables) -> Ints:
    """For every operation the first rows, strides and numbers of slots of L and R, its first error, the numbers of its
    results and keys, and its formulas; or the dimension of the data, or widths."""
    table = np.zeros((len(stage.ops), SIDES), dtype=np.int64)
    first = np.cumsum([0, *(len(x.expectations) for x in part.points)])
    for n, op in enumerate(stage.ops):
        if op is None:
            continue
        if op.kind == "data":
            table[n, :3] = known[0].dim, *(k.elements for k in known)
        elif op.kind == "mix":
            table[n, :3] = stage.widths[n]
        elif op.kind == "point":
            results, code = len(op.outs), address(part.codes[op.number])
            table[n, 6:] = first[op.number], results, results + len(op.reads), code
        if op.kind == "point" and part.points[op.number].inside is not None:
            table[n, :2] = [k.starts[op.number] for k in known]
            table[n, 2:4] = [k.shapes[op.number][1] for k in known]
            table[n, 4:6] = [int(np.prod(k.shapes[op.number])) for k in known]
    return table


def compiled(tapes: ProductTapes) -> GridMachine:
    """The machine of the tapes of pairs and of both sides.  NotTraceable when one of them has no code."""
    cross = _part(tapes.cross, tuple(dict.fromkeys(tapes.keys.values())), tapes.keys.get("ntk"))
    inside = [x.inside for x in cross.points if x.inside is not None]
    needed = [tuple(dict.fromkeys(keys[s] for keys in inside)) for s in (0, 1)]
    left = _part(tapes.left, needed[0])
    alike = tapes.left.tapes[0] is tapes.right.tapes[0] and needed[0] == needed[1]
    right = left if alike else _part(tapes.right, needed[1])
    return GridMachine(cross, (left, right))


def _part(tape: ProductTape, keys: tuple[Key, ...], tangent: Key | None = None) -> Part:
    """The operations of a tape for some keys; those of the tangent kernel turned forward."""
    lowered = operations(tape)
    sizes, ops = dict(lowered.sizes), lowered.ops
    if any(k not in sizes for k in keys):
        raise NotTraceable("second moments that are zero")
    if tangent is not None:
        ops = forward(ops, sizes, tangent, keys)
    ops = ordered_by_key(folded(ops, sizes, keys), keys)
    ops, points = pointwise(ops, lowered.expected, sizes, keys)
    formulas = tuple(map(formulas_of, points))
    codes = tuple(map(source, formulas))
    return Part(lowered.names, keys, sizes, points, formulas, codes, tables(ops, sizes, staged(ops, sizes), keys))
