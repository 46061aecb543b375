"""Is the expectation of a finite quantity, extrapolated to infinite width, the limit?

    E K_n = K + b_1 / n + ... + b_m / n^m + ...       H0: K is the limit

The means over seeds at several widths are extrapolated by a polynomial of order m in 1/width (for m = 1 half of what
that removes counts as its error) and compared with the limit in two ways: all entries together (an F test, shifted and
scaled so that three moments are those of a weighted sum of squares, Imhof, Biometrika 48, 1961: correlated entries do
not count as independent evidence, and one strong direction has its longer tail), and the entry that is worst (a t test
with Welch's degrees of freedom, corrected by Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tensorprog.finite.rates import combined, gram_traces, intercept

Floats = NDArray[np.float64]

POWER = 0.95
"""The probability with which a difference of the size `detectable` is found."""

NEAR = 8
"""Extrapolated from are widths down to this part of the largest."""

REMAINDER = 0.5
"""The part of the bias removed from the largest width that counts as an error of a linear extrapolation.

It covers a term of order 1/width^2 that is, at the smallest width, half as large as the one of order 1/width.
"""


@final
@dataclass(frozen=True, slots=True)
class Worst:
    """The entry of the largest studentized difference: its flat `index`, `difference` and `error` in units of the norm
    of the limit, and the probability `p` of one so large anywhere under H0."""

    index: int
    difference: float
    error: float
    p: float

    @property
    def errors(self) -> float:
        """The difference in standard errors."""
        return abs(self.difference) / self.error if self.error else math.inf


@final
@dataclass(frozen=True, slots=True)
class Norms:
    """The law of a weighted sum of squares of Gaussians over the estimate of its mean: 1 + scale (F - 1).

    F has the degrees of freedom `dofs`.
    """

    scale: float
    dofs: tuple[float, float]

    def tail(self, ratio: float) -> float:
        """The probability of a larger ratio."""
        return float(stats.f.sf(1 + (ratio - 1) / self.scale, *self.dofs))

    def bound(self, level: float) -> float:
        """The ratio exceeded with probability `level`."""
        return 1 + self.scale * (float(stats.f.isf(level, *self.dofs)) - 1)


UNKNOWN = Norms(math.nan, (math.nan, math.nan))


@final
@dataclass(frozen=True, slots=True)
class MeanTest:
    """Whether the expectation of a quantity is the limit.

    `bias`: relative Frobenius norm of (expectation - limit), the noise subtracted.  `noise`: relative norm of the
    standard error of what was tested, the limit's own error included.  `p_norm`: the probability under H0 of so large
    a norm, by the law `norms` of its square.  `p`: that of a norm or a worst entry as bad as
    this; nan without scatter.  `worst` is None if every entry is equal to the limit.
    """

    bias: float
    noise: float
    p_norm: float
    p: float
    worst: Worst | None
    norms: Norms

    @property
    def z(self) -> float:
        """`p_norm` as a number of standard deviations of a Gaussian."""
        return float(stats.norm.isf(self.p_norm))

    def detectable(self, level: float) -> float:
        """A difference of this relative norm is found with probability of at least 0.95 by a test at this level."""
        if not self.noise > 0:
            return self.noise
        return self.noise * (math.sqrt(max(0.0, self.norms.bound(level / 2))) + float(stats.norm.ppf(POWER)))


def mean_test(
    gaps: Mapping[int, Floats],
    limit_error: Floats,
    order: int = 1,
    distinct: NDArray[np.int64] | None = None,
    decay: float = 1.0,
    remainder: float = REMAINDER,
) -> MeanTest:
    """Tests that the expectation at infinite width of the relative gaps [seeds, entries] is zero.

    `limit_error` [entries] is the standard error of the limit, taken as fully correlated; `order` that of the
    polynomial in 1/width (lower where there are fewer widths); `distinct` are the entries that are not copies of
    others; the variance of a draw falls like width^-`decay`; `remainder` is the part of the bias removed by a line that
    counts as an error.
    """
    near, values = _near(gaps), list(_near(gaps).values())
    total, scatter = combined(_weights(near, order, decay), values)
    if min(len(g) for g in values) < 2 or not np.isfinite(total).all():
        return MeanTest(float(np.linalg.norm(total)), math.nan, math.nan, math.nan, None, UNKNOWN)
    removed = total - values[-1].mean(axis=0) if order == 1 else np.zeros(len(total))
    return _test(total, scatter, np.stack([limit_error, remainder * removed]), [len(g) for g in values], distinct)


def curvature_test(gaps: Mapping[int, Floats], order: int = 1) -> MeanTest:
    """Tests that a polynomial of this order in 1/width is enough: that one more term does not move the intercept."""
    near = _near(gaps)
    total, scatter = combined(_weights(near, order + 1, 1.0) - _weights(near, order, 1.0), list(near.values()))
    if min(len(g) for g in near.values()) < 2 or len(near) < order + 2 or not np.isfinite(total).all():
        return MeanTest(float(np.linalg.norm(total)), math.nan, math.nan, math.nan, None, UNKNOWN)
    return _test(total, scatter, np.zeros((1, len(total))), [len(g) for g in near.values()], None)


def _near(gaps: Mapping[int, Floats]) -> dict[int, Floats]:
    return {w: gaps[w] for w in sorted(gaps) if NEAR * w >= max(gaps)}


def _weights(gaps: Mapping[int, Floats], order: int, decay: float) -> Floats:
    """The coefficients of the means in the intercept."""
    weights = [float(w) ** decay * len(g) for w, g in gaps.items()]
    return intercept(list(gaps), weights, min(order, len(gaps) - 1))


def _test(
    total: Floats, scatter: Floats, systematic: Floats, seeds: list[int], distinct: NDArray[np.int64] | None
) -> MeanTest:
    """The tests of `total` = 0, whose covariance the rows of `scatter` (by width) and of `systematic` make up."""
    spread = np.concatenate([scatter, systematic])
    variance, square = float(np.sum(spread**2)), float(total @ total)
    norms = _norms(spread, variance, sum(seeds) - len(seeds))
    chance = _chance(square, variance, norms)
    worst = _worst(total, scatter, spread, seeds, np.arange(len(total)) if distinct is None else distinct)
    p = chance if worst is None else min(1.0, 2 * min(chance, worst.p))
    return MeanTest(math.sqrt(max(0.0, square - variance)), math.sqrt(variance), chance, p, worst, norms)


def _norms(spread: Floats, variance: float, dof: int) -> Norms:
    """By the traces of the powers of the covariance: the mean, the variance and the skewness of the sum of squares."""
    if variance == 0:
        return UNKNOWN
    second, third = gram_traces(spread)
    independent = second**3 / third**2
    return Norms(math.sqrt(second * independent) / variance, (independent, independent * dof))


def _chance(square: float, variance: float, norms: Norms) -> float:
    if variance == 0:
        return 1.0 if square == 0 else 0.0
    return norms.tail(square / variance)


def _worst(
    total: Floats, scatter: Floats, spread: Floats, seeds: list[int], distinct: NDArray[np.int64]
) -> Worst | None:
    error = np.sqrt(np.sum(spread**2, axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = np.where(total == 0, 0.0, np.abs(total) / error)[distinct]
    if not studentized.any():
        return None
    k = int(distinct[np.argmax(studentized)])
    parts = np.add.reduceat(scatter[:, k] ** 2, np.cumsum([0, *seeds[:-1]]))
    dofs = np.asarray(seeds) - 1
    welch = error[k] ** 4 / max(float(np.sum(parts**2 / dofs)), 1e-300)
    p = min(1.0, len(distinct) * 2 * float(stats.t.sf(float(studentized.max()), welch)))
    return Worst(k, float(total[k]), float(error[k]), p)
