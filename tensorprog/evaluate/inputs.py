"""Derivatives of kernels with respect to the inputs: forwards along one direction, backwards to all inputs.

    pushed    D_ij = d/de K(x_i + e dx_i, x'_j) at e = 0
    pulled    g_i  = sum_j C_ij dK(x_i, x'_j) / dx_i

Only the first argument moves.  Of one data set with itself both do: K is symmetric, so D + D' is its derivative, and
C + C' gives its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset, Group
from tensorprog.evaluate import analytic
from tensorprog.evaluate.gradients import check_finite, without_sampling
from tensorprog.evaluate.kernels import Derived, Maker, Report, is_zero, served, viewed, wanted
from tensorprog.evaluate.known import known
from tensorprog.evaluate.moving import Moving, backwards, forwards
from tensorprog.evaluate.options import Options
from tensorprog.evaluate.pairs import Demand, Errors, Pairs, evaluator, part_of
from tensorprog.limit.analyse import Limit
from tensorprog.tape.blocks import DataGram
from tensorprog.tape.cotangent import cotangent, primal
from tensorprog.tape.execute import Run
from tensorprog.tape.ranges import check_runs
from tensorprog.tape.tangent import INPUTS, along, resting
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Families = Mapping[str, Floats]
MEMORY = 1 << 28
"""Bytes that the collected cotangents of some left examples take."""


@final
@dataclass(frozen=True, slots=True)
class KernelTangents:
    """Both kernels and their derivatives along a direction; None for a kernel that is not there.

    `report` has the absolute errors of the expectations.
    """

    nngp: Any
    ntk: Any
    d_nngp: Any
    d_ntk: Any
    report: Report

    def shaped(self, shape: tuple[int, ...], dtype: str) -> KernelTangents:
        """All arrays in another shape and type."""
        nngp, ntk, d_nngp, d_ntk = (
            viewed(k, shape, dtype) for k in (self.nngp, self.ntk, self.d_nngp, self.d_ntk)
        )
        return KernelTangents(nngp, ntk, d_nngp, d_ntk, self.report)


@final
@dataclass(frozen=True, slots=True)
class KernelCotangents:
    """The kernels that were asked for, and the gradient `x` of their sum with weights, shaped like the data.

    `report` has the absolute errors of the expectations.
    """

    nngp: Any
    ntk: Any
    x: Any
    report: Report

    def shaped(self, shape: tuple[int, ...], dtype: str) -> KernelCotangents:
        """The kernels in another shape and type."""
        return replace(self, nngp=viewed(self.nngp, shape, dtype), ntk=viewed(self.ntk, shape, dtype))


def pushed(
    derived: Derived, left: Dataset, right: Dataset | None, direction: Dataset, options: Options
) -> KernelTangents:
    """The kernels and their derivatives along a direction, of groups as those of `left`.

    Raises TensorProgError where a kernel has to be sampled, and for what has no derivative.
    """
    limit, want, errors = derived.limit, wanted(derived.limit, options.want), Errors()
    slopes = {w: analytic.derivative(w, INPUTS) for w in ("nngp", "ntk")}
    result = _zeros(limit, left, right, (*want, *(slopes[w] for w in want)))
    moves = [d for d in direction.groups for _ in (right or left).groups]
    with without_sampling(limit):
        for (g, h, at), moved in zip(_pairs(limit, left, right), moves, strict=True):
            pairing = _pairing(derived, forwards, (g, h), moved, options, errors)
            for name, k in (pairing.forwards(options) if pairing else {}).items():
                _put(result, name, at, k)
    for w in want:
        d = result[slopes[w]]
        result[slopes[w]] = d if right is not None else d + d.T
        check_finite(f"the derivative of the {w.upper()}", d)
    nngp, ntk, d_nngp, d_ntk = (result.get(name) for name in ("nngp", "ntk", slopes["nngp"], slopes["ntk"]))
    return KernelTangents(nngp, ntk, d_nngp, d_ntk, Report(served(errors, {})))


def pulled(
    derived: Derived, left: Dataset, right: Dataset | None, weights: Mapping[str, Floats], options: Options
) -> KernelCotangents:
    """The kernels and the gradient of the sum of `weights` * kernels by the inputs of `left`, as batches of its groups.

    Raises TensorProgError where a kernel has to be sampled, and for what has no derivative.
    """
    limit, want, errors = derived.limit, wanted(derived.limit, options.want), Errors()
    result = _zeros(limit, left, right, want)
    slopes = [{name: np.zeros_like(x) for name, x in g.batch.items()} for g in left.groups]
    targets = [s for s in slopes for _ in (right or left).groups]
    with without_sampling(limit):
        for (g, h, at), slope in zip(_pairs(limit, left, right), targets, strict=True):
            pairing = _pairing(derived, backwards, (g, h), None, options, errors)
            seeds = {w: _cut(c if right is not None else c + c.T, at) for w, c in weights.items()}
            if pairing is None:
                continue
            kernels, moved = pairing.backwards(seeds, options)
            for name, k in kernels.items():
                _put(result, name, at, k)
            for name, x in known(limit).pulled(g, moved).items():
                slope[name] += x
    for name, x in ((name, x) for s in slopes for name, x in s.items()):
        check_finite(f"the gradient by {name}", x)
    return KernelCotangents(result.get("nngp"), result.get("ntk"), slopes, Report(served(errors, {})))


def _zeros(limit: Limit, left: Dataset, right: Dataset | None, names: Sequence[str]) -> dict[str, Floats]:
    shape = analytic.output_rows(limit, left), analytic.output_rows(limit, right or left)
    return {name: np.zeros(shape) for name in names}


def _pairs(
    limit: Limit, left: Dataset, right: Dataset | None
) -> Iterator[tuple[Group, Group, tuple[Ints, ...]]]:
    """All pairs of groups, with the places of their entries in the kernels, none if these are all in their order."""
    other = right or left
    if len(left.groups) == len(other.groups) == 1:
        yield left.groups[0], other.groups[0], ()
        return
    outs = analytic.outputs(limit, left), analytic.outputs(limit, other)
    for g in left.groups:
        for h in other.groups:
            yield g, h, np.ix_(analytic.places(g, left, outs[0]), analytic.places(h, other, outs[1]))


def _put(kernels: dict[str, Floats], name: str, at: tuple[Ints, ...], values: Floats) -> None:
    if at:
        kernels[name][at] = values
    else:
        kernels[name] = values


def _cut(kernel: Floats, at: tuple[Ints, ...]) -> Floats:
    return kernel[at] if at else kernel


def _pairing(
    derived: Derived, make: Maker, groups: tuple[Group, Group], moved: Group | None, options: Options, errors: Errors
) -> _Pairing | None:
    """The tapes of a pair of groups on its data, and on the tangents of the left data; None where all vanishes."""
    limit, (left, right) = derived.limit, groups
    alive = tuple(w for w in wanted(limit, options.want) if not is_zero(limit, w))
    if not alive:
        return None
    data = known(limit).of(left), known(limit).of(right)
    tangents = {} if moved is None else {along(f): x for f, x in known(limit).pushed(left, moved.batch).items()}
    tapes = derived.moving(make, options.tier, alive, left, right)
    return _Pairing(tapes, (data[0] | tangents, data[1]), (len(left), len(right)), errors)


@final
@dataclass(frozen=True, slots=True)
class _Pairing:
    """The tapes of two groups on their data: `examples` on the left and on the right."""

    tapes: Moving
    data: tuple[Families, Families]
    examples: tuple[int, int]
    errors: Errors

    def forwards(self, options: Options) -> dict[str, Floats]:
        """The kernels and their derivatives."""
        keys = self.tapes.keys
        result = {name: np.empty(self._shape(name, self.examples[0])) for name in keys}
        self._fill(self._runs(), slice(0, self.examples[0]), result, {}, options)
        return result

    def backwards(self, weights: Mapping[str, Floats], options: Options) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The kernels, and the gradients by the families of the left run."""
        runs, (n, m) = self._runs(), self.examples
        result = {name: np.empty(self._shape(name, n)) for name in self.tapes.keys if name != "collected"}
        seeds = {name: self._seed(name, c) for name, c in weights.items() if name in result}
        slopes = {name: np.zeros_like(x) for name, x in self.data[0].items()}
        collected = self._shape("collected", 1)[0]
        step = max(1, MEMORY // (8 * collected * m))
        for first in range(0, n, step):
            rows = slice(first, min(first + step, n))
            part = {name: self._rows(k, rows) for name, k in result.items()}
            part["collected"] = np.empty((collected * (rows.stop - first), m))
            self._fill(runs, rows, part, {name: s[:, rows] for name, s in seeds.items()}, options)
            self._gather(part["collected"].reshape(-1, collected, m), runs[0], rows, slopes)
        runs[0].execute(self.tapes.back)
        for block in self.tapes.grams:
            self._within(block, runs[0].own(cotangent(primal(block.key)), block.out), slopes)
        return result, slopes

    def _runs(self) -> tuple[Run, Run]:
        left, right = self.tapes.cross.selves
        assert isinstance(left, Tape) and isinstance(right, Tape)
        (x, y), (n, m) = self.data, self.examples
        runs = Run(left, (x, x), (n,), None, self.errors), Run(right, (y, y), (m,), None, self.errors)
        runs[0].execute(self.tapes.left)
        runs[1].execute(self.tapes.right)
        check_runs(self.tapes.variances, runs)
        return runs

    def _shape(self, name: str, examples: int) -> tuple[int, int]:
        slots = self.tapes.cross.slots[self.tapes.keys[name]]
        return examples * slots.rows, self.examples[1] * slots.cols

    def _rows(self, kernel: Floats, rows: slice) -> Floats:
        """The rows of a kernel of some examples."""
        height = kernel.shape[0] // self.examples[0]
        return kernel[rows.start * height : rows.stop * height]

    def _seed(self, name: str, weights: Floats) -> Floats:
        """[numbers, I, J]: weights as the numbers of a pair."""
        slots, (n, m) = self.tapes.cross.slots[self.tapes.keys[name]], self.examples
        return weights.reshape(n, slots.rows, m, slots.cols).transpose(1, 3, 0, 2).reshape(-1, n, m)

    def _fill(
        self, runs: tuple[Run, Run], rows: slice, kernels: Mapping[str, Floats], seeds: Families, options: Options
    ) -> None:
        """Write what the cross tape knows of some left examples, and all right ones."""
        tapes = self.tapes
        at = np.arange(rows.start, rows.stop)
        data = {name: x[at] for name, x in self.data[0].items()}, self.data[1]
        keys = tuple(tapes.keys[name] for name in kernels)
        selves = part_of(runs[0], at), runs[1]
        singles, blocks = (selves[0].tape, selves[1].tape), lambda: tapes.blocks
        pairs = Pairs(tapes.cross, singles, blocks, keys, data, lambda: selves, self.errors, MEMORY, seeds)
        chosen = evaluator(pairs, lambda: tapes.machine, Demand(self.examples[0] * self.examples[1]))
        done, part = rows.start / self.examples[0], len(at) / self.examples[0]

        def progress(fraction: float) -> None:
            if options.progress is not None:
                options.progress("kernels", done + part * fraction)

        chosen.fill(list(kernels.values()), False, progress)

    def _gather(self, collected: Floats, run: Run, rows: slice, slopes: dict[str, Floats]) -> None:
        """Cotangents [I, numbers, J] of inner products go to the data, those of the left run are summed."""
        known = self.tapes.collected
        assert known is not None
        start = 0
        for block in known.grams:
            other = self.data[1][block.right]
            for k, (i, j) in enumerate(zip(block.li, block.rj, strict=True), start):
                slopes[resting(block.left)][rows, i] += collected[:, k] @ other[:, j]
            start += len(block.out)
        for key, slots in known.run.items():
            place = cotangent(key)
            if place not in run.values:
                run.values[place] = np.zeros((run.tape.slots[place].size, self.examples[0]))
            run.values[place][slots, rows] = collected[:, start : start + len(slots)].sum(axis=2).T
            start += len(slots)

    def _within(self, block: DataGram, cotangents: Floats, slopes: dict[str, Floats]) -> None:
        """Cotangents [numbers, I] of what is known from the data of the left run alone."""
        data = self.data[0]
        for c, i, j in zip(cotangents, block.li, block.rj, strict=True):
            if block.right == "":
                slopes[resting(block.left)][:, i] += c
            elif block.left in data:
                slopes[resting(block.right)][:, j] += c[:, None] * data[block.left][:, i]
            else:
                slopes[resting(block.left)][:, i] += c[:, None] * data[block.right][:, j]
