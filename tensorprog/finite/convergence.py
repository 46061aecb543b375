"""Does a finite-width quantity tend to its limit?  Statistics over widths and seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

AGREES, DISAGREES, INCONCLUSIVE = "agrees", "disagrees", "inconclusive"

STALLED = -0.25
"""A slope between that of a right limit, -1/2, and that of a wrong one, 0."""

RESOLUTION = 0.1
"""A study that would not notice a limit wrong by this much, relatively, decides nothing."""

ROUNDING = 1e-6
"""The relative error of a draw in float32, which the scatter of the seeds need not show."""


@final
@dataclass(frozen=True, slots=True)
class MeanTest:
    """Whether the expectation of a quantity is the limit.

    `bias`: relative Frobenius norm of (expectation - limit), the noise subtracted.  `noise`: relative norm
    of the standard error of what was tested, the limit's own error included.  `z`: the probability of
    so large a difference under "no difference", as a number of standard deviations of a Gaussian.
    """

    bias: float
    noise: float
    z: float


@final
@dataclass(frozen=True, slots=True)
class Convergence:
    """What a study over widths showed.

    `deviation[k]`: relative Frobenius norm of (one draw - limit) at `widths[k]`, rms over seeds, with
    standard error `deviation_error[k]` (nan for one seed).  `slope` of log deviation against log width,
    with its standard error.  `largest`: the mean over seeds at the largest width against the limit;
    `extrapolated`: the same after the bias of order 1/width is removed by a fit over widths.
    `verdict` is "agrees", "disagrees" or "inconclusive", for `reason`.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    deviation: tuple[float, ...]
    deviation_error: tuple[float, ...]
    slope: float
    slope_error: float
    largest: MeanTest
    extrapolated: MeanTest
    verdict: str
    reason: str


def convergence(
    limit: ArrayLike, draws: Mapping[int, Sequence[ArrayLike]], limit_error: ArrayLike = 0.0
) -> Convergence:
    """Compares draws, `draws[width][seed]` of the shape of `limit`, with the limit.

    Two tests.  (1) The deviation of single draws falls like width^-1/2 when the limit is right, and stops
    falling at the error of the limit when it is wrong: the slope is the weighted least squares line through
    (log width, log deviation), weights 1 / (relative standard error)^2, and its standard error is enlarged by
    sqrt(chi^2 / dof) where the points scatter more than their errors say.  (2) The mean over seeds,
    extrapolated to infinite width by a line in 1/width (widths down to an eighth of the largest), equals the
    limit within noise.  Noise is estimated from the scatter of the seeds, with `limit_error` (the
    standard error of the limit, a number or one per entry) added as if fully correlated; the distance is
    referred to an F distribution with Box's degrees of freedom (Ann. Math. Stat. 25, 1954), so that
    correlated entries are not counted as independent evidence.

    Entries must be finite for a verdict; ValueError when there are no draws or shapes differ.
    """
    target = np.asarray(limit, dtype=np.float64).ravel()
    samples = {w: _stack(draws[w], target) for w in sorted(draws)}
    if not samples:
        raise ValueError("no draws")
    norm = float(np.linalg.norm(target)) or 1.0
    gaps = {w: (s - target) / norm for w, s in samples.items()}
    error = np.broadcast_to(np.asarray(limit_error, dtype=np.float64), np.shape(limit)).ravel() / norm
    error = np.hypot(error, ROUNDING * target / norm)
    points = [_deviation(g) for g in gaps.values()]
    deviation, deviation_error = tuple(p[0] for p in points), tuple(p[1] for p in points)
    slope, slope_error = _slope(list(gaps), deviation, deviation_error)
    last = max(gaps)
    largest, extrapolated = mean_test({last: gaps[last]}, error), mean_test(_near(gaps), error)
    verdict, reason = _verdict(gaps, slope, slope_error, largest, extrapolated)
    seeds = tuple(len(g) for g in gaps.values())
    return Convergence(tuple(gaps), seeds, deviation, deviation_error, slope, slope_error, largest, extrapolated,
                       verdict, reason)


def _stack(draws: Sequence[ArrayLike], target: Floats) -> Floats:
    stack = np.array([np.asarray(d, dtype=np.float64).ravel() for d in draws])
    if stack.ndim != 2 or stack.shape[1] != len(target):
        raise ValueError(f"draws of shape {stack.shape[1:]} for a limit of {len(target)} entries")
    return stack


# ---------------------------------------------------------------- deviation and slope


def _deviation(gaps: Floats) -> tuple[float, float]:
    """The rms over seeds of the norm of a gap, and its standard error by the delta method."""
    squares = np.sum(gaps**2, axis=1)
    rms = math.sqrt(float(squares.mean()))
    if len(squares) < 2 or rms == 0:
        return rms, math.nan
    return rms, float(squares.std(ddof=1)) / math.sqrt(len(squares)) / (2 * rms)


