"""The hats: Gaussian families W h over all elements, examples and uses of one matrix (or of its transpose).

    Cov(g[i](x), g[j](x')) = gain * sum over contributions with equal weight element of coef coef' E[h[..](x) h[..](x')]

with E the mean over draws, the dot product for known numbers, and 1 where there is no operand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate.sampling_factor import Bools, Draws, Family, Floats, Ints
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_nodes import Part, Rows, as_terms
from tensorprog.evaluate.sampling_record import DIRECT, Direct
from tensorprog.evaluate.sampling_terms import Class, Matrix, Terms
from tensorprog.evaluate.sampling_values import Values
from tensorprog.finite.forward import weight_elements
from tensorprog.finite.state import State
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

    def joined(self, other: Contributions, shift: int) -> Contributions:
        """These rows, then those of `other`, whose vectors are numbered from `shift`."""
        return Contributions(
            self.rows + other.rows,
            np.concatenate([self.row, other.row + self.rows]),
            np.concatenate([self.element, other.element]),
            np.concatenate([self.source, other.source + shift]),
            np.concatenate([self.coef, other.coef]),
        )



class Products:
    """Everything so far that one matrix was multiplied with; see the head of this module.

    Rows of an integrated matrix are not drawn: their covariance is in `integrals`.
    """

    def __init__(self, matrix: Matrix, integrals: Integrals, samples: int | None) -> None:
        self.matrix, self.integrals, self.samples = matrix, integrals, samples
        self.family = None if samples is None else integrals.arrays.made(Family, samples, integrals.runs)
        self.rows = 0
        self.uses: list[Uses] = []

    def draw(self, step: Step, values: Values, gain: float, draws: Sequence[Draws]) -> Floats:
        """The elements of a step, [elements, examples, M]."""
        assert self.family is not None and self.samples is not None
        own, cross = self._covariance(step, values, gain)
        if self.integrals.dry:
            return np.ones((len(step.elements), values.state.group.examples, self.samples))
        drawn = self.integrals.arrays.call(Family.extend, self.family, own, cross, draws)
        shaped = drawn.reshape(len(step.elements), -1, drawn.shape[-1])
        return np.broadcast_to(shaped, (len(shaped), values.state.group.examples, shaped.shape[-1]))

    def integrate(self, step: Step, values: Values, gain: float, of: Class) -> Terms:
        """The elements of a step as nodes."""
        own, cross = self._covariance(step, values, gain)
        rows = self.integrals.rows.setdefault(self.matrix, Rows(self.integrals.runs, self.integrals.arrays))
        numbers = rows.add(own, cross)
        row = numbers.reshape(len(step.elements), -1)
        column = np.broadcast_to(row, (len(row), values.state.group.examples)).ravel()
        nodes = self.integrals.nodes(of, values.group)
        return as_terms(nodes.add(np.zeros(len(column)), {self.matrix: Part(column, np.ones(len(column)))}), of)

    def _covariance(self, step: Step, values: Values, gain: float) -> tuple[Floats, Floats]:
        """The covariance of new rows with themselves and with all rows before, [runs, new, new or before]."""
        first, new = self.rows, uses_of(step, values, gain, self.rows)
        self._remember(new)
        self.rows += len(new.rows)
        total = self.integrals.arrays.zeros(self.integrals.runs, len(new.rows), self.rows)
        for uses in self.uses:
            total[:, :, uses.rows] = self._between(new, uses)
        if not self.integrals.dry:
            self.integrals.arrays.call(_check, total, culprit(step, values.state))
        own = total[:, :, first:]
        return (own + own.swapaxes(1, 2)) / 2, total[:, :, :first]

    def _between(self, a: Uses, b: Uses) -> Floats:
        if a.terms is None or b.terms is None:
            return mixed(a.contributions, b.contributions, np.ones((1, 1, 1)), self.integrals.arrays)
        left, right = (a.terms, a.vectors, a.group), (b.terms, b.vectors, b.group)
        gram = self.integrals.shared((a.group, a.key, b.group, b.key), lambda: self.integrals.moment(*left, *right))
        return mixed(a.contributions, b.contributions, gram, self.integrals.arrays)

    def _remember(self, new: Uses) -> None:
        for k, old in enumerate(self.uses):
            if old.group == new.group and (old.terms is None) == (new.terms is None):
                self.uses[k] = old.joined(new, self.integrals)
                return
        self.uses.append(new)


@final
@dataclass(frozen=True, slots=True)
class Uses:
    """Rows of a matrix, of one group: which they are, their contributions and the vectors of these (None: 1).

    Equal vectors have equal keys.
    """

    group: int
    key: tuple[tuple[str, bytes], ...]
    rows: Ints
    contributions: Contributions
    terms: Terms | None
    vectors: int

    def joined(self, other: Uses, integrals: Integrals) -> Uses:
        """These rows, then those of `other`."""
        rows = np.append(self.rows, other.rows)
        if self.terms is None or other.terms is None:
            return Uses(self.group, (), rows, self.contributions.joined(other.contributions, 0), None, 1)
        shift = self.vectors * integrals.examples[self.group]
        contributions = self.contributions.joined(other.contributions, shift)
        key = self.key + other.key
        terms = integrals.appended((self.group, self.key), (self.group, key), self.terms, other.terms, self.vectors)
        return Uses(self.group, key, rows, contributions, terms, self.vectors + other.vectors)


def culprit(step: Step, state: State) -> Instr:
    """The operand of a product, or the product itself when it has none."""
    op = step.instr.op
    return state.plan.program.instr(op.operand) if isinstance(op, MatMul) and op.operand is not None else step.instr


def uses_of(step: Step, values: Values, gain: float, first: int) -> Uses:
    """The rows of a step, numbered from `first`, element-major, then examples.

    Vectors are numbered alike.  Without an operand all examples are alike, one row stands for them.
    """
    op, state = step.instr.op, values.state
    assert isinstance(op, MatMul)
    table = state.plan.pairs(step, op.map, op.operand)
    element = weight_elements(op.windex, op.weight, table, state)
    coef = coefficients(op.coef, table, state.env) * math.sqrt(gain)
    if op.operand is None:
        contributions = Contributions(len(step.elements), table.target, element, 0 * table.source, coef)
        return Uses(values.group, (), first + np.arange(len(step.elements)), contributions, None, 1)
    examples = state.group.examples
    used, source = np.unique(table.source, return_inverse=True)
    row, at = ((k.reshape(-1, 1) * examples + np.arange(examples)).ravel() for k in (table.target, source))
    repeated = np.repeat(element, examples), at, np.repeat(coef, examples)
    spread = Contributions(len(step.elements) * examples, row, *repeated)
    key = ((op.operand, used.tobytes()),)
    rows = first + np.arange(spread.rows)
    return Uses(values.group, key, rows, spread, values.vectors(op.operand, used), len(used))


def mixed(left: Contributions, right: Contributions, gram: Floats, arrays: Direct = DIRECT) -> Floats:
    """sum over equal weight elements of P gram P'^T, [runs, left rows, right rows]."""
    if left.simple and right.simple:
        picked: Floats = arrays.call(_gathered, left, right, gram)
        return picked
    pairs = [
        [_matrix(c, c.element == k, vectors) for c, vectors in ((left, gram.shape[1]), (right, gram.shape[2]))]
        for k in np.intersect1d(left.element, right.element)
    ]
    found: Floats = arrays.call(_added_up, (left.rows, right.rows), pairs, gram)
    return found


