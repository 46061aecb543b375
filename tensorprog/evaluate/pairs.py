"""The slots of a cross tape for blocks of pairs of examples: by machine code, or by arrays where that is not worth it.

Entries that machine code leaves in doubt (a formula that cancels, a special case) are computed by arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.trace import NotTraceable
from tensorprog.evaluate.blocks import Block, Key
from tensorprog.evaluate.execute import Run
from tensorprog.evaluate.gram import gram
from tensorprog.evaluate.tape import Tape
from tensorprog.symbolic.expectation import Expectation

if TYPE_CHECKING:
    from tensorprog.backend.machine import Machine

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Errors = dict[int, tuple[Expectation, float]]
MEMORY = 1 << 30
"""Bytes that the slots of one block may take."""
WORTH = {True: 1 << 22, False: 1 << 26}
"""Slots of all pairs from which machine code pays: where it is on disk, and where it has to be made."""
CHUNK = 32
CONTEXT = 16
"""So many columns are computed beside those in doubt, for the scale by which errors are judged."""


@final
@dataclass(frozen=True, slots=True)
class Pairs:
    """What computes the kernels between two groups on their examples."""

    tape: Tape
    blocks: Sequence[Block]
    keys: tuple[Key, ...]
    data: tuple[Mapping[str, Floats], Mapping[str, Floats]]
    selves: tuple[Run, Run]
    errors: Errors


class Evaluator(Protocol):
    """Computes blocks of pairs."""

    @property
    def side(self) -> int:
        """The largest block, in examples of a side."""

    def __call__(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """The slots [slots, I, J] of the wanted keys for left examples `i` and right examples `j`."""


def evaluator(pairs: Pairs) -> Evaluator:
    """Machine code where it pays and the formulas allow it."""
    arrays = Interpreted(pairs)
    entries = sum(s.size for s in pairs.tape.slots.values()) * pairs.selves[0].examples[0] * pairs.selves[1].examples[0]
    if entries < WORTH[True]:
        return arrays
    from tensorprog.backend.machine import compiled  # numba is loaded where it is needed

    try:
        machine = compiled(pairs.tape, pairs.keys)
    except NotTraceable:
        return arrays
    if entries < WORTH[machine.is_built]:
        return arrays
    return Compiled(pairs, machine, machine.prepare(*pairs.selves), arrays)


@final
@dataclass(frozen=True, slots=True)
class Interpreted:
    """Blocks by arrays."""

    pairs: Pairs

    @property
    def side(self) -> int:
        """See `Evaluator`."""
        slots = sum(s.size for s in self.pairs.tape.slots.values())
        return int(max(1, min(512, np.sqrt(MEMORY / (8 * max(1, slots))))))

    def __call__(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """See `Evaluator`."""
        p = self.pairs
        data = _cut(p.data[0], i), _cut(p.data[1], j)
        selves = part_of(p.selves[0], i), part_of(p.selves[1], j)
        run = Run(p.tape, data, (len(i), len(j)), selves, p.errors)
        run.execute(p.blocks, p.keys)
        return run.values


@final
@dataclass(frozen=True, slots=True)
class Compiled:
    """Blocks by machine code; `rows` are what it knows of the examples of both sides."""

    pairs: Pairs
    machine: Machine
    rows: tuple[Floats, Floats]
    arrays: Interpreted

    @property
    def side(self) -> int:
        """See `Evaluator`."""
        return self.machine.side

    def __call__(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """See `Evaluator`."""
        p = self.pairs
        given = np.empty((len(self.machine.given), len(i), len(j)))
        for k, g in enumerate(self.machine.given):
            x, y = (p.data[s][g.names[s]][at, g.elements[s]] for s, at in enumerate((i, j)))
            given[k] = gram(x, y)
        rows = self.rows[0][:, i], self.rows[1][:, j]
        values, doubt, worst = self.machine.values(*rows, given)
        for e, error in zip(self.machine.expectations, worst, strict=True):
            known = self.pairs.errors.get(id(e), (e, 0.0))[1]
            self.pairs.errors[id(e)] = (e, max(known, float(error)))
        for k in range(0, len(i), CHUNK):
            self._settle(values, doubt, i, j, slice(k, k + CHUNK))
        return values

    def _settle(self, values: dict[Key, Floats], doubt: NDArray[np.bool_], i: Ints, j: Ints, chunk: slice) -> None:
        """The entries in doubt of some rows, by arrays."""
        rows = chunk.start + np.flatnonzero(doubt[chunk].any(axis=1))
        if not len(rows):
            return
        cols = np.flatnonzero(doubt[rows].any(axis=0) | (np.arange(len(j)) < CONTEXT))
        better = self.arrays(i[rows], j[cols])
        inside = doubt[np.ix_(rows, cols)]
        for key, value in values.items():
            block = value[:, rows[:, None], cols]
            block[:, inside] = better[key][:, inside] if key in better else 0.0
            value[:, rows[:, None], cols] = block


def part_of(run: Run, rows: Ints) -> Run:
    """The run on some of its examples."""
    return replace(run, examples=(len(rows),), values={k: v[:, rows] for k, v in run.values.items()})


def _cut(data: Mapping[str, Floats], rows: Ints) -> dict[str, Floats]:
    return {name: values[rows] for name, values in data.items()}
