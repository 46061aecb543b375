"""Kernels by sampling the Z variables: every program, exact in the width, with a standard error.

Wide vectors of the limit program are M draws of their Z, for all examples jointly; matrix products are Gaussian
families drawn step by step, with covariances E[Z^h Z^h'] taken from the draws themselves; scalars are means over draws,
or numbers drawn once where they stay random.  Kernels are then means over draws (Tensor Programs I-III; arXiv
1910.12478, 2006.14548, 2009.10685).  Families that enter through closed or numerical expectations alone are integrated
instead of drawn (`sampling_terms`).  Replicates are independent, which gives the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.evaluate.options import Options
from tensorprog.evaluate.sampling_accuracy import FIRST, MOST, Effort, relative_error, split
from tensorprog.evaluate.sampling_problem import Found, Known, Problem, Replicate, Seed
from tensorprog.evaluate.sampling_terms import NotIntegrable
from tensorprog.finite.threads import crew, parallel, workers
from tensorprog.limit.analyse import Limit
from tensorprog.symbolic.expectation import Expectation

Floats = NDArray[np.float64]

WORTH_TURNING = 16 * FIRST
"""So many draws in all are worth a run that finds directions."""

FEW, SMALL = 1 << 14, 1 << 21
"""Draws in all that one thread computes faster as one than several do apart, with a BLAS of one thread; and numbers in
a replicate that is computed by itself, below which threads wait for one another's Python."""

PILOT = 1 << 16
"""The number of the attempt that finds them."""


@final
@dataclass(frozen=True, slots=True)
class Sampled:
    """Kernels over all examples jointly, [N * outputs, N * outputs], and their standard errors.

    Rows are example-major (in the order of the data set's rows), then elements of the output.  A kernel that
    does not exist or was not wanted is None.  `scalars` holds an output that is deterministic in the limit,
    [N * outputs], under its name.  `drawn` names the weights that were drawn, `integrated` are the expectations
    that were not, with their errors; `notes` say what was not reached.
    """

    nngp: Floats | None
    nngp_se: Floats | None
    ntk: Floats | None
    ntk_se: Floats | None
    scalars: dict[str, tuple[Floats, Floats]]
    drawn: tuple[str, ...]
    integrated: tuple[tuple[Expectation, float], ...]
    notes: tuple[str, ...] = ()

    def relative_error(self) -> float:
        """The largest standard error over the scale of its kernel."""
        pairs = ((self.nngp, self.nngp_se), (self.ntk, self.ntk_se), *self.scalars.values())
        return max((relative_error(k, se) for k, se in pairs if k is not None and se is not None), default=0.0)


def sample(
    limit: Limit, dataset: Dataset, options: Options, want: Sequence[str], kept: dict[Hashable, Known] | None = None
) -> Sampled:
    """The kernels of an output as means over independent replicates.

    Tier "sampling" draws everything, "auto" only what cannot be integrated.  Without an accuracy there are
    `options.replicates` runs of `options.samples` draws each; where scalars inside the network stay random, each
    replicate is one draw of them, and the same number of draws is spent on more replicates (`split`).  `kept` is what
    earlier calls for the same limit have found out.

    Raises TensorProgError when the limit needs the derivative of a step function, or is not finite.
    """
    with np.errstate(all="ignore"):  # what is not finite is told as an error
        problem = Problem(limit, dataset, tuple(want), options.tier == "auto", {} if kept is None else kept)
        return _sample(problem, options)


def _sample(problem: Problem, options: Options) -> Sampled:
    effort = Effort(options.samples, options.replicates)
    if options.accuracy is None:
        effort = split(effort) if problem.random else effort
        if _turns(problem, effort):
            problem.turn = _runs(problem, Effort(FIRST, 1), options, "sampling", PILOT)[0].turn
        return _summary(_runs(problem, effort, options, "sampling", 0), problem)
    effort = Effort(min(effort.samples, FIRST, problem.longest), effort.replicates)
    runs: list[Replicate] = []
    attempt = 0
    while True:
        runs = _runs(problem, effort, options, f"sampling, {effort}", attempt, runs)
        found = _summary(runs, problem)
        error = found.relative_error()
        if error <= options.accuracy:
            return found
        if effort.work >= MOST:
            note = f"the accuracy {options.accuracy:g} is not reached: {error:.1e} after {effort}"
            return replace(found, notes=(note,))
        grown = effort.grown(error / options.accuracy, problem.random, problem.longest)
        if turns := _turns(problem, grown):
            problem.turn = runs[0].turn
        runs = [] if turns or grown.samples > effort.samples else runs
        effort, attempt = grown, attempt + 1


