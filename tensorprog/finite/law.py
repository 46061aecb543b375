"""Are the outputs jointly Gaussian with the covariance of the limit?

    f [seeds, rows] at every width   ->   z = K^(-1/2) f, under a right limit nearly N(0, I)

Rows are outputs for several examples and, where the output has axes, several elements of one network: the tests are of
their joint law, so that outputs with tied weights are tested against their cross covariances.  Three answers:
the energy test of N(0, I) at one width (Szekely and Rizzo, J. Multivariate Anal. 93, 2005; its p-value by simulation
is exact), Mardia's kurtosis (Biometrika 57, 1970), and, because networks of finite width are not Gaussian, the verdict:
the characteristic function of z at random frequencies, extrapolated to infinite width as kernels are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.convergence import AGREES, DISAGREES, DOUBT, INCONCLUSIVE, LEVEL
from tensorprog.finite.means import mean_test
from tensorprog.finite.rates import Estimate

Floats = NDArray[np.float64]

FREQUENCIES = 24
REPLICATES = 999
MOST = 256
"""The energy test takes at most so many networks: its work grows with the square of their number."""

NEGLIGIBLE = 1e-3
"""Directions with less than this part of the largest variance are left out: 1/width is not small against it."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """The law of the outputs at several widths beside N(0, covariance).

    `outputs[k]` [seeds, rows] at `widths[k]`; `mean`, `covariance` and their standard errors over these seeds.
    `rank` is the number of directions that were tested.  `kurtosis[k]` is Mardia's, mean |z|^4 / (rank (rank + 2)) - 1,
    0 for the Gaussian law; `energy[k]` the p-value of the energy test.  `p` is the probability under a right limit of
    characteristic functions as far from the Gaussian one as these, extrapolated to infinite width.
    """

    limit: Floats
    widths: tuple[int, ...]
    outputs: tuple[Floats, ...]
    rank: int
    kurtosis: tuple[Estimate, ...]
    energy: tuple[float, ...]
    p: float
    level: float
    verdict: str
    reason: str

    @property
    def mean(self) -> tuple[Floats, ...]:
        """[rows] at every width."""
        return tuple(f.mean(axis=0) for f in self.outputs)

    @property
    def mean_error(self) -> tuple[Floats, ...]:
        """The standard errors of `mean`."""
        return tuple(f.std(axis=0, ddof=1) / math.sqrt(len(f)) for f in self.outputs)

    @property
    def covariance(self) -> tuple[Floats, ...]:
        """[rows, rows] at every width, about the mean 0 of the limit."""
        return tuple(f.T @ f / len(f) for f in self.outputs)

    @property
    def covariance_error(self) -> tuple[Floats, ...]:
        """The standard errors of `covariance`."""
        return tuple(_product_error(f) for f in self.outputs)


def _product_error(f: Floats) -> Floats:
    squares = (f**2).T @ f**2 / len(f)
    error: Floats = np.sqrt(np.maximum(0.0, squares - (f.T @ f / len(f)) ** 2) / len(f))
    return error


def law(covariance: Floats, outputs: Mapping[int, Floats], error: Floats | float = 0.0, level: float = LEVEL) -> Law:
    """Tests `outputs[width]` [seeds, rows] against N(0, covariance) [rows, rows], known up to a standard `error`.

    `level` is the probability with which a right limit is called wrong.
    """
    samples = {w: np.asarray(outputs[w], dtype=np.float64) for w in sorted(outputs)}
    whitening = _whitening(covariance)
    scores = {w: f @ whitening for w, f in samples.items()}
    rank = whitening.shape[1]
    p = _chance(scores, float(np.linalg.norm(whitening.T @ np.broadcast_to(error, covariance.shape) @ whitening)))
    energy = tuple(energy_test(z) if rank else math.nan for z in scores.values())
    kurtosis = tuple(_mardia(z) for z in scores.values())
    return Law(covariance, tuple(samples), tuple(samples.values()), rank, kurtosis, energy, p, level,
               *_verdict(p, energy[-1], level))


def _verdict(p: float, energy: float, level: float) -> tuple[str, str]:
    if math.isnan(p):
        return INCONCLUSIVE, "at least two widths and two seeds each are needed"
    if p < level:
        return DISAGREES, f"the joint law of the outputs does not tend to N(0, NNGP) (p = {p:.1g})"
    if p < DOUBT * level:
        return INCONCLUSIVE, f"the joint law of the outputs is doubtful (p = {p:.1g}): more seeds are needed"
    at = f"at the largest width the energy test has p = {energy:.2g}"
    return AGREES, f"the joint law of the outputs tends to N(0, NNGP) as far as one sees (p = {p:.2g}; {at})"


def _whitening(covariance: Floats) -> Floats:
    """W [rows, rank] with W.T K W = I."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    keep = values > NEGLIGIBLE * max(values.max(), 0.0)
    whitening: Floats = vectors[:, keep] / np.sqrt(values[keep])
    return whitening


