"""Product tapes as machine code: what is known of the examples, tiles of pairs, threads, entries in doubt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.build import load
from tensorprog.backend.formula import Arguments, frontier, interpreted, ordered, recorded
from tensorprog.backend.grid_emit import CHUNK, Formulas, module
from tensorprog.backend.grid_ops import Expected, Op, Operations, operations
from tensorprog.backend.grid_stages import staged
from tensorprog.backend.grid_tables import Kind, StageTables, Tables, tables
from tensorprog.backend.trace import Recorder, Scalar, Traced
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.symbolic.moments import Moments
from tensorprog.tape.blocks import Key
from tensorprog.tape.product import ProductTapes
from tensorprog.tape.product_run import ProductRun

Floats = NDArray[np.float64]
MEMORY = 1 << 31
"""Bytes that the slots of all threads take at most, whatever is allowed."""
TILES = (16, 8, 4, 2, 1)
SLOW = ("sqrt", "div", "exp", "expm1", "log", "sin", "cos", "atan2", "erf", "ndtr", "pow")
NAMES = ("clear", "data", "constant", "times", "dot", "gather", "mix")


@final
@dataclass(frozen=True)
class GridMachine:
    """A compiled product tape."""

    tapes: ProductTapes
    operations: Operations
    tables: Tables
    kinds: tuple[Formulas, ...]
    kind: tuple[int, ...]

    @property
    def formulas(self) -> tuple[Formulas, ...]:
        """Those of every operation with expectations."""
        return tuple(self.kinds[k] for k in self.kind)

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """All expectations, in the order of the worst errors."""
        return tuple(e for x in self.operations.expected for e in x.expectations)

    def tile(self, pairs: int, memory: int) -> int:
        """Pairs of examples at a time, for so many in all."""
        fits = [t for t in TILES if 8 * self.tables.rows * t * workers() <= min(memory, MEMORY)]
        busy = [t for t in fits if t <= 8 or pairs >= 4 * t * workers()]
        return (busy or fits or [1])[0]

    def run(
        self, runs: tuple[ProductRun, ProductRun], pairs: tuple[Ints, Ints], keys: Sequence[Key], memory: int,
        progress: Callable[[float], None],
    ) -> tuple[dict[Key, Floats], Floats]:
        """(values [slots, pairs] of some keys, worst error of every expectation) for pairs of examples."""
        tile = self.tile(len(pairs[0]), memory)
        known = tuple(self._known(run, s) for s, run in enumerate(runs))
        code = load(self._source(tile))
        cuts = [np.minimum(np.arange(k, k + tile), len(pairs[0]) - 1) for k in range(0, len(pairs[0]), tile)]
        values = {k: np.zeros((int(np.prod(self.operations.sizes[k])), len(pairs[0]))) for k in keys}
        worst = np.zeros(len(self.expectations))
        done: list[int] = []

        def work(at: Ints) -> None:
            rows = tuple(np.ascontiguousarray(m[:, p[at]]) for (m, _, _, _), p in zip(known, pairs, strict=True))
            slots, errors = self._tile(code, rows, known, tile)
            for k, value in values.items():
                first = self.tables.whole[k]
                value[:, at] = slots[first : first + len(value)]
            np.maximum(worst, errors, out=worst)
            done.append(len(at))
            progress(len(done) / len(cuts))

        with ThreadPoolExecutor(min(workers(), len(cuts))) as pool:
            list(pool.map(work, cuts))
        return values, worst

    def _source(self, tile: int) -> str:
        return module(tile, self.kinds)

    def _code(self, kind: Kind) -> int:
        """The number of a function."""
        return NAMES.index(kind) if isinstance(kind, str) else len(NAMES) + self.kind[kind]

    # ------------------------------------------------------------ what is known of one side

    def _known(self, run: ProductRun, s: int) -> tuple[Floats, list[int], int, int]:
        """(rows [rows, examples], data first; first row of every expectation; dimension and elements of data)."""
        x = run.data[s][self.operations.names[s]]
        parts: list[Floats] = [x.transpose(2, 1, 0).reshape(-1, len(x))]
        starts: list[int] = []
        for expected, formulas in zip(self.operations.expected, self.formulas, strict=True):
            starts.append(sum(len(p) for p in parts))
            second = self._second(run, expected, s).reshape(-1, len(x))
            nodes = formulas.right if s else formulas.left
            found = interpreted(nodes, {("s11" if s else "s00"): second})
            parts += [np.broadcast_to(np.asarray(v, dtype=np.float64), second.shape) for v in found]
            parts.append(second)
            if s == 0:
                parts += [_on_itself(e, second) for e in expected.expectations]
        return np.concatenate(parts), starts, x.shape[2], x.shape[1]

    def _second(self, run: ProductRun, expected: Expected, s: int) -> Floats:
        """The second moments [n1, n2, examples] of the arguments of one side, zero in slots that are not arguments."""
        used = [np.unique(t[:, len(t[0]) - 2 + s]) for op in self._ops_of(expected) for t in op.tables]
        whole = run.values[expected.inside[s]]
        found = np.zeros_like(whole)
        found[np.ix_(*used)] = whole[np.ix_(*used)]
        return found

    def _ops_of(self, expected: Expected) -> list[Op]:
        return [op for op in self.operations.ops if op.number >= 0 and self.operations.expected[op.number] is expected]

    # ------------------------------------------------------------ one tile

    def _tile(self, code: Any, rows: tuple[Floats, ...], known: tuple[Any, ...], tile: int) -> tuple[Floats, Floats]:
        """All slots that are kept as a whole, and the worst errors."""
        slots, line = np.zeros((self.tables.rows, tile)), np.zeros(self.tables.width * tile)
        flat, worst = slots.reshape(-1), np.zeros(len(self.expectations))
        scratch = np.zeros((64, CHUNK)), np.zeros((8, CHUNK))
        for stage in self.tables.stages:
            a, b = stage.axes
            steps = np.array([(self._code(k), o) for k, o in stage.steps], dtype=np.int64)
            sides = self._sides(stage, known)
            doubts = np.zeros((int(np.diff(a.starts).max()) * int(np.diff(b.starts).max()) + 1, 2), dtype=np.int64)
            state = np.zeros(4, dtype=np.int64)
            while True:
                known_flat = (r.reshape(-1) for r in rows)
                tables = a.index, a.coef, a.starts, b.index, b.coef, b.starts
                indices = stage.first, stage.keys, sides, a.sizes, b.sizes
                count = code.run(flat, line, *scratch, *known_flat, worst, doubts, steps, *indices, *tables, state)
                if count == 0:
                    break
                self._settle(stage, slots, rows, sides, state, doubts[:count], worst)
        return slots, worst

    def _sides(self, stage: StageTables, known: tuple[Any, ...]) -> Ints:
        """For every operation the first rows, strides and numbers of slots of L and R, or the dimension of the data."""
        table = np.zeros((len(stage.ops), 7), dtype=np.int64)
        for n, op in enumerate(stage.ops):
            if op is not None and op.kind == "data":
                table[n, :3] = known[0][2], *(k[3] for k in known)
            if n in stage.widths and op is not None and op.kind == "mix":
                table[n, :2] = stage.widths[n]
            if op is not None and op.kind == "expect":
                inside = self.operations.expected[op.number].inside
                shapes = [t.shape(k) for t, k in zip((self.tapes.left, self.tapes.right), inside, strict=True)]
                table[n, :2] = [k[1][op.number] for k in known]
                table[n, 2:4] = [x[1] for x in shapes]
                table[n, 4:6] = [x[0] * x[1] for x in shapes]
                table[n, 6] = self._first_error(op.number)
        return table

    def _first_error(self, number: int) -> int:
        return sum(len(x.expectations) for x in self.operations.expected[:number])

    def _settle(  # noqa: PLR0913
        self,
        stage: StageTables,
        slots: Floats,
        rows: tuple[Floats, ...],
        sides: Ints,
        state: Ints,
        doubts: Ints,
        worst: Floats,
    ) -> None:
        """Entries in doubt by the expectations themselves."""
        at = int(state[3])
        op, (a, b) = stage.ops[at], stage.axes
        assert op is not None
        n = len(op.outs)
        i, j = a.index[doubts[:, 0]], b.index[doubts[:, 1]]
        strides = b.sizes[stage.keys[at, : n + 1], state[1]]
        places = stage.first[at, : n + 1] + i[:, : n + 1] * strides + j[:, : n + 1]
        formulas = self.formulas[op.number]
        known = []
        for s, nodes in enumerate((formulas.left, formulas.right)):
            slot = i[:, n + 1 + s] * sides[at, 2 + s] + j[:, n + 1 + s]
            known.append(rows[s][sides[at, s] + slot + len(nodes) * sides[at, 4 + s]])
        first = self._first_error(op.number)
        for t, e in enumerate(self.operations.expected[op.number].expectations):
            value, error = _evaluated(e, known[0], known[1], slots[places[:, n]])
            slots[places[:, t]] = value
            worst[first + t] = max(worst[first + t], error)


def _evaluated(e: Expectation, left: Floats, right: Floats, cross: Floats) -> tuple[Floats, float]:
    """The values of an expectation of one argument without mean on each side, and the worst error."""
    mean, cov = np.zeros((1, *left.shape)), (left[None, None], right[None, None], cross[None, None])
    value, error = e.evaluate(Moments(mean, cov[0], mean, cov[1], cov[2]), {})
    return np.broadcast_to(value, left.shape), float(np.max(error, initial=0.0))


def _on_itself(e: Expectation, second: Floats) -> Floats:
    """The values of an expectation of one run with itself, where there are second moments."""
    found, there = np.zeros(second.shape), second.any(axis=1)
    if there.any():
        found[there] = _evaluated(e, second[there], second[there], second[there])[0]
    return found


def compiled(tapes: ProductTapes) -> GridMachine:
    """The machine of a cross tape.  NotTraceable when it has no code."""
    found = operations(tapes.cross)
    arrays = tables(found, staged(found.ops, found.sizes), tuple(tapes.keys.values()))
    kinds = {tuple(map(id, x.expectations)): x for x in found.expected}
    number = {k: n for n, k in enumerate(kinds)}
    kind = tuple(number[tuple(map(id, x.expectations))] for x in found.expected)
    return GridMachine(tapes, found, arrays, tuple(map(_formulas, kinds.values())), kind)


def _formulas(expected: Expected) -> Formulas:
    recorder = Recorder()
    moments: list[list[Scalar]] = [[recorder.input(f"s{min(i, j)}{max(i, j)}") for j in (0, 1)] for i in (0, 1)]
    at = Arguments((0.0, 0.0), tuple(map(tuple, moments)), {}, (1, 1))
    found = [recorded(e, at) for e in expected.expectations]
    roots = [x for pair in found for x in pair]
    sides = [tuple(n for n in frontier(roots, frozenset([name])) if _is_slow(n)) for name in ("s00", "s11")]
    inputs = [recorder.input(n) for n in ("s00", "s11", "s01")]
    second = inputs[0], inputs[1]
    return Formulas(tuple(v for v, _ in found), tuple(e for _, e in found), sides[0], sides[1], second, inputs[2])


def _is_slow(node: Traced) -> bool:
    """Whether a node is worth a row of its own."""
    return any(n.op in SLOW for n in ordered([node]))


def workers() -> int:
    """Threads."""
    return os.cpu_count() or 1