def _turns(problem: Problem, effort: Effort) -> bool:
    """Whether directions should be found before so much is drawn."""
    return problem.turn is None and problem.turns and effort.draws >= WORTH_TURNING


def _by_one_thread(problem: Problem, samples: int, replicates: int) -> bool:
    """Whether threads do not pay."""
    return samples * replicates <= FEW or (not problem.separable and problem.held(samples) <= SMALL)


def _batches(problem: Problem, samples: int, left: range) -> list[range]:
    """The next replicates, those that are computed together, for every thread."""
    shared = 1 if _by_one_thread(problem, samples, len(left)) else workers()
    rounds = -(-len(left) // (shared * problem.together(samples)))
    size = -(-len(left) // (shared * rounds))  # all rounds alike: none ends with one thread at work
    alone = size == 1 and not left.start  # the first one tells what fails
    threads = 1 if alone else min(shared, problem.abreast(samples))
    return [left[k : k + size] for k in range(0, len(left), size)][:threads]


def _runs(
    problem: Problem, effort: Effort, options: Options, message: str, attempt: int, known: Sequence[Replicate] = ()
) -> list[Replicate]:
    """Independent replicates, of which the first are known; one is enough where nothing is drawn.

    No two attempts have draws in common.
    """
    runs = list(known)
    total = 1 if problem.exact else effort.replicates

    def replicates(numbers: Sequence[int]) -> list[Replicate]:
        with np.errstate(all="ignore"):  # of the thread
            seeds = [Seed([options.seed, number, attempt]) for number in numbers]
            return problem.replicates(effort.samples, seeds)

    few = _by_one_thread(problem, effort.samples, total - len(runs))
    while len(runs) < total:
        try:
            with crew() if few else nullcontext():
                runs += chain(*parallel(replicates, _batches(problem, effort.samples, range(len(runs), total))))
        except NotIntegrable as failed:  # a quadrature is not accurate at the covariances that came up
            problem.draw_also(failed.matrices)
            runs = []
        if options.progress is not None:
            options.progress(message, len(runs) / total)
    return runs


def _with_kernels(found: Sequence[Found], problem: Problem) -> Sequence[Found]:
    """Outputs that were drawn give their products, about the mean of all where they have one."""
    if "output" not in found[0]:
        return found
    outputs = np.stack([f["output"] for f in found])
    order = problem.limit.orders.of[problem.limit.output_var]
    outputs = centred(outputs) if order.characters.has_mean else outputs
    return [{**f, "nngp": np.outer(o, o)} for f, o in zip(found, outputs, strict=True)]


def centred(outputs: Floats) -> Floats:
    """Draws [S, N] about their mean, so that the mean of their products is the covariance without a bias."""
    draws = len(outputs)
    return np.asarray((outputs - outputs.mean(axis=0)) * math.sqrt(draws / max(1, draws - 1)))


def _summary(runs: Sequence[Replicate], problem: Problem) -> Sampled:
    """Means over replicates and their standard errors."""
    found = _with_kernels([r.found for r in runs], problem)
    names = [name for name in found[0] if name != "output"]
    means = {name: np.mean([f[name] for f in found], axis=0) for name in names}
    errors = {
        name: np.std([f[name] for f in found], axis=0, ddof=min(1, len(runs) - 1)) / math.sqrt(len(runs))
        for name in names
    }
    scalars = {problem.limit.output: (means["scalar"], errors["scalar"])} if "scalar" in means else {}
    worst: dict[int, tuple[Expectation, float]] = {}
    for expectation, error in (pair for r in runs for pair in r.integrated):
        worst[id(expectation)] = expectation, max(error, worst.get(id(expectation), (expectation, 0.0))[1])
    drawn = tuple(sorted({weight for weight, _ in problem.split.every_drawn}))
    return Sampled(
        means.get("nngp"), errors.get("nngp"), means.get("ntk"), errors.get("ntk"), scalars, drawn,
        tuple(worst.values()),
    )
