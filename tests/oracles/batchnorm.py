"""Batch normalization followed by relu: the kernels of the program `batchnorm` of the language specification.

A batch is x[B]: [d]; g_i = W x_i, y = G g with G = I - 1 1^T / B, h = relu(sqrt(B) y / |y|) (|y|^2 / B is the
variance over the batch, no epsilon), repeated `depth` times, output f_i = v.h_i. W_ij ~ N(0, sw^2 / fan_in),
v ~ N(0, 1 / n), learning rates equal to the variances. Entries are [i, i'] for one batch against another (or itself).

NNGP by quadrature: relu is homogeneous, so with y ~ N(0, S) the forward kernel is B E[relu(y) relu(y')^T / (|y||y'|)].
Same batch: 1/|y|^2 = int_0^inf exp(-s |y|^2) ds, and exp(-s |y|^2) tilts the Gaussian, which gives (Yang et al., A mean
field theory of batch normalization, arXiv 1902.08129)

    B int_0^inf V_relu(S (I + 2 s S)^-1) det(I + 2 s S)^(-1/2) ds.

Two batches: 1/|y| = pi^(-1/2) int_0^inf s^(-1/2) exp(-s |y|^2) ds for each, so a double integral over (s, t) with
I + 2 D S, D = diag(s, .., s, t, .., t), over the joint S.

NTK by Monte Carlo over the same Gaussians (Tensor Programs II, appendix on batchnorm): the Jacobian
J[a, c] = dh_a / dg_c = sqrt(B) / |y| 1[y_a > 0] ((e_a - y_a y / |y|^2) G)_c, and gradients at g have covariance
E[J^T Pi J'] with Pi the covariance of the gradients at h. It exists if the
rank of S (B - 1, or d in the first layer if that is smaller) is above 2; the average has a finite variance above 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .duals import RELU, Array


@dataclass(frozen=True, slots=True)
class BatchKernels:
    """nngp[i, i'] exact to quadrature; ntk[i, i'] with its standard error ntk_error."""

    nngp: Array
    ntk: Array
    ntk_error: Array


def centred(cov: Array, b: int) -> Array:
    """G cov G for a covariance over consecutive batches of size b."""
    g = np.kron(np.eye(len(cov) // b), np.eye(b) - 1 / b)
    return g @ cov @ g


def tilted(s: Array, rates: Array) -> Array:
    """E[relu(y) relu(y)^T exp(-sum_i rates_i y_i^2)], y ~ N(0, s), for every row of rates.

    With s = R R^T the tilted covariance is R M^-1 R^T and the mass det(M)^(-1/2), M = I + 2 R^T diag(rates) R, which
    stays accurate for singular s and large rates.
    """
    values, vectors = np.linalg.eigh(s)
    keep = values > 1e-12 * values[-1]
    root = vectors[:, keep] * np.sqrt(values[keep])
    m = np.eye(keep.sum()) + 2 * np.einsum("ik,ri,il->rkl", root, rates, root)
    cov = root @ np.linalg.inv(m) @ root.T
    d = np.einsum("rii->ri", cov)
    kernels: Array = RELU.value(d[:, :, None], d[:, None, :], cov) / np.sqrt(np.linalg.det(m))[:, None, None]
    return kernels


def half_line(scale: float, b: int, step: float = 0.125) -> tuple[Array, Array]:
    """Nodes and weights on (0, inf): trapezoidal rule in r, s = exp(r - exp(-r)) / scale.

    The integrands fall at least like s^(-(b + 1) / 2), so that the cut on the right costs about exp(-35).
    """
    r = np.arange(-4.5, 35 * 2 / (b - 1), step)
    nodes = np.exp(r - np.exp(-r)) / scale
    return nodes, nodes * (1 + np.exp(-r)) * step


def forward_same(cov: Array) -> Array:
    """E[h h^T] for one batch whose preactivations g have covariance cov."""
    b, s = len(cov), centred(cov, len(cov))
    nodes, weights = half_line(np.trace(s) / b, b)
    kernel: Array = b * np.einsum("r,rij->ij", weights, tilted(s, np.repeat(nodes[:, None], b, axis=1)))
    return kernel


def forward_cross(cov: Array, b: int) -> Array:
    """E[h h'^T] for two batches whose preactivations have the joint covariance cov (2b x 2b)."""
    s = centred(cov, b)
    (n1, w1), (n2, w2) = (half_line(np.trace(s[k, k]) / b, b) for k in (slice(0, b), slice(b, None)))
    total = np.zeros((b, b))
    for rate, weight in zip(n1, w1, strict=True):
        rates = np.concatenate([np.full((len(n2), b), rate), np.repeat(n2[:, None], b, axis=1)], axis=1)
        total += np.einsum("r,rij->ij", weight * w2 / np.sqrt(rate * n2), tilted(s, rates)[:, :b, b:])
    return b / math.pi * total


def forward(cov: Array, b: int) -> Array:
    """The joint E[h h^T] of two batches."""
    cross = forward_cross(cov, b)
    return np.block([[forward_same(cov[:b, :b]), cross], [cross.T, forward_same(cov[b:, b:])]])


def jacobians(y: Array) -> Array:
    """J[m, a, c] = dh_a / dg_c at centred samples y[m, :]."""
    b = y.shape[1]
    norm = np.linalg.norm(y, axis=1)[:, None, None]
    # y is centred already, so G acts only on e_a.
    unit = y / norm[:, :, 0]
    j = (np.eye(b) - 1 / b)[None] - unit[:, :, None] * unit[:, None, :]
    scaled: Array = math.sqrt(b) / norm * (y > 0)[:, :, None] * j
    return scaled


def transfer(cov: Array, b: int, rng: np.random.Generator, samples: int) -> Array:
    """T[a, a', c, c'] = E[J_ac J'_a'c'] from `samples` draws of the joint Gaussian."""
    values, vectors = np.linalg.eigh(centred(cov, b))
    root = vectors * np.sqrt(np.maximum(values, 0))
    y = rng.normal(size=(samples, len(cov))) @ root.T
    j1, j2 = (jacobians(half).reshape(samples, b * b) for half in (y[:, :b], y[:, b:]))
    return (j1.T @ j2 / samples).reshape(b, b, b, b).transpose(0, 2, 1, 3)


def batchnorm_kernels(
    x1: Array, x2: Array, depth: int, sw: float, samples: int = 20_000, repeats: int = 16, seed: int = 0
) -> BatchKernels:
    """The kernels between two batches of the same size b (x1 = x2 for a batch against itself)."""
    b, rng, x = len(x1), np.random.default_rng(seed), np.concatenate([x1, x2])
    covs, h = [], x @ x.T / x.shape[1]
    for _ in range(depth):
        covs.append(sw**2 * h)
        same = np.array_equal(x1, x2)
        h = np.tile(forward_same(covs[-1][:b, :b]), (2, 2)) if same else forward(covs[-1], b)
    nngp = h[:b, b:]
    runs = np.array([gradient_terms(covs, b, sw, rng, samples) for _ in range(repeats)])
    return BatchKernels(nngp, nngp + runs.mean(axis=0), runs.std(axis=0, ddof=1) / math.sqrt(repeats))


def gradient_terms(covs: list[Array], b: int, sw: float, rng: np.random.Generator, samples: int) -> Array:
    """sum_l sum_cc' E[dg_c dg'_c'] E[g_c g'_c'] for every pair of outputs i, i'."""
    grad = np.einsum("ia,jb->ijab", np.eye(b), np.eye(b))
    total = np.zeros((b, b))
    for cov in reversed(covs):
        grad = np.einsum("ijab,abcd->ijcd", grad, transfer(cov, b, rng, samples))
        total += np.einsum("ijcd,cd->ij", grad, cov[:b, b:])
        grad = sw**2 * grad
    return total


def linear_gradient_factor(b: int) -> float:
    """Growth per layer of the squared gradient of batchnorm without activation (arXiv 1902.08129)."""
    return (b - 2) / (b - 3)
