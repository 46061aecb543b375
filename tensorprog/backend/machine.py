"""Running the instructions of a tape: schedule, tiles, threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.access import RESULTS
from tensorprog.backend.build import address, called, is_built, pointer
from tensorprog.backend.combine import Combination, combined
from tensorprog.backend.driver import OUT, RUN, STEP, TILE, WRITE
from tensorprog.backend.emit import Kind, combination_kind, expect_kind, series_kind
from tensorprog.backend.lower import Given, Lowered, SeedOf, lower
from tensorprog.backend.mirror import MIRROR
from tensorprog.backend.places import Access, places
from tensorprog.backend.series import floor_of
from tensorprog.ir.schedule import levels
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.symbolic.kinks import is_smooth
from tensorprog.tape.asking import Slots
from tensorprog.tape.blocks import Key
from tensorprog.tape.execute import Run
from tensorprog.tape.gram import row_products
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
CACHE = 1 << 18
"""Bytes that the slots of a tile should take."""
MOST_COLS = 64


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Some left and some right examples; where `mirrored`, pairs below the diagonal are left to their mirror images.

    given [numbers, rows, cols] are the inner products of data and what comes with a pair; doubt [rows, cols] is set
    where a formula does not settle a pair.
    """

    rows: slice
    cols: slice
    mirrored: bool
    given: Floats
    doubt: NDArray[np.uint8]