def _mardia(z: Floats) -> Estimate:
    rank = z.shape[1]
    fourth = np.sum(z**2, axis=1) ** 2 / max(1, rank * (rank + 2))
    error = float(fourth.std(ddof=1)) / math.sqrt(len(z)) if len(z) > 1 else math.nan
    return Estimate(float(fourth.mean()) - 1, error)


def _chance(scores: Mapping[int, Floats], relative_error: float) -> float:
    """The p of E cos(u.z) = exp(-|u|^2 / 2), E sin(u.z) = 0 for random u, at infinite width.

    An error of the covariance by the factor 1 + d moves exp(-|u|^2 / 2) by at most d / e.  Bias of order 1/width^2 is
    small against the noise of single outputs, which no width lessens.  Single frequencies are not tested: the tails of
    few cosines are not those of Student's law.
    """
    rank = next(iter(scores.values())).shape[1]
    u = np.random.default_rng(0).standard_normal((rank, FREQUENCIES)) * math.sqrt(2 / max(1, rank))
    expected = np.exp(-np.sum(u**2, axis=0) / 2)
    features = {w: np.concatenate([np.cos(z @ u) - expected, np.sin(z @ u)], axis=1) for w, z in scores.items()}
    error = np.concatenate([np.full(FREQUENCIES, relative_error / math.e), np.zeros(FREQUENCIES)])
    if rank == 0 or len(scores) < 2:
        return math.nan
    return mean_test(features, error, decay=0.0, remainder=0.0).p_norm


# ---------------------------------------------------------------- the energy test


def energy_test(z: Floats) -> float:
    """The p-value of the energy test of z [seeds, rank] ~ N(0, I), by simulation of the statistic under that law.

    The statistic is  2 E|z_i - Z| - E|Z - Z'| - mean |z_i - z_j|,  Z and Z' standard Gaussian.
    """
    z = z[:MOST]
    rng = np.random.default_rng(1)
    found = _energy(z)
    null = np.array([_energy(rng.standard_normal(z.shape)) for _ in range(REPLICATES)])
    return float((1 + np.sum(null >= found)) / (REPLICATES + 1))


def _energy(z: Floats) -> float:
    """The statistic up to a constant."""
    squares = np.sum(z**2, axis=1)
    between = np.sqrt(np.maximum(0.0, squares[:, None] + squares - 2 * z @ z.T))
    return float(2 * np.mean(_mean_distance(squares, z.shape[1])) - between.mean())


def _mean_distance(squares: Floats, rank: int) -> Floats:
    """E|z - Z| for |z|^2 = squares: sqrt(2) Gamma((r + 1) / 2) / Gamma(r / 2) 1F1(-1/2; r/2; -|z|^2 / 2)"""
    from scipy.special import gammaln, hyp1f1

    factor = math.sqrt(2) * math.exp(gammaln((rank + 1) / 2) - gammaln(rank / 2))
    distance: Floats = factor * hyp1f1(-0.5, rank / 2, -squares / 2)
    return distance
