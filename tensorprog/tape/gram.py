"""Inner products of data, consistent on equal inputs: <x, x> is the same number wherever it is formed.

A kernel at equal inputs is at correlation one, where rounding errors enter the NTK of kinked nonlinearities by their
square root.  A matrix product sums in another order than a norm; entries of equal (or opposite) rows take the norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SHORT = 8
"""Sums of so few products differ by less than the tolerance of the covariance determinant, in whatever order."""


def row_products(x: Floats, y: Floats) -> Floats:
    """<x[k], y[k]> of two arrays [N, d]."""
    products: Floats = np.einsum("kd,kd->k", np.ascontiguousarray(x), np.ascontiguousarray(y))
    return products


def gram(x: Floats, y: Floats) -> Floats:
    """<x[i], y[j]> of arrays [N, d] and [M, d]: [N, M]."""
    products: Floats = x @ y.T
    if x.shape[1] > SHORT:
        norms = row_products(x, x), row_products(y, y)
        i, j = _equal(*norms)
        for sign in (1.0, -1.0):
            twin = (x[i] == sign * y[j]).all(axis=1)
            products[i[twin], j[twin]] = sign * norms[0][i[twin]]
    return products


def _equal(a: Floats, b: Floats) -> tuple[Ints, Ints]:
    """The pairs (i, j) with a[i] = b[j] > 0."""
    order = np.argsort(b, kind="stable")
    low, high = (np.searchsorted(b[order], a, side=s) for s in ("left", "right"))
    counts = np.where(a > 0, high - low, 0)
    i = np.repeat(np.arange(len(a)), counts)
    within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[low[i] + within]
