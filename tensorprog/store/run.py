"""Kernels to disk, block by block: plan, compute, write, go on after an interruption."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.evaluate import analytic
from tensorprog.evaluate.kernels import Report, Row
from tensorprog.evaluate.options import Options
from tensorprog.limit.analyse import Limit
from tensorprog.store.cluster import cluster
from tensorprog.store.engine import Executor, Job, Result, Serial, Task
from tensorprog.store.formats import Layout, Store, check_replaceable, check_room, places, store
from tensorprog.store.journal import Done, Journal, Statistics
from tensorprog.store.plan import TILES, Block, Need, Plan, check_side, parse_size, part, peak, resident, sensible
from tensorprog.store.rehearsal import rehearsed
from tensorprog.store.request import Asked

Ints = NDArray[np.int64]
Progress = Callable[[str, float], None]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]


@final
@dataclass(frozen=True, slots=True)
class Wanted:
    """Where kernels go and how: `memory` in bytes or as "2GB", for each process; `cluster` "local" or an address.

    `dtype` and `reductions` are those of `evaluate.Options`; the type of what is written is given beside.
    """

    out: Path
    want: tuple[str, ...] = ("nngp", "ntk")
    tier: str = "auto"
    memory: str | int | None = None
    cluster: str | None = None
    progress: Progress | None = None
    dtype: str = "float64"
    reductions: bool = True


@final
@dataclass(frozen=True, slots=True)
class Written:
    """Kernels on disk: the files, the shape of a kernel, the statistics of each by name, what served the expectations.

    Of `blocks`, `kept` were there from an earlier run; `peak` is the most memory that this process took, in bytes.
    """

    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    statistics: Mapping[str, Statistics]
    report: Report
    blocks: int
    kept: int
    peak: int

    def mean(self, name: str) -> float:
        """Of all entries of a kernel."""
        return self.statistics[name].total / prod(self.shape)


def write_kernels(asked: Asked, limit: Limit, shapes: Shapes, dtype: str, how: Wanted) -> Written:
    """The kernels between two data sets, of the shape shapes[0] + shapes[1], to the files that `how` names.

    Raises TensorProgError for a program that has to be sampled, for too little memory or disk, for files that are no
    kernels, and when an unfinished run of that name is for something else.
    """
    allowed = sensible() if how.memory is None else parse_size(how.memory)
    options = Options(how.want, how.tier, dtype=how.dtype, reductions=how.reductions)
    job, prepared, missing = rehearsed(limit, asked, dtype, options)
    names = tuple(n for n in ("nngp", "ntk") if n in job.want + job.zero)
    for path in places(how.out, names):
        check_replaceable(path)
    request = asked.request(job, names)
    journal = Journal(how.out.with_name(how.out.name + ".partial"))
    begun, taken = journal.side(request), resident()
    need = _need(asked, prepared, len(names))
    side = begun or need.side(allowed - taken)
    check_side(need, side, allowed, taken)
    starts = _starts(limit, asked)
    plan = Plan(len(starts[0]) - 1, len(starts[1]) - 1, side, asked.right is None)
    layout = Layout(*shapes, dtype, (_widest(starts[0], side), _widest(starts[1], side)))
    target = store(how.out, journal.folder, layout)
    job = replace(job, memory=(allowed - taken) // TILES)
    run = Run(asked, job, names, plan, starts, journal, target)
    with _disk_errors(journal.folder):
        if begun is None:
            check_room(how.out.parent, len(names) * layout.bytes)
        with journal.locked():
            if begun is None:
                target.create(names)
                journal.begin({**request, "side": side})
            done, kept = run.run(_executor(how.cluster, replace(prepared, memory=job.memory)), how.progress)
    statistics = _statistics(done, names, plan.symmetric)
    report = Report(_served(done), missing)
    return Written(places(how.out, names), shapes[0] + shapes[1], statistics, report, len(done), kept, peak())


def _need(asked: Asked, prepared: analytic.Prepared, kernels: int) -> Need:
    """What blocks take.  The tapes of all pairs of sizes are made here, unless the kernels are zero."""
    outputs = [analytic.outputs(prepared.limit, d) for d in (asked.left, asked.right or asked.left)]
    pairs = [(g, h) for g in asked.left.groups for h in (asked.right or asked.left).groups]
    crosses = [prepared.cross(g, h) for g, h in pairs] if prepared.want else []
    return Need.of(crosses, (max(outputs[0].values()), max(outputs[1].values())), kernels)


def _starts(limit: Limit, asked: Asked) -> tuple[Ints, Ints]:
    """The first row (column) of every example, and the end."""
    left, right = (
        np.cumsum([0, *(outs[k] for k in range(len(outs)))])
        for outs in (analytic.outputs(limit, d) for d in (asked.left, asked.right or asked.left))
    )
    return left, right


def _widest(starts: Ints, side: int) -> int:
    """Rows of the largest block."""
    cuts = starts[[*range(0, len(starts) - 1, side), len(starts) - 1]]
    return int(np.max(np.diff(cuts)))


def _executor(address: str | None, prepared: analytic.Prepared) -> AbstractContextManager[Executor]:
    return nullcontext(Serial(prepared)) if address is None else cluster(address)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise fail(f"cannot write {folder}: {error.strerror or error}", hint="finished blocks are kept") from None


@final
@dataclass(frozen=True, slots=True)
class Run:
    """One call: what is computed, where its numbers belong, and where they are kept until all are there.

    `starts` are the first row and column of every example in the kernels as matrices.
    """

    asked: Asked
    job: Job
    names: tuple[str, ...]
    plan: Plan
    starts: tuple[Ints, Ints]
    journal: Journal
    store: Store

    def run(self, executor: AbstractContextManager[Executor], progress: Progress | None) -> tuple[list[Done], int]:
        """Computes what is not there yet and moves all to its place; all blocks, and how many were there."""
        done = self._whole()
        kept = len(done)
        rest = [] if self.journal.is_finished else self._missing(done)
        total = len(done) + len(rest)
        if rest:
            with executor as ready:
                for block, result in ready.results(self.job, rest, self._cut):
                    done.append(self._write(block, result))
                    if progress is not None:
                        progress(f"block {len(done)} of {total}", len(done) / total)
        self.journal.finish()
        self.store.finish(self.names, self.journal.begun() or {})
        shutil.rmtree(self.journal.folder)
        return done, kept

    def _missing(self, done: Sequence[Done]) -> list[Block]:
        there = {d.block for d in done}
        return [b for b in self.plan.blocks() if b not in there]

    def _cut(self, block: Block) -> Task:
        left = part(self.asked.left, block.rows)
        if self.plan.symmetric and block.rows == block.cols:
            return Task(block, left, None)
        return Task(block, left, part(self.asked.right or self.asked.left, block.cols))

    def _places(self, block: Block) -> tuple[slice, slice]:
        rows, cols = (
            slice(int(starts[r.start]), int(starts[r.stop]))
            for starts, r in zip(self.starts, (block.rows, block.cols), strict=True)
        )
        return rows, cols

    def _is_mirrored(self, block: Block) -> bool:
        return self.plan.symmetric and block.rows != block.cols

    def _write(self, block: Block, result: Result) -> Done:
        """A block and its mirror image, and then the line that says so."""
        rows, cols = self._places(block)
        for name, values in result.kernels.items():
            self.store.write(name, rows, cols, values)
            if self._is_mirrored(block):
                self.store.write(name, cols, rows, values.T)
        sums = {name: checksum(values) for name, values in result.kernels.items()}
        numbers = {name: Statistics.of(values) for name, values in result.kernels.items()}
        done = Done(block, sums, numbers, result.served)
        self.journal.add(done)
        return done

    def _whole(self) -> list[Done]:
        """The blocks of an earlier run; those whose numbers are not on disk as they were computed do not count."""
        known = {d.block: d for d in self.journal.entries()}
        return [d for d in known.values() if self.journal.is_finished or self._is_whole(d)]

    def _is_whole(self, done: Done) -> bool:
        rows, cols = self._places(done.block)
        for name, sum_ in done.checksums.items():
            if checksum(self.store.read(name, rows, cols)) != sum_:
                return False
            if self._is_mirrored(done.block) and checksum(self.store.read(name, cols, rows).T) != sum_:
                return False
        return True


def checksum(values: NDArray[np.floating[Any]]) -> int:
    """CRC-32 of the numbers, row by row of the matrix."""
    return zlib.crc32(np.ascontiguousarray(values).data)


def _statistics(done: Sequence[Done], names: Sequence[str], symmetric: bool) -> dict[str, Statistics]:
    """Of all entries; blocks off the diagonal stand for their mirror images too."""
    twice = [2 if symmetric and d.block.rows != d.block.cols else 1 for d in done]
    return {
        name: Statistics(
            min(d.statistics[name].least for d in done),
            max(d.statistics[name].largest for d in done),
            sum(d.statistics[name].total * t for d, t in zip(done, twice, strict=True)),
        )
        for name in names
    }


def _served(done: Sequence[Done]) -> tuple[Row, ...]:
    """Which tier served what, with the largest error of all blocks."""
    worst: dict[tuple[str, str], float] = {}
    for row in (r for d in done for r in d.served):
        key = (row.expectation, row.tier)
        worst[key] = max(worst.get(key, 0.0), row.error)
    return tuple(Row(*key, error) for key, error in worst.items())
