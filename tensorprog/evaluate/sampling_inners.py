"""Inner products that stay random: Gaussian scalars s = <u, v> / sqrt(n) whose mean vanishes by a symmetry.

    Cov(s, t) = coef coef' E[u u'' v v''],   t = <u'', v''>,

and where the vectors u, u'' share no Gaussian group with v, v'' it is E[u u''] E[v v''], which has less noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.evaluate.sampling_factor import Factor, Floats, Ints
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_terms import Terms, product, sampled
from tensorprog.evaluate.sampling_values import Values
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, MatMul, Program
from tensorprog.ir.schedule import Step
from tensorprog.limit.analyse import Limit
from tensorprog.limit.parity import CONSTANT, Characters
from tensorprog.limit.responses import dependence


def is_fresh(limit: Limit, name: str) -> bool:
    """Whether the scalar is an inner product that is random by itself (not only through random operands)."""
    order = limit.orders.of[name]
    return isinstance(limit.program.instr(name).op, Inner) and order.random and order.characters.offset != 0


@final
@dataclass(frozen=True, slots=True)
class Law:
    """One family of random inner products: the groups of its two vectors and their sign symmetries."""

    left: frozenset[str]
    right: frozenset[str]
    characters: Characters
    scale: float


class Laws:
    """The laws of all random inner products of a limit; `scale` is evaluated at `sizes`."""

    def __init__(self, limit: Limit, sizes: Mapping[str, int]) -> None:
        self.limit, self.sizes = limit, sizes
        self.groups = gaussian_groups(limit.program)
        self.known: dict[str, Law] = {}

    def __getitem__(self, name: str) -> Law:
        if name not in self.known:
            self.known[name] = self._law(name)
        return self.known[name]

    def _law(self, name: str) -> Law:
        op = self.limit.program.instr(name).op
        assert isinstance(op, Inner)
        orders = self.limit.orders
        sides = [
            (CONSTANT, frozenset[str]()) if r is None else (orders.of[r.var].characters, self.groups[r.var])
            for r in (op.left, op.right)
        ]
        sign = np.sign(float(evaluate(orders.leading(op.coef).coef, self.sizes)))
        scale = sign * math.sqrt(float(evaluate(self.limit.inners[name], self.sizes)))
        return Law(sides[0][1], sides[1][1], sides[0][0].times(sides[1][0]), scale)


def gaussian_groups(program: Program) -> dict[str, frozenset[str]]:
    """For every vector the matrices (W or W.T) whose Gaussian families it is a function of."""

    def group(name: str) -> str:
        op = program.instr(name).op
        assert isinstance(op, MatMul)
        return f"{op.weight}{'.T' if op.transposed else ''}"

    return {v: frozenset(map(group, names)) for v, names in dependence(program.instrs).items()}


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """Elements of one random family for all examples of a group, element-major: the terms of the two vectors."""

    name: str
    group: int
    elements: int
    left: Terms
    right: Terms


def rows_of(step: Step, values: Values) -> Rows:
    """The rows of the elements of a step."""
    op, size = step.instr.op, len(step.elements)
    assert isinstance(op, Inner)
    sides = [
        sampled(np.ones((size, 1, 1))) if r is None else values.vectors(r.var, values.state.plan.elements(step, r))
        for r in (op.left, op.right)
    ]
    return Rows(step.instr.var.name, values.group, size, sides[0], sides[1])


def covariance(a: Rows, b: Rows, laws: Laws, integrals: Integrals) -> Floats:
    """Cov(s, t) for all pairs of rows, [runs, rows, rows']."""
    one, two = laws[a.name], laws[b.name]
    factor = one.scale * two.scale

    def moment(u: Terms, v: Terms) -> Floats:
        return integrals.moment(u, a.elements, a.group, v, b.elements, b.group)

    if not one.characters.times(two.characters).has_mean:
        sizes = (r.elements * integrals.examples[r.group] for r in (a, b))
        return np.zeros((integrals.runs, *sizes))
    if not (one.left | two.left) & (one.right | two.right):
        return factor * moment(a.left, b.left) * moment(a.right, b.right)
    if not (one.left | two.right) & (one.right | two.left):
        return factor * moment(a.left, b.right) * moment(a.right, b.left)
    return factor * moment(product(a.left, a.right), product(b.left, b.right))


class RandomInners:
    """The random inner products drawn so far, one number each."""

    def __init__(self, laws: Laws, integrals: Integrals, rng: np.random.Generator) -> None:
        self.laws, self.integrals, self.rng = laws, integrals, rng
        self.factor = Factor(1)
        self.known: list[Rows] = []
        self.pivots: Ints = np.zeros(0, dtype=np.int64)

    def draw(self, rows: Rows) -> Floats:
        """One draw of these, conditional on those before."""
        (own,) = covariance(rows, rows, self.laws, self.integrals)
        parts = [covariance(rows, p, self.laws, self.integrals)[0] for p in self.known]
        cross = np.concatenate([np.zeros((len(own), 0)), *parts], axis=1)
        self.known.append(rows)
        if self.integrals.dry:
            return np.ones(len(own))
        combinations, chosen = self.factor.combinations(
            own, cross[:, self.pivots], lambda count: self.rng.standard_normal((count, 1))
        )
        self.pivots = np.append(self.pivots, cross.shape[1] + chosen)
        values: Floats = combinations @ self.factor.innovations.values[:, 0]
        return values
