"""Kernels by sampling the Z variables themselves: every program, exact in the width, with a standard error.

Every wide vector of the limit program is M draws of its Z, for all examples jointly; matrix products are
Gaussian families drawn step by step, with covariances E[Z^h Z^h'] taken from the draws themselves; scalars
are means over draws, or numbers drawn once where they stay random.  Kernels are then means over draws
(Tensor Programs I-III; arXiv 1910.12478, 2006.14548, 2009.10685).  Replicates are independent, which gives
the standard error; what remains besides is a bias of order 1/M.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.evaluate.sampling_inners import Laws, is_fresh
from tensorprog.evaluate.sampling_output import leaves_of, output_covariance, roots_of
from tensorprog.evaluate.sampling_plan import plan_of
from tensorprog.evaluate.sampling_products import not_finite
from tensorprog.evaluate.sampling_program import Sampler, sampler
from tensorprog.evaluate.sampling_run import Draw
from tensorprog.finite.forward import Group, State
from tensorprog.finite.gram import gradient_gram
from tensorprog.finite.plan import Plan
from tensorprog.finite.weights import Network
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import MatMul
from tensorprog.ir.tables import count
from tensorprog.limit.analyse import Limit, TrainedWeight

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = dict[str, Floats]


@final
@dataclass(frozen=True, slots=True)
class Sampled:
    """Kernels over all examples jointly, [N * outputs, N * outputs], and their standard errors.

    Rows are example-major (in the order of the data set's rows), then elements of the output.  A kernel that
    does not exist or was not wanted is None.  `scalars` holds an output that is deterministic in the limit,
    [N * outputs], under its name.
    """

    nngp: Floats | None
    nngp_se: Floats | None
    ntk: Floats | None
    ntk_se: Floats | None
    scalars: dict[str, tuple[Floats, Floats]]


def sample(
    limit: Limit,
    dataset: Dataset,
    samples: int,
    replicates: int,
    seed: int,
    progress: Callable[[str, float], None] | None = None,
    want: Sequence[str] = ("nngp", "ntk"),
) -> Sampled:
    """The kernels of an output as means over `replicates` independent runs of `samples` draws each.

    Where scalars inside the network stay random, each replicate is one draw of them, and the same number of draws is
    spent on more replicates (`split`).  `progress(message, fraction)` is called after each replicate.

    Raises TensorProgError when the limit needs the derivative of a step function, or is not finite.
    """
    problem = Problem(limit, dataset, tuple(want))
    if problem.random:
        samples, replicates = split(samples, replicates)
    plans = problem.plans(samples)
    runs = []
    for k in range(replicates):
        runs.append(problem.replicate(plans, samples, np.random.SeedSequence([seed, k])))
        if progress is not None:
            progress("sampling", (k + 1) / replicates)
    return _summary(runs, limit)


def split(samples: int, replicates: int) -> tuple[int, int]:
    """As many draws in all, as about equally many samples and replicates: the samples a power of two, at least 64."""
    total = samples * replicates
    size = min(samples, max(64, 1 << round(math.log2(total) / 2)))
    return size, max(replicates, total // size)


def _summary(runs: Sequence[Values], limit: Limit) -> Sampled:
    means = {name: np.mean([r[name] for r in runs], axis=0) for name in runs[0]}
    errors = {
        name: np.std([r[name] for r in runs], axis=0, ddof=min(1, len(runs) - 1)) / math.sqrt(len(runs))
        for name in runs[0]
    }
    scalars = {limit.output: (means["scalar"], errors["scalar"])} if "scalar" in means else {}
    return Sampled(means.get("nngp"), errors.get("nngp"), means.get("ntk"), errors.get("ntk"), scalars)


class Problem:
    """What has to be computed for one limit and data set, whatever the draws."""

    def __init__(self, limit: Limit, dataset: Dataset, want: tuple[str, ...]) -> None:
        self.limit, self.dataset, self.want = limit, dataset, want
        self.sizes = dataset.sizes()
        self.trained = limit.trained if "ntk" in want else ()
        self.groups = tuple(Group(g.sizes, g.batch) for g in dataset.groups)
        self.order = _order(limit, dataset)
        self.laws = Laws(limit, self.sizes)
        self.inside = frozenset(n for t in self.trained for u in t.uses for n in (u.row, u.col) if n is not None)
        self.leaves = self._leaves()
        self.roots = self.inside | self._output_roots()
        self.random = any(self._draws(i.var.name) for i in self.sampler(1).program.instrs)

    def _leaves(self) -> frozenset[str] | None:
        """The leaves of an output that need not be drawn: linear in random scalars that nothing else reads."""
        leaves = leaves_of(self.limit)
        if leaves is None:
            return None
        chosen = sampler(self.limit, self.inside | roots_of(self.limit), 1)
        return None if leaves & {i.var.name for i in chosen.program.instrs} else leaves

    def _output_roots(self) -> frozenset[str]:
        if self.limit.output_var in self.limit.random and "nngp" not in self.want:
            return frozenset()
        return roots_of(self.limit) if self.leaves else frozenset([self.limit.output_var])

    def _draws(self, name: str) -> bool:
        instr = self.limit.program.instr(name)
        return is_fresh(self.limit, name) or (isinstance(instr.op, MatMul) and instr.var.dim is None)

    def sampler(self, samples: int) -> Sampler:
        """The program that is sampled."""
        return sampler(self.limit, self.roots, samples)

    def plans(self, samples: int) -> tuple[Sampler, tuple[Plan, ...]]:
        """The program that is sampled and its plan for every group."""
        chosen = self.sampler(samples)
        return chosen, tuple(plan_of(chosen, g.sizes) for g in self.groups)

    # ------------------------------------------------------------ one replicate

    def replicate(self, plans: tuple[Sampler, tuple[Plan, ...]], samples: int, seed: np.random.SeedSequence) -> Values:
        """Kernels and scalars from one independent draw."""
        network = Network(dict(self.sizes), {}, {}, np.dtype(np.float64))
        states = [State(plan, network, g) for plan, g in zip(plans[1], self.groups, strict=True)]
        draw = Draw(self.limit, plans[0], self.laws, states, samples, seed)
        with np.errstate(all="ignore"):
            draw.run(self.roots)
            found = self._output(states)
            if "ntk" in self.want and not self.limit.is_vector:
                found["ntk"] = self._ntk(states, samples)
        if not all(np.isfinite(value).all() for value in found.values()):
            raise not_finite(self.limit.program.instr(self.limit.output_var))
        wanted = {name: value for name, value in found.items() if name in (*self.want, "scalar")}
        return {name: v[self.order] if v.ndim == 1 else v[np.ix_(self.order, self.order)] for name, v in wanted.items()}

    def _output(self, states: Sequence[State]) -> Values:
        name = self.limit.output_var
        if name in self.limit.random and "nngp" not in self.want:
            return {}
        if self.limit.is_vector:
            return {"nngp": _moments(name, states)}
        power = self.limit.powers[name]
        if power is None or power < 0:
            return {"nngp": np.zeros((len(self.order), len(self.order)))}
        if self.leaves is not None:
            return {"nngp": output_covariance(self.limit, self.leaves, states, self.laws)}
        values = np.concatenate([state.value(name).T.ravel() for state in states])
        return {"nngp": np.outer(values, values)} if name in self.limit.random else {"scalar": values}

    def _ntk(self, states: Sequence[State], samples: int) -> Floats:
        outputs = [count(self.limit.program.var(self.limit.output_var).axes, s.env) for s in states]
        sizes = [n * s.group.examples for n, s in zip(outputs, states, strict=True)]
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        parts = (self._part(t, samples) * gradient_gram(t.uses, states, firsts, sum(sizes)) for t in self.trained)
        return sum(parts, np.zeros((sum(sizes), sum(sizes))))

    def _part(self, trained: TrainedWeight, samples: int) -> float:
        """The scale of the part of a weight, over the draws that its Gram matrix sums."""
        weight = self.limit.program.weight(trained.weight)
        wide = sum(d is not None and d.wide for d in (weight.rows, weight.cols))
        return float(evaluate(trained.scale, self.sizes)) / float(samples) ** wide


def _moments(name: str, states: Sequence[State]) -> Floats:
    """E[Z Z'] of a vector, samples group by group, example by example."""
    values = np.concatenate([np.swapaxes(s.value(name), 0, 1).reshape(-1, s.value(name).shape[-1]) for s in states])
    result: Floats = values @ values.T / values.shape[1]
    return result


def _order(limit: Limit, dataset: Dataset) -> Ints:
    """For every row of the result, in the order of the data set, where it stands group by group."""
    axes = limit.program.var(limit.output_var).axes
    keys = [np.repeat(g.rows, count(axes, g.sizes)) for g in dataset.groups]
    order: Ints = np.argsort(np.concatenate(keys), kind="stable")
    return order
