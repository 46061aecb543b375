"""exp(log) times the probabilities of one and two half-lines, at real or complex thresholds.

    e^log P(x > 0),  x ~ N(h, 1):   Phi(h) = exp(-h^2 / 2) w(-i h / sqrt 2) / 2  for Re h <= 0,  w Faddeeva's function,
    e^log P(x > 0, y > 0):          Plackett's integral over the angle, entire in the thresholds

An exponential of large variance has a huge exp(log) and half-lines far out: their exponents are joined.
A wave exp(i w.x) moves the mean by i cov w and has log = -w cov w / 2, so that neither factor alone is bounded.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from tensorprog.symbolic.orthant import EPS, Array, ratio

FAR = 1e10  # the threshold of a constant: exp(log - FAR^2 / 2) is 0


def threshold(mean: Array, deviation: Array) -> Array:
    """mean / deviation; at deviation 0 the sign of the mean decides."""
    return np.where(deviation == 0, np.sign(np.real(mean)) * FAR, ratio(mean, deviation))


def step_mean(h: Array, log: Array) -> Array:
    """exp(log) Phi(h)"""
    if not np.iscomplexobj(h):
        return np.asarray(np.exp(log + special.log_ndtr(h)))
    side = np.where(np.real(h) > 0, -1.0, 1.0)
    tail = 0.5 * np.exp(log - 0.5 * h * h) * special.wofz(-1j * side * h / math.sqrt(2))
    return np.asarray(np.where(side < 0, np.exp(log) - tail, tail))


def step_pair(h: Array, k: Array, rho: Array, det: Array, log: Array) -> tuple[Array, Array]:
    """exp(log) P(x > 0, y > 0), unit variances, means h and k, det = 1 - rho^2; and its absolute error."""
    shape = np.broadcast_shapes(*map(np.shape, (h, k, rho, det, log)))
    h, k, rho, det, log = (np.broadcast_to(x, shape) for x in (h, k, rho, det, log))
    return (_complex_pair if np.iscomplexobj(h) else _real_pair)(h, k, rho, det, log)


def _complex_pair(h: Array, k: Array, rho: Array, det: Array, log: Array) -> tuple[Array, Array]:
    from tensorprog.symbolic.arc import arcs  # compiled code is loaded where it is needed

    alone = [step_mean(x, np.zeros(())) for x in (h, k)]
    product = np.exp(log) * alone[0] * alone[1]
    parts = [np.ascontiguousarray(x).ravel() for x in (h + 0j, k + 0j, rho, det, log + 0j)]
    integral, error = (x.reshape(h.shape) for x in arcs(*parts))
    value = np.where(det > 0, product + integral, _on_a_line(h, k, rho, log))
    exponents = 1 + np.abs(log) + np.abs(h) ** 2 + np.abs(k) ** 2
    return value, np.where(det > 0, error + 8 * EPS * exponents * np.abs(product), 8 * EPS)


def _real_pair(h: Array, k: Array, rho: Array, det: Array, log: Array) -> tuple[Array, Array]:
    """A sum of positive terms: from independence where rho > 0, from rho = -1 where rho < 0."""
    from tensorprog.symbolic.arc import ridges

    parts = [np.ascontiguousarray(x, dtype=float).ravel() for x in (h, k, rho, det, log)]
    integral, error = (x.reshape(h.shape) for x in ridges(*parts))
    product = np.exp(log + special.log_ndtr(h) + special.log_ndtr(k))
    low, high = np.minimum(h, k), np.maximum(h, k)
    between = np.where(h + k > 0, step_mean(low, log) - step_mean(-high, log), 0.0)
    value = np.where(rho < 0, between, product) + integral
    return np.where((det == 0) & (rho > 0), step_mean(low, log), value), error


def _on_a_line(h: Array, k: Array, rho: Array, log: Array) -> Array:
    """Correlation +-1: a half-line, or an interval."""
    first, second = step_mean(h, log), step_mean(k, log)
    least = np.where(np.real(h) <= np.real(k), first, second)
    interval = np.where(np.real(h + k) > 0, first + second - np.exp(log), 0.0)
    return np.where(rho > 0, least, interval)
