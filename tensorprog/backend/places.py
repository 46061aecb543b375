"""Slots -> places: a slot whose value is not needed any more gives its place to later ones.

A tape has a slot for every number that it ever computes; those alive at one time are few, and their tile stays in the
cache. Place 0 is zero, as slot 0 is, and stands for slots that nothing writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.ir.tables import Ints


@final
@dataclass(frozen=True, slots=True)
class Access:
    """The slots that a step reads and writes."""

    reads: Ints
    writes: Ints


def places(steps: Sequence[Access], given: Ints, kept: Ints, size: int) -> tuple[Ints, int]:
    """The place of every slot, and the number of places.

    Slots `given` are there before the first step, those `kept` are needed after the last one.  No step writes to a
    place that it reads, unless it reads that very slot.
    """
    first, last = np.full(size, len(steps)), np.full(size, -1)
    for n, step in reversed(list(enumerate(steps))):
        first[step.writes] = n
        used = np.concatenate([step.reads, step.writes])
        last[used] = np.maximum(last[used], n)
    first[given], last[kept], first[0] = -1, len(steps), len(steps)
    born, dying = _grouped(first, len(steps)), _grouped(last, len(steps))
    place, free, count = np.zeros(size, dtype=np.int64), np.zeros(0, dtype=np.int64), 1
    for n in range(-1, len(steps)):
        new = born[n + 1]
        again = min(len(new), len(free))
        place[new[:again]] = free[len(free) - again :]
        place[new[again:]] = count + np.arange(len(new) - again)
        count += len(new) - again
        ended = place[dying[n + 1]] if n >= 0 else place[:0]
        free = np.concatenate([free[: len(free) - again], ended[ended > 0]])
    return place, count


def _grouped(when: Ints, steps: int) -> list[Ints]:
    """The slots by the step at which something happens to them, from -1 on."""
    order = np.argsort(when, kind="stable")
    return np.split(order, np.searchsorted(when[order], np.arange(steps + 1)))
