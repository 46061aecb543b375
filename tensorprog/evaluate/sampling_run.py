"""One draw of a limit program: all groups of examples, step after step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.evaluate.sampling_factor import Draws, Floats, Innovations
from tensorprog.evaluate.sampling_inners import Laws, RandomInners, is_fresh, rows_of
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_products import Products
from tensorprog.evaluate.sampling_program import Sampler, leaf_of
from tensorprog.evaluate.sampling_record import DIRECT, Direct
from tensorprog.evaluate.sampling_sums import Sums
from tensorprog.evaluate.sampling_terms import Class, Matrix, NotIntegrable, classes_of
from tensorprog.evaluate.sampling_values import Value, Values
from tensorprog.finite.plan import Plan
from tensorprog.finite.products import take
from tensorprog.finite.state import State
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, Linear, MatMul, Program, operands
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import count
from tensorprog.limit.analyse import Limit

Seed = np.random.SeedSequence

RANK = 1e-10
"""Relative eigenvalues below it count as zero in regressions."""


@final
@dataclass(frozen=True, slots=True)
class Split:
    """Which matrices are drawn, and the classes of the others (a matrix alone when not named).

    Of the classes in `sums` only sums are needed, which are drawn; the rest is integrated.
    """

    drawn: frozenset[Matrix]
    classes: Mapping[Matrix, Class]
    sums: frozenset[Class] = frozenset()

    def of(self, matrix: Matrix) -> Class:
        """The class of a matrix."""
        return self.classes.get(matrix, frozenset([matrix]))

    @property
    def every_drawn(self) -> frozenset[Matrix]:
        """The matrices that are not integrated."""
        return self.drawn.union(*self.sums)

    def with_drawn(self, matrices: frozenset[Matrix]) -> Split:
        """These are not integrated: classes of several are drawn as sums; where that has failed, each by itself."""
        classes = {self.of(m) for m in matrices}
        new = frozenset(c for c in classes if len(c) > 1 and c not in self.sums and not c & self.drawn)
        alone = frozenset[Matrix]().union(*(classes - new))
        return Split(self.drawn | alone, self.classes, (self.sums | new) - classes.difference(new))

    def with_joined(self, matrices: frozenset[Matrix]) -> Split:
        """These are one class."""
        return Split(self.drawn, {**self.classes, **dict.fromkeys(matrices, matrices)}, self.sums)


def matrices_of(program: Program) -> frozenset[Matrix]:
    """The matrices and vectors that have Gaussian families."""
    ops = (i.op for i in program.instrs if i.var.dim is not None)
    return frozenset((op.weight, op.transposed) for op in ops if isinstance(op, MatMul))


@final
@dataclass(frozen=True, slots=True)
class Streams:
    """The random numbers of independent runs: their innovations, `samples` at a time, and those of scalars."""

    samples: int
    innovations: tuple[Innovations, ...]
    rng: np.random.Generator

    @property
    def draws(self) -> list[Draws]:
        """The next rows of every run."""
        return [stream.of for stream in self.innovations]


def streams(samples: int, expected: int, seeds: Sequence[Seed], turn: Floats | None) -> Streams:
    """Those of these seeds; see `Innovations`."""
    vectors, numbers = ([Seed(s.entropy, spawn_key=(*s.spawn_key, k)) for s in seeds] for k in range(2))
    innovations = tuple(Innovations(samples, expected, seed, turn) for seed in vectors)
    return Streams(samples, innovations, np.random.default_rng(numbers[0]))


class Draw:
    """The Gaussian families so far, shared by the groups; their values live in `groups`.

    Every stream is a run of its own; several are computed together where there are no scalars.  A `dry` draw computes
    nothing, it finds out whether the split is possible.
    """

    def __init__(
        self, limit: Limit, chosen: Sampler, laws: Laws, split: Split, states: Sequence[State], numbers: Streams,
        dry: bool = False, arrays: Direct = DIRECT,
    ) -> None:
        self.limit, self.chosen, self.split, self.samples = limit, chosen, split, numbers.samples
        examples, runs = [s.group.examples for s in states], len(numbers.innovations)
        self.integrals = Integrals(examples, dry, split.sums, self.samples, runs, arrays)
        self.draws: Sequence[Draws] = arrays.given(numbers.draws)
        sums = Sums(split.sums, self.integrals, self.samples, self.draws)
        self.groups = [Values(g, s, self.integrals, limit.roles, sums) for g, s in enumerate(states)]
        self.rng = numbers.rng
        self.products: dict[Matrix, Products] = {}
        self.inners = RandomInners(laws, self.integrals, self.rng)

    def run(self, keep: Collection[str]) -> None:
        """Computes all steps of all groups.  Families that `keep` does not name are freed after their last use."""
        for values in self.groups:
            steps = values.state.plan.steps
            dying = last_uses(steps, keep, self.chosen.regressions)
            for step, dead in zip(steps, dying, strict=True):
                values.store(step, self.compute(step, values))
                for name in dead:
                    values.forget(name)

    def compute(self, step: Step, values: Values) -> Value:
        """The elements of one step."""
        op, name = step.instr.op, step.instr.var.name
        if isinstance(op, MatMul):
            return self._product(step, values, op)
        if not isinstance(op, Inner):
            return values.compute(step)
        if name in self.chosen.regressions:
            return self._regression(step, values)
        if is_fresh(self.limit, name):
            return self.inners.draw(rows_of(step, values)).reshape(len(step.elements), values.state.group.examples)
        return self._mean(step, values, op)

    def _product(self, step: Step, values: Values, op: MatMul) -> Value:
        matrix = (op.weight, op.transposed)
        scalar = step.instr.var.dim is None
        integrated = not scalar and matrix not in self.split.drawn
        if matrix not in self.products:
            samples = 1 if scalar else self.samples
            self.products[matrix] = Products(matrix, self.integrals, None if integrated else samples)
        products = self.products[matrix]
        gain = float(evaluate(self.limit.gains[step.instr.var.name], values.state.env))
        if scalar:
            return products.draw(step, values, gain, [lambda _: self._numbers])[..., 0]
        if integrated:
            return products.integrate(step, values, gain, self.split.of(matrix))
        return products.draw(step, values, gain, self.draws)

    def _numbers(self, count: int) -> Floats:
        numbers: Floats = self.rng.standard_normal((count, 1))
        return numbers

    def _mean(self, step: Step, values: Values, op: Inner) -> Floats:
        """E of left * right; for known numbers their dot product."""
        total = self._total(step, values, op)
        scale = evaluate(self.limit.inners[step.instr.var.name], {**values.state.env, **values.state.plan.index(step)})
        result: Floats = total * np.reshape(np.asarray(scale, dtype=np.float64), (-1, 1))
        return result

    def _total(self, step: Step, values: Values, op: Inner) -> Floats:
        plan, g = values.state.plan, values.group
        left, at = np.unique(plan.elements(step, op.left), return_inverse=True)
        dim = values.state.plan.program.var(op.left.var).dim
        if op.right is None:
            if dim is not None and not dim.wide:
                return np.asarray(take(values.state.value(op.left.var), left).sum(-1)[at], dtype=np.float64)
            return self.integrals.mean(values.read(op.left.var, left), len(left), g)[at]
        if not {op.left.var, op.right.var} & values.parts.keys():
            pair = [take(values.state.value(r.var), plan.elements(step, r)) for r in (op.left, op.right)]
            total: Floats = np.einsum("ked,ked->ke", *pair)
            return total / self.samples if dim is not None and dim.wide else total
        right, to = np.unique(plan.elements(step, op.right), return_inverse=True)
        sides = values.vectors(op.left.var, left), values.vectors(op.right.var, right)
        (moments,) = self.integrals.moment(sides[0], len(left), g, sides[1], len(right), g)
        every = np.arange(values.state.group.examples)
        paired = moments.reshape(len(left), len(every), len(right), len(every))
        found: Floats = paired[at[:, None], every, to[:, None], every]
        return found

    # ------------------------------------------------------------ dot Z by regression

    def _regression(self, step: Step, values: Values) -> Floats:
        """R[i, j]: the least squares coefficients of target i on the hats j drawn so far, for every example."""
        target, leaves = self.chosen.regressions[step.instr.var.name]
        parts = [b for name in (target, *leaves) for b in values.parts.get(name, ())]
        if classes_of(tuple(parts)):
            raise NotIntegrable(classes_of(tuple(parts)))
        state = values.state
        sizes = [len(state.value(leaf)) for leaf in leaves]
        own = leaves.index(leaf_of(step.instr))
        i, j = np.divmod(step.elements, sizes[own])
        if self.integrals.dry:
            return np.ones((len(step.elements), state.group.examples))
        rows, at = np.unique(i, return_inverse=True)
        hats = np.concatenate([state.value(leaf) for leaf in leaves]).swapaxes(0, 1)
        targets = state.value(target)[rows].swapaxes(0, 1)
        inverse = np.linalg.pinv(hats @ hats.swapaxes(1, 2), rcond=RANK, hermitian=True)
        coefficients: Floats = inverse @ (hats @ targets.swapaxes(1, 2))
        return coefficients[:, sum(sizes[:own]) + j, at].T


def directions(plan: Plan, examples: int, split: Split, roles: Mapping[str, str]) -> int:
    """At most so many directions can be new in the Gaussian families of a group that are drawn."""
    total, members = 0, set[str]()
    for i in plan.program.instrs:
        if isinstance(i.op, MatMul) and i.var.dim is not None:
            matrix = (i.op.weight, i.op.transposed)
            if matrix in split.drawn:
                total += count(i.var.axes, plan.env) * (1 if i.op.operand is None else examples)
            elif split.of(matrix) in split.sums:
                members.add(i.var.name)
    for i in plan.program.instrs:
        if isinstance(i.op, Linear) and roles[i.var.name] == "G-var" and members.intersection(operands(i.op)):
            total += count(i.var.axes, plan.env) * examples
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