def _slope(widths: Sequence[int], deviation: Sequence[float], error: Sequence[float]) -> tuple[float, float]:
    """The line through (log width, log deviation) and the standard error of its slope."""
    if len(widths) < 2 or not all(d > 0 and math.isfinite(d) for d in deviation):
        return math.nan, math.nan
    x, y = np.log(np.asarray(widths, dtype=np.float64)), np.log(np.asarray(deviation))
    spread = np.asarray(error) / np.asarray(deviation)
    known = bool(np.all(np.isfinite(spread) & (spread > 0)))
    weights = 1 / spread**2 if known else np.ones(len(x))
    centred = x - np.average(x, weights=weights)
    information = float(np.sum(weights * centred**2))
    slope = float(np.sum(weights * centred * y)) / information
    residual = y - np.average(y, weights=weights) - slope * centred
    dof = len(x) - 2
    scatter = float(np.sum(weights * residual**2)) / dof if dof > 0 else math.nan
    if known:
        scatter = max(1.0, scatter) if dof > 0 else 1.0
    return slope, math.sqrt(scatter / information)


# ---------------------------------------------------------------- the mean


def _near(gaps: Mapping[int, Floats]) -> dict[int, Floats]:
    """The widths over which the bias is taken to be proportional to 1/width."""
    return {w: g for w, g in gaps.items() if 8 * w >= max(gaps)}


def mean_test(gaps: Mapping[int, Floats], limit_error: Floats) -> MeanTest:
    """Tests that the expectation at infinite width of the relative gaps [seeds, entries] is zero."""
    seeds = {w: len(g) for w, g in gaps.items()}
    coefficients = _extrapolation(seeds)
    total = sum((c * gaps[w].mean(axis=0) for w, c in coefficients.items()), np.zeros(len(limit_error)))
    if min(seeds.values()) < 2 or not np.isfinite(total).all():
        return MeanTest(float(np.linalg.norm(total)), math.nan, math.nan)
    scatter = [c * (gaps[w] - gaps[w].mean(axis=0)) / math.sqrt(seeds[w] * (seeds[w] - 1))
               for w, c in coefficients.items()]
    spread = np.concatenate([*scatter, limit_error[None]])
    variance = float(np.sum(spread**2))
    square = float(total @ total)
    z = _z(square, variance, spread, sum(seeds.values()) - len(seeds))
    return MeanTest(math.sqrt(max(0.0, square - variance)), math.sqrt(variance), z)


def _z(square: float, variance: float, spread: Floats, dof: int) -> float:
    if variance == 0:
        return 0.0 if square == 0 else math.inf
    gram = spread @ spread.T
    effective = variance**2 / float(np.sum(gram**2))
    return float(stats.norm.isf(stats.f.sf(square / variance, effective, effective * dof)))


def _extrapolation(seeds: Mapping[int, int]) -> dict[int, float]:
    """c(w), sum 1, such that sum c(w) mean(w) is the intercept at 1/w = 0 of the weighted line through the means.

    The variance of a mean is taken proportional to 1 / (width * seeds).
    """
    widths = list(seeds)
    if len(widths) < 2:
        return {widths[0]: 1.0}
    design = np.stack([np.ones(len(widths)), 1 / np.asarray(widths, dtype=np.float64)], axis=1)
    weighted = design.T * np.array([w * s for w, s in seeds.items()])
    row = np.linalg.solve(weighted @ design, weighted)[0]
    return dict(zip(widths, row.tolist(), strict=True))


# ---------------------------------------------------------------- verdict


def _verdict(
    gaps: Mapping[int, Floats], slope: float, slope_error: float, largest: MeanTest, extrapolated: MeanTest
) -> tuple[str, str]:
    if not all(np.isfinite(g).all() for g in gaps.values()):
        return INCONCLUSIVE, "some draws or entries of the limit are not finite"
    if all(np.linalg.norm(g, axis=1).max() <= ROUNDING for g in gaps.values()):
        return AGREES, "every draw equals the limit up to rounding"
    if len(gaps) < 2 or math.isnan(extrapolated.z):
        return INCONCLUSIVE, "at least two widths and two seeds each are needed"
    fall = f"the deviation falls like width^({slope:.2f} +- {slope_error:.2f})"
    if extrapolated.z > 4:
        return DISAGREES, f"the extrapolated mean is {extrapolated.z:.1f} standard deviations from the limit; {fall}"
    if slope - 2 * slope_error > STALLED and largest.z > 3:
        return DISAGREES, f"{fall}, not like width^-0.5, and the mean is {largest.z:.1f} standard deviations off"
    if extrapolated.noise > RESOLUTION:
        return INCONCLUSIVE, f"the noise of the mean is {extrapolated.noise:.0%} of the limit: more seeds or width"
    if extrapolated.z > 3:
        return INCONCLUSIVE, f"the extrapolated mean is {extrapolated.z:.1f} standard deviations from the limit"
    if not slope + 2 * slope_error <= STALLED:
        return INCONCLUSIVE, f"{fall}: more widths or seeds are needed to tell that from a floor"
    return AGREES, f"{fall}, and the extrapolated mean is {extrapolated.z:.1f} standard deviations from the limit"
