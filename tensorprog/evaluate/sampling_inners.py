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
from tensorprog.finite.forward import State, take
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, MatMul, Program, Read
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
    """Elements of one random family: draws of the two vectors, [rows, M] each."""

    name: str
    left: Floats
    right: Floats

    def chosen(self, which: Ints) -> Rows:
        """Some of the rows."""
        return Rows(self.name, self.left[which], self.right[which])


def rows_of(step: Step, state: State) -> Rows:
    """The rows of the elements of a step for all examples, element-major."""
    op = step.instr.op
    assert isinstance(op, Inner)
    left = _flat(op.left, step, state)
    right = np.ones((1, 1)) if op.right is None else _flat(op.right, step, state)
    return Rows(step.instr.var.name, left, np.broadcast_to(right, left.shape))


def _flat(read: Read, step: Step, state: State) -> Floats:
    values = take(state.value(read.var), state.plan.elements(step, read))
    return np.asarray(values.reshape(-1, values.shape[-1]), dtype=np.float64)


def covariance(a: Rows, b: Rows, laws: Laws) -> Floats:
    """Cov(s, t) for all pairs of rows."""
    one, two = laws[a.name], laws[b.name]
    factor = one.scale * two.scale
    if not one.characters.times(two.characters).has_mean:
        return np.zeros((len(a.left), len(b.left)))
    if not (one.left | two.left) & (one.right | two.right):
        return factor * _mean(a.left, b.left) * _mean(a.right, b.right)
    if not (one.left | two.right) & (one.right | two.left):
        return factor * _mean(a.left, b.right) * _mean(a.right, b.left)
    return factor * _mean(a.left * a.right, b.left * b.right)


def _mean(a: Floats, b: Floats) -> Floats:
    result: Floats = a @ b.T / a.shape[1]
    return result


class RandomInners:
    """The random inner products drawn so far, one number each."""

    def __init__(self, laws: Laws, rng: np.random.Generator) -> None:
        self.laws, self.rng = laws, rng
        self.factor = Factor(1)
        self.pivots: list[Rows] = []

    def draw(self, rows: Rows) -> Floats:
        """One draw of these, conditional on those before."""
        own = covariance(rows, rows, self.laws)
        known = [covariance(rows, p, self.laws) for p in self.pivots]
        cross = np.concatenate([np.zeros((len(own), 0)), *known], axis=1)
        values, chosen = self.factor.extend(own, cross, lambda count: self.rng.standard_normal((count, 1)))
        if len(chosen):
            self.pivots.append(rows.chosen(chosen))
        return values[:, 0]
