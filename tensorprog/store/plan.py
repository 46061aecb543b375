"""Which blocks a kernel is cut into, so that the work on one fits the memory.

    memory = what the process takes already + results of a block + tiles inside the block + reserve
"""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tensorprog.dataset import Dataset, Group
from tensorprog.errors import TensorProgError, fail, spoken
from tensorprog.evaluate.analytic import Cross

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
TILES = 6
"""The part of the free memory that the slots of a tile may take: one over this; temporaries take as much again."""
RESULTS = 3
"""The part of the free memory that the results of a block and their copies may take: one over this."""
LARGEST = 1 << 22
"""Entries of a block, at most: what is lost when a run is killed."""
LEAST = 48 << 20
"""Bytes beyond what the process takes already that are needed for any work."""


@final
@dataclass(frozen=True, slots=True)
class Block:
    """The pairs of examples rows x cols, ranges in the user's order."""

    rows: range
    cols: range


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of `side` x `side` examples, one triangle of them where both sides are the same."""

    rows: int
    cols: int
    side: int
    symmetric: bool

    def blocks(self) -> list[Block]:
        """All blocks."""
        cuts = [[range(k, min(k + self.side, n)) for k in range(0, n, self.side)] for n in (self.rows, self.cols)]
        return [Block(i, j) for i in cuts[0] for j in cuts[1] if not self.symmetric or j.start >= i.start]


@final
@dataclass(frozen=True, slots=True)
class Need:
    """Bytes: `pair` of the slots of a pair of examples, `example` of what is known of one, `result` of the kernels of
    a pair with the copies that are made of them; `entries` of one kernel that belong to a pair."""

    pair: int
    example: int
    result: int
    entries: int

    @staticmethod
    def of(crosses: Sequence[Cross], outputs: tuple[int, int], kernels: int) -> Need:
        """The largest need of pairs of sizes, with so many output elements of an example on the left and right."""
        entries = outputs[0] * outputs[1]
        pair = max((c.tape.count for c in crosses), default=0)
        singles = max((s.tape.count for c in crosses for s in (c.left, c.right)), default=0)
        return Need(8 * pair, 32 * singles, 8 * entries * (kernels + 2), entries)

    def side(self, free: int) -> int:
        """The largest block, in examples of a side, when `free` bytes may be taken; 0 if there is none."""
        side = max(1, int((LARGEST / self.entries) ** 0.5))
        while side and self.bytes_of(side) > free // RESULTS:
            side = side * 7 // 8
        return side if self.pair <= free // TILES else 0

    def bytes_of(self, side: int) -> int:
        """Bytes of the results of a block and of what is known of its examples."""
        return self.result * side**2 + self.example * side


def check_side(need: Need, side: int, memory: int, taken: int) -> None:
    """Raises TensorProgError when a block of `side` does not fit into `memory`, of which `taken` are gone."""
    if side and need.bytes_of(side) <= (memory - taken) // RESULTS and memory - taken >= LEAST:
        return
    least = taken + max(LEAST, TILES * need.pair, RESULTS * need.bytes_of(max(1, side)))
    raise fail(f"--memory {spoken(memory)} is too little: the process takes {spoken(taken)} before the first block",
               hint=f"about {spoken(least * 1.05)} are needed")


def parse_size(text: str | int) -> int:
    """`2GB`, `500 MB`, `1.5GiB` or a number of bytes.  Raises TensorProgError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", str(text))
    if found is None or found[2].upper() not in UNITS:
        raise _no_size(text)
    return int(float(found[1]) * UNITS[found[2].upper()])


def _no_size(text: str | int) -> TensorProgError:
    return fail(f"{text!r} is no amount of memory", hint="write it as 500MB or 2GB")


def resident() -> int:
    """Bytes of memory that this process takes now (its peak, on systems that do not tell)."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak()


def peak() -> int:
    """The most memory that this process took, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sensible() -> int:
    """Half of the memory that is free."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        free = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())
        if free is not None:
            return int(free[1]) * 1024 // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def part(data: Dataset, rows: range) -> Dataset:
    """Some examples of a data set, neighbours in the user's order."""
    groups = []
    for g in data.groups:
        inside = (g.rows >= rows.start) & (g.rows < rows.stop)
        if inside.any():
            batch = {name: values[inside] for name, values in g.batch.items()}
            groups.append(Group(g.sizes, batch, g.rows[inside] - rows.start))
    return Dataset(tuple(groups), len(rows))
