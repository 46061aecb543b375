"""Gaussian process regression with a given kernel matrix.

    mean     = K(test, train) (K(train, train) + ridge I)^-1 y
    variance = K(test, test) - K(test, train) (K(train, train) + ridge I)^-1 K(train, test)

With the NNGP kernel this is Bayesian inference for the infinitely wide network (Lee et al. 2018,
1711.00165); with the NTK the mean is that of the network trained by gradient flow on the squared loss to
convergence, averaged over initializations (Jacot et al. 2018, 1806.07572).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from tensorprog.errors import fail

Floats = NDArray[np.float64]

RIDGES = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3)
"""Ridges, relative to the mean of the diagonal, of which the first that makes Cholesky succeed is taken."""


@final
@dataclass(frozen=True, slots=True)
class Posterior:
    """`mean` [tests, targets]; `variance` [tests] (None without K(test, test)); `ridge` added to the diagonal."""

    mean: Floats
    variance: Floats | None
    ridge: float


def posterior(
    train: ArrayLike, cross: ArrayLike, targets: ArrayLike, test_diagonal: ArrayLike | None = None, noise: float = 0.0
) -> Posterior:
    """Mean and variance at the test points.

    `train` is K(train, train) [n, n], `cross` K(test, train) [m, n], `targets` [n] or [n, targets],
    `test_diagonal` the diagonal of K(test, test) [m]; `noise` is a variance added to the diagonal of `train`.
    When the matrix is singular in floating point the smallest sufficient jitter of `RIDGES` is added too.
    Raises TensorProgError when shapes do not fit, or the matrix is not positive semi-definite.
    """
    k, c = np.asarray(train, dtype=np.float64), np.asarray(cross, dtype=np.float64)
    y = np.asarray(targets, dtype=np.float64)
    _check(k, c, y, noise)
    factor, ridge = _factor(k, noise)
    mean = c @ cho_solve(factor, y.reshape(len(y), -1))
    variance = None
    if test_diagonal is not None:
        diagonal = np.asarray(test_diagonal, dtype=np.float64)
        variance = np.maximum(0.0, diagonal - np.einsum("mn,nm->m", c, cho_solve(factor, c.T)))
    return Posterior(mean, variance, ridge)


def _check(k: Floats, c: Floats, y: Floats, noise: float) -> None:
    n = len(k)
    if k.shape != (n, n) or n == 0 or c.ndim != 2 or c.shape[1] != n or len(y) != n:
        raise fail(f"kernels of shape {list(k.shape)} and {list(c.shape)} do not fit {len(y)} targets",
                   hint="expected [n, n], [m, n] and [n, targets]")
    if not (np.isfinite(k).all() and np.isfinite(c).all() and np.isfinite(y).all()):
        raise fail("the kernel or the targets have NaN or infinite entries")
    if noise < 0:
        raise fail(f"the noise variance {noise:g} is negative")


def _factor(k: Floats, noise: float) -> tuple[tuple[Floats, bool], float]:
    """Cholesky of k plus the smallest ridge with which it succeeds."""
    scale = float(np.mean(np.diag(k)))
    for relative in RIDGES:
        ridge = noise + relative * max(scale, 0.0)
        try:
            return cho_factor(k + ridge * np.eye(len(k)), lower=True), ridge
        except LinAlgError:
            continue
    lowest = float(np.linalg.eigvalsh((k + k.T) / 2)[0])
    raise fail(f"the kernel matrix is not positive semi-definite: its lowest eigenvalue is {lowest:.3g}, "
               f"the mean of its diagonal {scale:.3g}", hint="a sampled kernel needs more samples, or noise > 0")


def centered_one_hot(labels: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Targets [n, classes], 1 - 1/classes for the class and -1/classes else (rows of mean zero), and the classes."""
    classes, index = np.unique(np.asarray(labels), return_inverse=True)
    return np.eye(len(classes))[index] - 1 / len(classes), classes


def accuracy(mean: ArrayLike, classes: ArrayLike, labels: ArrayLike) -> float:
    """The share of rows whose largest entry is that of the right class."""
    chosen = np.asarray(classes)[np.argmax(np.asarray(mean), axis=1)]
    return float(np.mean(chosen == np.asarray(labels)))


def determination(mean: ArrayLike, targets: ArrayLike) -> float:
    """R^2 = 1 - sum (y - mean)^2 / sum (y - average of y)^2"""
    y, m = np.asarray(targets, dtype=np.float64).ravel(), np.asarray(mean, dtype=np.float64).ravel()
    return float(1 - np.sum((y - m) ** 2) / np.sum((y - y.mean()) ** 2))
