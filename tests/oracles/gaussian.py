"""E[f(u) g(v)] of centred jointly Gaussian u, v to about 24 digits, by mpmath and brute force.

    u = dev_u x,  v = dev_v y,   y = rho x + s z,   s^2 = 1 - rho^2 (from the given floats, exactly)

x is integrated by Gauss-Legendre panels of 40 nodes, broken at kinks of f, at images of those of g with rings as wide
as s, and geometrically around the centres of the functions, so that no panel is longer than its distance from a
singularity.  Where g is smooth on the scale s, z is integrated by Gauss-Hermite; elsewhere y has panels too, and the
density is summed over the product grid (`double`).  Correlation 0 and +-1 are integrals over one variable.  Functions
are evaluated with 40 digits.  `test_gaussian` checks all this against known closed forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import mpmath as mp
import numpy as np

from .double import density_sum, pairs

DIGITS = 40
NODES = 40
REACH = 13.5  # deviations: exp(-REACH^2 / 2) < 1e-39
LONGEST = 6  # deviations that a panel of 40 nodes resolves
NEGLIGIBLE = mp.mpf(10) ** -32
SMOOTH = 0.03  # s relative to the scale of g, up to which Gauss-Hermite rules converge fast
RADII = (1, 2, 3, 5, 8, 12, 20, 40)
Number = Any  # mpmath.mpf


@dataclass(frozen=True)
class Function:
    """f(u) + sum of weight * dirac(u - t) over `points`.

    `kinks`: where f or a derivative jumps.  `centres`: (place, width) of its features; complex singularities are no
    nearer than about the width.  `growth`: f = O(exp(growth |u|)).
    """

    f: Callable[[Number], Number]
    kinks: tuple[float, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    centres: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    growth: float = 0.0

    def reflected(self) -> Function:
        """u -> f(-u)"""
        return replace(
            self,
            f=lambda u: self.f(-u),
            kinks=tuple(-t for t in self.kinks),
            points=tuple((-t, w) for t, w in self.points),
            centres=tuple((-c, w) for c, w in self.centres),
        )

    def balanced(self, u: Number) -> Number:
        """The mean of both sides at a jump."""
        tiny = mp.mpf(10) ** -36 * (1 + abs(u))
        return (self.f(u - tiny) + self.f(u + tiny)) / 2


class DoesNotExist(Exception):
    """Two point masses at the same place of one line."""


def pair(f: Function, g: Function, a: float, b: float, c: float, side: int = 0) -> Number:
    """E[f(u) g(v)] for variances a, b and covariance c, floats taken as exact; `side` = +-1 means c = +-sqrt(ab)."""
    with mp.workdps(DIGITS):
        dev_u, dev_v = mp.sqrt(mp.mpf(a)), mp.sqrt(mp.mpf(b))
        if side:
            return _line(f, g if side > 0 else g.reflected(), dev_u, dev_v)
        if c == 0:
            return mean(f, dev_u) * mean(g, dev_v)
        if c < 0:
            return pair(f, g.reflected(), a, b, -c)
        with mp.workdps(2 * DIGITS):
            det = (mp.mpf(a) * b - mp.mpf(c) ** 2) / (mp.mpf(a) * b)
        law = Law(dev_u, dev_v, mp.sqrt(1 - det), mp.sqrt(det))
        return _regular(f, g, law) + _points(f, g, law)


def mean(f: Function, dev: Number) -> Number:
    """E f(u)"""
    return _line(f, Function(lambda u: mp.mpf(1)), dev, dev)


@dataclass(frozen=True)
class Law:
    """u = dev_u x, v = dev_v y, y = rho x + s z with rho > 0."""

    dev_u: Number
    dev_v: Number
    rho: Number
    s: Number


# ---------------------------------------------------------------- one variable


def _line(f: Function, g: Function, dev_u: Number, dev_v: Number) -> Number:
    """E[f(dev_u x) g(dev_v x)]"""
    reach = REACH + f.growth * dev_u + g.growth * dev_v
    ends = _split({*_breaks(f, dev_u, reach), *_breaks(g, dev_v, reach)}, LONGEST)
    total = mp.fsum(
        w * f.f(dev_u * x) * g.f(dev_v * x) * mp.npdf(x) for low, high in pairwise(ends) for x, w in _panel(low, high)
    )
    for one, other, dev, dev_other in ((f, g, dev_u, dev_v), (g, f, dev_v, dev_u)):
        for t, weight in one.points:
            x = t / dev
            if any(s == dev_other * x for s, _ in other.points):
                raise DoesNotExist
            total += weight * mp.npdf(x) / dev * other.balanced(dev_other * x)
    return total


def _breaks(f: Function, dev: Number, reach: Number) -> list[Number]:
    """Kinks and rings around the centres, standardized, and the ends of the line."""
    found = {mp.mpf(t) / dev for t in f.kinks}
    for centre, width in f.centres:
        radii = [mp.mpf(0), *map(mp.mpf, RADII)]
        while radii[-1] * width < 2 * reach * dev:
            radii.append(3 * radii[-1])
        found |= {(centre + sign * width * r) / dev for r in radii for sign in (-1, 1)}
    return [-reach, *(t for t in found if abs(t) < reach), reach]


def _split(ends: set[Number], longest: Number) -> list[Number]:
    """Sorted, without near doubles, no gap longer than `longest`."""
    result: list[Number] = []
    for end in sorted(ends):
        if result and end - result[-1] < NEGLIGIBLE:
            continue
        if result:
            low, n = result[-1], int(mp.ceil((end - result[-1]) / longest))
            result += [low + (end - low) * k / n for k in range(1, n)]
        result.append(end)
    return result


def _panel(low: Number, high: Number) -> list[tuple[Number, Number]]:
    """Nodes and weights on [low, high]."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [(middle + half * t, half * w) for t, w in _legendre()]


