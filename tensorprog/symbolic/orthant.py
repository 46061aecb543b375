"""Numerics of one and two Gaussian half-lines: accurate minors, probabilities, wedge moments.

Everything takes arrays that broadcast and is exact to rounding at correlation +-1 and variance 0.
Standardized thresholds h = mean / deviation are cut at +-40, where the normal law has no mass in float64.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[Any]
EPS = float(np.finfo(float).eps)
FAR = 40.0
ROOT_2PI = math.sqrt(2 * math.pi)
_SPLITTER = 134217729.0  # 2^27 + 1 (Dekker, A floating-point technique, 1971)


def array(x: Any) -> Array:
    """A number as an array; arrays, and what stands for an entry of one (`backend.trace`), as they are."""
    return x if hasattr(x, "__array_ufunc__") else np.asarray(x)


def is_array(x: Any) -> bool:
    """Whether `x` is an array of entries, about which decisions can be made, and not one entry by itself."""
    return isinstance(x, np.ndarray | np.generic | float | bool)


def minor(a: Array, b: Array, c: Array) -> Array:
    """ab - c^2 with a relative error of some ulps (error-free products); 0 where inputs cannot resolve it.

    `c` above sqrt(ab), or below it by 4 ulps of ab, is the rounding of equal inputs and gives 0.
    """
    ab, cc = a * b, c * c
    if np.iscomplexobj(ab) or np.iscomplexobj(cc):
        return array(ab - cc)
    value = (ab - cc) + (product_error(a, b, ab) - product_error(c, c, cc))
    return np.where(value > 4 * EPS * ab, value, 0.0)


def cross(a: Array, b: Array, c: Array, d: Array) -> Array:
    """ab - cd with a relative error of some ulps."""
    ab, cd = a * b, c * d
    return array((ab - cd) + (product_error(a, b, ab) - product_error(c, d, cd)))


def product_error(x: Array, y: Array, xy: Array) -> Array:
    """x y - xy, exactly; `xy` is the rounded product.  What stands for an entry has an operation for it."""
    for symbol in (x, y):
        if hasattr(symbol, "product_error"):
            return array(symbol.product_error(x, y, xy))
    x_high, x_low = _halves(x)
    y_high, y_low = _halves(y)
    return array(x_low * y_low - (((xy - x_high * y_high) - x_low * y_high) - x_high * y_low))


def _halves(x: Array) -> tuple[Array, Array]:
    t = _SPLITTER * x
    high = t - (t - x)
    return high, x - high


def ratio(x: Array, y: Array) -> Array:
    """x / y, and 0 where y = 0: for quotients that vanish with their divisor."""
    nonzero = y != 0
    return np.where(nonzero, x / np.where(nonzero, y, 1.0), 0.0)


def threshold(mean: Array, deviation: Array) -> Array:
    """mean / deviation cut at +-40; at deviation 0 the sign of the mean decides, 0 stays 0."""
    quotient = ratio(mean, deviation)
    if np.any(deviation == 0):
        quotient = np.where(deviation == 0, np.sign(mean) * FAR, quotient)
    return np.clip(quotient, -FAR, FAR)


def density(h: Array) -> Array:
    """The standard normal density; 0 beyond the cut."""
    return np.where(np.abs(h) < FAR, np.exp(-0.5 * h * h) / ROOT_2PI, 0.0)


def step_mean(h: Array) -> Array:
    """E step(x), x ~ N(h, 1)."""
    return array(special.ndtr(h))


def sign_mean(h: Array) -> Array:
    """E sign(x), x ~ N(h, 1)."""
    return array(special.erf(h / math.sqrt(2)))


def crossed(h: Array, k: Array, rho: Array, det: Array) -> tuple[Array, Array]:
    """(k - rho h) / r and (h - rho k) / r with r = sqrt(det) = sqrt(1 - rho^2), consistent as r -> 0.

    Written with the difference k - sign(rho) h, so that rounding at |rho| = 1 gives +-inf in both or 0 in both.
    """
    side = np.where(rho < 0, -1.0, 1.0)
    gap = k - side * h
    rest = side * det / (1 + np.abs(rho))
    return _over_root(gap + rest * h, det), _over_root(-side * gap + rest * k, det)


def _over_root(x: Array, det: Array) -> Array:
    root = np.sqrt(det)
    return np.where(root > 0, ratio(x, root), np.where(x == 0, 0.0, np.copysign(np.inf, x)))


def sign_pair(h: Array, k: Array, rho: Array, det: Array) -> Array:
    """E sign(x) sign(y), unit variances, means h and k; det = 1 - rho^2.  At h = k = 0: (2/pi) arcsin rho.

    Otherwise by Owen's T (Owen, Tables for computing bivariate normal probabilities, 1956).
    """
    central = 2 / math.pi * np.arctan2(rho, np.sqrt(det))
    if not (np.any(h) or np.any(k)):
        return array(central)
    shifted = 1 - 4 * _owen(h, k, rho, det) - 2 * _opposite(h, k)
    return np.where((h == 0) & (k == 0), central, shifted)


def step_pair(h: Array, k: Array, rho: Array, det: Array) -> Array:
    """P(x > 0, y > 0), unit variances, means h and k; det = 1 - rho^2.  At h = k = 0: (pi - angle) / 2 pi."""
    central = np.arctan2(np.sqrt(det), -rho) / (2 * math.pi)
    if not (np.any(h) or np.any(k)):
        return array(central)
    shifted = 0.5 * (step_mean(h) + step_mean(k)) - _owen(h, k, rho, det) - 0.5 * _opposite(h, k)
    return np.where((h == 0) & (k == 0), central, np.maximum(shifted, 0.0))


def _opposite(h: Array, k: Array) -> Array:
    return np.where((h * k < 0) | ((h * k == 0) & (h + k < 0)), 1.0, 0.0)


def _owen(h: Array, k: Array, rho: Array, det: Array) -> Array:
    """T(h, (k/h - rho)/r) + T(k, (h/k - rho)/r), r = sqrt(1 - rho^2)."""
    over_h, over_k = crossed(h, k, rho, det)
    return array(_owen_term(h, over_h) + _owen_term(k, over_k))


def _owen_term(h: Array, t: Array) -> Array:
    slope = np.where(h != 0, ratio(t, h), np.where(t == 0, 0.0, np.copysign(np.inf, t)))
    return array(special.owens_t(h, slope))


def wedge(p: int, q: int, a: Array, b: Array, c: Array, det: Array) -> Array:
    """E[x^p y^q; x > 0, y > 0] for zero means, as a positive sum: full relative precision as rho -> -1.

    = a^(p/2) b^(q/2) G w int_0^1 sin^p(w s) sin^q(w (1 - s)) ds,  w = pi - angle,
    G = 2^((p+q)/2) Gamma((p+q)/2 + 1) / (2 pi)   (Cho & Saul, Kernel methods for deep learning, 2009).
    """
    nodes, weights = _legendre(16)
    opening = np.arctan2(np.sqrt(det), -c)
    total = sum(
        w * np.sin(opening * s) ** p * np.sin(opening * (1 - s)) ** q for s, w in zip(nodes, weights, strict=True)
    )
    radial = 2 ** ((p + q) / 2) * math.gamma((p + q) / 2 + 1) / (2 * math.pi)
    return array(radial * a ** (p / 2) * b ** (q / 2) * opening * total)


@cache
def _legendre(n: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return tuple((nodes + 1) / 2), tuple(weights / 2)
