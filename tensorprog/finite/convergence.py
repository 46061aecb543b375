"""Does a finite-width quantity tend to its limit?  Statistics over widths and seeds, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tensorprog.finite.means import MeanTest, curvature_test, mean_test
from tensorprog.finite.rates import Estimate, Leading, leading_bias, leading_variance, log_slope, rms_deviation

Floats = NDArray[np.float64]

AGREES, DISAGREES, INCONCLUSIVE = "agrees", "disagrees", "inconclusive"

LEVEL = 1e-3
"""The probability with which a study may call a right limit wrong."""

DOUBT = 10.0
"""A study whose p is below this multiple of the level does not call the limit right either."""

FALLS = -0.25
"""A slope between that of a right limit, -1/2, and that of a wrong one, 0."""

CURVED = 0.01
"""A bias is taken to be a parabola in 1/width if the p of a line is below this."""

RESOLUTION = 0.1
"""A study whose noise is larger than this, relatively, decides nothing in favour of a limit."""

ROUNDING = 1e-6
"""The relative error of a draw in float32, which the scatter of the seeds need not show."""

CONFIDENCE = 0.95


@final
@dataclass(frozen=True, slots=True, eq=False)
class Convergence:
    """What a study over widths showed; arrays have the shape of the limit, tuples one item per width.

    `mean[k]` over the seeds at `widths[k]`, with standard errors `mean_error[k]`.
    `deviation[k]`: relative Frobenius norm of (one draw - limit), rms over seeds, with standard error
    `deviation_error[k]` (nan for one seed).  `slope` of log deviation against log width.
    `largest`: the mean over seeds at the largest width against the limit; `extrapolated`: the same after a bias of
    order 1/width is removed by a fit over widths, or, where `curvature`, a test of whether that is enough, says no,
    one of order 1/width^2, too.
    `bias` and `variance` are the leading coefficients in 1/width (of the bias: if the limit is right).
    `verdict` is "agrees", "disagrees" or "inconclusive", for `reason`; a right limit is called wrong with a probability
    of at most `level`.
    """

    limit: Floats
    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    mean: tuple[Floats, ...]
    mean_error: tuple[Floats, ...]
    deviation: tuple[float, ...]
    deviation_error: tuple[float, ...]
    slope: float
    slope_error: float
    largest: MeanTest
    extrapolated: MeanTest
    curvature: MeanTest
    bias: Leading
    variance: Leading
    level: float
    verdict: str
    reason: str

    @property
    def interval(self) -> tuple[tuple[float, float], ...]:
        """95% confidence intervals of the deviations, by Student's law for their logarithms."""
        points = zip(self.deviation, self.deviation_error, self.seeds, strict=True)
        return tuple(_interval(*point) for point in points)


def _interval(deviation: float, error: float, seeds: int) -> tuple[float, float]:
    if not (seeds > 1 and deviation > 0):
        return math.nan, math.nan
    factor = math.exp(float(stats.t.isf((1 - CONFIDENCE) / 2, seeds - 1)) * error / deviation)
    return deviation / factor, deviation * factor


def convergence(
    limit: ArrayLike, draws: Mapping[int, Sequence[ArrayLike]], limit_error: ArrayLike = 0.0, level: float = LEVEL,
    rows: Sequence[str] = (), *, random: bool = False,
) -> Convergence:
    """Compares draws, `draws[width][seed]` of the shape of `limit`, with the limit.

    The limit is wrong if the mean over seeds, extrapolated to infinite width (`means.py`), differs from it by more
    than chance allows at `level`.
    It is right if there is no sign of that, the noise is small, and the deviation of single draws falls (like
    width^-1/2; from a wrong limit it stops falling).  `limit_error` is the standard error of the limit, a number or one
    per entry, added to the noise as if fully correlated.  `rows` are the names of the rows of the limit, for words.
    Where single draws stay `random` in the limit, which is their mean, nothing is asked of their deviation.

    Entries must be finite for a verdict; ValueError when there are no draws or shapes differ.
    """
    target = np.asarray(limit, dtype=np.float64)
    samples = {w: _stack(draws[w], target.ravel()) for w in sorted(draws)}
    if not samples:
        raise ValueError("no draws")
    norm = float(np.linalg.norm(target)) or 1.0
    gaps = {w: (s - target.ravel()) / norm for w, s in samples.items()}
    error = np.broadcast_to(np.asarray(limit_error, dtype=np.float64), target.shape).ravel() / norm
    tests = _tests(gaps, np.hypot(error, ROUNDING * target.ravel() / norm), distinct_entries(target))
    points = [rms_deviation(g) for g in gaps.values()]
    deviation, deviation_error = tuple(p[0] for p in points), tuple(p[1] for p in points)
    slope = log_slope(list(gaps), deviation, deviation_error)
    return Convergence(
        target, tuple(gaps), tuple(len(g) for g in gaps.values()),
        tuple(s.mean(axis=0).reshape(target.shape) for s in samples.values()),
        tuple(_standard_error(s).reshape(target.shape) for s in samples.values()),
        deviation, deviation_error, slope.value, slope.error, tests[0], tests[1], tests[2],
        _scaled(leading_bias(gaps), norm, target.shape), _scaled(leading_variance(gaps), norm**2, target.shape),
        level, *_verdict(gaps, None if random else slope, tests, level, target, rows),
    )


