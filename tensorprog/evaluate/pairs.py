"""The kernels of a cross tape for all pairs of examples: by machine code, or by arrays where that is not worth it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.trace import NotTraceable
from tensorprog.finite.threads import crew
from tensorprog.symbolic.expectation import Expected
from tensorprog.tape.blocks import Block, Forms, Key
from tensorprog.tape.execute import Run
from tensorprog.tape.tape import Tape

if TYPE_CHECKING:
    from tensorprog.backend.machine import Machine

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Errors = dict[int, tuple[Expected, float]]
Tables = dict[str, float]
"""The errors of kernels that were tabulated (`zonal`), by name."""
MEMORY = 1 << 30
"""Bytes that the slots of one block take at most, whatever is allowed."""
WORTH = {"loaded": 1 << 20, "kept": 1 << 22, "made": 1 << 26}
"""Slots of all pairs from which machine code pays: where numba is loaded and the code on disk, where numba has to be
loaded, and where the code has to be made."""
PATIENCE = 0.4
"""Seconds that arrays may have taken for a tape until its machine code is made all the same: a part of what that
takes, as whoever has asked several times will ask again, and the code stays on disk."""
CONTEXT = 64
"""So many pairs are computed beside those in doubt, for the scale by which errors are judged."""
STEP = 1 << 12
"""The slots that take arrays as long as a step of a recurrence takes them at least."""
TABULATED = {True: 1 << 16, False: 1 << 20}
"""The same for tables, in pairs of examples."""
TABULATED_SLOPES = 1 << 23
"""Pairs of examples from which tables of derivatives pay: for an optimizer they are made anew in each step."""


@final
@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a tape, now and before: pairs of examples, and the seconds that arrays have taken for them."""

    pairs: int
    seconds: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether arrays have taken too long."""
        return self.seconds >= PATIENCE

    def exceeds(self, other: Demand) -> bool:
        """Whether it is so much more that what did not pay may pay."""
        return self.pairs >= 4 * other.pairs or (self.waits and not other.waits)


NOTHING = Demand(0)


@final
@dataclass(frozen=True, slots=True)
class Pairs:
    """What computes the kernels between two groups on their examples.

    `blocks` are those of the tape in order, which machine code does not need; `runs` gives those of the tapes `singles`
    of one run, which are computed when they are asked for first; `seeds[name]` [numbers, I, J] are numbers
    that come with every pair.
    """

    tape: Tape
    singles: tuple[Tape, Tape]
    blocks: Callable[[], Sequence[Block]]
    keys: tuple[Key, ...]
    data: tuple[Mapping[str, Floats], Mapping[str, Floats]]
    runs: Callable[[], tuple[Run, Run]]
    errors: Errors
    memory: int
    seeds: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def selves(self) -> tuple[Run, Run]:
        """The runs of both sides by themselves; tables do without."""
        return self.runs()


class Evaluator(Protocol):
    """Computes the kernels of all pairs."""

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """Write the kernel [I * rows, J * cols] of each key; `mirrored` where both sides are the same examples."""


def judge(errors: Errors, expectations: Sequence[Expected], worst: Floats) -> None:
    """Keep the largest errors."""
    for e, error in zip(expectations, worst, strict=True):
        known = errors.get(id(e), (e, 0.0))[1]
        errors[id(e)] = (e, max(known, float(error)))


def evaluator(pairs: Pairs, machine_code: Callable[[], Machine | None], demand: Demand) -> Evaluator:
    """Machine code where it pays and the formulas allow it."""
    machine = worth(pairs.tape, machine_code, demand)
    if machine is None:
        return Interpreted(pairs)
    from tensorprog.evaluate.compiled import Compiled

    return Compiled(pairs, machine)


def worth(tape: Tape, machine_code: Callable[[], Machine | None], demand: Demand) -> Machine | None:
    """The machine code of a tape, if it pays."""
    entries = tape.count * (max(demand.pairs, STEP) if tape.is_recurrent else demand.pairs)
    if not demand.waits and entries < WORTH["loaded" if "numba" in sys.modules else "kept"]:
        return None
    machine = machine_code()
    return machine if machine is not None and (demand.waits or machine.is_built or entries >= WORTH["made"]) else None


def machine_code(tape: Tape, keys: Sequence[Key]) -> Machine | None:
    """A tape as machine code, if its formulas have one; numba is loaded here."""
    from tensorprog.backend.machine import compiled

    try:
        return compiled(tape, keys)
    except NotTraceable:
        return None


def single_code(tape: Tape) -> Machine | None:
    """The same of the tape of one run, all of its slots."""
    from tensorprog.backend.machine import compiled_single

    try:
        return compiled_single(tape)
    except NotTraceable:
        return None


@final
@dataclass(frozen=True, slots=True)
class Interpreted:
    """Blocks by arrays."""

    pairs: Pairs

    @property
    def side(self) -> int:
        """The largest block, in examples of a side; one where pairs are integrated by themselves in any case."""
        if self._integrates:
            return 1
        memory = min(self.pairs.memory, MEMORY) / (8 * max(1, self.pairs.tape.count))
        return int(max(1, min(512, np.sqrt(memory))))

    @property
    def _integrates(self) -> bool:
        """Whether there are integrals, which have threads of their own, between small products."""
        return any(isinstance(b, Forms) for b in self.pairs.tape.blocks)

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """See `Evaluator`."""
        with crew() if self._integrates else nullcontext():
            self._fill(kernels, mirrored, progress)

    def _fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        counts = (run.examples[0] for run in self.pairs.selves)
        cuts = [[np.arange(k, min(k + self.side, n)) for k in range(0, n, self.side)] for n in counts]
        blocks = [(i, j) for i in cuts[0] for j in cuts[1] if not mirrored or j[0] >= i[0]]
        for n, (i, j) in enumerate(blocks):
            found = self._values(i, j, (len(i), len(j)))
            for kernel, key in zip(kernels, self.pairs.keys, strict=True):
                self._write(kernel, found.get(key), key, i, j, mirrored)
            progress((n + 1) / len(blocks))

    def _write(self, kernel: Floats, values: Floats | None, key: Key, i: Ints, j: Ints, mirrored: bool) -> None:
        """The slots of a block into the kernel, and into its mirror image."""
        block = self.shown(values, key, (len(i), len(j))).transpose(2, 0, 3, 1)
        rows, cols = block.shape[1], block.shape[3]
        whole = kernel.reshape(-1, rows, kernel.shape[1] // cols, cols)
        at, across = slice(i[0], i[-1] + 1), slice(j[0], j[-1] + 1)
        turned = block.transpose(2, 3, 0, 1)
        if mirrored and i[0] == j[0]:
            whole[at, :, across] = (block + turned) / 2
            return
        whole[at, :, across] = block
        if mirrored:
            whole[across, :, at] = turned

    def shown(self, values: Floats | None, key: Key, examples: tuple[int, ...]) -> Floats:
        """[rows, cols, ...]: the slots of a key at the output elements of both sides; none are zeros."""
        slots = self.pairs.tape.slots[key]
        if values is None:
            return np.zeros((slots.rows, slots.cols, *examples))
        return values[slots.at].reshape(slots.rows, slots.cols, *examples)

    def paired(self, i: Ints, j: Ints) -> dict[Key, Floats]:
        """The slots [slots, P] of the pairs (i[p], j[p])."""
        return self._values(i, j, (len(i),))

    def _values(self, i: Ints, j: Ints, examples: tuple[int, ...]) -> dict[Key, Floats]:
        p = self.pairs
        cut = _cut(p.data[0], i)
        data = cut, cut if p.data[0] is p.data[1] and np.array_equal(i, j) else _cut(p.data[1], j)
        selves = part_of(p.selves[0], i), part_of(p.selves[1], j)
        at = (i[:, None], j) if len(examples) == 2 else (i, j)
        seeds = {name: numbers[:, *at] for name, numbers in p.seeds.items()}
        run = Run(p.tape, data, examples, selves, p.errors, seeds)
        run.execute(p.blocks(), p.keys)
        return run.values


@final
@dataclass(frozen=True, slots=True)
class Settled:
    """Pairs (i[p], j[p]) and their kernels, values[kernel] [rows, cols, P]."""

    i: Ints
    j: Ints
    values: tuple[Floats, ...]

    def place(self, kernels: Sequence[Floats], mirrored: bool) -> None:
        """Write them, and their mirror images."""
        for kernel, values in zip(kernels, self.values, strict=True):
            _place(kernel, values, self.i, self.j, mirrored)


def settled(pairs: Pairs, i: Ints, j: Ints, mirrored: bool) -> Iterator[Settled]:
    """Pairs in doubt, by arrays; as many at a time as there are pairs in a block of theirs."""
    if not len(i):
        return
    arrays = Interpreted(pairs)
    left, right = (run.examples[0] for run in pairs.selves)
    alone = mirrored and np.array_equal(i, j)  # nothing is larger than what examples have with themselves
    context = np.divmod(np.arange(0 if alone else min(CONTEXT, left * right)), right)
    step = max(CONTEXT, arrays.side**2)
    for start in range(0, len(i), step):
        rows, cols = i[start : start + step], j[start : start + step]
        found = arrays.paired(np.concatenate([rows, context[0]]), np.concatenate([cols, context[1]]))
        count = len(rows) + len(context[0])
        shown = (arrays.shown(found.get(key), key, (count,))[..., : len(rows)] for key in pairs.keys)
        yield Settled(rows, cols, tuple(shown))


def settle(pairs: Pairs, kernels: Sequence[Floats], i: Ints, j: Ints, mirrored: bool) -> None:
    """Write pairs in doubt, by arrays."""
    for part in settled(pairs, i, j, mirrored):
        part.place(kernels, mirrored)


def _place(kernel: Floats, values: Floats, i: Ints, j: Ints, mirrored: bool) -> None:
    """Values [rows, cols, P] of pairs into a kernel and its mirror image; an example with itself is symmetric."""
    rows, cols = values.shape[:2]
    whole = kernel.reshape(-1, rows, kernel.shape[1] // cols, cols)
    block = values.transpose(2, 0, 1)
    if mirrored:
        block = np.where((i == j)[:, None, None], (block + block.transpose(0, 2, 1)) / 2, block)
        whole[j, :, i] = block.transpose(0, 2, 1)
    whole[i, :, j] = block


def single_run(tape: Tape, data: Mapping[str, Floats], examples: int, errors: Errors) -> Run:
    """All slots of the tape of one run, by arrays."""
    run = Run(tape, (data, data), (examples,), None, errors)
    run.execute(tape.ordered)
    for key, slots in tape.slots.items():
        run.values.setdefault(key, np.zeros((slots.size, examples)))
    return run


def part_of(run: Run, rows: Ints) -> Run:
    """The run on some of its examples."""
    return replace(run, examples=(len(rows),), values={k: v[:, rows] for k, v in run.values.items()})


def _cut(data: Mapping[str, Floats], rows: Ints) -> Mapping[str, Floats]:
    """The data on some of its examples; the data itself where these are all, in their order."""
    if all(len(values) == len(rows) for values in data.values()) and np.array_equal(rows, np.arange(len(rows))):
        return data
    return {name: values[rows] for name, values in data.items()}
