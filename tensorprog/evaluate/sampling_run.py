"""One draw of a limit program: all groups of examples, step after step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tensorprog.evaluate.sampling_factor import Floats, Innovations
from tensorprog.evaluate.sampling_inners import Laws, RandomInners, is_fresh, rows_of
from tensorprog.evaluate.sampling_products import Products
from tensorprog.evaluate.sampling_program import Sampler, leaf_of
from tensorprog.finite.forward import State, compute, take
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, MatMul, operands
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import count
from tensorprog.limit.analyse import Limit

Seed = np.random.SeedSequence

RANK = 1e-10
"""Relative eigenvalues below it count as zero in regressions."""


class Draw:
    """The Gaussian families drawn so far, shared by the groups; values live in the `states`."""

    def __init__(
        self, limit: Limit, chosen: Sampler, laws: Laws, states: Sequence[State], samples: int, seed: Seed
    ) -> None:
        self.limit, self.chosen, self.states, self.samples = limit, chosen, states, samples
        vectors, scalars = seed.spawn(2)
        self.innovations = Innovations(samples, sum(directions(s) for s in states), vectors)
        self.rng = np.random.default_rng(scalars)
        self.products: dict[tuple[str, bool], Products] = {}
        self.inners = RandomInners(laws, self.rng)

    def run(self, keep: Collection[str]) -> None:
        """Computes all steps of all groups.  Families that `keep` does not name are freed after their last use."""
        for state in self.states:
            dying = last_uses(state.plan.steps, keep, self.chosen.regressions)
            for step, dead in zip(state.plan.steps, dying, strict=True):
                state.store(step, self.compute(step, state))
                for name in dead:
                    state.values.pop(name, None)

    def compute(self, step: Step, state: State) -> Floats:
        """The elements of one step."""
        op, name = step.instr.op, step.instr.var.name
        if isinstance(op, MatMul):
            return self._product(step, state)
        if not isinstance(op, Inner):
            return np.asarray(compute(step, state), dtype=np.float64)
        if name in self.chosen.regressions:
            return self._regression(step, state)
        if is_fresh(self.limit, name):
            return self.inners.draw(rows_of(step, state)).reshape(len(step.elements), state.group.examples)
        return self._mean(step, state, op)

    def _product(self, step: Step, state: State) -> Floats:
        op = step.instr.op
        assert isinstance(op, MatMul)
        scalar = step.instr.var.dim is None
        products = self.products.setdefault((op.weight, op.transposed), Products(1 if scalar else self.samples))
        gain = float(evaluate(self.limit.gains[step.instr.var.name], state.env))
        if scalar:
            return products.draw(step, state, gain, lambda count: self.rng.standard_normal((count, 1)))[..., 0]
        return products.draw(step, state, gain, self.innovations.draw)

    def _mean(self, step: Step, state: State, op: Inner) -> Floats:
        """The mean over draws of left * right; for known numbers their dot product."""
        left = take(state.value(op.left.var), state.plan.elements(step, op.left))
        if op.right is None:
            total = left.sum(-1)
        else:
            total = np.einsum("ked,ked->ke", left, take(state.value(op.right.var), state.plan.elements(step, op.right)))
        dim = self.limit.program.var(op.left.var).dim
        norm = self.samples if dim is not None and dim.wide else 1
        scale = evaluate(self.limit.inners[step.instr.var.name], {**state.env, **state.plan.index(step)})
        result: Floats = total * np.reshape(np.asarray(scale, dtype=np.float64) / norm, (-1, 1))
        return result

    # ------------------------------------------------------------ dot Z by regression

    def _regression(self, step: Step, state: State) -> Floats:
        """R[i, j]: the least squares coefficients of target i on the hats j drawn so far, for every example."""
        target, leaves = self.chosen.regressions[step.instr.var.name]
        sizes = [len(state.value(leaf)) for leaf in leaves]
        own = leaves.index(leaf_of(step.instr))
        i, j = np.divmod(step.elements, sizes[own])
        rows, at = np.unique(i, return_inverse=True)
        hats = np.concatenate([state.value(leaf) for leaf in leaves]).swapaxes(0, 1)
        targets = state.value(target)[rows].swapaxes(0, 1)
        inverse = np.linalg.pinv(hats @ hats.swapaxes(1, 2), rcond=RANK, hermitian=True)
        coefficients: Floats = inverse @ (hats @ targets.swapaxes(1, 2))
        return coefficients[:, sum(sizes[:own]) + j, at].T


def directions(state: State) -> int:
    """At most so many directions can be new in the Gaussian families of a group."""
    total = 0
    for i in state.plan.program.instrs:
        if isinstance(i.op, MatMul) and i.var.dim is not None:
            total += count(i.var.axes, state.env) * (1 if i.op.operand is None else state.group.examples)
    return total


def last_uses(
    steps: Sequence[Step], keep: Collection[str], regressions: Mapping[str, tuple[str, tuple[str, ...]]]
) -> list[list[str]]:
    """After each step, the families that nothing reads any more.  A regression reads all leaves of its target."""
    last: dict[str, int] = {}
    for k, step in enumerate(steps):
        name = step.instr.var.name
        leaves = regressions[name][1] if name in regressions else ()
        last.update(dict.fromkeys((name, *operands(step.instr.op), *leaves), k))
    dying: list[list[str]] = [[] for _ in steps]
    for name, k in last.items():
        if name not in keep:
            dying[k].append(name)
    return dying
