"""Moments of a joint Gaussian under half-line gates, by Stein's lemma.

    E[ x^p G ],   x^p a monomial,  G a product of gates  H: step(x_i)   S: sign(x_i)   D: dirac(x_i)

    E[x_i F] = mean_i E[F] + sum_j cov_ij E[dF/dx_j],        dH = D, dS = 2 D,
    E[D(x_i) F] = density of x_i at 0 * E[F | x_i = 0].

The recursion ends in probabilities of at most four half-lines (`orthant`, `multivariate`).  Normal distribution
functions in the integrand are gates of an enlarged Gaussian: normcdf(t) = P(w < t) = E step(t - w).
Among three or more gates, two that coincide or exclude each other are merged first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, final

import numpy as np

from tensorprog.errors import fail
from tensorprog.symbolic import orthant, weighted
from tensorprog.symbolic.covariance import Covariance, Noisy, picked, signed
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.poly import Powers

Gate = tuple[int, str]
Gates = tuple[Gate, ...]
WEIGHT = {"H": 1.0, "S": 2.0}


@final
class Law:
    """x ~ N(mean, cov), lists of arrays that broadcast, followed by `noisy` variables made of them.

    `whole`: see `Covariance`.  With `log` the measure is
    exp(log) times the normal one, under at most two gates; mean and log may be complex (a tilt by a wave).
    """

    __slots__ = ("cov", "covariance", "log", "mean", "_doubt", "_given", "_moments", "_parts")

    def __init__(
        self,
        mean: Sequence[Array],
        cov: Sequence[Sequence[Array]],
        noisy: Sequence[Noisy] = (),
        whole: tuple[Covariance, int] | None = None,
        log: Array | None = None,
    ) -> None:
        self.mean = [*mean, *(orthant.array(signed(y.sign, mean[y.base]) + y.const) for y in noisy)]
        self.covariance = Covariance(cov, noisy, whole)
        self.cov = self.covariance.of
        self.log = log
        self._moments: dict[tuple[Powers, Gates], Array] = {}
        self._given: dict[int, Law] = {}
        self._parts: dict[tuple[Gate, Gate], tuple[Array, Law, Law]] = {}
        self._doubt: Array = np.zeros(())

    def tilted_by_wave(self, weights: Mapping[int, Any], log: Array) -> tuple[Array, Law]:
        """exp(log + i w.(x - mean)) times the law, and w cov w / 2."""
        n = range(self._size)
        shift = [orthant.array(sum(self.cov[j][i] * w for i, w in weights.items())) for j in n]
        decay = orthant.array(0.5 * sum(w * shift[i] for i, w in weights.items()))
        mean = [self.mean[j] + 1j * shift[j] for j in n]
        return decay, Law(mean, [self.cov[j][: self._size] for j in n], self.covariance.noisy, None, log - decay)

    def expect(self, powers: Powers, gates: Gates) -> Array:
        """E[x^powers * product of gates], gates sorted by index."""
        key = (powers, gates)
        if key not in self._moments:
            self._moments[key] = self._expect(powers, gates)
        return self._moments[key]

    def scale(self, powers: Powers, gates: Gates) -> Array:
        """What rounding errors of a moment are measured by: spread, times the densities at the points."""
        point = next((i for i, kind in gates if kind == "D"), None)
        if point is None:
            return self.spread(powers)
        rest = tuple(0 if k == point else p for k, p in enumerate(powers))
        return self._height(point) * self.given(point).scale(rest, _without(gates, (point, "D")))

    def spread(self, powers: Powers) -> Array:
        """prod_i sqrt(E x_i^(2 p_i))"""
        total = np.ones(())
        for i, p in enumerate(powers):
            if p:
                total = total * np.sqrt(_even_moment(np.abs(self.mean[i]), self.cov[i][i], 2 * p))
        return total

    def doubt(self) -> Array:
        """The absolute errors of the integrals behind the probabilities asked for so far, relative to `scale`."""
        total = sum((law.doubt() for law in self._given.values()), start=self._doubt)
        for mask, tied, rest in self._parts.values():
            total = total + united(mask, tied.doubt(), rest.doubt())
        return orthant.array(total)

    def _expect(self, powers: Powers, gates: Gates) -> Array:
        points = [g for g in gates if g[1] == "D"]
        if points:
            return self._at_point(points[0], powers, gates)
        for g, k in combinations(gates, 2) if len(gates) > 2 else ():
            mask = self._tied(g[0], k[0])
            if np.any(mask):
                return self._merged(g, k, mask, powers, gates)
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
                left = _without(gates, gate)
                trivial = self.log is None and not left and not any(rest)
                inner = 1.0 if trivial else self.given(gate[0]).expect(rest, left)
                total = total + WEIGHT[gate[1]] * self._slope(i, gate[0]) * inner
        return orthant.array(total)

    def _slope(self, i: int, g: int) -> Array:
        """cov(x_i, x_g) * density of x_g at 0."""
        deviation = np.sqrt(self.cov[g][g])
        return orthant.array(orthant.ratio(self.cov[i][g], deviation) * self._density(g))

    def _density(self, g: int) -> Array:
        """The standardized density of x_g at 0; without its exponential when the law has a `log`, which takes it."""
        return orthant.density(self._threshold(g)) if self.log is None else orthant.array(1 / orthant.ROOT_2PI)

    def _at_point(self, gate: Gate, powers: Powers, gates: Gates) -> Array:
        i = gate[0]
        if powers[i]:
            return np.zeros(())
        deviation = np.sqrt(self.cov[i][i])
        if self._occurs((deviation == 0) & (np.abs(self.mean[i]) < 1e-12)):
            raise fail(
                "the expectation diverges: a point mass (derivative of a step) meets a law without density,"
                " as for two steps at correlation one",
                hint="the NTK of step or sign does not exist; give the nonlinearity a surrogate gradient or smooth it",
            )
        return orthant.array(self._height(i) * self.given(i).expect(powers, _without(gates, gate)))

    def _occurs(self, mask: Array) -> bool:
        """Whether a special case occurs among the entries; one entry by itself cannot choose: it is in doubt there."""
        if orthant.is_array(mask):
            return bool(np.any(mask))
        self._doubt = self._doubt + np.where(mask, np.inf, 0.0)
        return False

    def _height(self, i: int) -> Array:
        """The density of x_i at 0."""
        return orthant.ratio(self._density(i), np.sqrt(self.cov[i][i]))

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of the entries."""
        return np.broadcast_shapes(*(np.shape(x) for x in (*self.mean, *(c for row in self.cov for c in row))))

    @property
    def _size(self) -> int:
        """The number of variables that are not noisy."""
        return self.covariance.size

    def given(self, i: int) -> Law:
        """The law given x_i = 0 (x_i stays and must not be used)."""
        if i not in self._given:
            n = range(self._size)
            mean = [self._conditional_mean(j, i) if j != i else np.zeros(()) for j in n]
            half = [[self.covariance.given(j, k, i) for k in n[: j + 1]] for j in n]
            cov = [[half[max(j, k)][min(j, k)] for k in n] for j in n]
            log = None if self.log is None else self.log - 0.5 * self._threshold(i) ** 2
            self._given[i] = Law(mean, cov, self.covariance.noisy, (self.covariance, i), log)
        return self._given[i]

    def _conditional_mean(self, j: int, i: int) -> Array:
        """mean_j - cov_ij mean_i / cov_ii, without cancellation between standardized means at |rho| = 1."""
        _, _, rho, det = self._standard(i, j)
        h, k = (orthant.ratio(self.mean[n], np.sqrt(self.cov[n][n])) for n in (i, j))
        side = np.where(rho < 0, -1.0, 1.0)
        plain = self.mean[j] - orthant.ratio(self.cov[i][j], self.cov[i][i]) * self.mean[i]
        careful = np.sqrt(self.cov[j][j]) * ((k - side * h) + side * det / (1 + np.abs(rho)) * h)
        return orthant.array(np.where(np.abs(rho) > 0.5, careful, plain))

    def _threshold(self, i: int) -> Array:
        cut = orthant.threshold if self.log is None else weighted.threshold
        return cut(self.mean[i], np.sqrt(self.cov[i][i]))

    def _standard(self, i: int, j: int) -> tuple[Array, Array, Array, Array]:
        """h_i, h_j, rho, 1 - rho^2; independent where a variance is 0."""
        product = self.cov[i][i] * self.cov[j][j]
        rho = np.clip(orthant.ratio(self.cov[i][j], np.sqrt(product)), -1.0, 1.0)
        det = np.where(product > 0, orthant.ratio(self.covariance.minor(i, j), product), 1.0)
        return self._threshold(i), self._threshold(j), rho, det

    def _probability(self, gates: Gates) -> Array:
        if self.log is not None:
            return self._weighted(self.log, gates)
        if not gates:
            return np.ones(())
        if len(gates) == 1:
            (i, kind) = gates[0]
            h = self._threshold(i)
            return orthant.step_mean(h) if kind == "H" else orthant.sign_mean(h)
        if len(gates) > 2:
            return self._orthant(gates)
        (i, first), (j, second) = gates
        standard = self._standard(i, j)
        if first == second:
            return orthant.step_pair(*standard) if first == "H" else orthant.sign_pair(*standard)
        h = standard[1] if first == "H" else standard[0]
        return orthant.array(0.5 * (orthant.sign_mean(h) + orthant.sign_pair(*standard)))

    def _weighted(self, log: Array, gates: Gates) -> Array:
        """exp(log) times the probability of at most two half-lines."""
        for gate in gates:
            if gate[1] == "S":
                return self._by_steps(gate, (0,) * len(self.mean), gates)
        if not gates:
            return np.exp(log)
        if len(gates) == 1:
            return weighted.step_mean(self._threshold(gates[0][0]), log)
        value, error = weighted.step_pair(*self._standard(gates[0][0], gates[1][0]), log)
        self._doubt = self._doubt + error
        return value

    def _orthant(self, gates: Gates) -> Array:
        """The probability of three or four half-lines."""
        for gate in gates:
            if gate[1] == "S":
                return self._by_steps(gate, (0,) * len(self.mean), gates)
        from tensorprog.symbolic.multivariate import probability  # compiled code is loaded where it is needed

        index = [i for i, _ in gates]
        pairs = {(i, j): self._standard(index[i], index[j])[2:] for i, j in combinations(range(len(index)), 2)}
        value, error = probability([self._threshold(i) for i in index], pairs)
        self._doubt = self._doubt + error
        return value

    def _tied(self, i: int, j: int) -> Array:
        """Where x_i and x_j are equal or opposite up to their means."""
        return orthant.array((self.covariance.minor(i, j) == 0) & (self.cov[i][i] > 0) & (self.cov[j][j] > 0))

    def _merged(self, g: Gate, k: Gate, mask: Array, powers: Powers, gates: Gates) -> Array:
        """The moment, with g and k as one half-line or an interval where `mask` holds."""
        if (g, k) not in self._parts:
            mask = np.broadcast_to(mask, np.broadcast_shapes(mask.shape, self.shape))
            self._parts[g, k] = (mask, self.part(mask), self.part(~mask))
        mask, tied, rest = self._parts[g, k]
        return united(mask, tied._one_line(g, k, powers, gates), rest.expect(powers, gates))

    def _one_line(self, g: Gate, k: Gate, powers: Powers, gates: Gates) -> Array:
        """The moment where the variables of g and k are equal or opposite up to their means."""
        for gate in (g, k):
            if gate[1] == "S":
                return self._by_steps(gate, powers, gates)
        only_g, only_k = (self.expect(powers, _without(gates, gate)) for gate in (k, g))
        h, other = self._threshold(g[0]), self._threshold(k[0])
        free = self.expect(powers, _without(_without(gates, g), k))
        interval = np.where(h + other > 0, only_g + only_k - free, 0.0)
        return np.where(self.cov[g[0]][k[0]] > 0, np.where(h <= other, only_g, only_k), interval)

    def _by_steps(self, gate: Gate, powers: Powers, gates: Gates) -> Array:
        """sign = 2 step - 1"""
        steps = tuple((i, "H") if (i, kind) == gate else (i, kind) for i, kind in gates)
        return orthant.array(2 * self.expect(powers, steps) - self.expect(powers, _without(gates, gate)))

    def part(self, mask: Array, log: Array | None = None) -> Law:
        """The law of the entries where `mask` holds; `log` for its measure."""

        covariance, n = self.covariance.part(mask), range(self._size)
        mean = [picked(self.mean[i], mask) for i in n]
        cov = [covariance.of[i][: self._size] for i in n]
        return Law(mean, cov, covariance.noisy, covariance.whole, log)

    def _sharpened(self, value: Array, powers: Powers, gates: Gates) -> Array:
        """The wedge form for two zero-mean steps on the variables themselves, near rho = -1."""
        if len(gates) != 2 or any(kind != "H" for _, kind in gates) or self.log is not None:
            return value
        (i, _), (j, _) = gates
        if any(p for k, p in enumerate(powers) if k not in (i, j)):
            return value
        h, k, rho, _ = self._standard(i, j)
        mask = (rho < (-0.9 if sum(powers) <= 2 else -0.3)) & (h == 0) & (k == 0)
        if not self._occurs(mask):
            return value
        a, b, c, det = (
            np.broadcast_to(x, mask.shape)[mask]
            for x in (self.cov[i][i], self.cov[j][j], self.cov[i][j], self.covariance.minor(i, j))
        )
        sharp = np.array(np.broadcast_to(value, mask.shape))
        sharp[mask] = orthant.wedge(powers[i], powers[j], a, b, c, det)
        return sharp


def united(mask: Array, inside: Array, outside: Array) -> Array:
    """The array with `inside` where `mask` holds and `outside` elsewhere."""
    total = np.empty(mask.shape)
    total[mask], total[~mask] = inside, outside
    return total


def _less(powers: Powers, i: int) -> Powers:
    return (*powers[:i], powers[i] - 1, *powers[i + 1 :])


def _without(gates: Gates, gate: Gate) -> Gates:
    return tuple(g for g in gates if g != gate)


def _even_moment(mean: Array, variance: Array, p: int) -> Array:
    """E |x|^p for even p."""
    terms = [
        math.comb(p, 2 * k) * mean ** (p - 2 * k) * variance**k * math.prod(range(1, 2 * k, 2))
        for k in range(p // 2 + 1)
    ]
    return orthant.array(sum(terms))
