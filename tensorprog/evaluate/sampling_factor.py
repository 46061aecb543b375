"""Growing Gaussian families, drawn a block at a time: every block is conditional on those before.

    Z = A Q,   A A^T the covariance,   Q [r, M] the innovations, one row for every direction that was new

Rows of Z whose residual given the earlier ones vanishes (equal inputs, more examples than dimensions) have
no innovation of their own: they are combinations of the `pivots`, the rows that had one.  A restricted to
the pivots is lower triangular.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack, rq, solve_triangular
from scipy.special import ndtri

from tensorprog.evaluate.sampling_record import DIRECT, Direct
from tensorprog.evaluate.sobol import MOST_DIMENSIONS, sobol_points

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TOLERANCE = 1e-12
"""A residual variance below this part of the variance counts as zero."""

TIE = 1e-9
"""By so much of its variance does a row count less than the one before when the next pivot is chosen: the same seed
gives the same draws, however the covariances are rounded."""

ROOM, CAPACITY = 256, 1 << 24
"""Rows for which a growing array has room at once, and the most numbers; what is not written takes no memory."""


class Growing:
    """An array that grows by rows: `values` is [rows, *shape]."""

    def __init__(self, shape: tuple[int, ...], arrays: Direct = DIRECT) -> None:
        self._rows, self._arrays = 0, arrays
        self._store: Floats = arrays.empty(max(16, min(ROOM, CAPACITY // math.prod(shape))), *shape)

    @property
    def values(self) -> Floats:
        """The rows so far."""
        return self._store[: self._rows]

    def __len__(self) -> int:
        return self._rows

    def append(self, block: Floats) -> None:
        """Adds the rows of `block`, which broadcast."""
        rows = self._rows + len(block)
        if rows > len(self._store):
            store: Floats = self._arrays.empty(max(rows, 2 * len(self._store)), *self._store.shape[1:])
            store[: self._rows] = self.values
            self._store = store
        self._store[self._rows : rows] = block
        self._rows = rows


class Innovations:
    """A stream of independent standard normal rows [M].

    The first rows are a scrambled Sobol sequence, later ones pseudo-random.  They are used as they are: giving them
    exact sample moments lowers the variance little and costs a bias of the order of dimensions / samples.  `turn` is an
    orthogonal matrix that mixes the first rows, see `backwards`.
    """

    def __init__(self, samples: int, expected: int, seed: np.random.SeedSequence, turn: Floats | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        dimensions = min(expected, MOST_DIMENSIONS) if turn is None else len(turn)
        uniform = sobol_points(samples, dimensions, self.rng)
        self.quasi: Floats = uniform if turn is None else turn @ ndtri(uniform[::-1])
        self.normal = turn is not None
        self.samples = samples
        self.owners: list[Factor | None] = []

    def of(self, owner: Factor) -> Callable[[int], Floats]:
        """Draws rows for a family."""
        return partial(self.draw, owner=owner)

    def draw(self, count: int, owner: Factor | None = None) -> Floats:
        """The next rows, [count, M]."""
        quasi = self.quasi[len(self.owners) : len(self.owners) + count]
        self.owners += [owner] * count
        rest = self.rng.standard_normal((count - len(quasi), self.samples))
        return np.concatenate([quasi if self.normal else ndtri(quasi), rest])

    def backwards(self) -> Floats:
        """The orthogonal Q for which the last rows of Z = A Q q depend on the fewest of the innovations q.

        A Q is upper triangular for every family, and the last innovations get the first, the most even, Sobol
        coordinates: what is drawn last is what a result depends on most directly, and little of what came before
        is left in it.  A is that of this run, and any orthogonal Q is right in another one.
        """
        turn = np.zeros((len(self.owners), len(self.owners)))
        for factor in set(filter(None, self.owners)):
            rows = np.array([k for k, owner in enumerate(self.owners) if owner is factor])
            turn[np.ix_(rows, rows)] = rq(factor.triangle)[1].T
        return turn


class Factor:
    """The factor A of a growing family, for its pivots, and their innovations."""

    def __init__(self, samples: int) -> None:
        self.rank = 0
        self.triangle: Floats = np.zeros((0, 0))
        self.innovations = Growing((samples,))

    def combinations(self, own: Floats, cross: Floats, draw: Callable[[int], Floats]) -> tuple[Floats, Ints]:
        """New rows with covariance `own` [b, b] among themselves and `cross` [b, rank] with the pivots.

        Returns them as combinations of the innovations [b, rank], and which of them became pivots, in this order.
        """
        known = solve_triangular(self.triangle, cross.T, lower=True).T if self.rank else cross
        scale = np.sqrt(np.maximum(np.diag(own), 0.0)) * (1 + TIE * np.arange(len(own)))
        unit = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1.0), 0.0)
        fresh, pivots = pivoted_cholesky((own - known @ known.T) * unit[:, None] * unit)
        fresh *= scale[:, None]
        if len(pivots):
            self._grow(known[pivots], fresh[pivots], draw(len(pivots)))
        return np.concatenate([known, fresh], axis=1), pivots

    def _grow(self, known: Floats, fresh: Floats, new: Floats) -> None:
        old, size = self.rank, self.rank + len(fresh)
        triangle = np.zeros((size, size))
        triangle[:old, :old] = self.triangle
        triangle[old:, :old], triangle[old:, old:] = known, fresh
        self.triangle, self.rank = triangle, size
        self.innovations.append(new)


Draws = Callable[[Factor], Callable[[int], Floats]]
"""The stream of a run, for each of its families: the next rows."""


class Family:
    """One family in several independent runs: their draws lie side by side, [rows, runs * M]."""

    def __init__(self, samples: int, runs: int) -> None:
        self.factors = [Factor(samples) for _ in range(runs)]
        self.pivots: list[Ints] = [np.zeros(0, dtype=np.int64)] * runs

    def combinations(self, own: Floats, cross: Floats, draws: Sequence[Draws]) -> list[Floats]:
        """New rows of covariance `own` [runs, b, b] among themselves and `cross` [runs, b, rows] with all before.

        For every run they are combinations of its innovations, the first of them, [b, rank].
        """
        found = []
        for r, (factor, draw) in enumerate(zip(self.factors, draws, strict=True)):
            rows, chosen = factor.combinations(own[r], cross[r][:, self.pivots[r]], draw(factor))
            self.pivots[r] = np.append(self.pivots[r], cross.shape[2] + chosen)
            found.append(rows)
        return found

    def extend(self, own: Floats, cross: Floats, draws: Sequence[Draws]) -> Floats:
        """Draws these rows, [b, runs * M]."""
        rows = self.combinations(own, cross, draws)
        found = [c @ factor.innovations.values for c, factor in zip(rows, self.factors, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def pivoted_cholesky(matrix: Floats) -> tuple[Floats, Ints]:
    """L [b, r] with L L^T = matrix up to TOLERANCE, and the r rows on which L is lower triangular."""
    if not len(matrix) or matrix.diagonal().max() <= TOLERANCE:
        return np.zeros((len(matrix), 0)), np.zeros(0, dtype=np.int64)
    result: tuple[Any, ...] = lapack.dpstrf(matrix, lower=1, tol=TOLERANCE)
    lower, order, rank = np.tril(result[0])[:, : result[2]], result[1] - 1, int(result[2])
    factor = np.zeros_like(lower)
    factor[order] = lower
    return factor, order[:rank].astype(np.int64)