def _gathered(left: Contributions, right: Contributions, gram: Floats) -> Floats:
    total = np.zeros((len(gram), left.rows, right.rows))
    picked = gram[:, left.source[:, None], right.source] * left.coef[:, None] * right.coef
    total[:, left.row[:, None], right.row] = picked * (left.element[:, None] == right.element)
    return total


def _added_up(shape: tuple[int, int], pairs: Sequence[Sequence[csr_matrix]], gram: Floats) -> Floats:
    total = np.zeros((len(gram), *shape))
    for p, q in pairs:
        total += np.stack([p @ (q @ g.T).T for g in gram])
    return total


def _matrix(c: Contributions, keep: Bools, vectors: int) -> csr_matrix:
    return csr_matrix((c.coef[keep], (c.row[keep], c.source[keep])), shape=(c.rows, vectors))


def _check(covariance: Floats, instr: Instr) -> None:
    if not np.isfinite(covariance).all():
        raise not_finite(instr)


def not_finite(instr: Instr) -> TensorProgError:
    """The error for a family that overflows or divides zero by zero."""
    name = instr.var.name.removeprefix("d.").split(".")[0]
    return fail(
        f"'{name}' is not finite in the limit for some example",
        instr.var.span,
        "is zero divided by zero (a normalized zero vector), or does a value overflow?",
    )
