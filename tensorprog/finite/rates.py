"""How fast a deviation falls with the width, and the coefficient of its leading term.

    |K_n - K|             =  c n^slope                 slope by weighted least squares in logarithms
    n E (K_n - K)         =  b + O(1/n)                b: the leading coefficient of the bias
    n E |K_n - E K_n|^2   =  v + O(1/n)                v: the leading coefficient of the variance
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3g} +- {self.error:.2g}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Leading:
    """The leading coefficient in 1/width of every entry, with standard errors, and one number for all of them.

    Of the bias `size` is the Frobenius norm relative to that of the limit, the noise subtracted; of the variance the
    sum over entries relative to the squared norm of the limit.
    """

    entries: Floats
    errors: Floats
    size: Estimate


def rms_deviation(gaps: Floats) -> tuple[float, float]:
    """The rms over seeds of the norm of a gap [seeds, entries], and its standard error by the delta method."""
    squares = np.sum(gaps**2, axis=1)
    rms = math.sqrt(float(squares.mean()))
    if len(squares) < 2 or rms == 0:
        return rms, math.nan
    return rms, float(squares.std(ddof=1)) / math.sqrt(len(squares)) / (2 * rms)


def log_slope(widths: Sequence[int], deviation: Sequence[float], error: Sequence[float]) -> Estimate:
    """The slope of the line through (log width, log deviation).

    Weights are 1 / (relative standard error)^2; the error of the slope is enlarged by sqrt(chi^2 / dof) where the
    points scatter more than their errors say.
    """
    if len(widths) < 2 or not all(d > 0 and math.isfinite(d) for d in deviation):
        return Estimate(math.nan, math.nan)
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
    return Estimate(slope, math.sqrt(scatter / information))


# ---------------------------------------------------------------- leading coefficients


def intercept(widths: Sequence[int], weights: Sequence[float], order: int) -> Floats:
    """c with sum 1 such that sum of c[k] y[k] is the value at 1/width = 0 of a polynomial in 1/width of this order.

    The polynomial is fitted to y by least squares with these weights.
    """
    design = np.asarray(widths, dtype=np.float64)[:, None] ** -np.arange(order + 1)
    scale = np.abs(design).max(axis=0)
    weighted = (design / scale).T * np.asarray(weights, dtype=np.float64)
    row: Floats = np.linalg.solve(weighted @ (design / scale), weighted)[0]
    return row


def leading_bias(gaps: Mapping[int, Floats]) -> Leading:
    """b of `gaps[width]` [seeds, entries], the relative differences of single networks and the limit."""
    return _leading({w: w * g for w, g in gaps.items()}, -1.0, _norm)


def leading_variance(gaps: Mapping[int, Floats]) -> Leading:
    """v of `gaps[width]` [seeds, entries]; the errors are those of averages of squares."""
    squares = {w: w * (g - g.mean(axis=0)) ** 2 * (len(g) / max(1, len(g) - 1)) for w, g in gaps.items()}
    return _leading(squares, 0.0, _sum)


def _leading(values: Mapping[int, Floats], power: float, summary: Any) -> Leading:
    """The intercept of the means over seeds, whose variance grows like width^-power / seeds."""
    widths = list(values)
    weights = [float(w) ** power * len(v) for w, v in values.items()]
    coefficients = intercept(widths, weights, 1 if len(widths) > 2 else 0)
    total, spread = combined(coefficients, list(values.values()))
    return Leading(total, np.sqrt(np.sum(spread**2, axis=0)), summary(total, spread))


def combined(coefficients: Floats, values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """sum of c[k] mean(values[k]), and rows whose outer products add up to the covariance of that sum."""
    total: Floats = np.sum([c * v.mean(axis=0) for c, v in zip(coefficients, values, strict=True)], axis=0)
    rows = [c * (v - v.mean(axis=0)) / math.sqrt(len(v) * max(1, len(v) - 1))
            for c, v in zip(coefficients, values, strict=True)]
    return total, np.concatenate(rows)


def gram_traces(rows: Floats) -> tuple[float, float]:
    """The traces of the square and of the third power of rows.T rows."""
    few = rows if len(rows) < rows.shape[1] else rows.T
    gram = few @ few.T
    square = gram @ gram
    return float(np.trace(square)), float(np.sum(square * gram))


def _norm(total: Floats, spread: Floats) -> Estimate:
    """|b| from |b + noise|^2: the expected square of the noise is subtracted; its own spread is the error."""
    square = float(total @ total) - float(np.sum(spread**2))
    spread_of_square = math.sqrt(4 * float(np.sum((spread @ total) ** 2)) + 2 * gram_traces(spread)[0])
    value = math.sqrt(max(0.0, square))
    return Estimate(value, spread_of_square / (2 * max(value, math.sqrt(spread_of_square) / 2, 1e-300)))


def _sum(total: Floats, spread: Floats) -> Estimate:
    return Estimate(float(total.sum()), float(np.linalg.norm(spread.sum(axis=1))))
