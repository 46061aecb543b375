"""Orthant probabilities of three and four Gaussians, one entry at a time.

    orthant(h, r, d) = P(x_i < h_i for all i),   unit variances, correlations r,   d_ij = 1 - r_ij^2 given apart

Plackett (A reduction formula for normal multivariate integrals, 1954): the derivative by r_ij is the density of
(x_i, x_j) at (h_i, h_j) times the probability of the others given x_i = h_i, x_j = h_j.  Along the path on which
the first variable is uncoupled, r_0j -> r_0j sin t, this gives

    P = P(x_0 < h_0) P(the others) + int_0^(pi/2) sum_j r_0j cos t  density_0j(t)  P(rest | 0, j; t) dt .

1 - (r_0j sin t)^2 = cos^2 t + sin^2 t d_0j, and all determinants on the path are such sums of positive terms.
The integral is an adaptive Gauss-Kronrod one.  Pairs with d_ij = 0 must have been merged (`law`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tensorprog.symbolic.bivariate import FAR, pair, single
from tensorprog.symbolic.compiled import compiled
from tensorprog.symbolic.kronrod import GAUSS, KRONROD, NODES
from tensorprog.symbolic.orthant import Array

EPS = float(np.finfo(float).eps)
TOLERANCE = 2e-15
PANELS = 400
Pairs = Mapping[tuple[int, int], tuple[Array, Array]]


def probability(thresholds: Sequence[Array], pairs: Pairs) -> tuple[Array, Array]:
    """Orthant probabilities of arrays that broadcast; `pairs` has r_ij and 1 - r_ij^2 for i < j.  Errors: absolute."""
    n = len(thresholds)
    shape = np.broadcast_shapes(*(t.shape for t in thresholds), *(x.shape for both in pairs.values() for x in both))
    h = np.stack([np.broadcast_to(t, shape).ravel() for t in thresholds], axis=-1)
    r = np.ones((len(h), n, n))
    d = np.zeros((len(h), n, n))
    for (i, j), (rho, det) in pairs.items():
        r[:, i, j] = r[:, j, i] = np.broadcast_to(rho, shape).ravel()
        d[:, i, j] = d[:, j, i] = np.broadcast_to(det, shape).ravel()
    value, error = orthants(h, r, d)
    return value.reshape(shape), error.reshape(shape)


@compiled
def orthants(h: Array, r: Array, d: Array) -> tuple[Array, Array]:
    """The probabilities of entries h [N, n], r [N, n, n], d [N, n, n], and estimates of their absolute errors."""
    value, error = np.empty(len(h)), np.empty(len(h))
    for i in range(len(h)):
        value[i], error[i] = orthant(h[i], r[i], d[i])
    return value, error


@compiled
def orthant(h: Array, r: Array, d: Array) -> tuple[float, float]:
    """See the module; h [n], n = 3 or 4."""
    if len(h) == 4:
        return _four(h, r, d)
    return _three(h, r, d)


@compiled
def _three(h: Array, r: Array, d: Array) -> tuple[float, float]:
    if h[0] == 0.0 and h[1] == 0.0 and h[2] == 0.0:
        angles = 0.0
        for i, j in ((0, 1), (0, 2), (1, 2)):
            angles += math.atan2(math.sqrt(d[i, j]), -r[i, j])
        return max(0.0, (angles - math.pi) / (4 * math.pi)), 2 * EPS
    first = 0
    for i in range(1, 3):
        if d[(i + 1) % 3, (i + 2) % 3] > d[(first + 1) % 3, (first + 2) % 3]:
            first = i
    h, r, d = _led_by(first, h, r, d)
    dets = _triples(r, d)
    value, error = _path_integral(h, r, d, dets, np.zeros((3, 2)))
    value += single(h[0]) * pair(h[1], h[2], r[1, 2], d[1, 2])
    return min(1.0, max(0.0, value)), error + 4 * EPS


@compiled
def _four(h: Array, r: Array, d: Array) -> tuple[float, float]:
    dets = _triples(r, d)
    first = 0
    for i in range(1, 4):
        if dets[i] > dets[first]:
            first = i
    h, r, d = _led_by(first, h, r, d)
    dets = _triples(r, d)
    value, error = _path_integral(h, r, d, dets, _rests(r, d, dets))
    rest, rest_error = _three(h[1:], r[1:, 1:], d[1:, 1:])
    value += single(h[0]) * rest
    return min(1.0, max(0.0, value)), error + rest_error + 4 * EPS


@compiled
def _led_by(first: int, h: Array, r: Array, d: Array) -> tuple[Array, Array, Array]:
    """The variables in an order that starts with `first`."""
    n = len(h)
    order = np.array([(first + i) % n for i in range(n)])
    return h[order], r[order][:, order], d[order][:, order]


# ---------------------------------------------------------------- determinants


@compiled
def partial(ij: float, ik: float, jk: float, d_ij: float, d_ik: float, d_jk: float) -> float:
    """r_jk - r_ij r_ik, without cancellation where correlations approach +-1."""
    side = 1.0 if ij * ik >= 0 else -1.0
    if min(abs(ij), abs(ik)) > 0.5 and jk * side > 0.5:
        a, b, c = d_ij / (1 + abs(ij)), d_ik / (1 + abs(ik)), d_jk / (1 + abs(jk))
        return side * ((a - c) + b - a * b)
    if abs(ij) >= abs(ik):
        return (jk - math.copysign(ik, ik * ij)) + math.copysign(1.0, ij) * d_ij / (1 + abs(ij)) * ik
    return (jk - math.copysign(ij, ij * ik)) + math.copysign(1.0, ik) * d_ik / (1 + abs(ik)) * ij


@compiled
def _triple(i: int, j: int, k: int, r: Array, d: Array) -> float:
    """The determinant of the correlations of i, j, k, from an end of the closest pair."""
    if d[j, k] <= d[i, j] and d[j, k] <= d[i, k]:
        i, j, k = j, i, k
    elif d[i, k] < d[i, j]:
        i, j, k = i, k, j
    p = partial(r[i, j], r[i, k], r[j, k], d[i, j], d[i, k], d[j, k])
    return float(max(0.0, d[i, j] * d[i, k] - p * p))


@compiled
def _triples(r: Array, d: Array) -> Array:
    """[m] the determinant of all but m; for three variables the determinant of all, at any m."""
    n = len(r)
    dets = np.empty(4)
    for m in range(4):
        if n == 3:
            dets[m] = _triple(0, 1, 2, r, d)
        else:
            dets[m] = _triple((m + 1) % 4, (m + 2) % 4, (m + 3) % 4, r, d)
    return dets


@compiled
def _rests(r: Array, d: Array, dets: Array) -> Array:
    """Coefficients of cos^2 and sin^2: [j] of (1 - r_0j^2 sin^2) Cov(k, m | 0, j), [0] of the determinant of all."""
    rests = np.empty((4, 2))
    rests[0, 0], rests[0, 1] = dets[0], 0.0
    best = 0.0
    for j in range(1, 4):
        k, m = _others(j)
        km = partial(r[j, k], r[j, m], r[k, m], d[j, k], d[j, m], d[k, m])
        ok = partial(r[0, j], r[j, k], r[0, k], d[0, j], d[j, k], d[0, k])
        om = partial(r[0, j], r[j, m], r[0, m], d[0, j], d[j, m], d[0, m])
        cross = d[0, j] * km - ok * om
        rests[j, 0], rests[j, 1] = km, cross
        if d[0, j] > best:  # Sylvester's identity, at the least correlated pair
            best = d[0, j]
            rests[0, 1] = max(0.0, (dets[m] * dets[k] - cross * cross) / best)
    return rests


@compiled
def _others(j: int) -> tuple[int, int]:
    """The two of 1, 2, 3 beside j."""
    return (2 if j == 1 else 1), (2 if j == 3 else 3)


# ---------------------------------------------------------------- the path


@compiled
def _path_integral(h: Array, r: Array, d: Array, dets: Array, rests: Array) -> tuple[float, float]:
    """The integral of the module's formula and its error estimate."""
    low, high = np.empty(64), np.empty(64)
    low[0], high[0] = 0.0, 0.5 * math.pi
    waiting, done = 1, 0
    value, error = 0.0, 0.0
    while waiting > 0:
        waiting -= 1
        a, b = low[waiting], high[waiting]
        v, e = _panel(a, b, h, r, d, dets, rests)
        done += 1
        if e <= TOLERANCE or done > PANELS or waiting > 60:
            value, error = value + v, error + e
            continue
        low[waiting], high[waiting] = a, 0.5 * (a + b)
        low[waiting + 1], high[waiting + 1] = 0.5 * (a + b), b
        waiting += 2
    return value, error


