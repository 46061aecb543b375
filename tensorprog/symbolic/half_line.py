"""Trapezoidal rules on (0, inf) and its products, for integrands that are analytic but on the negative half-line.

    int_0^inf t^(p-1) F(t) dt / Gamma(p),   t = exp(r - exp(-r)) / scale,   r in steps

Near 0 the nodes thin out double exponentially, at infinity F falls like a power and so do its values in r.
Between them the rule is uniform in log t: spreads of many orders of magnitude cost nodes, not digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Nodes:
    """Points [n, dimensions] and weights [n]."""

    points: Array
    weights: Array


def nodes(powers: Sequence[tuple[float, float]], high: float, step: float) -> tuple[Nodes, Nodes]:
    """The nodes of the product rule of twice the step (with the weights of the step), and those between.

    `powers`: (p, scale) of every dimension.
    """
    lines = [_line(p, scale, high, step) for p, scale in powers]
    points = np.stack([x.ravel() for x in np.meshgrid(*(x for x, _, _ in lines), indexing="ij")], axis=1)
    weights, even = np.ones(1), np.ones(1, dtype=bool)
    for _, w, e in lines:
        weights, even = np.outer(weights, w).ravel(), np.outer(even, e).ravel()
    return Nodes(points[even], weights[even]), Nodes(points[~even], weights[~even])


def _line(p: float, scale: float, high: float, step: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Points, weights, and whether they belong to the rule of twice the step."""
    low = -math.log(40 / p + 5)
    k = np.arange(math.floor(low / step), math.ceil(high / step) + 1)
    r = k * step
    log = r - np.exp(-r)
    weights = np.exp(p * (log - math.log(scale))) * (1 + np.exp(-r)) * step / math.gamma(p)
    return np.exp(log) / scale, weights, k % 2 == 0