def _stack(draws: Sequence[ArrayLike], target: Floats) -> Floats:
    stack = np.array([np.asarray(d, dtype=np.float64).ravel() for d in draws])
    if stack.ndim != 2 or stack.shape[1] != len(target):
        raise ValueError(f"draws of shape {stack.shape[1:]} for a limit of {len(target)} entries")
    return stack


def _standard_error(samples: Floats) -> Floats:
    if len(samples) < 2:
        return np.full(samples.shape[1], math.nan)
    error: Floats = samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    return error


def distinct_entries(limit: Floats) -> NDArray[np.int64]:
    """The flat indices of one triangle of a symmetric matrix, of all entries of anything else."""
    if limit.ndim == 2 and limit.shape[0] == limit.shape[1] and np.allclose(limit, limit.T):
        return np.flatnonzero(np.triu(np.ones(limit.shape)))
    return np.arange(limit.size)


def _tests(
    gaps: Mapping[int, Floats], error: Floats, distinct: NDArray[np.int64]
) -> tuple[MeanTest, MeanTest, MeanTest]:
    """The mean at the largest width, and extrapolated; whether the extrapolation must be curved."""
    last, curvature = max(gaps), curvature_test(gaps)
    order = 2 if curvature.p < CURVED else 1
    return mean_test({last: gaps[last]}, error, 0, distinct), mean_test(gaps, error, order, distinct), curvature


def _scaled(found: Leading, scale: float, shape: tuple[int, ...]) -> Leading:
    return Leading((found.entries * scale).reshape(shape), (found.errors * scale).reshape(shape), found.size)


# ---------------------------------------------------------------- verdict


def _verdict(
    gaps: Mapping[int, Floats], slope: Estimate | None, tests: Sequence[MeanTest], level: float, limit: Floats,
    rows: Sequence[str],
) -> tuple[str, str]:
    extrapolated = tests[1]
    if not all(np.isfinite(g).all() for g in gaps.values()):
        return INCONCLUSIVE, "some draws or entries of the limit are not finite"
    if all(np.linalg.norm(g, axis=1).max() <= ROUNDING for g in gaps.values()):
        return AGREES, "every draw equals the limit up to rounding"
    if len(gaps) < 2 or math.isnan(extrapolated.p):
        return INCONCLUSIVE, "at least two widths and two seeds each are needed"
    p = extrapolated.p
    if p < level:
        return DISAGREES, f"{_difference(extrapolated, limit, rows)}; {_fall(slope)}"
    if p < DOUBT * level:
        return INCONCLUSIVE, f"the mean over seeds is doubtful (p = {p:.1g}): more seeds are needed"
    return _in_favour(gaps, slope, extrapolated)


def _in_favour(gaps: Mapping[int, Floats], slope: Estimate | None, extrapolated: MeanTest) -> tuple[str, str]:
    """Whether what does not speak against a limit speaks for it."""
    if extrapolated.noise > RESOLUTION:
        share = max(float(np.max(s)) / float(np.sum(s)) for s in (np.sum(g**2, axis=1) for g in gaps.values()))
        why = f"; one network has {share:.0%} of all squared deviation at its width" if share > 1 / 3 else ""
        return INCONCLUSIVE, f"the noise of the mean is {extrapolated.noise:.0%} of the limit: more seeds or width{why}"
    if slope is not None and not slope.value + 2 * slope.error <= FALLS:
        return INCONCLUSIVE, f"{_fall(slope)}: more widths or seeds are needed to tell that from a floor"
    mean = f"the mean, extrapolated to infinite width, is the limit (p = {extrapolated.p:.2g})"
    return AGREES, f"{_fall(slope)}, and {mean}"


def _fall(slope: Estimate | None) -> str:
    """In words, what the deviation of single networks does."""
    if slope is None:
        return "single networks stay random"
    rate = f"width^({slope.value:.2f} +- {slope.error:.2f})"
    if slope.value + 2 * slope.error <= FALLS:
        return f"the deviation of one network falls like {rate}"
    return f"the deviation of one network goes like {rate}, where a right limit has width^-0.5"


def _difference(test: MeanTest, limit: Floats, rows: Sequence[str]) -> str:
    """In words, where the extrapolated mean is not the limit."""
    norm = float(np.linalg.norm(limit)) or 1.0
    whole = f"simulation and limit differ by {test.bias:.2g} +- {test.noise:.2g} of the norm of the limit"
    worst = test.worst
    if worst is None or worst.p > test.p_norm and worst.errors < 3:
        return whole
    place = ", ".join(rows[k] if rows else str(k) for k in map(int, np.unravel_index(worst.index, limit.shape)))
    value = float(limit.ravel()[worst.index])
    simulated = f"{value + norm * worst.difference:.4g} +- {norm * worst.error:.2g}"
    return (f"entry ({place}) is {value:.4g} in the limit, but {simulated} in simulation, extrapolated to infinite "
            f"width: {worst.errors:.1f} standard errors; in all, {whole}")