@compiled
def _panel(a: float, b: float, h: Array, r: Array, d: Array, dets: Array, rests: Array) -> tuple[float, float]:
    """Gauss-Kronrod on one panel; the error estimate is QUADPACK's."""
    half, size = 0.5 * (b - a), len(NODES)
    values = np.empty(size)
    fine, coarse = 0.0, 0.0
    for i in range(size):
        values[i] = _slope(a + half * (1 + NODES[i]), h, r, d, dets, rests)
        fine += KRONROD[i] * values[i]
        coarse += GAUSS[i] * values[i]
    variation = 0.0
    for i in range(size):
        variation += KRONROD[i] * abs(values[i] - 0.5 * fine)
    error, variation = half * abs(fine - coarse), half * variation
    if variation > 0:
        error = variation * min(1.0, (200 * error / variation) ** 1.5)
    return half * fine, error + EPS * variation


@compiled
def _slope(t: float, h: Array, r: Array, d: Array, dets: Array, rests: Array) -> float:
    """The integrand at angle t; with a = r_0j sin t, side = sign a:

    (x^2 + y^2 - 2 a x y) / (1 - a^2) = (x - side y)^2 / (1 - a^2) + 2 side x y / (1 + |a|)
    """
    s, c = math.sin(t), math.cos(t)
    ss, cc = s * s, c * c
    total: float = 0.0
    for j in range(1, len(h)):
        free, a = cc + ss * d[0, j], s * r[0, j]
        side = math.copysign(1.0, a)
        exponent = 0.5 * (h[0] - side * h[j]) ** 2 / free + side * h[0] * h[j] / (1 + abs(a))
        if exponent > 740.0 or r[0, j] == 0.0:
            continue
        if len(h) == 3:
            rest = _rest_of_three(j, s, ss, cc, h, r, d, dets)
        else:
            rest = _rest_of_four(j, s, ss, cc, h, r, d, dets, rests)
        total += r[0, j] * c / math.sqrt(free) * math.exp(-exponent) * rest
    return total / (2 * math.pi)


