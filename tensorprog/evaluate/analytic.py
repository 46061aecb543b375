"""The deterministic tiers: kernels from closed forms and quadrature, for all pairs of examples.

For every pair of sizes one cross tape and the two single-run tapes that it reads, prepared once; the pairs of
examples are worked through in tiles that bound the memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset, Group
from tensorprog.evaluate import grid
from tensorprog.evaluate.known import known
from tensorprog.evaluate.pairs import (
    NOTHING,
    TABULATED,
    TABULATED_SLOPES,
    Demand,
    Errors,
    Evaluator,
    Interpreted,
    Pairs,
    Tables,
    evaluator,
    judge,
    machine_code,
    single_code,
    worth,
)
from tensorprog.ir.tables import Sizes, count
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments, Unservable
from tensorprog.tape.blocks import Key
from tensorprog.tape.execute import Run
from tensorprog.tape.ranges import Variances, check_runs, variances_of
from tensorprog.tape.tangent import add_tangents, tangent
from tensorprog.tape.tape import Tape

if TYPE_CHECKING:
    from tensorprog.backend.machine import Machine
    from tensorprog.evaluate.polar import Known as Ranged
    from tensorprog.evaluate.zonal import Known

Floats = NDArray[np.float64]
Sized = tuple[tuple[tuple[str, int], ...], ...]
WASTE = 0.05
"""The part of slots that may be found zero without asking again for the rest alone."""

GRIDS = 4
"""Pairs of sizes of images for which machine code is kept."""

KEPT = 1 << 20
"""The slots of all tapes that are kept for the next evaluation."""


@final
@dataclass(frozen=True)
class Single:
    """The slots of one run, for every example of a group."""

    tape: Tape

    @cached_property
    def machine(self) -> Machine | None:
        """Its machine code; None where a formula has none."""
        return single_code(self.tape)


@final
@dataclass(frozen=True)
class Cross:
    """What computes the kernels between two groups; `keys` are the slots of each kernel."""

    tape: Tape
    left: Single
    right: Single
    keys: Mapping[str, Key]
    known: list[Known] = field(default_factory=list)
    """The tables of a cosine that were made."""
    polar: list[Ranged] = field(default_factory=list)
    """Those of norms and angles."""

    @property
    def slots(self) -> int:
        """The slots of all its tapes."""
        return _slots(self.tape, (self.left.tape, self.right.tape))

    @cached_property
    def variances(self) -> Variances:
        """What `check_runs` looks at."""
        return variances_of(self.tape.blocks)

    @cached_property
    def machine(self) -> Machine | None:
        """Its machine code; None where a formula has none."""
        return machine_code(self.tape, tuple(k for k in self.keys.values() if k in self.tape.slots))


@final
@dataclass(frozen=True, slots=True)
class Prepared:
    """The kernels `want` (of "nngp", "ntk") of a limit; the tapes of a pair of sizes are made when it is met and kept.

    `pairs` of examples of two sizes, or more, will be asked for, if not at once; `memory` bytes may be taken by the
    slots of a tile.  `parameters` are those by which the kernels are differentiated.
    """

    limit: Limit
    moments: Moments
    want: Sequence[str]
    pairs: int = 0
    memory: int = sys.maxsize
    parameters: Sequence[str] = ()
    _known: dict[Sized, Cross] = field(default_factory=dict)
    _grids: dict[Sized, grid.Grid | None] = field(default_factory=dict)
    _asked: dict[Sized, Demand] = field(default_factory=dict)
    _tried: dict[Sized, Demand] = field(default_factory=dict)
    _unservable: dict[Sized, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """What is computed: the kernels and their derivatives."""
        return [*self.want, *(derivative(k, p) for k in self.want for p in self.parameters)]

    def cross(self, left: Group, right: Group) -> Cross:
        """The tapes for the sizes of two groups.  Raises Unservable where a moment needs sampling."""
        key = sizes_of(left, right)
        if key in self._unservable:
            raise Unservable(self._unservable[key])
        found = self._known.get(key)
        if found is None:
            try:
                found = self._known[key] = prepare(self.limit, self.moments, left, right, self.want, self.parameters)
            except Unservable as reason:
                self._unservable[key] = str(reason)
                raise
            self._forget()
        return found

    def asked(self, left: Group, right: Group) -> Demand:
        """What has been asked for these sizes, with the pairs of two groups: machine code that did not pay for one call
        pays for many.

        Where it is known how many there will be, time does not count: all blocks of a kernel are computed alike.
        """
        key = sizes_of(left, right)
        known = self._asked.get(key, NOTHING)
        self._asked[key] = found = replace(known, pairs=known.pairs + len(left) * len(right))
        return Demand(max(self.pairs, found.pairs)) if self.pairs else found

    def took(self, left: Group, right: Group, seconds: float) -> None:
        """Arrays took so long for pairs of these sizes."""
        known = self._asked[sizes_of(left, right)]
        self._asked[sizes_of(left, right)] = replace(known, seconds=known.seconds + seconds)

    def grid(self, left: Group, right: Group, demand: Demand) -> grid.Grid | None:
        """The machine of a program over rows and columns for the sizes of two groups, if it pays; see `cross`.

        Where it does not, it is looked at again when four times as many pairs have been asked for, or arrays are slow.
        """
        if self.parameters:
            return None
        key = sizes_of(left, right)
        if key not in self._grids or (self._grids[key] is None and demand.exceeds(self._tried[key])):
            self._tried[key] = demand
            kept = [k for k, found in self._grids.items() if found is not None]
            for k in kept[: len(kept) + 1 - GRIDS]:
                self._grids.pop(k)
            self._grids[key] = grid.grid(self.limit, self.moments, (left.sizes, right.sizes), self.want, demand)
        return self._grids[key]

    def _forget(self) -> None:
        """Tapes beyond what may be kept, the oldest ones."""
        sizes = {key: cross.slots for key, cross in self._known.items()}
        for key in list(sizes)[:-1]:
            if sum(sizes.values()) <= KEPT:
                return
            self._known.pop(key, None)
            del sizes[key]


def sizes_of(left: Group, right: Group) -> Sized:
    """What tapes of a pair of groups depend on."""
    return tuple(tuple(sorted(g.sizes.items())) for g in (left, right))


def derivative(kernel: str, parameter: str) -> str:
    """The name of the derivative of a kernel."""
    return f"d{kernel}/d{parameter}"


def prepare(
    limit: Limit, moments: Moments, left: Group, right: Group, want: Sequence[str], parameters: Sequence[str] = ()
) -> Cross:
    """The tapes of a pair of groups.  Raises Unservable where a moment needs sampling."""
    cross, singles, keys = tapes(limit, moments, (left.sizes, right.sizes), want)
    if parameters:
        add_tangents(cross, moments, parameters)
        keys |= {derivative(k, p): tangent(p, key) for k, key in keys.items() for p in parameters}
    first = Single(singles[0])
    second = first if singles[0] is singles[1] else Single(singles[1])
    return Cross(cross, first, second, keys)


Zeros = dict[Key, NDArray[np.bool_]]


def tapes(
    limit: Limit, moments: Moments, sizes: tuple[Sizes, Sizes], want: Sequence[str]
) -> tuple[Tape, tuple[Tape, Tape], dict[str, Key]]:
    """The cross tape and the tapes of its two runs, and the keys of the kernels.  Raises Unservable as `prepare`."""
    cross, singles, keys = _tapes(limit, moments, sizes, want, ({}, {}, {}))
    zeros = [t.find_zeros() for t in (cross, *singles)]
    if sum(int(z.sum()) for found in zeros for z in found.values()) > WASTE * _slots(cross, singles):
        return _tapes(limit, moments, sizes, want, (zeros[0], zeros[1], zeros[2]))
    return cross, singles, keys


def _slots(cross: Tape, singles: tuple[Tape, Tape]) -> int:
    return sum(tape.count for tape in (cross, *singles))


def _tapes(
    limit: Limit, moments: Moments, sizes: tuple[Sizes, Sizes], want: Sequence[str], zeros: tuple[Zeros, Zeros, Zeros]
) -> tuple[Tape, tuple[Tape, Tape], dict[str, Key]]:
    """The cross tape and the tapes of its two runs, without what is known to be zero, and the keys of the kernels."""
    a = Tape(limit, moments, (sizes[0], sizes[0]), None, zeros[1])
    b = a if sizes[0] == sizes[1] else Tape(limit, moments, (sizes[1], sizes[1]), None, zeros[2])
    cross = Tape(limit, moments, sizes, (a, b), zeros[0])
    keys = {name: getattr(cross, name)() for name in want}
    for tape in (cross, a, b):
        tape.build()
    return cross, (a, b), keys


def kernels(
    prepared: Prepared,
    left: Dataset,
    right: Dataset | None,
    progress: Callable[[float], None],
    dtype: str = "float64",
    tables: Tables | None = None,
) -> tuple[dict[str, Floats], Errors]:
    """The kernels between two data sets, or of one with itself, as float64 or float32, and the error estimates.

    Kernels that are tabulated are put into `tables` with their errors; None: no reductions.
    """
    limit, want = prepared.limit, prepared.names
    other, errors = right or left, Errors()
    pairs = [
        (g, h) for i, g in enumerate(left.groups) for j, h in enumerate(other.groups) if right is not None or j >= i
    ]
    if len(pairs) == 1:  # all examples, in their order
        return _group_kernels(prepared, *pairs[0], right is None, errors, progress, dtype, tables), errors
    outs = outputs(limit, left), outputs(limit, other)
    result = {name: np.zeros((sum(outs[0].values()), sum(outs[1].values())), dtype) for name in want}
    for done, (g, h) in enumerate(pairs):
        step = _part_of(progress, done, len(pairs))
        blocks = _group_kernels(prepared, g, h, right is None and g is h, errors, step, dtype, tables)
        rows, cols = places(g, left, outs[0]), places(h, other, outs[1])
        for name in want:
            result[name][np.ix_(rows, cols)] = blocks[name]
            if right is None and g is not h:
                result[name][np.ix_(cols, rows)] = blocks[name].T
    return result, errors


def _part_of(progress: Callable[[float], None], done: int, parts: int) -> Callable[[float], None]:
    """The progress of one of several equal parts."""
    return lambda fraction: progress((done + fraction) / parts)


def output_rows(limit: Limit, data: Dataset) -> int:
    """The number of rows of a kernel: output elements of all examples."""
    return sum(outputs(limit, data).values())


def outputs(limit: Limit, data: Dataset) -> dict[int, int]:
    """The number of output elements of every example, by its place in the user's order."""
    axes = limit.program.var(limit.output_var).axes
    return {int(r): number for g in data.groups for number in [count(axes, g.sizes)] for r in g.rows}


