"""The bivariate normal distribution function, one entry at a time.

    pair(h, k, r, d) = P(x < h, y < k),   unit variances, correlation r,   d = 1 - r^2 given apart

Drezner & Wesolowsky's integral over the angle, arcsin r, and near |r| = 1 its remainder over the square root
of d (Genz, Numerical computation of rectangular bivariate and trivariate normal and t probabilities, 2004,
section 2).  Absolute error below 1e-15.
"""

from __future__ import annotations

import math

import numpy as np

from tensorprog.symbolic.compiled import compiled

FAR = 40.0
NEAR = 0.925  # from this correlation on the remainder is integrated
_X6, _W6 = np.polynomial.legendre.leggauss(6)
_X12, _W12 = np.polynomial.legendre.leggauss(12)
_X20, _W20 = np.polynomial.legendre.leggauss(20)


@compiled
def single(h: float) -> float:
    """P(x < h)"""
    return 0.5 * math.erfc(-h * 0.7071067811865476)


@compiled
def pair(h: float, k: float, r: float, d: float) -> float:
    """See the module."""
    if h == 0.0 and k == 0.0:
        return math.atan2(math.sqrt(d), -r) / (2 * math.pi)
    if abs(r) < NEAR:
        return single(h) * single(k) + _arc(h, k, math.asin(r))
    if r > 0:
        return single(min(h, k)) - _remainder(h, k, d)
    return max(0.0, single(h) - single(-k)) + _remainder(h, -k, d)


@compiled
def _arc(h: float, k: float, angle: float) -> float:
    """The integral of exp(-(h^2 + k^2 - 2 h k sin t) / (2 cos^2 t)) / (2 pi) over 0 < t < angle."""
    size = abs(angle)
    x, w = (_X6, _W6) if size < 0.3 else (_X12, _W12) if size < 0.84 else (_X20, _W20)
    half, both, total = 0.5 * (h * h + k * k), h * k, 0.0
    for i in range(len(x)):
        s = math.sin(0.5 * angle * (1 + x[i]))
        total += w[i] * math.exp((s * both - half) / ((1 - s) * (1 + s)))
    return total * angle / (4 * math.pi)


@compiled
def _remainder(h: float, k: float, d: float) -> float:
    """What the limit r -> 1 lacks: the integral over 0 < x < sqrt(d), its leading terms in closed form."""
    if d <= 0.0:
        return 0.0
    root, gap, hk = math.sqrt(d), (h - k) ** 2, h * k
    c, e = (4 - hk) / 8, (12 - hk) / 16
    total = root * math.exp(-0.5 * (gap / d + hk)) * (1 - c * (gap - d) * (1 - e * gap / 5) / 3 + c * e * d * d / 5)
    if hk > -100:
        width = math.sqrt(gap)
        tail = math.sqrt(2 * math.pi) * single(-width / root) * width
        total -= math.exp(-0.5 * hk) * tail * (1 - c * gap * (1 - e * gap / 5) / 3)
    for i in range(len(_X20)):
        square = (0.5 * root * (1 + _X20[i])) ** 2
        cosine = math.sqrt(1 - square)
        exact = math.exp(-0.5 * gap / square - hk / (1 + cosine)) / cosine
        leading = math.exp(-0.5 * (gap / square + hk)) * (1 + c * square * (1 + e * square))
        total += 0.5 * root * _W20[i] * (exact - leading)
    return total / (2 * math.pi)
