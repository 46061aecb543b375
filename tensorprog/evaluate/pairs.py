"""The slots of a cross tape for blocks of pairs of examples: by machine code, or by arrays where that is not worth it.

Entries that machine code leaves in doubt (a formula that cancels, a special case) are computed by arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.trace import NotTraceable
from tensorprog.symbolic.expectation import Expected
from tensorprog.tape.blocks import Block, Key
from tensorprog.tape.execute import Run
from tensorprog.tape.gram import gram
from tensorprog.tape.tape import Tape

if TYPE_CHECKING:
    from tensorprog.backend.machine import Machine

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Errors = dict[int, tuple[Expected, float]]
MEMORY = 1 << 30
"""Bytes that the slots of one block take at most, whatever is allowed."""
WORTH = {True: 1 << 22, False: 1 << 26}
"""Slots of all pairs from which machine code pays: where it is on disk, and where it has to be made."""
CONTEXT = 64
"""So many pairs are computed beside those in doubt, for the scale by which errors are judged."""


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
    memory: int


class Evaluator(Protocol):
    """Computes blocks of pairs."""

    @property
    def side(self) -> int:
        """The largest block, in examples of a side."""

    def __call__(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """The slots [slots, I, J] of the wanted keys for left examples `i` and right examples `j`."""


def evaluator(pairs: Pairs, machine_code: Callable[[], Machine | None], count: int) -> Evaluator:
    """Machine code where it pays, for so many pairs of examples, and the formulas allow it."""
    arrays = Interpreted(pairs)
    entries = pairs.tape.count * count
    machine = machine_code() if entries >= WORTH[True] else None
    if machine is None or entries < WORTH[machine.is_built]:
        return arrays
    return Compiled(pairs, machine, machine.prepare(*pairs.selves), _numbered(*pairs.data), arrays)


def machine_code(tape: Tape, keys: Sequence[Key]) -> Machine | None:
    """A tape as machine code, if its formulas have one; numba is loaded here."""
    from tensorprog.backend.machine import compiled

    try:
        return compiled(tape, keys)
    except NotTraceable:
        return None


@final
@dataclass(frozen=True, slots=True)
class Interpreted:
    """Blocks by arrays."""

    pairs: Pairs

    @property
    def side(self) -> int:
        """See `Evaluator`."""
        memory = min(self.pairs.memory, MEMORY) / (8 * max(1, self.pairs.tape.count))
        return int(max(1, min(512, np.sqrt(memory))))

    def __call__(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """See `Evaluator`."""
        return self._values(i, j, (len(i), len(j)))

    def paired(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """The slots [slots, P] of the pairs (i[p], j[p])."""
        return self._values(i, j, (len(i),))

    def _values(self, i: Ints, j: Ints, examples: tuple[int, ...]) -> dict[Key, Floats]:
        p = self.pairs
        data = _cut(p.data[0], i), _cut(p.data[1], j)
        selves = part_of(p.selves[0], i), part_of(p.selves[1], j)
        run = Run(p.tape, data, examples, selves, p.errors)
        run.execute(p.blocks, p.keys)
        return run.values


@final
@dataclass(frozen=True, slots=True)
class Compiled:
    """Blocks by machine code; `rows` are what it knows of the examples of both sides, `equal` their numbers."""

    pairs: Pairs
    machine: Machine
    rows: tuple[Floats, Floats]
    equal: tuple[Ints, Ints]
    arrays: Interpreted

    @property
    def side(self) -> int:
        """See `Evaluator`."""
        return self.machine.side(self.pairs.memory)

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
        doubt |= self.equal[0][i][:, None] == self.equal[1][j]
        self._settle(values, i, j, np.flatnonzero(doubt))
        return values

    def _settle(self, values: dict[Key, Floats], i: Ints, j: Ints, doubt: Ints) -> None:
        """Entries in doubt, by arrays; as many at a time as pairs in a block of theirs."""
        context = np.arange(min(CONTEXT, len(i) * len(j)))
        step = max(CONTEXT, self.arrays.side**2)
        for start in range(0, len(doubt), step):
            row, col = np.divmod(np.concatenate([doubt[start : start + step], context]), len(j))
            better = self.arrays.paired(i[row], j[col])
            for key, value in values.items():
                value[:, row, col] = better.get(key, 0.0)


def _numbered(left: Mapping[str, Floats], right: Mapping[str, Floats]) -> tuple[Ints, Ints]:
    """Numbers of the examples of both sides: equal ones have the same.

    The kernel at equal examples is that at correlation one, which rounding of two computations would miss.
    """
    known: dict[bytes, int] = {}
    sides = [list(zip(*(x.reshape(len(x), -1) for _, x in sorted(d.items())), strict=True)) for d in (left, right)]
    numbers = [
        np.array([known.setdefault(b"".join(a.tobytes() for a in rows), len(known)) for rows in side], dtype=np.int64)
        for side in sides
    ]
    return numbers[0], numbers[1]


def part_of(run: Run, rows: Ints) -> Run:
    """The run on some of its examples."""
    return replace(run, examples=(len(rows),), values={k: v[:, rows] for k, v in run.values.items()})


def _cut(data: Mapping[str, Floats], rows: Ints) -> dict[str, Floats]:
    return {name: values[rows] for name, values in data.items()}
