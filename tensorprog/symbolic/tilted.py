"""Gaussian laws under the weights exp(-t q - t' q' ...) of quadratic forms (see `forms`).

Equal elements are one, and equal forms join to one power: a batch against itself is a single integral.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.symbolic.half_line import Nodes, nodes

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

SAME = 1e-13
"""The variance of a difference, relative to the variances, below which two elements are one."""
CUT = 8 * float(np.finfo(float).eps)
"""Eigenvalues below this, times the number of elements, are rounding."""
RANK = 1e-12
"""Eigenvalues of correlations below this are no directions in which a form could be different from zero."""
NEGLIGIBLE = 1e-15
"""Nodes with less of the whole are left out."""
CHUNK = 1 << 21
"""Numbers of covariances that are in memory at a time."""


@final
@dataclass(frozen=True, slots=True)
class Form:
    """(constant + sum_j weights_j x_j^2)^(-power), and `lost`: with all other factors it is of degree -lost in x.

    The other factors do not grow where x is small: lost <= 2 power.
    """

    power: float
    weights: Array
    constant: float
    lost: float


def representatives(cov: Array) -> Ints:
    """For every element the first that is equal to it."""
    variance = np.diag(cov)
    apart = variance[:, None] + variance - cov - cov.T
    return np.asarray(np.argmax(apart <= SAME * (variance[:, None] + variance), axis=1), dtype=np.int64)


def joined(forms: Sequence[Form], number: Ints, size: int) -> tuple[Form, ...]:
    """The forms in the elements that are kept, of which old ones have a `number`; powers of one form are one power."""
    found: list[Form] = []
    for f in (_moved(form, number, size) for form in forms):
        for k, g in enumerate(found):
            if np.allclose(f.weights, g.weights, rtol=SAME, atol=0) and math.isclose(f.constant, g.constant):
                found[k] = Form(f.power + g.power, g.weights, g.constant, f.lost + g.lost)
                break
        else:
            found.append(f)
    return tuple(found)


def _moved(form: Form, number: Ints, size: int) -> Form:
    weights = np.zeros(size)
    np.add.at(weights, number, form.weights)
    return Form(form.power, weights, form.constant, form.lost)


@final
@dataclass(frozen=True, slots=True)
class _Basis:
    """cov = root root^T in coordinates in which the form `first` is a sum of squares with the weights `squares`.

    `others` [forms, r, r] are all forms, that of `first` left out.
    """

    root: Array
    squares: Array
    others: Array

    @staticmethod
    def of(root: Array, weights: Array, first: int) -> _Basis:
        """Turned so that the coordinates in which a form is zero are exact."""
        _, values, turn = np.linalg.svd(root * np.sqrt(weights[first])[:, None])
        squares = np.zeros(root.shape[1])
        squares[: len(values)] = np.where(values**2 > CUT * len(root) * values[0] ** 2, values**2, 0.0)
        turned = root @ turn.T
        turned[np.ix_(weights[first] > 0, squares == 0)] = 0.0
        others = np.array([turned.T @ (w[:, None] * turned) for w in weights])
        others[first] = 0.0
        return _Basis(turned, squares, others)

    def factors(self, first: Array, points: Array) -> Array:
        """The Cholesky factors of I + 2 D S at t [nodes, forms], of which `first` is that of the first form."""
        m = np.tensordot(2 * points, self.others, 1)
        n = np.arange(len(self.squares))
        m[:, n, n] += 1 + 2 * first[:, None] * self.squares
        return np.asarray(np.linalg.cholesky(m), dtype=np.float64)

    def tilted(self, lower: Array) -> Array:
        """Covariances, by the factors."""
        half = np.linalg.solve(lower, np.broadcast_to(self.root.T, (len(lower), *self.root.T.shape)))
        return np.asarray(np.swapaxes(half, 1, 2) @ half, dtype=np.float64)


@final
@dataclass(frozen=True, slots=True)
class Law:
    """N(0, cov) with forms, which occur with several powers: `forms` are the forms of every expectation.

    `means` of the forms; nodes reach up to `high` in log t.  A node uses the basis of the form that weighs most there,
    so that the factorization is graded.
    """

    forms: tuple[tuple[Form, ...], ...]
    means: tuple[float, ...]
    bases: tuple[_Basis, ...]
    high: float

    @staticmethod
    def of(cov: Array, forms: Sequence[tuple[Form, ...]]) -> Law:
        """Raises TensorProgError where a form vanishes or an integral diverges."""
        deviation = np.sqrt(np.diag(cov))
        unit = np.where(deviation > 0, deviation, 1.0)
        values, vectors = np.linalg.eigh(cov / unit[:, None] / unit)
        kept = values > CUT * len(cov) * values[-1]
        root = unit[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        means = tuple(float(f.constant + f.weights @ np.diag(cov)) for f in forms[0])
        if min(means) <= 0:
            raise fail("the expectation diverges: a quadratic form is zero, as is the variance of equal examples")
        weights = np.array([f.weights for f in forms[0]])
        bases = tuple(_Basis.of(root, weights, k) for k in range(len(weights)))
        return Law(tuple(forms), means, bases, _highest(root, forms, means))

    @property
    def size(self) -> int:
        """The number of elements."""
        return len(self.bases[0].root)

    def rule(self, refined: int) -> Nodes:
        """The nodes of the widest steps, halved so often, and the weights of every expectation."""
        powers = [tuple(f.power for f in alike) for alike in zip(*self.forms, strict=True)]
        return nodes(list(zip(powers, self.means, strict=True)), self.high, refined)

    def masses(self, points: Array) -> Array:
        """The masses of the weights at t [nodes, forms]."""
        log = -points @ np.array([f.constant for f in self.forms[0]])
        for basis, first, rows in self._by_basis(points):
            for few in np.array_split(np.arange(len(rows)), math.ceil(len(rows) * self.size**2 / CHUNK)):
                diagonal = np.diagonal(basis.factors(first[few], points[rows[few]]), axis1=1, axis2=2)
                log[rows[few]] -= np.log(diagonal).sum(axis=1)
        return np.asarray(np.exp(log), dtype=np.float64)

    def tilted(self, points: Array) -> Array:
        """Covariances [nodes, N, N] at t [nodes, forms]."""
        cov = np.empty((len(points), self.size, self.size))
        for basis, first, rows in self._by_basis(points):
            cov[rows] = basis.tilted(basis.factors(first, points[rows]))
        return cov

    def _by_basis(self, points: Array) -> Iterator[tuple[_Basis, Array, Ints]]:
        """Every basis, and t of its form at the nodes that use it."""
        most = np.argmax(points * self.means, axis=1)
        for k, basis in enumerate(self.bases):
            rows = np.flatnonzero(most == k)
            if len(rows):
                yield basis, points[rows, k], rows

    def counted(self, points: Array, masses: Array) -> NDArray[np.bool_]:
        """The nodes on which something depends, from their weighted masses [expectations, nodes].

        Under a weight the mean of a form of n squares is at most n / 2 t.
        """
        worth = np.zeros(len(points), dtype=bool)
        for forms, mass in zip(self.forms, masses, strict=True):
            for f, mean, t in zip(forms, self.means, points.T, strict=True):
                n = np.count_nonzero(f.weights)
                mass = mass * mean ** (0.5 * f.lost) * (n / np.maximum(n / mean, 2 * t)) ** (f.power - 0.5 * f.lost)
            worth |= mass > NEGLIGIBLE
        return worth


def _highest(root: Array, asked: Sequence[tuple[Form, ...]], means: tuple[float, ...]) -> float:
    """Where in log t the integrands have fallen far enough.  Raises TensorProgError where one does not fall."""
    slowest, smallest, forms = math.inf, 1.0, asked[0]
    for size in range(1, len(forms) + 1):
        for chosen in combinations(range(len(forms)), size):
            if any(forms[k].constant > 0 for k in chosen):
                continue
            rows = np.concatenate([root * np.sqrt(forms[k].weights / means[k])[:, None] for k in chosen])
            values = np.linalg.svd(rows, compute_uv=False) ** 2
            values = values[values > RANK * values[0]]
            excess = 0.5 * (len(values) - max(sum(alike[k].lost for k in chosen) for alike in asked))
            if excess <= 0:
                raise fail(
                    "the expectation diverges: a negative power of a quadratic form of too few independent variables,"
                    f" here {len(values)}",
                    hint="behind a normalization over a batch, gradients have a second moment from 4 examples"
                    " (and dimensions) on",
                )
            slowest, smallest = min(slowest, excess), min(smallest, float(values[-1]))
    exponential = min((f.constant / m for f, m in zip(forms, means, strict=True) if f.constant > 0), default=math.inf)
    high = 0.0 if slowest == math.inf else 36 / slowest - math.log(smallest)
    return max(high, 0.0 if exponential == math.inf else math.log(40 / exponential))