@final
@dataclass(frozen=True)
class Machine:
    """A compiled tape: entries (index, coef) of every kind, steps (kind, from, to); `shown` are the places [rows, cols]
    of each of its kernels, `inner` of products of data."""

    lowered: Lowered
    kinds: tuple[Kind, ...]
    entries: tuple[tuple[Ints, Floats], ...]
    steps: Ints
    expectations: tuple[Expectation, ...]
    shown: tuple[Ints, ...]
    inner: Ints
    places: int

    @property
    def is_built(self) -> bool:
        """Whether its machine code is on disk; making it takes seconds."""
        return all(map(is_built, (RUN, *(k.source for k in self.kinds))))

    @property
    def is_smooth(self) -> bool:
        """Whether rounding of a correlation of one moves values by rounding only."""
        requests = (e.request for e in self.expectations)
        return all(is_smooth(r.left) and is_smooth(r.right) for r in requests)

    @property
    def given(self) -> tuple[Given | SeedOf, ...]:
        """The slots that are inner products of data, or come with a pair."""
        return self.lowered.given

    def prepare(self, left: Run, right: Run) -> tuple[Floats, Floats]:
        """L and R for all examples of two runs."""
        return self.lowered.left.matrix(left, left.examples[0]), self.lowered.right.matrix(right, right.examples[0])

    def single(self, data: Mapping[str, Floats], examples: int) -> tuple[Floats, Floats] | None:
        """The slots [slots, examples] of one run and the worst errors of expectations; None where one is in doubt."""
        given = np.empty((len(self.given), 1, examples))
        for row, g in zip(given, self.given, strict=True):
            assert isinstance(g, Given)
            left = data[g.names[0]][:, g.elements[0]]
            row[0] = row_products(left, data[g.names[1]][:, g.elements[1]]) if g.names[1] else left
        part = Part(slice(0, 1), slice(0, examples), False, given, np.zeros((1, examples), dtype=np.uint8))
        slots = np.zeros((len(self.shown[0]), examples))
        none = np.zeros((1, 1)), np.zeros((1, examples))
        doubt, worst = self.write(part, none, [slots])
        return None if doubt else (slots, worst)

    def write(self, part: Part, rows: tuple[Floats, Floats], kernels: Sequence[Floats]) -> tuple[int, Floats]:
        """Write the pairs of a part into the kernels [I * rows, J * cols], where `rows` are L and R of all examples.

        Returns the number of tiles with pairs in doubt, and the worst error of every expectation.
        """
        height, width = part.doubt.shape
        cols = min(MOST_COLS, width)
        high = int(max(1, min(16, height, CACHE // (8 * self.places * cols))))
        slots, doubts = np.zeros((self.places, high, cols)), np.zeros((high, cols), np.int64)
        lines = np.zeros((RESULTS, cols))
        worst: Floats = np.zeros(len(self.expectations))
        tile = np.zeros(TILE, np.int64)
        tile[4:] = high, cols, rows[0].shape[1], rows[1].shape[1], part.mirrored
        outs = _outs(kernels, self.shown)
        arrays = map(pointer, (slots, doubts, worst, *rows, tile, lines, self._loaded))
        given = pointer(self.inner), len(self.inner), pointer(part.given), pointer(part.doubt)
        where = part.rows.start, part.rows.stop, part.cols.start, part.cols.stop
        doubt = called(RUN, 19)(*arrays, len(self._loaded), *given, pointer(outs), len(outs), *where)
        return doubt, worst

    @cached_property
    def _loaded(self) -> Ints:
        """The steps as the machine code reads them."""
        functions = [(address(k.source), *map(pointer, e)) for k, e in zip(self.kinds, self.entries, strict=True)]
        steps = [(*functions[k], lo, hi, self.kinds[k].error) for k, lo, hi in self.steps.tolist()]
        return np.array(steps, dtype=np.int64).reshape(-1, STEP)


def _outs(kernels: Sequence[Floats], shown: Sequence[Ints]) -> Ints:
    """Where the machine code writes kernels."""
    outs = []
    for kernel, at in zip(kernels, shown, strict=True):
        functions = (address(source[kernel.dtype]) for source in (WRITE, MIRROR))
        outs.append((*functions, pointer(kernel), pointer(at), *at.shape, kernel.shape[1]))
    return np.array(outs, dtype=np.int64).reshape(-1, OUT)


def compiled(tape: Tape, keys: Sequence[Key]) -> Machine:
    """The machine for the keys of a cross tape.  NotTraceable when an expectation has no scalar code."""
    lowered = lower(tape)
    return _machine(lowered, tuple(_shown(lowered.start[k], tape.slots[k]) for k in keys))


def compiled_single(tape: Tape) -> Machine:
    """The machine that shows all slots of the tape of one run as rows of one array.  NotTraceable as `compiled`."""
    return _machine(lower(tape), (np.arange(tape.count + 1)[:, None],))


def _machine(lowered: Lowered, shown: tuple[Ints, ...]) -> Machine:
    inputs = [o.rows for e in lowered.expects for _, o in e.known if o.where == "own"]
    inputs += [m.cross for m in lowered.mehlers]
    kept = np.concatenate([*(at.ravel() for at in shown), *inputs])
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
        _collect(kinds, entries, series_kind(), 0, m.out, index, np.full((len(index), 1), floor_of(m.expectation)))
        expectations.append(m.expectation)
    combinations = combined(lowered.sums, kept, lowered.size)
    for c in combinations:
        index = np.stack([c.out, *(r for rows in c.rows for r in rows)], axis=1)
        _collect(kinds, entries, combination_kind(c.forms, c.first), 1 if c.first else 2, c.out, index, c.coef)
    steps, tables = _scheduled(entries, _levels(lowered, combinations))
    given = np.array([g.out for g in lowered.given], dtype=np.int64)
    accesses = [_access(kinds[kind], tables[kind][0][lo:hi]) for kind, lo, hi in steps.tolist()]
    place, count = places(accesses, given, np.concatenate([at.ravel() for at in shown]), lowered.size)
    moved = tuple((_at(kind, index, place), coef) for kind, (index, coef) in zip(kinds, tables, strict=True))
    shown = tuple(np.ascontiguousarray(place[at]) for at in shown)
    return Machine(lowered, tuple(kinds), moved, steps, tuple(expectations), shown, place[given], count)


def _access(kind: Kind, index: Ints) -> Access:
    """What a step reads and writes."""
    return Access(index[:, kind.reads].ravel(), index[:, kind.writes].ravel())


def _at(kind: Kind, index: Ints, place: Ints) -> Ints:
    """The index columns with places for slots."""
    columns = list({*kind.writes, *kind.reads})
    moved = index.copy()
    moved[:, columns] = place[index[:, columns]]
    return moved


def _shown(start: int, slots: Slots) -> Ints:
    """[rows, cols]: where the entries of a key are; a slot that is zero is slot 0."""
    return np.where(slots.at > 0, start + slots.at, 0).reshape(slots.rows, slots.cols)


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


def _scheduled(entries: Sequence[Any], level: Ints) -> tuple[Ints, list[tuple[Ints, Floats]]]:
    """Steps (kind, from, to) in the order of levels, and (index, coef) of every kind in that order."""
    steps: list[tuple[int, int, int, int, int]] = []
    tables: list[tuple[Ints, Floats]] = []
    for n, (rank, out, index, coef) in enumerate(entries):
        order = np.argsort(level[out], kind="stable")
        depth = level[out][order]
        cuts = np.flatnonzero(np.diff(depth, prepend=-1))
        for a, b in zip(cuts, [*cuts[1:], len(out)], strict=True):
            steps.append((int(depth[a]), rank, n, int(a), int(b)))
        tables.append((np.ascontiguousarray(index[order]), np.ascontiguousarray(coef[order])))
    return np.array([s[2:] for s in sorted(steps)], dtype=np.int64).reshape(-1, 3), tables

