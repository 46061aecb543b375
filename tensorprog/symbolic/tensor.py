"""Product rules for functions of two to four Gaussian arguments that do not separate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tensorprog.ir.expr import Expr, evaluate
from tensorprog.symbolic.orthant import Array

ORDERS = {1: (120, 90), 2: (96, 72), 3: (40, 30), 4: (22, 16)}
POINTS = 2_000_000  # evaluated at a time


def tensor_mean(
    e: Expr, args: tuple[str, ...], mean: list[Array], cov: list[list[Array]], params: Mapping[str, Any]
) -> tuple[Array, Array]:
    """E e(x), x ~ N(mean, cov) of 2 to 4 arguments, by Gauss-Hermite in the principal axes.

    The error estimate is the difference of two orders: fair for smooth functions, rough at kinks.
    """
    n = len(args)
    shape = np.broadcast_shapes(*(m.shape for m in mean), *(c.shape for row in cov for c in row))
    means = np.stack([np.broadcast_to(m, shape).ravel() for m in mean], axis=-1)
    covs = np.stack([np.broadcast_to(c, shape).ravel() for row in cov for c in row], axis=-1).reshape(-1, n, n)
    roots = _root(covs)
    env = {k: float(np.asarray(v).reshape(-1)[0]) for k, v in params.items()}
    fine, coarse = (_rule_mean(e, args, means, roots, env, order) for order in ORDERS[n])
    return fine.reshape(shape), (np.abs(fine - coarse) + 1e-15 * np.abs(fine)).reshape(shape)


def _root(covs: Array) -> Array:
    """A square root of every covariance, singular ones too."""
    values, vectors = np.linalg.eigh(covs)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])


def _rule_mean(e: Expr, args: tuple[str, ...], means: Array, roots: Array, env: dict[str, float], order: int) -> Array:
    nodes, weights = _grid(order, len(args))
    result = np.empty(len(means))
    for rows in _chunks(len(means), max(1, POINTS // len(weights))):
        x = means[rows, :, None] + roots[rows] @ nodes
        values = evaluate(e, {**env, **{a: x[:, i] for i, a in enumerate(args)}})
        result[rows] = np.broadcast_to(values, x[:, 0].shape) @ weights
    return result


def _chunks(n: int, size: int) -> Iterator[slice]:
    return (slice(i, i + size) for i in range(0, n, size))


@lru_cache(maxsize=16)
def _grid(order: int, n: int) -> tuple[Array, Array]:
    """Nodes [n, P] and weights [P] of the standard normal product rule; negligible weights are left out."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    w = w / w.sum()
    nodes = np.stack([g.ravel() for g in np.meshgrid(*[x] * n, indexing="ij")])
    weights = np.prod(np.stack([g.ravel() for g in np.meshgrid(*[w] * n, indexing="ij")]), axis=0)
    keep = weights > 1e-22
    return nodes[:, keep], weights[keep]
