"""Moments of a joint Gaussian under half-line gates, by Stein's lemma.

    E[ x^p G ],   x^p a monomial,  G a product of gates  H: step(x_i)   S: sign(x_i)   D: dirac(x_i)

    E[x_i F] = mean_i E[F] + sum_j cov_ij E[dF/dx_j],        dH = D, dS = 2 D,
    E[D(x_i) F] = density of x_i at 0 * E[F | x_i = 0].

The recursion ends in probabilities of at most two half-lines (`orthant`).  Normal distribution functions
in the integrand are gates of an enlarged Gaussian: normcdf(t) = P(w < t) = E step(t - w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from tensorprog.errors import fail
from tensorprog.symbolic import orthant
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.poly import Powers

Gates = tuple[tuple[int, str], ...]
WEIGHT = {"H": 1.0, "S": 2.0}


@final
class Law:
    """x ~ N(mean, cov): lists of arrays that broadcast; a complex mean is allowed where there are no gates."""

    __slots__ = ("cov", "mean", "_moments", "_given", "_minors")

    def __init__(self, mean: Sequence[Array], cov: Sequence[Sequence[Array]]) -> None:
        self.mean, self.cov = list(mean), [list(row) for row in cov]
        self._moments: dict[tuple[Powers, Gates], Array] = {}
        self._given: dict[int, Law] = {}
        self._minors: dict[tuple[int, int], Array] = {}

    def expect(self, powers: Powers, gates: Gates) -> Array:
        """E[x^powers * product of gates], gates sorted by index."""
        key = (powers, gates)
        if key not in self._moments:
            self._moments[key] = self._expect(powers, gates)
        return self._moments[key]

    def spread(self, powers: Powers) -> Array:
        """prod_i sqrt(E x_i^(2 p_i)): what rounding errors of the gated moment are measured by."""
        total = np.ones(())
        for i, p in enumerate(powers):
            if p:
                total = total * np.sqrt(_even_moment(np.abs(self.mean[i]), self.cov[i][i], 2 * p))
        return total

    def _expect(self, powers: Powers, gates: Gates) -> Array:
        points = [g for g in gates if g[1] == "D"]
        if points:
            return self._at_point(points[0], powers, gates)
        if not any(powers):
            return self._probability(gates)
        value = self._stein(powers, gates)
        return self._sharpened(value, powers, gates)

    def _stein(self, powers: Powers, gates: Gates) -> Array:
        i = next(k for k, p in enumerate(powers) if p)
        rest = _less(powers, i)
        total = self.mean[i] * self.expect(rest, gates)
        for j, p in enumerate(rest):
            if p:
                total = total + p * self.cov[i][j] * self.expect(_less(rest, j), gates)
        for gate in gates:
            if not rest[gate[0]]:
                inner = self.given(gate[0]).expect(rest, _without(gates, gate))
                total = total + WEIGHT[gate[1]] * self._slope(i, gate[0]) * inner
        return np.asarray(total)

    def _slope(self, i: int, g: int) -> Array:
        """cov(x_i, x_g) * density of x_g at 0."""
        deviation = np.sqrt(self.cov[g][g])
        return np.asarray(orthant.ratio(self.cov[i][g], deviation) * orthant.density(self._threshold(g)))

    def _at_point(self, gate: tuple[int, str], powers: Powers, gates: Gates) -> Array:
        i = gate[0]
        if powers[i]:
            return np.zeros(())
        deviation = np.sqrt(self.cov[i][i])
        if np.any((deviation == 0) & (np.abs(self.mean[i]) < 1e-12)):
            raise fail(
                "the expectation diverges: a point mass (derivative of a step) meets a law without density,"
                " as for two steps at correlation one",
                hint="the NTK of step or sign does not exist; give the nonlinearity a surrogate gradient or smooth it",
            )
        height = orthant.ratio(orthant.density(self._threshold(i)), deviation)
        return np.asarray(height * self.given(i).expect(powers, _without(gates, gate)))

    def given(self, i: int) -> Law:
        """The law given x_i = 0 (row i stays and must not be used)."""
        if i not in self._given:
            n = range(len(self.mean))
            mean = [self._conditional_mean(j, i) if j != i else self.mean[i] for j in n]
            cov = [[self._conditional_cov(j, k, i) for k in n] for j in n]
            self._given[i] = Law(mean, cov)
        return self._given[i]

    def _conditional_mean(self, j: int, i: int) -> Array:
        """mean_j - cov_ij mean_i / cov_ii, without cancellation between standardized means at |rho| = 1."""
        _, _, rho, det = self._standard(i, j)
        h, k = (orthant.ratio(self.mean[n], np.sqrt(self.cov[n][n])) for n in (i, j))
        side = np.where(rho < 0, -1.0, 1.0)
        plain = self.mean[j] - orthant.ratio(self.cov[i][j], self.cov[i][i]) * self.mean[i]
        careful = np.sqrt(self.cov[j][j]) * ((k - side * h) + side * det / (1 + np.abs(rho)) * h)
        return np.asarray(np.where(np.abs(rho) > 0.5, careful, plain))

    def _conditional_cov(self, j: int, k: int, i: int) -> Array:
        if i in (j, k):
            return np.zeros(())
        if j == k:
            positive = self.cov[i][i] > 0
            return np.where(positive, orthant.ratio(self.minor(i, j), self.cov[i][i]), self.cov[j][j])
        return np.asarray(self.cov[j][k] - orthant.ratio(self.cov[i][j], self.cov[i][i]) * self.cov[i][k])

    def minor(self, i: int, j: int) -> Array:
        """cov_ii cov_jj - cov_ij^2, accurate."""
        key = (min(i, j), max(i, j))
        if key not in self._minors:
            self._minors[key] = orthant.minor(self.cov[i][i], self.cov[j][j], self.cov[i][j])
        return self._minors[key]

    def _threshold(self, i: int) -> Array:
        return orthant.threshold(self.mean[i], np.sqrt(self.cov[i][i]))

    def _standard(self, i: int, j: int) -> tuple[Array, Array, Array, Array]:
        """h_i, h_j, rho, 1 - rho^2; independent where a variance is 0."""
        product = self.cov[i][i] * self.cov[j][j]
        rho = np.clip(orthant.ratio(self.cov[i][j], np.sqrt(product)), -1.0, 1.0)
        det = np.where(product > 0, orthant.ratio(self.minor(i, j), product), 1.0)
        return self._threshold(i), self._threshold(j), rho, det

    def _probability(self, gates: Gates) -> Array:
        if not gates:
            return np.ones(())
        if len(gates) == 1:
            (i, kind) = gates[0]
            h = self._threshold(i)
            return orthant.step_mean(h) if kind == "H" else orthant.sign_mean(h)
        (i, first), (j, second) = gates
        standard = self._standard(i, j)
        if first == second:
            return orthant.step_pair(*standard) if first == "H" else orthant.sign_pair(*standard)
        h = standard[1] if first == "H" else standard[0]
        return np.asarray(0.5 * (orthant.sign_mean(h) + orthant.sign_pair(*standard)))

    def _sharpened(self, value: Array, powers: Powers, gates: Gates) -> Array:
        """The wedge form for two zero-mean steps on the variables themselves, near rho = -1."""
        if len(gates) != 2 or any(kind != "H" for _, kind in gates):
            return value
        (i, _), (j, _) = gates
        if any(p for k, p in enumerate(powers) if k not in (i, j)):
            return value
        h, k, rho, _ = self._standard(i, j)
        mask = (rho < (-0.9 if sum(powers) <= 2 else -0.3)) & (h == 0) & (k == 0)
        if not np.any(mask):
            return value
        a, b, c, det = (
            np.broadcast_to(x, mask.shape)[mask]
            for x in (self.cov[i][i], self.cov[j][j], self.cov[i][j], self.minor(i, j))
        )
        sharp = np.array(np.broadcast_to(value, mask.shape))
        sharp[mask] = orthant.wedge(powers[i], powers[j], a, b, c, det)
        return sharp


def _less(powers: Powers, i: int) -> Powers:
    return (*powers[:i], powers[i] - 1, *powers[i + 1 :])


def _without(gates: Gates, gate: tuple[int, str]) -> Gates:
    return tuple(g for g in gates if g != gate)


def _even_moment(mean: Array, variance: Array, p: int) -> Array:
    """E |x|^p for even p."""
    terms = [
        math.comb(p, 2 * k) * mean ** (p - 2 * k) * variance**k * math.prod(range(1, 2 * k, 2))
        for k in range(p // 2 + 1)
    ]
    return np.asarray(sum(terms))
