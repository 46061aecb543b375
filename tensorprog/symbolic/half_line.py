"""Trapezoidal rules on (0, inf) and its products, for integrands that are analytic but on the negative half-line.

    int_0^inf t^(p-1) F(t) dt / Gamma(p)

p = 1/2, 3/2, ..., as after square roots:  t = sinh(u)^2 / (2 scale), u >= 0 in steps.  The integrand is an even
function of u, so that the half-line has no end, analytic for |Im u| < pi / 2 where F is but for t <= -1 / (2 scale).

Other p:  t = exp(r - exp(-r)) / scale, r in steps.  Near 0 the nodes thin out double exponentially.

At infinity F falls like a power of t, and so do its values exponentially in u and r.  There the rules are uniform in
log t: spreads of many orders of magnitude cost nodes, not digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

Array = NDArray[np.float64]
Line = tuple[Array, Array, NDArray[np.bool_]]

STEP, EVEN_STEP = 0.35, 0.2
"""The widest steps in r and u: for forms of a dozen elements the errors are about 1e-11 and 1e-12."""


@final
@dataclass(frozen=True, slots=True)
class Nodes:
    """Points [n, dimensions] and weights [integrals, n].

    The first `coarse` are every other node of each dimension: with weights times 2^dimensions, twice the step.
    """

    points: Array
    weights: Array
    coarse: int


def nodes(powers: Sequence[tuple[Sequence[float], float]], high: float, refined: int) -> Nodes:
    """The nodes of the product rule with the widest steps, halved `refined` times.

    `powers`: (p of every integral, scale) of every dimension; `high`: how far log(t * scale) goes.
    """
    lines = [
        (_even_line if all((p - 0.5).is_integer() for p in ps) else _line)(ps, scale, high, refined)
        for ps, scale in powers
    ]
    points = np.stack([x.ravel() for x in np.meshgrid(*(x for x, _, _ in lines), indexing="ij")], axis=1)
    weights, even = np.ones((len(powers[0][0]), 1)), np.ones(1, dtype=bool)
    for _, w, e in lines:
        weights = (weights[:, :, None] * w[:, None, :]).reshape(len(w), -1)
        even = np.outer(even, e).ravel()
    order = np.argsort(~even, kind="stable")
    return Nodes(points[order], weights[:, order], int(even.sum()))


def _line(powers: Sequence[float], scale: float, high: float, refined: int) -> Line:
    """Points, weights [integrals, n], and whether they belong to the rule of twice the step."""
    step, low, p = STEP / 2**refined, -math.log(40 / min(powers) + 5), _column(powers)
    k = np.arange(math.floor(low / step), math.ceil(high / step) + 1)
    r = k * step
    log = r - np.exp(-r)
    weights = np.exp(p * (log - math.log(scale))) * (1 + np.exp(-r)) * step / gamma(p)
    return np.exp(log) / scale, weights, k % 2 == 0


def _even_line(powers: Sequence[float], scale: float, high: float, refined: int) -> Line:
    """As `_line`; log(t * scale) = 2 u - log 8 far out."""
    step, p = EVEN_STEP / 2**refined, _column(powers)
    k = np.arange(math.ceil((high + math.log(8)) / 2 / step) + 1)
    sinh = np.sinh(k * step)
    weights = 2 * sinh ** (2 * p - 1) * np.cosh(k * step) * step / gamma(p) / (2 * scale) ** p
    weights[:, 0] /= 2
    return sinh**2 / (2 * scale), weights, k % 2 == 0


def _column(powers: Sequence[float]) -> Array:
    return np.array(powers, dtype=np.float64)[:, None]
