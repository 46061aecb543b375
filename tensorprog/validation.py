"""The limit beside simulation: kernels of one program at several widths and seeds.

    limit kernel  <->  finite kernels [width][seed]   ->   deviation, its slope, a verdict
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.autodiff import differentiate
from tensorprog.dataset import Dataset
from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate.sampling import centred
from tensorprog.finite import Group, Network, Simulation, measure, widths_at
from tensorprog.finite import draw as draw_weights
from tensorprog.finite.convergence import LEVEL, convergence
from tensorprog.finite.law import law
from tensorprog.finite.readout import has_centre, readout_weights
from tensorprog.finite.simulate import numbered_rows
from tensorprog.finite.threads import parallel
from tensorprog.ir.expr import ONE, ZERO, evaluate
from tensorprog.ir.program import Differentiated, Program
from tensorprog.verdict import NAMES, Validation

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]

FAR = 0.25
"""A network whose kernel in float32 is off by this part of its scale is out of the range of float32."""
LEAST_SEEDS, MOST_SEEDS = 8, 128
WIDTH, STUDY = 10_000, 1_000_000
"""The seeds of a width, and of a study, are so far apart."""
SEEDS_AT_ONCE = 16
"""Seeds that threads share between two reports of progress."""


@final
@dataclass(frozen=True, slots=True)
class Draw:
    """One network of finite width, rows (example, element) in the user's order.

    `outputs` [rows] (for a vector output [rows, dim]).  `nngp` [rows, rows] is the covariance of the
    outputs given all but the readout weights (or the plain product of the outputs when they are not linear
    in any weight); `ntk` [rows, rows] is the empirical tangent kernel.  Each is None unless asked for.
    `centre` [rows] are the outputs at the means of the readout weights, None where these are zero: the covariance
    over many networks is the mean of `nngp` and the covariance of `centre`.
    """

    outputs: Floats
    nngp: Floats | None
    ntk: Floats | None
    centre: Floats | None = None

    def quantity(self, kind: str) -> Floats:
        """"nngp", "ntk", or "value" for the outputs themselves."""
        found = {"nngp": self.nngp, "ntk": self.ntk, "value": self.outputs}[kind]
        assert found is not None
        return found


def study(
    program: Program,
    output: str,
    data: Dataset,
    limits: Mapping[str, tuple[Floats, Floats | float]],
    widths: Sequence[int],
    seeds: int,
    progress: Progress | None = None,
    *,
    gaussian: bool = False,
    random: bool = False,
    hint: str = "",
    rows: Sequence[str] = (),
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Validation:
    """Compares limits, {"nngp": (kernel, standard error), "ntk": ..., "value": ...}, with draws at every width.

    Kernels are [rows, rows], values [rows].  `gaussian` says that the limit of the outputs is, so that their law is
    compared with N(0, nngp), too; `random` that kernels of single networks do not converge, but their means.  The
    probability of calling a right limit wrong, LEVEL, is shared by all tests.
    Where the program has no gradient at finite width (step functions) the tangent kernel is left out, and the result
    says so; `hint` is what to say when the limit disagrees; `rows` are the names of the rows.  Studies of different
    `seed` have independent networks.  Raises TensorProgError where float32 has not the range for a network.
    """
    tell = progress or (lambda message, fraction: None)
    want = tuple(limits)
    failure = ""
    if "ntk" in want:
        try:
            with np.errstate(all="ignore"):
                draw(program, output, data, min(widths), 0, want, dtype)
        except TensorProgError as error:
            failure = error.diagnostics[0].message
            want = tuple(w for w in want if w != "ntk")
    _check_range(program, output, data, min(widths), want, dtype)
    draws = _draws(partial(draw, program, output, data, want=want, dtype=dtype), widths, seeds, seed * STUDY, tell)
    readout = readout_weights(program, output)
    draws = {w: _centred(ds, readout) for w, ds in draws.items()}
    gaussian = gaussian and "nngp" in want and bool(readout)
    level = LEVEL / max(1, len(want) + gaussian)
    found = {kind: convergence(limits[kind][0], {w: [d.quantity(kind) for d in ds] for w, ds in draws.items()},
                               limits[kind][1], level, rows, random=random) for kind in want}
    outputs = {w: np.array([d.outputs for d in ds]) for w, ds in draws.items()}
    return Validation(found, law(limits["nngp"][0], outputs, limits["nngp"][1], level) if gaussian else None,
                      failure, hint, tuple(rows))


def _centred(draws: list[Draw], readout: frozenset[str]) -> list[Draw]:
    """The draws about the mean of their outputs, with the covariance of the centres in the kernels of each."""
    if draws[0].centre is None:
        return draws
    about = centred(np.array([d.centre for d in draws]))
    outputs = centred(np.array([d.outputs for d in draws]))
    return [replace(d, outputs=f, nngp=np.outer(a, a) + (d.nngp if readout else 0.0))
            for d, f, a in zip(draws, outputs, about, strict=True)]


def _draws(
    one: Callable[[int, int], Draw], widths: Sequence[int], seeds: int, first: int, tell: Progress
) -> dict[int, list[Draw]]:
    """Independent seeds at every width; the time of a draw grows like the square of the width."""
    total = sum(w**2 for w in widths) * seeds
    done = 0
    draws: dict[int, list[Draw]] = {}
    for k, width in enumerate(sorted(widths)):
        draws[width] = []
        for start in range(0, seeds, SEEDS_AT_ONCE):
            tell(f"simulating width {width}", done / total)
            chosen = [first + WIDTH * k + seed for seed in range(start, min(seeds, start + SEEDS_AT_ONCE))]
            draws[width] += parallel(partial(one, width), chosen)
            done += len(chosen) * width**2
    tell("simulated", 1.0)
    return draws


# ---------------------------------------------------------------- one draw


def draw(
    program: Program, output: str, data: Dataset, width: int, seed: int, want: Sequence[str] = ("nngp", "ntk"),
    dtype: DTypeLike = np.float32,
) -> Draw:
    """The program at one width (of its first width; others in their ratios) with one draw of the weights.

    Raises TensorProgError where simulation does.
    """
    widths = widths_at(program, width, data.sizes())
    return measured(program, output, data, draw_weights(program, data.sizes(), widths, seed, dtype), want)


def _check_range(
    program: Program, output: str, data: Dataset, width: int, want: Sequence[str], dtype: DTypeLike
) -> None:
    """Raises TensorProgError where a network of float64 is another one once its weights are of this type."""
    if np.dtype(dtype) == np.float64:
        return
    exact = draw_weights(program, data.sizes(), widths_at(program, width, data.sizes()), 0, np.float64)
    with np.errstate(all="ignore"):
        values = {name: w.astype(dtype) for name, w in exact.values.items()}
        rough = measured(program, output, data, replace(exact, values=values, dtype=np.dtype(dtype)), want)
        fine = measured(program, output, data, exact, want)
        for kind in want:
            if _is_far(rough.quantity(kind), fine.quantity(kind)):
                raise fail(f"in float32 the {NAMES[kind]} of a network is not what it is in float64: numbers overflow, "
                           "underflow or cancel", hint="simulate in float64: dtype='float64', or --dtype float64")


def _is_far(found: Floats, right: Floats) -> bool:
    """Whether entries are wrong by a part FAR of their scale, sqrt(K_ii K_jj) in a kernel K."""
    if right.ndim == 2:
        roots = np.sqrt(np.abs(np.diag(right)))
        scale = np.outer(roots, roots)
    else:
        scale = np.full_like(right, np.abs(right).max())
    return bool(np.isfinite(right).all() and not (np.abs(found - right) <= FAR * scale).all())


def measured(
    program: Program, output: str, data: Dataset, network: Network, want: Sequence[str] = ("nngp", "ntk"),
    memory: int | None = None,
) -> Draw:
    """Outputs and kernels of one network, holding at most `memory` bytes of arrays at once.

    Raises TensorProgError where simulation does.
    """
    groups = [Group(g.sizes, g.batch) for g in data.groups]
    if program.var(program.output(output).var).dim is not None:
        return _vector_draw(measure(program, network, groups, memory), output, data)
    if not {"nngp", "ntk"} & set(want):
        return _plain_draw(measure(program, network, groups, memory), output, data)
    readout = readout_weights(program, output)
    result = measure(_simulated(program, output, readout, "ntk" in want), network, groups, memory)
    outputs = np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in result.outputs[output]])
    order = row_order(result.rows, data)
    nngp = np.outer(outputs, outputs) if not readout else _conditional(result, program, readout)
    ntk = _tangent(result, program)[np.ix_(order, order)] if "ntk" in want else None
    centre = _centre(program, output, data, network, readout, memory) if "nngp" in want else None
    return Draw(outputs[order], nngp[np.ix_(order, order)], ntk, centre)


def _centre(
    program: Program, output: str, data: Dataset, network: Network, readout: frozenset[str], memory: int | None
) -> Floats | None:
    """The outputs at the means of the readout weights; None where that is zero."""
    if not has_centre(program, output, readout):
        return None
    means = {w.name: float(evaluate(w.mean, network.env)) for w in program.weights if w.name in readout}
    values = {n: np.full_like(v, means[n]) if n in readout else v for n, v in network.values.items()}
    groups = [Group(g.sizes, g.batch) for g in data.groups]
    return _plain_draw(measure(program, replace(network, values=values), groups, memory), output, data).outputs


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


def _plain_draw(result: Simulation, output: str, data: Dataset) -> Draw:
    """The outputs alone."""
    parts = [np.asarray(a, dtype=np.float64) for a in result.outputs[output]]
    order = row_order(numbered_rows([a.shape[:2] for a in parts]), data)
    return Draw(np.concatenate([a.ravel() for a in parts])[order], None, None)


def _vector_draw(result: Simulation, output: str, data: Dataset) -> Draw:
    """A vector output h: <h, h'> / dim."""
    parts = [np.asarray(a, dtype=np.float64) for a in result.outputs[output]]
    rows = numbered_rows([a.shape[:2] for a in parts])
    vectors = np.concatenate([a.reshape(-1, a.shape[-1]) for a in parts])[row_order(rows, data)]
    return Draw(vectors, vectors @ vectors.T / vectors.shape[1], None)


