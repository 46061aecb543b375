"""The NNGP of a scalar output that is linear in random scalars: they are not drawn, their covariance is known.

    f = sum over leaves of B s   ->   E[f f'] = sum over pairs of leaves of B Cov(s, s') B'^T

Leaves are random inner products (a readout) and scalar weights (its bias); B is made of known numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.evaluate.sampling_factor import Floats
from tensorprog.evaluate.sampling_inners import Laws, Rows, covariance, is_fresh, rows_of
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_products import Contributions, mixed, uses_of
from tensorprog.evaluate.sampling_values import Values
from tensorprog.finite.products import take
from tensorprog.finite.state import State
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, Linear, MatMul, Term
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import coefficients, count, map_table
from tensorprog.limit.analyse import Limit


def leaves_of(limit: Limit) -> frozenset[str] | None:
    """The random scalars in which the output is linear with known coefficients; None when it is not."""
    leaves: set[str] = set()

    def walk(name: str, path: frozenset[str]) -> bool:
        op = limit.program.instr(name).op
        if name not in limit.random:
            return True
        if is_fresh(limit, name) or isinstance(op, MatMul):
            leaves.add(name)
            return True
        if not isinstance(op, Linear) or name in path:
            return False
        if any(s.var in limit.random for t in op.terms for s in t.scalars):
            return False
        return all(walk(t.operand, path | {name}) for t in op.terms if t.operand is not None)

    return frozenset(leaves) if walk(limit.output_var, frozenset()) and leaves else None


def roots_of(limit: Limit) -> frozenset[str]:
    """What has to be computed for the covariance: the vectors of the leaves, and the coefficients on the way."""
    roots: set[str] = set()
    waiting = [limit.output_var]
    while waiting:
        op = limit.program.instr(waiting.pop()).op
        if isinstance(op, Inner):
            roots.update(r.var for r in (op.left, op.right) if r is not None)
        elif isinstance(op, Linear):
            roots.update(s.var for t in op.terms for s in t.scalars)
            waiting += [t.operand for t in op.terms if t.operand is not None and t.operand in limit.random]
    return frozenset(roots)


def weights_of(limit: Limit, leaves: frozenset[str], state: State) -> dict[str, Floats]:
    """B for every leaf: [outputs, elements of the leaf, examples]."""
    found: dict[str, Floats] = {}
    outputs = count(limit.program.var(limit.output_var).axes, state.env)
    start = np.repeat(np.eye(outputs)[:, :, None], state.group.examples, axis=2)
    waiting = [(limit.output_var, start)]
    while waiting:
        name, weight = waiting.pop()
        if name in leaves:
            found[name] = found[name] + weight if name in found else weight
            continue
        instr = limit.program.instr(name)
        if name not in limit.random or not isinstance(instr.op, Linear):
            continue
        for term in instr.op.terms:
            if term.operand is not None:
                waiting.append((term.operand, _back(name, term, weight, limit, state)))
    return found


def _back(name: str, term: Term, weight: Floats, limit: Limit, state: State) -> Floats:
    """B of the operand of a term from B of the sum."""
    assert term.operand is not None
    instr = limit.program.instr(name)
    size = count(limit.program.var(term.operand).axes, state.env)
    table = map_table(term.map, instr.var.axes, limit.program.var(term.operand).axes, state.env)
    scale = np.repeat(coefficients(term.coef, table, state.env)[:, None], weight.shape[2], axis=1)
    for s in term.scalars:
        scale *= take(state.value(s.var), state.plan.find(s, table.index, len(table)))
    result = np.zeros((size, weight.shape[0], weight.shape[2]))
    np.add.at(result, table.source, (weight[:, table.target] * scale).swapaxes(0, 1))
    return result.swapaxes(0, 1)


def output_covariance(
    limit: Limit, leaves: frozenset[str], groups: Sequence[Values], laws: Laws, integrals: Integrals
) -> Floats:
    """E[f f'] over all groups, [runs, samples, samples], samples group by group, example by example."""
    parts = [_parts(limit, leaves, values, laws) for values in groups]
    states = [values.state for values in groups]
    axes = limit.program.var(limit.output_var).axes
    sizes = [count(axes, state.env) * state.group.examples for state in states]
    ends = np.cumsum(sizes)
    total: Floats = integrals.arrays.zeros(integrals.runs, sum(sizes), sum(sizes))
    for g, h in itertools.product(range(len(states)), repeat=2):
        block = total[:, ends[g] - sizes[g] : ends[g], ends[h] - sizes[h] : ends[h]]
        for a, b in itertools.product(parts[g], parts[h]):
            block += integrals.arrays.call(_between, a.weight, a.covariance(b, integrals), b.weight)
    return total


def _between(left: csr_matrix, covariances: Floats, right: csr_matrix) -> Floats:
    return np.stack([left @ c @ right.T for c in covariances])


@final
@dataclass(frozen=True, slots=True)
class Readout:
    """Rows of random inner products of one group and how the samples of the output are made of them."""

    weight: csr_matrix
    rows: Rows
    laws: Laws

    def covariance(self, other: Readout | Bias, integrals: Integrals) -> Floats:
        """Cov(s, t) for all pairs of rows."""
        if isinstance(other, Bias):
            return np.zeros((1, self.weight.shape[1], other.weight.shape[1]))
        return covariance(self.rows, other.rows, self.laws, integrals)


@final
@dataclass(frozen=True, slots=True)
class Bias:
    """Elements of a scalar weight of one group and how the samples of the output are made of them."""

    weight: csr_matrix
    name: str
    contributions: Contributions

    def covariance(self, other: Readout | Bias, integrals: Integrals) -> Floats:
        """Cov(s, t) for all pairs of rows."""
        if isinstance(other, Readout) or other.name != self.name:
            return np.zeros((1, self.weight.shape[1], other.weight.shape[1]))
        return mixed(self.contributions, other.contributions, np.ones((1, 1, 1)))


def _parts(limit: Limit, leaves: frozenset[str], values: Values, laws: Laws) -> list[Readout | Bias]:
    parts: list[Readout | Bias] = []
    state = values.state
    for name, weight in weights_of(limit, leaves, state).items():
        instr = limit.program.instr(name)
        step = Step(instr, np.flatnonzero(weight.any(axis=(0, 2))))
        weight = weight[:, step.elements]
        if isinstance(instr.op, MatMul):
            gain = float(evaluate(limit.gains[name], state.env))
            parts.append(Bias(_flat(weight, False), instr.op.weight, uses_of(step, values, gain, 0).contributions))
        elif isinstance(instr.op, Inner):
            parts.append(Readout(_flat(weight, True), rows_of(step, values), laws))
    return parts


def _flat(weight: Floats, per_example: bool) -> csr_matrix:
    """B as a matrix over (example, output) x (element, example), or x (element) where examples are alike."""
    output, element, example = np.nonzero(weight)
    outputs, elements, examples = weight.shape
    column = element * examples + example if per_example else element
    shape = (examples * outputs, elements * (examples if per_example else 1))
    return csr_matrix((weight[output, element, example], (example * outputs + output, column)), shape=shape)


# ---------------------------------------------------------------- a vector


def vector_moments(name: str, groups: Sequence[Values], integrals: Integrals) -> Floats:
    """E[Z Z'] of a vector, samples group by group, example by example."""
    axes = [np.arange(count(v.state.plan.program.var(name).axes, v.state.env)) for v in groups]
    terms = [v.vectors(name, elements) for v, elements in zip(groups, axes, strict=True)]
    examples = [v.state.group.examples for v in groups]

    def block(g: int, h: int) -> Floats:
        n, m = len(axes[g]), len(axes[h])
        (found,) = integrals.moment(terms[g], n, g, terms[h], m, h)
        moved: Floats = found.reshape(n, examples[g], m, examples[h]).transpose(1, 0, 3, 2)
        return moved.reshape(n * examples[g], m * examples[h])

    return np.block([[block(g, h) for h in range(len(axes))] for g in range(len(axes))])