# ---------------------------------------------------------------- two variables


def _regular(f: Function, g: Function, law: Law) -> Number:
    """The double integral of the regular parts."""
    reach = REACH + f.growth * law.dev_u + g.growth * law.dev_v
    window = (REACH + g.growth * law.dev_v * law.s) * law.s
    inner = Inner(g, law, _breaks(g, law.dev_v, law.rho * reach + 2 * window), window)
    ends = {*_breaks(f, law.dev_u, reach), *(y / law.rho for y in inner.marks())}
    ends = {x for x in ends if abs(x) <= reach}
    return mp.fsum(_strip(f, inner, low, high) for low, high in pairwise(_split(ends, LONGEST)))


class Inner:
    """The conditional law of y given x, and where g is not smooth on its scale."""

    def __init__(self, g: Function, law: Law, breaks: list[Number], window: Number) -> None:
        self.g, self.law, self.breaks, self.window = g, law, sorted(breaks), window
        self.kinks = [t / law.dev_v for t in map(mp.mpf, g.kinks)]
        self._values: dict[tuple[Number, Number], list[Number]] = {}

    def marks(self) -> Iterator[Number]:
        """Values of rho x where the treatment of the inner integral changes."""
        yield from self.breaks
        for kink in self.kinks:
            yield from (kink - self.window, kink + self.window)
        for centre, width in self.g.centres:
            ring = self.law.s / SMOOTH
            if width / self.law.dev_v < ring:
                yield from (centre / self.law.dev_v - ring, centre / self.law.dev_v + ring)

    def ratio(self, low: Number, high: Number) -> Number:
        """s relative to the scale of g on [low, high]; infinite next to a kink."""
        slack = self.window * NEGLIGIBLE
        if any(low - self.window + slack < kink < high + self.window - slack for kink in self.kinks):
            return mp.inf
        scales = []
        for centre, width in self.g.centres:
            at = centre / self.law.dev_v
            away = 0 if self.g.growth else max(low - at, at - high)  # an exponential has one scale everywhere
            scales.append(max(width / self.law.dev_v, away))
        return self.law.s / min(scales)

    def panels(self, low: Number, high: Number) -> Iterator[tuple[Number, Number]]:
        """The pieces of the line, no longer than the conditional law allows, that meet [low, high]."""
        for start, end in pairwise(self.breaks):
            if end <= start or end < low or start > high:
                continue
            n = int(mp.ceil((end - start) / (LONGEST * self.law.s)))
            first = max(0, int(mp.floor((low - start) / (end - start) * n)))
            last = min(n, int(mp.ceil((high - start) / (end - start) * n)))
            for k in range(first, last):
                yield start + (end - start) * k / n, start + (end - start) * (k + 1) / n

    def values(self, low: Number, high: Number) -> list[Number]:
        """g at the nodes of a panel, times the weights."""
        key = (low, high)
        if key not in self._values:
            self._values[key] = [w * self.g.f(self.law.dev_v * y) for y, w in _panel(low, high)]
        return self._values[key]


def _strip(f: Function, inner: Inner, low: Number, high: Number) -> Number:
    """The part of the double integral with low < x < high."""
    law = inner.law
    ratio = inner.ratio(law.rho * low, law.rho * high)
    if ratio <= SMOOTH:
        return _smooth_strip(f, inner, low, high, ratio)
    ends = _split({low, high}, LONGEST * law.s / law.rho)
    return mp.fsum(_cells(f, inner, start, end) for start, end in pairwise(ends))


def _smooth_strip(f: Function, inner: Inner, low: Number, high: Number, ratio: Number) -> Number:
    law, rule = inner.law, _hermite(_order(ratio))
    total = mp.mpf(0)
    for x, w in _panel(low, high):
        given = mp.fsum(v * inner.g.f(law.dev_v * (law.rho * x + law.s * z)) for z, v in rule)
        total += w * mp.npdf(x) * f.f(law.dev_u * x) * given
    return total


def _cells(f: Function, inner: Inner, low: Number, high: Number) -> Number:
    law = inner.law
    at = _panel(low, high)
    origin = law.rho * low / law.s
    x = pairs([law.rho * x / law.s - origin for x, _ in at])
    outer = pairs([w * mp.npdf(x) * f.f(law.dev_u * x) for x, w in at])
    total = mp.mpf(0)
    for start, end in inner.panels(law.rho * low - inner.window, law.rho * high + inner.window):
        y = pairs([y / law.s - origin for y, _ in _panel(start, end)])
        total += density_sum(x, outer, y, pairs(inner.values(start, end)))
    return total / (law.s * mp.sqrt(2 * mp.pi))


