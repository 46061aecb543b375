"""The gated recurrent unit of the language specification by Monte Carlo over its limit variables.

    z, r = gate(W_z h + U_z x + b_z), gate(W_r h + U_r x + b_r)      gate(u) = (1 + erf(u)) / 2
    c = erf(W_c (r * h) + U_c x + b_c),   h <- (1 - z) * h + z * c,   output v.h at the last step

In the limit one coordinate of the net is a random process: the preactivations of the three gates are independent
centred Gaussian families over all (sequence, step), with covariance sw^2 E[q q'] + su^2 x.x'/d + sb^2, where q is the
preceding h (z, r) or r * h (c) (Tensor Programs I, appendix on GRU). Every step draws the new Gaussians conditionally
on the old ones, with the expectations E[q q'] estimated from the draws themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from .duals import Array


def gate(u: Array) -> Array:
    value: Array = (1 + special.erf(u)) / 2
    return value


class Family:
    """A growing Gaussian family over (sequence, step): samples of its members and of what its matrix was applied to."""

    def __init__(self, sw: float, su: float, sb: float, rng: np.random.Generator, samples: int) -> None:
        self.scales, self.rng = (sw**2, su**2, sb**2), rng
        self.inputs: list[Array] = []
        self.values = np.zeros((0, samples))
        self.arguments = np.zeros((0, samples))

    def covariance(self) -> Array:
        """sw^2 E[q q'] + su^2 x.x'/d + sb^2 over all members."""
        sw2, su2, sb2 = self.scales
        x = np.array(self.inputs)
        recurrent = self.arguments @ self.arguments.T / self.values.shape[1]
        total: Array = sw2 * recurrent + su2 * x @ x.T / x.shape[1] + sb2
        return total

    def draw(self, arguments: Array, inputs: Sequence[Array]) -> Array:
        """New members with the given arguments q and inputs x, sampled conditionally on the members before."""
        old = len(self.values)
        self.arguments = np.concatenate([self.arguments, arguments])
        self.inputs += list(inputs)
        cov = self.covariance()
        weights = np.linalg.pinv(cov[:old, :old]) @ cov[:old, old:]
        rest = cov[old:, old:] - cov[old:, :old] @ weights
        eigenvalues, vectors = np.linalg.eigh((rest + rest.T) / 2)
        noise = self.rng.normal(size=arguments.shape)
        new: Array = weights.T @ self.values + vectors @ (np.sqrt(np.maximum(eigenvalues, 0))[:, None] * noise)
        self.values = np.concatenate([self.values, new])
        return new


def last_states(sequences: Sequence[Array], sw: float, su: float, sb: float, seed: int, samples: int) -> Array:
    """Samples of the last state, one row per sequence."""
    rng = np.random.default_rng(seed)
    z, r, c = (Family(sw, su, sb, rng, samples) for _ in range(3))
    h = np.zeros((len(sequences), samples))
    for t in range(max(map(len, sequences))):
        live = [i for i, sequence in enumerate(sequences) if t < len(sequence)]
        x, state = [sequences[i][t] for i in live], h[live]
        update, reset = gate(z.draw(state, x)), gate(r.draw(state, x))
        candidate = special.erf(c.draw(reset * state, x))
        h[live] = (1 - update) * state + update * candidate
    return h


def gru_nngp(
    sequences: Sequence[Array], sw: float, su: float, sb: float, samples: int = 20_000, repeats: int = 16
) -> tuple[Array, Array]:
    """E[h_T h'_T'] over all pairs of sequences and its standard error, from independent repeats."""
    runs = []
    for seed in range(repeats):
        h = last_states(sequences, sw, su, sb, seed, samples)
        runs.append(h @ h.T / samples)
    return np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / math.sqrt(repeats)
