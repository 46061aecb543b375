"""E[f(u) g(v)] by Hermite series (Mehler's formula), with the coefficients of each marginal computed once.

    E[f g] = sum_k f_k g_k rho^k,    f_k = E[f(mean + deviation x) h_k(x)],   h_k orthonormal Hermite polynomials

Truncated at K, the rest is at most |rho|^(K+1) sqrt(rest_f rest_g) with rest_f = E f^2 - sum_{k <= K} f_k^2
(Parseval, Cauchy-Schwarz): a bound, not a guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.symbolic import orthant
from tensorprog.symbolic.deviations import Values, interpolated
from tensorprog.symbolic.line import ROUNDED, Curve, Rule, alike, common, rule
from tensorprog.symbolic.orthant import EPS, Array
from tensorprog.symbolic.tiles import cut, tiles

ORDER, LONG = 128, 1024
CHUNK = 64  # marginals at a time
MANY = 160  # marginals from which they are interpolated


@final
@dataclass(frozen=True, slots=True)
class Series:
    """coefficients [K+1, N], rest [N] the squared norm beyond K, norm [N] = E f^2, error [N] of the quadrature."""

    coefficients: Array
    rest: Array
    norm: Array
    error: Array

    def reshaped(self, shape: tuple[int, ...]) -> Series:
        """The N marginals as an array of this shape."""
        rest, norm, error = (x.reshape(shape) for x in (self.rest, self.norm, self.error))
        return Series(self.coefficients.reshape(-1, *shape), rest, norm, error)


def series(f: Curve, mean: Array, deviation: Array, reach: float, order: int = ORDER) -> Series:
    """The Hermite series of f(mean + deviation x) for flat arrays of laws."""
    if len(mean) > MANY and np.ptp(mean) == 0:
        found = _interpolated(f, float(mean[0]), deviation, reach, order)
        if found is not None:
            return found
    return _direct(f, mean, deviation, reach, order)


def _interpolated(f: Curve, mean: float, deviation: Array, reach: float, order: int) -> Series | None:
    """The series of many deviations from those of a few; None where that does not converge."""

    def few(some: Array) -> Values:
        at = _direct(f, np.full(len(some), mean), some, reach, order)
        size = np.sqrt(np.max(at.norm))
        sizes = np.append(np.full(order + 1, size), size**2)
        return Values(np.concatenate([at.coefficients, at.norm[None]]), sizes, at.error)

    found = interpolated(deviation, few)
    if found is None:
        return None
    functions = found.all()
    rows, norm = functions[:-1], functions[-1]
    rest = np.maximum(norm - (rows**2).sum(axis=0), 0.0) + 8 * EPS * norm
    return Series(rows, rest, norm, np.full(len(norm), found.error))


def _direct(f: Curve, mean: Array, deviation: Array, reach: float, order: int) -> Series:
    """The series of every law by itself."""
    parts = [
        _series(f, mean[i : i + CHUNK], deviation[i : i + CHUNK], reach, order)
        for i in range(0, max(len(mean), 1), CHUNK)
    ]
    return Series(
        np.concatenate([p.coefficients for p in parts], axis=1),
        np.concatenate([p.rest for p in parts]),
        np.concatenate([p.norm for p in parts]),
        np.concatenate([p.error for p in parts]),
    )


def _series(f: Curve, mean: Array, deviation: Array, reach: float, order: int) -> Series:
    shared = alike(f, mean, deviation)
    make = common if shared else rule
    at = make(mean, deviation, f.breaks, reach, np.sqrt(ORDER / order))  # panels as short as the waves of h_k
    values = at.values(f.f)
    norm, norm_error = at.mean(values * values)
    rows = (_shared_moments if shared else _moments)(at, values * at.weights, order)
    rest = np.maximum(norm - (rows**2).sum(axis=0), 0.0) + 8 * EPS * norm
    rounding = np.sqrt(ROUNDED * at.rounding(at.values(f.doubt) ** 2))
    return Series(rows, rest, norm, f.defect * np.sqrt(norm) + orthant.ratio(norm_error, np.sqrt(norm)) + rounding)


def _shared_moments(at: Rule, weighted: Array, order: int) -> Array:
    """The sums [order + 1, N] of weighted values times h_k(x) where all laws have the panels of the first."""
    panels = len(at.x) // at.size
    basis = np.stack([h.flatten() for h in _hermite(at.x[:panels], order)])
    return np.asarray(basis @ weighted.reshape(at.size, -1).T)


def _moments(at: Rule, weighted: Array, order: int) -> Array:
    """The same where every law has panels of its own."""
    return np.stack([at.gather(np.einsum("pn,pn->p", weighted, h)) for h in _hermite(at.x, order)])


def _hermite(x: Array, order: int) -> Iterator[Array]:
    """h_0(x), ..., h_order(x), each overwritten by the next but two."""
    previous, current, following = np.zeros_like(x), np.ones_like(x), np.empty_like(x)
    for k in range(order + 1):  # in place: arrays of this size take as long to make as to fill
        yield current
        np.multiply(x, current, out=following)
        previous *= np.sqrt(k)
        following -= previous
        following /= np.sqrt(k + 1)
        previous, current, following = current, following, previous


def mehler(f: Series, g: Series, rho: Array) -> tuple[Array, Array]:
    """The sums for rho [...] with marginals that broadcast against it: coefficients [K+1, ...]; and their errors."""
    shape = np.broadcast_shapes(rho.shape, f.norm.shape, g.norm.shape)
    value = np.zeros(shape)
    tails = _tail(f) * _tail(g)
    for tile in tiles(shape):
        r = cut(rho, tile)
        needed = np.flatnonzero(np.max(np.abs(r), initial=0.0) ** np.arange(1, len(tails) + 1) * tails > EPS)
        order = int(np.max(needed, initial=0))
        _horner(value[tile], cut(f.coefficients, tile, 1), cut(g.coefficients, tile, 1), r, order)
    cross = np.sqrt(f.norm * g.norm)
    bound = np.abs(rho) ** len(f.coefficients) * np.sqrt(f.rest * g.rest)
    rounding = 16 * EPS * (np.abs(f.coefficients[0] * g.coefficients[0]) + np.abs(rho) * cross)
    return value, np.asarray(bound + rounding + f.error * np.sqrt(g.norm) + g.error * np.sqrt(f.norm))


def _tail(f: Series) -> Array:
    """The relative norm beyond each order k, sqrt(1 - sum_{j <= k} f_j^2 / norm), at the worst marginal."""
    norm = np.where(f.norm > 0, f.norm, 1.0)
    rest = 1 - np.cumsum(f.coefficients**2, axis=0) / norm
    return np.asarray(np.sqrt(np.clip(np.nan_to_num(rest, nan=1.0), EPS, 1.0).reshape(len(rest), -1).max(axis=1)))


def _horner(value: Array, f: Array, g: Array, rho: Array, order: int) -> None:
    """value = sum_{k <= order} f_k g_k rho^k, in place."""
    for k in range(min(order + 1, len(f) - 1), -1, -1):
        value *= rho
        value += f[k] * g[k]
