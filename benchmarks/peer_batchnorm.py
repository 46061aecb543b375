"""The batchnorm NTK of relu networks by the algorithm that Tensor Programs II publishes (2006.14548; 1902.08129).

Powers of the norm of a batch are integrals over s of exp(-s |x|^2), by Gauss-Laguerre rules on both sides of s = 1 (10
nodes each; for two batches the product of rules of 10 and 5), with the substitutions of the published notebook.  Under
a node the law is Gaussian with covariance K; with V = E relu relu', F = r^T D r', H = E of its second derivatives,
gradients D that leave a layer enter it as the mean of

    D o E step step' - p (K H + H K) + q (E[F] K + K H K),        centred on both sides

NTK entries come one at a time: D is a single entry, taken back through all layers, as in the notebook.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def batchnorm_ntk(x: Floats, y: Floats, depth: int, more: int = 1) -> tuple[Floats, Floats]:
    """NTK and NNGP [2 B, 2 B] of two batches [B, d], B at least 4 and d at least 2 B - 2; `more` times the nodes."""
    b, z = len(x), np.concatenate([x, y])
    layers = [z @ z.T / z.shape[1]]
    for _ in range(depth):
        layers.append(_forward(layers[-1], b, more))
    ntk = np.empty((2 * b, 2 * b))
    for rows, cols in ((0, 0), (0, b), (b, b)):
        own = [k[rows : rows + b, cols : cols + b] for k in layers]
        for i, j in np.ndindex(b, b):
            if rows == cols and j > i:
                continue
            grad = np.zeros((b, b))
            grad[i, j] += 0.5 if rows == cols else 1.0
            grad[j, i] += 0.5 if rows == cols else 0.0
            total = np.sum(own[depth] * grad)
            for layer in reversed(layers[:-1]):
                inside = layer[rows : rows + b, rows : rows + b]
                grad = _back_same(inside, grad, more) if rows == cols else _back(layer, b, grad, more)
                total += np.sum(layer[rows : rows + b, cols : cols + b] * grad)
            ntk[rows + i, cols + j] = ntk[cols + j, rows + i] = total
            if rows == cols:
                ntk[rows + j, rows + i] = total
    return ntk, layers[-1]


def _forward(k: Floats, b: int, more: int) -> Floats:
    result = np.empty_like(k)
    for start in (0, b):
        part = slice(start, start + b)
        cov, mass, _ = _tilted_same(k[part, part], 1 / 8, more)
        result[part, part] = b * np.einsum("n,nij->ij", mass, _relu(cov, cov)[0])
    cov, mass, _, _ = _tilted_cross(k, b, more)
    result[:b, b:] = b * np.einsum("n,nij->ij", mass, _relu(cov, cov)[0][:, :b, b:])
    result[b:, :b] = result[:b, b:].T
    return result


def _relu(a: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
    """E relu relu', E step step' and the root of the determinant for all pairs of elements."""
    d = np.sqrt(np.einsum("nii->ni", a))
    size = d[:, :, None] * d[:, None, :]
    cosine = np.clip(c / size, -1, 1)
    step, root = (math.pi - np.arccos(cosine)) / (2 * math.pi), np.sqrt(1 - cosine**2)
    return size * (root / (2 * math.pi) + step * cosine), step, size * root


def _back_same(k: Floats, grad: Floats, more: int) -> Floats:
    """The gradients that enter the layer, of one batch."""
    cov, mass, s = _tilted_same(k, 1 / 4, more)
    value, step, root = _relu(cov, cov)
    hessian = 2 * grad * step
    spread = np.einsum("ij,nij->ni", grad, root) / np.einsum("nii->ni", cov)
    np.einsum("nii->ni", hessian)[:] = np.diag(grad) + spread / math.pi
    kh = cov @ hessian
    mean = np.einsum("ij,nij->n", grad, value)
    inner = grad * step - 0.5 * s[:, None, None] * (kh + kh.transpose(0, 2, 1))
    inner += 0.5 * s[:, None, None] ** 2 * (mean[:, None, None] * cov + kh @ cov)
    return len(k) * _centred(np.einsum("n,nij->ij", mass, inner))


def _back(k: Floats, b: int, grad: Floats, more: int) -> Floats:
    """The gradients that enter the layer, of two batches."""
    cov, mass, s, t = _tilted_cross(k, b, more)
    value, step, root = _relu(cov, cov)
    variance = np.einsum("nii->ni", cov)
    hessian = np.zeros_like(cov)
    hessian[:, :b, b:] = grad * step[:, :b, b:]
    hessian[:, b:, :b] = hessian[:, :b, b:].transpose(0, 2, 1)
    lost = grad * root[:, :b, b:] / (2 * math.pi)
    diagonal = np.einsum("nii->ni", hessian)
    diagonal[:, :b], diagonal[:, b:] = lost.sum(2) / variance[:, :b], lost.sum(1) / variance[:, b:]
    s, t = s[:, None, None], t[:, None, None]
    mean = np.einsum("ij,nij->n", grad, value[:, :b, b:])[:, None, None]
    kh = cov @ hessian
    inner = grad * step[:, :b, b:] - 2 * s * kh[:, :b, b:] - 2 * t * kh[:, b:, :b].transpose(0, 2, 1)
    inner += 4 * s * t * (mean * cov[:, :b, b:] + (kh @ cov)[:, :b, b:])
    return b * _centred(np.einsum("n,nij->ij", mass, inner))


def _centred(k: Floats) -> Floats:
    return k - k.mean(0) - k.mean(1)[:, None] + k.mean()


def _sides(positive: int, negative: int, stretch: float) -> Iterator[tuple[float, float]]:
    """Logarithms of the nodes and weights of d log s, on both sides of 0."""
    for count, sign, scale in ((positive, 1.0, stretch), (negative, -1.0, 1.0)):
        points, weights = np.polynomial.laguerre.laggauss(count)
        yield from zip(sign * scale * points, scale * weights * np.exp(points), strict=True)


def _tilted_same(k: Floats, stretch: float, more: int) -> tuple[Floats, Floats, Floats]:
    """Covariances [nodes, B, B], masses with the weights of ds, and s."""
    values, vectors = np.linalg.eigh(_centred(k))
    values, vectors = values[1:], vectors[:, 1:]
    log, weights = np.array(list(_sides(10 * more, 10 * more, stretch))).T
    s = np.exp(log)
    growth = 1 + 2 * s[:, None] * values
    cov = np.einsum("ij,nj,kj->nik", vectors, values / growth, vectors, optimize=True)
    return cov, weights * s / np.sqrt(growth.prod(axis=1)), s


def _tilted_cross(k: Floats, b: int, more: int) -> tuple[Floats, Floats, Floats, Floats]:
    """The same for both batches, with the weights of ds dt / (pi sqrt(s t)), and t."""
    turn = np.zeros((2 * b, 2 * b - 2))
    for half in (0, 1):
        part = slice(half * b, half * b + b)
        turn[part, half * (b - 1) : (half + 1) * (b - 1)] = np.linalg.eigh(_centred(k[part, part]))[1][:, 1:]
    inside = turn.T @ k @ turn
    log, weights = np.array(list(_sides(10 * more, 5 * more, 1 / 3))).T
    line = np.exp(log) / (2 * (b - 1))
    s, t = (x.ravel() for x in np.meshgrid(line, line, indexing="ij"))
    w = np.outer(weights, weights).ravel() * np.sqrt(s * t) / math.pi
    forms = np.concatenate([np.repeat(s[:, None], b - 1, 1), np.repeat(t[:, None], b - 1, 1)], axis=1)
    inverse = np.linalg.inv(inside) + 2 * forms[:, :, None] * np.eye(2 * b - 2)
    mass = w * np.exp(-0.5 * np.linalg.slogdet(np.eye(2 * b - 2) + 2 * inside * forms[:, None, :])[1])
    return turn @ np.linalg.inv(inverse) @ turn.T, mass, s, t