def places(group: Group, data: Dataset, outs: Mapping[int, int]) -> NDArray[np.int64]:
    """Rows of the kernel that belong to a group: examples in the user's order, then output elements."""
    start = np.concatenate([[0], np.cumsum([outs[k] for k in range(data.count)])])
    return np.concatenate([np.arange(start[r], start[r + 1]) for r in group.rows]).astype(np.int64)


def _group_kernels(  # noqa: PLR0913
    prepared: Prepared,
    left: Group,
    right: Group,
    symmetric: bool,
    errors: Errors,
    progress: Callable[[float], None],
    dtype: str,
    tables: Tables | None,
) -> dict[str, Floats]:
    asked = prepared.asked(left, right)
    images = None if tables is None else prepared.grid(left, right, asked)
    if images is not None:
        first = data_families(prepared.limit, left)
        both = first, first if left is right else data_families(prepared.limit, right)
        found = grid.kernels(images, both, (len(left), len(right)), symmetric, errors, prepared.memory, progress)
        return {name: kernel.astype(dtype, copy=False) for name, kernel in found.items()}
    cross = prepared.cross(left, right)
    total = max(prepared.pairs, len(left) * len(right))
    data = [data_families(prepared.limit, left)]
    same = left is right and cross.left is cross.right
    data += data if same else [data_families(prepared.limit, right)]

    @cache
    def runs() -> tuple[Run, Run]:
        first = run_single(cross.left, data[0], len(left), errors, asked)
        found = first, first if same else run_single(cross.right, data[1], len(right), errors, asked)
        check_runs(cross.variances, found)
        return found

    outs = cross.tape.slots[next(iter(cross.keys.values()))] if cross.keys else None
    assert outs is not None
    shape = len(left) * outs.rows, len(right) * outs.cols
    moving = {name: key for name, key in cross.keys.items() if key in cross.tape.slots}
    result = {name: (np.empty if name in moving else np.zeros)(shape, dtype) for name in cross.keys}
    keys = tuple(moving.values())
    singles, families = (cross.left.tape, cross.right.tape), (data[0], data[1])
    pairs = Pairs(cross.tape, singles, lambda: cross.tape.ordered, keys, families, runs, errors, prepared.memory)
    chosen = None if tables is None else _reduced(prepared, cross, pairs, tuple(moving), dtype, tables, total, asked)
    chosen = chosen or evaluator(pairs, lambda: cross.machine, asked)
    if isinstance(chosen, Interpreted):
        runs()  # which machine code needs as well
    start = time.perf_counter()
    chosen.fill([result[name] for name in moving], symmetric, progress)
    if isinstance(chosen, Interpreted):
        prepared.took(left, right, time.perf_counter() - start)
    return result