def _points(f: Function, g: Function, law: Law) -> Number:
    """The terms with point masses."""
    total = mp.mpf(0)
    for t, weight in f.points:
        x = t / law.dev_u
        total += weight * mp.npdf(x) / law.dev_u * _given(g, law, law.dev_v, law.rho * x)
    for t, weight in g.points:
        y = t / law.dev_v
        total += weight * mp.npdf(y) / law.dev_v * _given(f, law, law.dev_u, law.rho * y)
    for t, weight in f.points:
        for r, other in g.points:
            x, y = t / law.dev_u, r / law.dev_v
            height = mp.npdf(x) * mp.npdf((y - law.rho * x) / law.s) / (law.dev_u * law.dev_v * law.s)
            total += weight * other * height
    return total


def _given(g: Function, law: Law, dev: Number, centre: Number) -> Number:
    """E g(dev y), y ~ N(centre, s^2)"""
    inner = Inner(g, Law(dev, dev, law.rho, law.s), [], REACH * law.s)
    inner.breaks = sorted(_breaks(g, dev, abs(centre) + 2 * inner.window))
    return mp.fsum(
        value * mp.npdf((y - centre) / law.s) / law.s
        for low, high in inner.panels(centre - inner.window, centre + inner.window)
        for value, (y, _) in zip(inner.values(low, high), _panel(low, high), strict=True)
    )


# ---------------------------------------------------------------- band-limited functions


def square_fourier(order: int, a: Number, b: Number, c: Number) -> Number:
    """E[sinc u sinc v] (order 0) and E[sinc' u sinc' v] (order 1), by sinc u = 1/2 int_{-1}^1 exp(itu) dt.

    = 1/4 int int (-t r)^order exp(-(a t^2 + 2 c t r + b r^2) / 2) dt dr over the square; over r in closed form.
    """
    root, shrink = mp.sqrt(2 * b), (a * b - c * c) / (2 * b)

    def over_r(t: Number) -> Number:
        both = mp.erf((b + c * t) / root) + mp.erf((b - c * t) / root)
        plain = mp.sqrt(mp.pi) / root * mp.exp(-shrink * t * t) * both
        if not order:
            return plain
        ends = mp.exp(-(b + 2 * c * t + a * t * t) / 2) - mp.exp(-(b - 2 * c * t + a * t * t) / 2)
        return t * (ends + c * t * plain) / b

    marks = [(mp.mpf(0), 1 / mp.sqrt(2 * shrink) if shrink > 0 else mp.mpf(1))]
    if c:
        marks += [(sign * b / c, mp.sqrt(b) / abs(c)) for sign in (-1, 1)]
    rings = {at + sign * width * r for at, width in marks for r in (0, 2, 4, 8, 12, 20) for sign in (-1, 1)}
    ends = _split({mp.mpf(-1), mp.mpf(1), *(t for t in rings if abs(t) < 1)}, mp.mpf(1) / 4)
    return mp.fsum(w * over_r(t) for low, high in pairwise(ends) for t, w in _panel(low, high)) / 4


# ---------------------------------------------------------------- rules


def _order(ratio: Number) -> int:
    """The least number of Gauss-Hermite nodes m with m! ratio^(2m) negligible."""
    m = 2
    while mp.factorial(m) * ratio ** (2 * m) > NEGLIGIBLE:
        m += 1
    return m


@cache
def _legendre() -> list[tuple[Number, Number]]:
    """Gauss-Legendre on [-1, 1]: roots by Newton's method, weights 2 / ((1 - x^2) P'^2)."""
    start = np.polynomial.legendre.leggauss(NODES)[0]
    with mp.workdps(DIGITS + 15):
        return [_legendre_node(mp.mpf(float(x))) for x in start]


def _legendre_node(x: Number) -> tuple[Number, Number]:
    for _ in range(4):
        previous, value = mp.mpf(1), x
        for k in range(2, NODES + 1):
            previous, value = value, ((2 * k - 1) * x * value - (k - 1) * previous) / k
        slope = NODES * (x * value - previous) / (x * x - 1)
        x -= value / slope
    return x, 2 / ((1 - x * x) * slope**2)


@cache
def _hermite(m: int) -> Sequence[tuple[Number, Number]]:
    """Gauss-Hermite for the standard normal law: weights m! / (m He_{m-1})^2."""
    start = np.polynomial.hermite_e.hermegauss(m)[0]
    with mp.workdps(DIGITS + 15):
        return [_hermite_node(m, mp.mpf(float(x))) for x in start]


def _hermite_node(m: int, x: Number) -> tuple[Number, Number]:
    for _ in range(5):
        previous, value = mp.mpf(1), x
        for k in range(1, m):
            previous, value = value, x * value - k * previous
        x -= value / (m * previous)
    previous, value = mp.mpf(1), x
    for k in range(1, m):
        previous, value = value, x * value - k * previous
    return x, mp.factorial(m) / (m * previous) ** 2
