"""The hats: Gaussian families W h over all elements, examples and uses of one matrix (or of its transpose).

    Cov(g[i](x), g[j](x')) = gain * sum over contributions with equal weight element of coef coef' E[h[..](x) h[..](x')]

with E the mean over draws, the dot product for known numbers, and 1 where there is no operand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate.sampling_factor import Bools, Factor, Floats, Growing, Ints
from tensorprog.finite.forward import State, weight_elements
from tensorprog.ir.program import Instr, MatMul
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import coefficients


@final
@dataclass(frozen=True, slots=True)
class Contributions:
    """row[k] += coef[k] * W[element[k]] vectors[source[k]], for `rows` rows."""

    rows: int
    row: Ints
    element: Ints
    source: Ints
    coef: Floats

    @property
    def simple(self) -> bool:
        """Whether no row has several contributions."""
        return len(np.unique(self.row)) == len(self.row)

    def restricted(self, chosen: Ints) -> Contributions:
        """Only the chosen rows, renumbered in that order."""
        position = np.full(self.rows, -1)
        position[chosen] = np.arange(len(chosen))
        row = position[self.row]
        keep = row >= 0
        return Contributions(len(chosen), row[keep], self.element[keep], self.source[keep], self.coef[keep])

    def compact(self) -> tuple[Contributions, Ints]:
        """The same over only those vectors that are used, and which they are."""
        used, source = np.unique(self.source, return_inverse=True)
        return Contributions(self.rows, self.row, self.element, source.reshape(-1), self.coef), used

    def joined(self, other: Contributions, shift: int) -> Contributions:
        """These rows, then those of `other`, whose vectors are numbered from `shift`."""
        return Contributions(
            self.rows + other.rows,
            np.concatenate([self.row, other.row + self.rows]),
            np.concatenate([self.element, other.element]),
            np.concatenate([self.source, other.source + shift]),
            np.concatenate([self.coef, other.coef]),
        )


NONE = np.zeros(0, dtype=np.int64)
EMPTY = Contributions(0, NONE, NONE, NONE, np.zeros(0))


class Products:
    """Everything drawn so far that one matrix was multiplied with; see the head of this module."""

    def __init__(self, samples: int) -> None:
        self.factor = Factor(samples)
        self.pivots = EMPTY
        self.vectors: Growing | None = None

    def draw(self, step: Step, state: State, gain: float, draws: Callable[[int], Floats]) -> Floats:
        """The elements of a step, [elements, examples, M]."""
        contributions, vectors, norm = contributions_of(step, state, gain)
        if self.vectors is None:
            self.vectors = Growing(vectors.shape[1])
        own = mixed(contributions, contributions, vectors @ vectors.T / norm)
        if not np.isfinite(own).all():
            raise not_finite(culprit(step, state))
        cross = mixed(contributions, self.pivots, vectors @ self.vectors.values.T / norm)
        values, chosen = self.factor.extend(own, cross, draws)
        added, used = contributions.restricted(chosen).compact()
        self.pivots = self.pivots.joined(added, len(self.vectors.values))
        self.vectors.append(vectors[used])
        shaped = values.reshape(len(step.elements), -1, values.shape[-1])
        return np.broadcast_to(shaped, (len(shaped), state.group.examples, shaped.shape[-1]))


def culprit(step: Step, state: State) -> Instr:
    """The operand of a product, or the product itself when it has none."""
    op = step.instr.op
    return state.plan.program.instr(op.operand) if isinstance(op, MatMul) and op.operand is not None else step.instr


def contributions_of(step: Step, state: State, gain: float) -> tuple[Contributions, Floats, float]:
    """Contributions, their vectors, and the number over which dot products of these are to be divided.

    Rows are element-major, then examples; without an operand all examples are alike, one row stands for them.
    """
    op = step.instr.op
    assert isinstance(op, MatMul)
    table = state.plan.pairs(step, op.map, op.operand)
    element = weight_elements(op.windex, op.weight, table, state)
    coef = coefficients(op.coef, table, state.env) * math.sqrt(gain)
    if op.operand is None:
        return Contributions(len(step.elements), table.target, element, 0 * table.source, coef), np.ones((1, 1)), 1.0
    examples = state.group.examples
    every = np.arange(examples)
    row, source = ((at[:, None] * examples + every).ravel() for at in (table.target, table.source))
    spread = (np.repeat(element, examples), source, np.repeat(coef, examples))
    contributions, used = Contributions(len(step.elements) * examples, row, *spread).compact()
    operand = state.value(op.operand)
    dim = state.plan.program.var(op.operand).dim
    norm = float(operand.shape[-1]) if dim is not None and dim.wide else 1.0
    return contributions, operand.reshape(-1, operand.shape[-1])[used].astype(np.float64, copy=False), norm


def mixed(left: Contributions, right: Contributions, gram: Floats) -> Floats:
    """sum over equal weight elements of P gram P'^T, [left rows, right rows]."""
    total = np.zeros((left.rows, right.rows))
    if left.simple and right.simple:
        picked = gram[np.ix_(left.source, right.source)] * left.coef[:, None] * right.coef
        total[np.ix_(left.row, right.row)] = picked * (left.element[:, None] == right.element)
        return total
    for k in np.intersect1d(left.element, right.element):
        p, q = _matrix(left, left.element == k, gram.shape[0]), _matrix(right, right.element == k, gram.shape[1])
        total += p @ (q @ gram.T).T
    return total


def _matrix(c: Contributions, keep: Bools, vectors: int) -> csr_matrix:
    return csr_matrix((c.coef[keep], (c.row[keep], c.source[keep])), shape=(c.rows, vectors))


def not_finite(instr: Instr) -> TensorProgError:
    """The error for a family that overflows or divides zero by zero."""
    name = instr.var.name.removeprefix("d.").split(".")[0]
    return fail(
        f"'{name}' is not finite in the limit for some example",
        instr.var.span,
        "is zero divided by zero (a normalized zero vector), or does a value overflow?",
    )