def row_order(rows: NDArray[np.int64], data: Dataset) -> NDArray[np.int64]:
    """The permutation that brings rows (group, example, element) into the user's order of examples."""
    position = np.array([data.groups[g].rows[e] for g, e, _ in rows], dtype=np.int64)
    return np.lexsort((rows[:, 2], position))


# ---------------------------------------------------------------- what fits into a time


def affordable_widths(
    program: Program, output: str, data: Dataset, seconds: float, widths: Sequence[int] | None = None,
    dtype: DTypeLike = np.float32,
) -> tuple[tuple[int, ...], int]:
    """Four widths, each twice the one before (or `widths`), and how many seeds of each fit into `seconds`.

    The smallest and the largest network are timed; time grows with some power of the width in between.
    """
    for first in (min(widths),) if widths else (16, 32, 64):
        chosen = tuple(widths or (first * 2**k for k in range(4)))
        times = [_time_of(program, output, data, width, dtype) for width in (min(chosen), max(chosen))]
        cost = len(chosen) * (times[0] + times[1]) / 2
        if 2 * cost * MOST_SEEDS > seconds:  # the next widths would have too few seeds
            break
    return chosen, min(MOST_SEEDS, max(LEAST_SEEDS, int(seconds / cost)))


def _time_of(program: Program, output: str, data: Dataset, width: int, dtype: DTypeLike) -> float:
    want = ("nngp",) if program.var(program.output(output).var).dim is not None else ("nngp", "ntk")
    try:
        draw(program, output, data, min(width, 16), 0, want, dtype)  # loads libraries
        start = time.perf_counter()
        draw(program, output, data, width, 1, want, dtype)
    except TensorProgError:  # no gradient at finite width
        start = time.perf_counter()
        draw(program, output, data, width, 1, ("nngp",), dtype)
    return time.perf_counter() - start
