"""The limit beside simulation: kernels of one program at several widths and seeds.

    limit kernel  <->  finite kernels [width][seed]   ->   deviation, its slope, a verdict
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.autodiff import differentiate
from tensorprog.dataset import Dataset
from tensorprog.errors import TensorProgError
from tensorprog.finite import Convergence, Group, Simulation, convergence, simulate, widths_at
from tensorprog.finite.convergence import AGREES, DISAGREES, INCONCLUSIVE
from tensorprog.finite.readout import readout_weights
from tensorprog.ir.expr import ONE, ZERO, evaluate
from tensorprog.ir.program import Differentiated, Program

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]

LEAST_SEEDS, MOST_SEEDS = 6, 24


@final
@dataclass(frozen=True, slots=True)
class Draw:
    """One network of finite width, rows (example, element) in the user's order.

    `outputs` [rows] (for a vector output [rows, dim]).  `nngp` [rows, rows] is the covariance of the
    outputs given all but the readout weights (or the plain product of the outputs when they are not linear
    in any weight); `ntk` [rows, rows] is the empirical tangent kernel, None unless it was asked for.
    """

    outputs: Floats
    nngp: Floats
    ntk: Floats | None


@final
@dataclass(frozen=True, slots=True)
class Validation:
    """What a study over widths says of both kernels; `failure` is why the tangent kernel was not simulated."""

    nngp: Convergence | None
    ntk: Convergence | None
    failure: str = ""

    @property
    def verdict(self) -> str:
        """"disagrees" if one kernel does, "agrees" if all do, else "inconclusive"."""
        verdicts = {c.verdict for c in (self.nngp, self.ntk) if c is not None}
        if DISAGREES in verdicts:
            return DISAGREES
        return AGREES if verdicts == {AGREES} else INCONCLUSIVE

    def __str__(self) -> str:
        parts = [_table(name, c) for name, c in (("NNGP", self.nngp), ("NTK", self.ntk)) if c is not None]
        if self.failure:
            parts.append(f"NTK not simulated: {self.failure}")
        return "\n".join([*parts, f"verdict: {self.verdict}"])


def _table(name: str, c: Convergence) -> str:
    rows = [f"  width {w:>6}   deviation {d:.3e} +- {e:.1e}   {s} seeds"
            for w, d, e, s in zip(c.widths, c.deviation, c.deviation_error, c.seeds, strict=True)]
    head = f"{name}: {c.verdict}, slope {c.slope:.2f} +- {c.slope_error:.2f} (a right limit: -0.5)"
    return "\n".join([head, *rows, f"  {c.reason}"])


def study(
    program: Program,
    output: str,
    data: Dataset,
    limits: Mapping[str, tuple[Floats, Floats | float]],
    widths: Sequence[int],
    seeds: int,
    progress: Progress | None = None,
) -> Validation:
    """Compares limit kernels, {"nngp": (kernel, standard error), "ntk": ...}, with `seeds` draws at every width.

    Kernels are [rows, rows].  Where the program has no gradient at finite width (step functions) only the
    NNGP kernel is compared, and the result says so.
    """
    tell = progress or (lambda message, fraction: None)
    want = tuple(limits)
    failure = ""
    if "ntk" in want:
        try:
            draw(program, output, data, min(widths), 0, want)
        except TensorProgError as error:
            failure = error.diagnostics[0].message
            want = tuple(w for w in want if w != "ntk")
    draws = _draws(program, output, data, widths, seeds, want, tell)
    found = {kind: convergence(limits[kind][0], {w: [_kernel(d, kind) for d in ds] for w, ds in draws.items()},
                               limits[kind][1]) for kind in want}
    return Validation(found.get("nngp"), found.get("ntk"), failure)


def _draws(
    program: Program, output: str, data: Dataset, widths: Sequence[int], seeds: int, want: tuple[str, ...],
    tell: Progress,
) -> dict[int, list[Draw]]:
    """Independent seeds at every width; the time of a draw grows like the square of the width."""
    total = sum(w**2 for w in widths) * seeds
    done = 0
    draws: dict[int, list[Draw]] = {}
    for k, width in enumerate(sorted(widths)):
        draws[width] = []
        for seed in range(seeds):
            tell(f"simulating width {width}", done / total)
            draws[width].append(draw(program, output, data, width, seed + 10_000 * k, want))
            done += width**2
    tell("simulated", 1.0)
    return draws


def _kernel(d: Draw, kind: str) -> Floats:
    kernel = d.nngp if kind == "nngp" else d.ntk
    assert kernel is not None
    return kernel


# ---------------------------------------------------------------- one draw


def draw(
    program: Program, output: str, data: Dataset, width: int, seed: int, want: Sequence[str] = ("nngp", "ntk")
) -> Draw:
    """The program at one width (of its first width; others in their ratios) with one draw of the weights.

    Raises TensorProgError where simulation does.
    """
    groups = [Group(g.sizes, g.batch) for g in data.groups]
    widths = widths_at(program, width, data.sizes())
    if program.var(program.output(output).var).dim is not None:
        return _vector_draw(simulate(program, groups, widths, seed), output, data)
    readout = readout_weights(program, output)
    result = simulate(_simulated(program, output, readout, "ntk" in want), groups, widths, seed)
    outputs = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in result.outputs[output]])
    order = row_order(result.rows, data)
    nngp = np.outer(outputs, outputs) if not readout else _conditional(result, program, readout)
    ntk = _tangent(result, program)[np.ix_(order, order)] if "ntk" in want else None
    return Draw(outputs[order], nngp[np.ix_(order, order)], ntk)


def _simulated(program: Program, output: str, readout: frozenset[str], ntk: bool) -> Differentiated:
    """The program differentiated in its trained weights (for the NTK) and the readout weights."""
    rates = {w.name: ONE if w.name in readout and w.lr == ZERO else w.lr if ntk or w.name in readout else ZERO
             for w in program.weights}
    weights = tuple(replace(w, lr=rates[w.name]) for w in program.weights)
    return differentiate(replace(program, weights=weights), output)


def _conditional(result: Simulation, program: Program, readout: frozenset[str]) -> Floats:
    """sum over readout weights of var(W) <d f / d W, d f' / d W>"""
    kernel = np.zeros((len(result.rows), len(result.rows)))
    for name in sorted(readout & result.grams.keys()):
        kernel += float(evaluate(program.weight(name).variance, result.network.env)) * result.grams[name]
    return kernel


