"""Expectations of one Gaussian variable: composite Gauss-Kronrod rules with breakpoints where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.ir.expr import Expr
from tensorprog.symbolic.deviations import SPREAD
from tensorprog.symbolic.kinks import Function, kinks, partition
from tensorprog.symbolic.orthant import EPS, ROOT_2PI, Array

# Gauss-Kronrod (7, 15) on [-1, 1]; Kronrod 1965, QUADPACK qk15
_X = [
    0.991455371120812639206854697526329,
    0.949107912342758524526189684047851,
    0.864864423359769072789712788640926,
    0.741531185599394439863864773280788,
    0.586087235467691130294144691258410,
    0.405845151377397166906606412076961,
    0.207784955007898467600689403773245,
    0.0,
]
_K = [
    0.022935322010529224963732008058970,
    0.063092092629978553290700663189204,
    0.104790010322250183839876322541518,
    0.140653259715525918745189590510238,
    0.169004726639267902826583426598550,
    0.190350578064785409913256402421014,
    0.204432940075298892414161999234649,
    0.209482141084727828012999174891714,
]
_G = [
    0.0,
    0.129484966168869693270611432679082,
    0.0,
    0.279705391489276667901467771423780,
    0.0,
    0.381830050505118944950369775488975,
    0.0,
    0.417959183673469387755102040816327,
]
ROUNDED = 2 * EPS
NEAR = 0.5
LAST, BEYOND = 37.0, 4  # deviations where the density is 1e-298, and panels from the reach to there
NODES = np.array([-x for x in _X] + _X[-2::-1])
KRONROD = np.array(_K + _K[-2::-1])
GAUSS = np.array(_G + _G[-2::-1])


@final
@dataclass(frozen=True, slots=True)
class Curve:
    """A function of one variable with the breakpoints between which it is smooth and resolved.

    `knots` are its kinks, `breaks` contains them; `defect` is the relative error of the resolution, `doubt` what
    rounding may move the values by.
    """

    f: Function
    doubt: Function
    knots: tuple[float, ...]
    breaks: Array
    defect: float


def curve(
    e: Expr, function_of: Callable[[Expr], Function], doubt: Function, span: tuple[float, float], narrow: float
) -> Curve:
    """The function that `function_of` reads from `e`, resolved on a span, for laws no narrower than a deviation."""
    f, knots = function_of(e), kinks(e, function_of)
    breaks, defect = partition(e, function_of, doubt, span, narrow)
    return Curve(f, doubt, knots, breaks, defect)


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """Nodes and weights of E[.] over N laws, flat over the panels of all laws.

    x, nodes, weights, coarse [P, 15]: standardized and actual nodes, Kronrod and Gauss weights times the density;
    owner [P]: the law of a panel.
    """

    x: Array
    nodes: Array
    weights: Array
    coarse: Array
    owner: Array
    size: int
    reach: float

    def mean(self, values: Array) -> tuple[Array, Array]:
        """The expectations [N] of values at the nodes, and their error estimates."""
        fine, rough = (values * self.weights).sum(axis=1), (values * self.coarse).sum(axis=1)
        mass = np.abs(values * self.weights).sum(axis=1)
        gap = np.abs(fine - rough)
        error = np.minimum(gap, np.where(mass > 0, mass * (200 * gap / np.where(mass > 0, mass, 1)) ** 1.5, 0))
        # from the last deviation before the reach on, panels are coarse
        beyond = np.where(np.abs(self.x[:, 7]) > self.reach - 1, mass, 0.0)
        return self.gather(fine), self.gather(error + beyond + 5e-16 * mass)

    def values(self, f: Function) -> Array:
        """A function at the nodes; what overflows beyond the reach is left out."""
        found = f(self.nodes)
        return np.where(np.isfinite(found) | (np.abs(self.x) <= self.reach), found, 0.0)

    def rounding(self, doubt: Array) -> Array:
        """What rounding of the values moves the expectations [N] by."""
        return ROUNDED * self.gather((np.abs(doubt) * self.weights).sum(axis=1))

    def gather(self, panel_values: Array) -> Array:
        """Sums over the panels of each law."""
        return np.bincount(self.owner, weights=panel_values, minlength=self.size)


def rule(mean: Array, deviation: Array, breaks: Array, reach: float, width: float) -> Rule:
    """The rule for laws N(mean, deviation^2) [N], deviation > 0, fine up to `reach` deviations.

    Breakpoints: those of the integrand (`breaks` [M], or [M, N] when they differ) and the law's own, at most
    `width` deviations apart, and a few beyond the reach for what vanishes before.  Panels without length are dropped.
    """
    outer = reach * (LAST / reach) ** (np.arange(1, BEYOND + 1) / BEYOND)
    fine = np.linspace(-reach, reach, 2 * max(1, int(np.ceil(reach / width))) + 1)
    steps = np.concatenate([-outer[::-1], fine, outer])
    given = np.broadcast_to(breaks if breaks.ndim == 2 else breaks[:, None], (len(breaks), len(mean)))
    with np.errstate(over="ignore"):
        standard = np.clip((given - mean) / deviation, -reach, reach)
    points = np.sort(np.concatenate([np.broadcast_to(steps[:, None], (len(steps), len(mean))), standard]), axis=0)
    length = np.diff(points, axis=0)
    panel, owner = np.nonzero(length > 1e-15)
    half = 0.5 * length[panel, owner]
    x = (points[panel, owner] + half)[:, None] + half[:, None] * NODES
    density = np.exp(-0.5 * x * x) * (half[:, None] / ROOT_2PI)
    nodes = mean[owner][:, None] + deviation[owner][:, None] * x
    return Rule(x, nodes, density * KRONROD, density * GAUSS, owner, len(mean), reach)


def alike(f: Curve, mean: Array, deviation: Array) -> bool:
    """Whether the same standardized panels serve all laws: no kink moves from law to law."""
    near = bool(np.ptp(mean) == 0 and np.max(deviation) < np.exp(2 * SPREAD) * np.min(deviation))
    return near and all(knot == mean[0] for knot in f.knots)


def common(mean: Array, deviation: Array, breaks: Array, reach: float, width: float) -> Rule:
    """The rule for laws of one mean, with the same standardized nodes for all, law after law.

    Breakpoints are those that laws between the narrowest and the widest have, at most `NEAR` apart in logarithms.
    """
    low, high = np.min(deviation), np.max(deviation)
    some = np.geomspace(low, high, 1 + int(np.ceil(np.log(high / low) / NEAR)))
    with np.errstate(over="ignore"):
        standard = ((breaks - mean[0])[:, None] / some).ravel()
    one = rule(np.zeros(1), np.ones(1), standard, reach, width)
    x, weights, coarse = (np.tile(a, (len(mean), 1)) for a in (one.x, one.weights, one.coarse))
    owner = np.repeat(np.arange(len(mean)), len(one.x))
    return Rule(x, mean[owner][:, None] + deviation[owner][:, None] * x, weights, coarse, owner, len(mean), reach)
