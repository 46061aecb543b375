"""Covariances, minors and conditional covariances of variables with noise, accurate up to correlation one.

    given:  (cov_gg cov_jk - cov_gj cov_gk) / cov_gg,      minor:  cov_ii cov_jj - cov_ij^2

The noise w stays apart from the variable it is added to, so that no covariance or minor is a difference of
rounded numbers: minor(u, v + w) = minor(u, v) + Var u Var w, and given v + w = 0 all is a sum of positive terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog.symbolic import orthant
from tensorprog.symbolic.orthant import Array


@final
@dataclass(frozen=True, slots=True)
class Noisy:
    """sign * x_base + const + independent noise; sign = +-1, `noise` its variance."""

    base: int
    sign: Any
    const: Any
    noise: Any


@final
class Covariance:
    """`of`[i][j], of variables and of the `noisy` ones made of them, which follow.

    `whole`: the covariances before one variable was set to 0, and its index.
    """

    __slots__ = ("_minors", "noisy", "of", "size", "whole")

    def __init__(
        self, cov: Sequence[Sequence[Array]], noisy: Sequence[Noisy], whole: tuple[Covariance, int] | None
    ) -> None:
        self.of = _covariances(cov, noisy)
        self.noisy, self.whole, self.size = tuple(noisy), whole, len(cov)
        self._minors: dict[tuple[int, int], Array] = {}

    def part(self, mask: Array) -> Covariance:
        """Those of the entries where `mask` holds."""
        n = range(self.size)
        noisy = [Noisy(y.base, *(picked(x, mask) for x in (y.sign, y.const, y.noise))) for y in self.noisy]
        whole = (self.whole[0].part(mask), self.whole[1]) if self.whole else None
        return Covariance([[picked(self.of[i][j], mask) for j in n] for i in n], noisy, whole)

    def base(self, i: int) -> tuple[int, Any]:
        """The variable without its noise, and the variance of this."""
        if i < self.size:
            return i, 0.0
        noisy = self.noisy[i - self.size]
        return noisy.base, noisy.noise

    def given(self, j: int, k: int, g: int) -> Array:
        """The covariance of x_j and x_k, two variables without noise, given x_g = 0."""
        i, noise = self.base(g)
        variance = self.of[g][g]
        own = self._minor(i, j) if j == k else self._cross(i, j, k)
        kept = own if isinstance(noise, float) and noise == 0 else own + noise * self.of[j][k]
        return np.where(variance > 0, orthant.ratio(kept, variance), self.of[j][k])

    def _cross(self, i: int, j: int, k: int) -> Array:
        """cov_ii cov_jk - cov_ij cov_ik"""
        if i in (j, k):
            return np.zeros(())
        return orthant.cross(self.of[i][i], self.of[j][k], self.of[i][j], self.of[i][k])

    def minor(self, i: int, j: int) -> Array:
        """cov_ii cov_jj - cov_ij^2, accurate."""
        (b, n), (c, m) = self.base(i), self.base(j)
        total = self._minor(b, c)
        if j >= self.size:
            total = total + self.of[b][b] * m
        if i >= self.size:
            total = total + (self.of[c][c] + m) * n
        return total

    def _minor(self, i: int, j: int) -> Array:
        """The minor of two variables without noise."""
        if i == j:
            return np.zeros(())
        key = (min(i, j), max(i, j))
        if key not in self._minors:
            self._minors[key] = self._conditional_minor(*key) if self.whole else self._first_minor(*key)
        return self._minors[key]

    def _first_minor(self, i: int, j: int) -> Array:
        return orthant.minor(self.of[i][i], self.of[j][j], self.of[i][j])

    def _conditional_minor(self, i: int, j: int) -> Array:
        assert self.whole is not None
        before, g = self.whole
        k, noise = before.base(g)
        variance = before.of[g][g]
        kept = before.determinant(i, j, k) + noise * before._minor(i, j)
        return np.where(variance > 0, orthant.ratio(kept, variance), before._minor(i, j))

    def determinant(self, i: int, j: int, k: int) -> Array:
        """Of the covariances of three variables; eliminated from the one that leaves the least cancellation."""
        if len({i, j, k}) < 3:
            return np.zeros(())
        best, most, positive = np.zeros(()), orthant.array(4 * orthant.EPS), orthant.array(True)
        for p, q, s in ((i, j, k), (j, i, k), (k, i, j)):
            product = self._minor(p, q) * self._minor(p, s)
            rest = product - self._cross(p, q, s) ** 2
            share = orthant.ratio(rest, product)
            best = np.where(share > most, orthant.ratio(rest, self.of[p][p]), best)
            most, positive = np.maximum(most, share), positive & (product > 0)
        return np.where(positive, best, 0.0)


def signed(sign: Any, x: Array) -> Array:
    """sign * x"""
    return x if isinstance(sign, float) and sign == 1 else orthant.array(sign * x)


def _covariances(cov: Sequence[Sequence[Array]], noisy: Sequence[Noisy]) -> list[list[Array]]:
    """Of the variables and the noisy ones after them."""
    n = len(cov)
    base = [*((i, 1.0) for i in range(n)), *((y.base, y.sign) for y in noisy)]
    total = [[signed(s, signed(t, cov[i][j])) for j, t in base] for i, s in base]
    for k, y in enumerate(noisy):
        total[n + k][n + k] = orthant.array(cov[y.base][y.base] + y.noise)
    return total


def picked(x: Any, mask: Array) -> Any:
    """The entries where `mask` holds; a plain number stays."""
    return x if isinstance(x, float) else np.broadcast_to(x, mask.shape)[mask]