def _reduced(  # noqa: PLR0913
    prepared: Prepared, cross: Cross, pairs: Pairs, names: tuple[str, ...], dtype: str, tables: Tables, total: int,
    asked: Demand,
) -> Evaluator | None:
    """A table, where there is one for these kernels and it pays for `total` pairs, or for what is asked in all."""
    if max(total, asked.pairs) < (TABULATED_SLOPES if prepared.parameters else TABULATED[True]):
        return None
    from tensorprog.evaluate.polar import polar  # numba is loaded here
    from tensorprog.evaluate.zonal import zonal

    of_cosine = partial(zonal, pairs, cross.known, names, tables, total)
    if prepared.parameters:
        return of_cosine()

    def otherwise() -> Evaluator:
        return of_cosine() or evaluator(pairs, lambda: cross.machine, asked)

    return polar(pairs, cross.polar, names, tables, dtype, asked.pairs, otherwise) or of_cosine()


def run_single(
    single: Single, data: Mapping[str, Floats], examples: int, errors: Errors, demand: Demand = NOTHING
) -> Run:
    """Execute the tape of one run for every example of a group; by machine code where it pays for the pairs."""
    run = Run(single.tape, (data, data), (examples,), None, errors)
    machine = worth(single.tape, lambda: single.machine, demand) if single.tape.is_recurrent else None
    if machine is None or not _by_machine(run, machine):
        run.execute(single.tape.ordered)
    for key, slots in single.tape.slots.items():
        run.values.setdefault(key, np.zeros((slots.size, examples)))
    return run


def _by_machine(run: Run, machine: Machine) -> bool:
    """Compute all slots of a run by machine code; False where a formula does not settle one."""
    found = machine.single(run.data[0], run.examples[0])
    if found is None:
        return False
    judge(run.errors, machine.expectations, found[1])
    run.values.update(machine.lowered.split(found[0], run.tape))
    return True


def data_families(limit: Limit, group: Group) -> dict[str, Floats]:
    """The families that are known from the inputs alone: [examples, elements, dim] or [examples, elements]."""
    return known(limit).of(group)