def _tangent(result: Simulation, program: Program) -> Floats:
    """sum over weights of lr(W) <d f / d W, d f' / d W>, with the learning rates of the program."""
    kernel = np.zeros((len(result.rows), len(result.rows)))
    for name, gram in result.grams.items():
        kernel += float(evaluate(program.weight(name).lr, result.network.env)) * gram
    return kernel


def _vector_draw(result: Simulation, output: str, data: Dataset) -> Draw:
    """A vector output h: <h, h'> / dim."""
    parts = [np.asarray(a, dtype=np.float64) for a in result.outputs[output]]
    rows = _rows([a.shape[:2] for a in parts])
    vectors = np.concatenate([a.reshape(-1, a.shape[-1]) for a in parts])[row_order(rows, data)]
    return Draw(vectors, vectors @ vectors.T / vectors.shape[1], None)


def _rows(shapes: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """(group, example, element) of every row when groups stand one after the other."""
    blocks = []
    for g, (examples, elements) in enumerate(shapes):
        index = np.indices((examples, elements)).reshape(2, -1)
        blocks.append(np.stack([np.full(examples * elements, g), *index], axis=1))
    return np.concatenate(blocks)


def row_order(rows: NDArray[np.int64], data: Dataset) -> NDArray[np.int64]:
    """The permutation that brings rows (group, example, element) into the user's order of examples."""
    position = np.array([data.groups[g].rows[e] for g, e, _ in rows], dtype=np.int64)
    return np.lexsort((rows[:, 2], position))


# ---------------------------------------------------------------- what fits into a time


def affordable_widths(program: Program, output: str, data: Dataset, seconds: float) -> tuple[tuple[int, ...], int]:
    """Four widths, each twice the one before, and a number of seeds that take about `seconds` together.

    A small network is timed; the four widths cost some 40 times as much as the smallest one (between the 15
    times of linear growth and the 85 times of quadratic growth).
    """
    for width in (16, 32, 64):
        draw(program, output, data, width, 0, ("nngp",))  # the first draw of a width also fills caches
        start = time.perf_counter()
        draw(program, output, data, width, 1, ("nngp",))
        round_cost = 2 * 40 * (time.perf_counter() - start)  # twice, for the tangent kernel
        if 2 * round_cost * MOST_SEEDS > seconds:
            break
    seeds = min(MOST_SEEDS, max(LEAST_SEEDS, int(seconds / round_cost)))
    return tuple(width * 2**k for k in range(4)), seeds