@compiled
def _rest_of_three(j: int, s: float, ss: float, cc: float, h: Array, r: Array, d: Array, dets: Array) -> float:
    k = 3 - j
    free = cc + ss * d[0, j]
    return single(_standardized(_surplus(j, k, s, ss, cc, h, r, d), free * (cc * d[j, k] + ss * dets[0])))


@compiled
def _rest_of_four(
    j: int, s: float, ss: float, cc: float, h: Array, r: Array, d: Array, dets: Array, rests: Array
) -> float:
    k, m = _others(j)
    free = cc + ss * d[0, j]
    with_k, with_m = cc * d[j, k] + ss * dets[m], cc * d[j, m] + ss * dets[k]
    product = with_k * with_m
    u = _standardized(_surplus(j, k, s, ss, cc, h, r, d), free * with_k)
    v = _standardized(_surplus(j, m, s, ss, cc, h, r, d), free * with_m)
    if product <= 0.0:
        return single(u) * single(v)
    rho = (cc * rests[j, 0] + ss * rests[j, 1]) / math.sqrt(product)
    left = free * (cc * rests[0, 0] + ss * rests[0, 1]) / product
    return pair(u, v, max(-1.0, min(1.0, rho)), max(0.0, min(1.0, left)))


@compiled
def _standardized(surplus: float, square: float) -> float:
    if surplus == 0.0:
        return 0.0
    if square > 0.0:
        return max(-FAR, min(FAR, surplus / math.sqrt(square)))
    return math.copysign(FAR, surplus)


@compiled
def _surplus(j: int, k: int, s: float, ss: float, cc: float, h: Array, r: Array, d: Array) -> float:
    """(1 - r_0j^2) (h_k - E[x_k | x_0 = h_0, x_j = h_j]) on the path, written from the closest pair of the three."""
    if h[0] == 0.0 and h[j] == 0.0 and h[k] == 0.0:
        return 0.0
    a, b, c = s * r[0, j], s * r[0, k], r[j, k]
    d_a, d_b = cc + ss * d[0, j], cc + ss * d[0, k]
    if abs(c) >= abs(a) and abs(c) >= abs(b):
        side, rest = math.copysign(1.0, c), d[j, k] / (1 + abs(c))
        return float((h[k] - side * h[j]) * d_a + (h[j] * a - h[0]) * (b - side * a) + side * rest * (h[j] - h[0] * a))
    if abs(b) >= abs(a):
        side, rest = math.copysign(1.0, b), d_b / (1 + abs(b))
        return float((h[k] - side * h[0]) * d_a + (h[0] * a - h[j]) * (c - side * a) + side * rest * (h[0] - h[j] * a))
    side, rest = math.copysign(1.0, a), d_a / (1 + abs(a))
    return float(h[k] * d_a - (h[0] - side * h[j]) * (b - side * c) - side * rest * (h[0] * c + h[j] * b))
