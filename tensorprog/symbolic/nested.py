"""E[f(u) g(v)] by nested piecewise quadrature: u outside, v given u inside; a product on a line at rho = +-1."""

from __future__ import annotations

from functools import cache

import numpy as np

from tensorprog.symbolic.line import Curve, rule
from tensorprog.symbolic.orthant import Array

CHUNK = 64
ROUNDING = 5e-13  # of the conditional law near correlation 1
STRETCH = 4096  # inner integrals at a time


def line_product(f: Curve, g: Curve, laws: Array, side: Array, reach: float) -> tuple[Array, Array]:
    """E[f(u) g(v)] with v = mean_v + side * dev_v * (u - mean_u) / dev_u;  laws [mean_u, dev_u, mean_v, dev_v]."""
    mean_u, dev_u, mean_v, dev_v = laws
    slope = side * dev_v / dev_u
    images = mean_u + (g.breaks[:, None] - mean_v) / slope
    breaks = np.concatenate([np.broadcast_to(f.breaks[:, None], (len(f.breaks), len(mean_u))), images])
    at = rule(mean_u, dev_u, breaks, reach, 1.5)
    v = mean_v[at.owner][:, None] + (side * dev_v)[at.owner][:, None] * at.x
    left, right = at.values(f.f), g.f(v)
    right = np.where(np.isfinite(right) | (np.abs(at.x) <= reach), right, 0.0)
    value, error = at.mean(left * right)
    return value, error + at.rounding(f.doubt(at.nodes) * right) + at.rounding(left * g.doubt(v))


def nested(f: Curve, g: Curve, laws: Array, rho: Array, det: Array, reach: float) -> tuple[Array, Array]:
    """The expectations for laws [4, N] and correlations rho [N], 1 - rho^2 = det [N] > 0."""
    parts = [
        _nested(f, g, laws[:, i : i + CHUNK], rho[i : i + CHUNK], det[i : i + CHUNK], reach)
        for i in range(0, len(rho), CHUNK)
    ]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _nested(f: Curve, g: Curve, laws: Array, rho: Array, det: Array, reach: float) -> tuple[Array, Array]:
    mean_u, dev_u, mean_v, dev_v = laws
    slope, spread = rho * dev_v / dev_u, dev_v * np.sqrt(det)
    at = rule(mean_u, dev_u, _outer_breaks(f, g, laws, slope, spread), reach, 1.5)
    centre = mean_v[at.owner][:, None] + (rho * dev_v)[at.owner][:, None] * at.x
    width = np.broadcast_to(spread[at.owner][:, None], centre.shape)
    inner, inner_error = _smoothed(g, centre.ravel(), width.ravel(), reach)
    outer = at.values(f.f)
    value, error = at.mean(outer * inner.reshape(centre.shape))
    error += at.rounding(f.doubt(at.nodes) * inner.reshape(centre.shape)) + at.rounding(outer * g.doubt(centre))
    carried = at.gather((np.abs(outer * at.weights) * inner_error.reshape(centre.shape)).sum(axis=1))
    return value, error + carried + ROUNDING * np.abs(value)


def _outer_breaks(f: Curve, g: Curve, laws: Array, slope: Array, spread: Array) -> Array:
    """Breaks of f, images of those of g, and rings around the images of the kinks of g as wide as the smoothing."""
    mean_u, dev_u, mean_v, _ = laws
    safe = np.where(np.abs(slope) > 1e-300, slope, 1e-300)
    images = mean_u + (g.breaks[:, None] - mean_v) / safe
    rows = [np.broadcast_to(f.breaks[:, None], (len(f.breaks), len(mean_u))), images]
    for knot in g.knots:
        centre = mean_u + (knot - mean_v) / safe
        rows += [(centre + ring * spread / safe)[None] for ring in (-9, -5, -3, -2, -1, 1, 2, 3, 5, 9)]
    return np.asarray(np.nan_to_num(np.concatenate(rows), posinf=1e300, neginf=-1e300))


def _smoothed(g: Curve, mean: Array, deviation: Array, reach: float) -> tuple[Array, Array]:
    """E g(v), v ~ N(mean, deviation^2).

    A window without breakpoints sees a polynomial of degree 16, which 16 Gauss-Hermite nodes integrate.
    """
    window = _inner_reach(reach) * deviation
    broken = np.searchsorted(g.breaks, mean - window) != np.searchsorted(g.breaks, mean + window)
    nodes, weights = _hermite()
    value = np.empty(len(mean))
    values = g.f(mean[~broken][:, None] + deviation[~broken][:, None] * nodes)
    value[~broken] = values @ weights
    error = np.empty(len(mean))
    error[~broken] = (np.abs(values) @ weights) * (1e-15 + g.defect)
    at = np.flatnonzero(broken)
    for part in (at[i : i + STRETCH] for i in range(0, len(at), STRETCH)):
        inner = rule(mean[part], deviation[part], g.breaks, _inner_reach(reach), 2.0)
        value[part], error[part] = inner.mean(inner.values(g.f))
    return value, error


def _inner_reach(reach: float) -> float:
    """Functions that do not grow exponentially (`reach` is larger for these) need 10 deviations inside."""
    return reach if reach > 13.0 else 10.0


@cache
def _hermite() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    return nodes, weights / weights.sum()
