"""Gaussian expectations of pairs of activations, E[f(u) g(v)] with (u, v) centred Gaussian.

Every function takes a = E u^2, b = E v^2, c = E u v as arrays that broadcast. Closed forms for relu and erf
(Cho & Saul 2009, Williams 1997), a brute-force sum over a grid for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Scalar = Callable[[Array], Array]
Dual = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True, slots=True)
class Activation:
    """phi with V_phi(a, b, c) = E[phi(u) phi(v)] and V_phi'(a, b, c) = E[phi'(u) phi'(v)]."""

    value: Dual
    slope: Dual


def angle(a: Array, b: Array, c: Array) -> Array:
    """The angle between u and v, exactly 0 where a = b = c."""
    return np.arctan2(np.sqrt(np.maximum(a * b - c * c, 0.0)), c)


def relu_value(a: Array, b: Array, c: Array) -> Array:
    """sqrt(ab) (sin t + (pi - t) cos t) / (2 pi) with t the angle (Cho & Saul 2009, degree 1)."""
    t = angle(a, b, c)
    return (np.sqrt(np.maximum(a * b - c * c, 0.0)) + (math.pi - t) * c) / (2 * math.pi)


def relu_slope(a: Array, b: Array, c: Array) -> Array:
    """(pi - t) / (2 pi) (Cho & Saul 2009, degree 0)."""
    return (math.pi - angle(a, b, c)) / (2 * math.pi)


def erf_value(a: Array, b: Array, c: Array) -> Array:
    """(2/pi) arcsin(2c / sqrt((1 + 2a)(1 + 2b))) (Williams 1997)."""
    return 2 / math.pi * np.arcsin(2 * c / np.sqrt((1 + 2 * a) * (1 + 2 * b)))


def erf_slope(a: Array, b: Array, c: Array) -> Array:
    """(4/pi) ((1 + 2a)(1 + 2b) - 4c^2)^(-1/2)."""
    return 4 / math.pi / np.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c)


def normal_grid(step: float) -> tuple[Array, Array]:
    """Nodes and weights of the trapezoidal rule for the standard normal law on [-10, 10]."""
    x = np.arange(-10.0, 10.0 + step / 2, step)
    return x, step * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def grid_dual(f: Scalar, g: Scalar, step: float = 0.1) -> Dual:
    """E[f(u) g(v)] with u = sqrt(a) x, v = (c x + sqrt(ab - c^2) y) / sqrt(a), summed over a uniform grid of (x, y).

    For analytic f, g the trapezoidal rule converges like exp(-2 pi r / step), r the distance of the nearest
    singularity to the real line; Gauss-Hermite rules do not reach 1e-6 for tanh at variances above 3.
    """
    x, w = normal_grid(step)

    def entry(a: float, b: float, c: float) -> float:
        u = math.sqrt(a) * x[:, None]
        v = (c * x[:, None] + math.sqrt(max(a * b - c * c, 0.0)) * x[None, :]) / math.sqrt(a)
        return float(w @ (f(u) * g(v)) @ w)

    return np.vectorize(entry)


def numeric(f: Scalar, slope: Scalar, step: float = 0.1) -> Activation:
    """An activation whose expectations are computed on a grid; f smooth, a > 0."""
    return Activation(grid_dual(f, f, step), grid_dual(slope, slope, step))


def mean(f: Scalar, variance: float, step: float = 0.02) -> float:
    """E f(z), z ~ N(0, variance), f smooth."""
    x, w = normal_grid(step)
    return float(w @ f(math.sqrt(variance) * x))


def pairwise(dual: Dual, s: Array) -> Array:
    """The matrix dual(s_ii, s_jj, s_ij) of a covariance matrix s."""
    d = np.diag(s)
    return dual(d[:, None], d[None, :], s)


RELU = Activation(relu_value, relu_slope)
ERF = Activation(erf_value, erf_slope)
