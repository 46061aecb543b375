"""Plackett's integral for two half-lines at complex thresholds or with a weight, one entry at a time.

    int over angles up to arcsin r of exp(log - (h^2 + k^2 - 2 h k sin t) / (2 cos^2 t)) / (2 pi)

With side = sign r and the angle counted from the end, |sin t| = cos p, the exponent is
    log - (h - side k)^2 / (2 sin^2 p) - side h k / (1 + cos p),   arccos |r| < p < pi / 2.
"""

from __future__ import annotations

import cmath
import math

import numpy as np

from tensorprog.symbolic.compiled import compiled
from tensorprog.symbolic.kronrod import GAUSS, KRONROD, NODES
from tensorprog.symbolic.orthant import Array

EPS = float(np.finfo(float).eps)
TOLERANCE = 2e-15
PANELS = 200
STEPS = 30  # halvings of panels towards a crest


@compiled
def arcs(h: Array, k: Array, r: Array, d: Array, log: Array) -> tuple[Array, Array]:
    """The integrals of arrays [N], and estimates of their errors; d = 1 - r^2."""
    value, error = np.zeros(len(h), dtype=np.complex128), np.zeros(len(h))
    for i in range(len(h)):
        if r[i] != 0.0 and d[i] > 0.0:
            value[i], error[i] = arc(h[i], k[i], r[i], d[i], log[i])
    return value, error


@compiled
def arc(h: complex, k: complex, r: float, d: float, log: complex) -> tuple[complex, float]:
    """See the module."""
    side = math.copysign(1.0, r)
    gap, both = 0.5 * (h - side * k) ** 2, side * h * k
    low, high = np.empty(64), np.empty(64)
    low[0], high[0] = math.atan2(math.sqrt(d), abs(r)), 0.5 * math.pi
    waiting, done = 1, 0
    value, error = 0j, 0.0
    while waiting > 0:
        waiting -= 1
        a, b = low[waiting], high[waiting]
        v, e = _panel(a, b, gap, both, log)
        done += 1
        if e <= TOLERANCE or done > PANELS or waiting > 60:
            value, error = value + v, error + e
            continue
        low[waiting], high[waiting] = a, 0.5 * (a + b)
        low[waiting + 1], high[waiting + 1] = 0.5 * (a + b), b
        waiting += 2
    return side * value / (2 * math.pi), error / (2 * math.pi)


@compiled
def _panel(a: float, b: float, gap: complex, both: complex, log: complex) -> tuple[complex, float]:
    half = 0.5 * (b - a)
    fine, coarse, size, rounding = 0j, 0j, 0.0, 0.0
    for i in range(len(NODES)):
        p = a + half * (1 + NODES[i])
        first, second = gap / math.sin(p) ** 2, both / (1 + math.cos(p))
        v = cmath.exp(log - first - second)
        fine += KRONROD[i] * v
        coarse += GAUSS[i] * v
        size += KRONROD[i] * abs(v)
        rounding += KRONROD[i] * abs(v) * (abs(log) + 2 * abs(first) + 2 * abs(second))
    error, size = half * abs(fine - coarse), half * size
    if size > 0:
        error = size * min(1.0, (200 * error / size) ** 1.5)
    return half * fine, error + 4 * EPS * (size + half * rounding)


@compiled
def ridges(h: Array, k: Array, r: Array, d: Array, log: Array) -> tuple[Array, Array]:
    """Real integrals of arrays [N]: angles from 0 to arcsin r where r > 0, from -pi / 2 where r < 0; and errors."""
    value, error = np.zeros(len(h)), np.zeros(len(h))
    for i in range(len(h)):
        if r[i] != 0.0 and d[i] > 0.0:
            value[i], error[i] = ridge(h[i], k[i], r[i], d[i], log[i])
    return value, error


@compiled
def ridge(h: float, k: float, r: float, d: float, log: float) -> tuple[float, float]:
    """Panels shrink geometrically towards both ends and towards the crest, sin t = h / k or k / h."""
    end = math.atan2(math.sqrt(d), abs(r))
    low, high = (end, 0.5 * math.pi) if r >= 0 else (0.0, end)
    side = math.copysign(1.0, r)
    gap, both = complex(0.5 * (h - side * k) ** 2), complex(side * h * k)
    crest = low
    if h != 0.0 and k != 0.0:
        crest = min(max(low, math.acos(min(1.0, max(0.0, side * min(h / k, k / h))))), high)
    value, error = 0.0, 0.0
    for a, b in ((low, crest), (crest, high)):
        if a == b:
            continue
        for anchor, other in ((a, 0.5 * (a + b)), (b, 0.5 * (a + b))):
            far = other
            for m in range(STEPS + 1):
                near = anchor + (far - anchor) * 0.5 if m < STEPS else anchor
                v, e = _panel(min(near, far), max(near, far), gap, both, complex(log))
                value, error, far = value + v.real, error + e, near
    return value / (2 * math.pi), error / (2 * math.pi)
