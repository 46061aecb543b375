"""x = mean + root z with independent standard normal z, one argument at a time (pivoted Cholesky).

A column z_k belongs to the argument chosen in step k; arguments chosen before do not depend on it.  Arguments that
are functions of those chosen (equal inputs, correlation +-1, variance 0) get no column: the dimension is the rank.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorprog.symbolic.orthant import EPS, Array, minor, ratio

FREE = 0.2  # the first argument with so large a share of the largest unexplained fraction comes next
DEPENDENT = 16 * EPS


def roots(cov: Array) -> tuple[Array, Array]:
    """root [N, n, n] of covariances [N, n, n], and the chosen arguments [N, n] (-1 beyond the rank)."""
    rest = np.array(cov, dtype=float)
    size, n, _ = rest.shape
    variance = np.einsum("kii->ki", cov)
    root, chosen = np.zeros_like(rest), np.full((size, n), -1)
    rows = np.arange(size)
    for k in range(n):
        share = ratio(np.einsum("kii->ki", rest), variance)
        share = np.where(share > (DEPENDENT if k > 1 else 0.0), share, 0.0)
        pick = np.argmax(share >= FREE * share.max(axis=1, keepdims=True), axis=1)
        alive = share.max(axis=1) > 0
        column = rest[rows, :, pick]
        pivot = np.where(alive, column[rows, pick], 1.0)
        root[:, :, k] = np.where(alive[:, None], column / np.sqrt(pivot)[:, None], 0.0)
        chosen[:, k] = np.where(alive, pick, -1)
        root[rows[:, None], chosen[:, :k], k] = np.where(chosen[:, :k] >= 0, 0.0, root[rows[:, None], chosen[:, :k], k])
        rest = rest - root[:, :, k, None] * root[:, None, :, k]
        if k == 0:
            _sharpen(rest, cov, pick)
        rest[rows, pick] = 0.0
        rest[rows, :, pick] = 0.0
    return root, chosen


def _sharpen(rest: Array, cov: Array, pick: Array) -> None:
    """Variances given the first argument, without the rounding of their difference near correlation +-1; in place."""
    rows = np.arange(len(cov))
    first = cov[rows, pick, pick][:, None]
    n = np.arange(cov.shape[1])
    rest[:, n, n] = np.maximum(ratio(minor(first, cov[:, n, n], cov[rows, :, pick]), first), 0.0)


def alike(chosen: Array) -> Iterator[tuple[int, Array]]:
    """(rank, positions) of the entries whose arguments were chosen in the same order."""
    kinds, inverse = np.unique(chosen, axis=0, return_inverse=True)
    for k, kind in enumerate(kinds):
        yield int(np.sum(kind >= 0)), np.flatnonzero(inverse.ravel() == k)
