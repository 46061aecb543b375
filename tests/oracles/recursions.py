"""The papers' kernel recursions, written as they are printed: naive numpy, nothing is optimized.

Convention of every function: h = W x with W_ij ~ N(0, sw^2 / fan_in), biases ~ N(0, sb^2), readout ~ N(0, sv^2 / n),
all trained with a learning rate equal to the variance (the NTK parametrization). K is the NNGP kernel, Th the NTK.
All examples of a call are put into one big covariance matrix, of which the block x1 against x2 is returned.

Sources: Yang, Tensor Programs I (arXiv 1910.12478) and II (arXiv 2006.14548); Yang, Scaling limits of wide neural
networks with weight sharing (arXiv 1902.04760); Arora et al., On exact computation with an infinitely wide neural
net (arXiv 1904.11955) for convolutions.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .duals import ERF, RELU, Activation, Array, grid_dual, mean, pairwise


@dataclass(frozen=True, slots=True)
class Kernels:
    """K = NNGP and Th = NTK of the first group of examples (rows) against the second (columns)."""

    nngp: Array
    ntk: Array


def linear_gram(x1: Array, x2: Array) -> tuple[Array, int]:
    """x x'^T / d over the rows of both arrays, and the number of rows of the first."""
    x = np.concatenate([x1, x2])
    return x @ x.T / x.shape[1], len(x1)


# Fully connected


def mlp_kernels(x1: Array, x2: Array, depth: int, phi: Activation, sw: float, sb: float, sv: float = 1.0) -> Kernels:
    """S^1 = sw^2 x.x'/d + sb^2; S^{l+1} = sw^2 V_phi(S^l) + sb^2; Th^{l+1} = S^{l+1} + sw^2 V_phi'(S^l) Th^l.

    Readout: sv^2 V_phi(S^L) and sv^2 (V_phi(S^L) + V_phi'(S^L) Th^L). Jacot et al. 2018; Tensor Programs II, section 3.
    """
    gram, m = linear_gram(x1, x2)
    s = sw**2 * gram + sb**2
    theta = s
    for _ in range(depth - 1):
        slope = pairwise(phi.slope, s)
        s = sw**2 * pairwise(phi.value, s) + sb**2
        theta = s + sw**2 * slope * theta
    value = pairwise(phi.value, s)
    ntk = value + pairwise(phi.slope, s) * theta
    return Kernels(sv**2 * value[:m, m:], sv**2 * ntk[:m, m:])


# Convolutional


@dataclass(frozen=True, slots=True)
class Conv:
    """`taps` and `stride` per dimension; padding 'same' (zeros, an odd one goes to the end), 'valid' or 'circular'."""

    taps: int
    stride: int
    padding: str
    sw: float
    sb: float


@dataclass(frozen=True, slots=True)
class Pool:
    """Average over windows of `size` per dimension that do not overlap."""

    size: int


def shift_1d(length: int, taps: int, stride: int, padding: str) -> list[Array]:
    """For every tap p the 0-1 matrix [output position, input position] of what it reads."""
    out = (length - taps) // stride + 1 if padding == "valid" else -(-length // stride)
    before = 0 if padding == "valid" else max((out - 1) * stride + taps - length, 0) // 2
    matrices = [np.zeros((out, length)) for _ in range(taps)]
    for p, i in itertools.product(range(taps), range(out)):
        j = stride * i + p - before
        if padding == "circular":
            matrices[p][i, j % length] = 1
        elif 0 <= j < length:
            matrices[p][i, j] = 1
    return matrices


def kron(a: Array, b: Array) -> Array:
    return np.asarray(np.kron(a, b), dtype=np.float64)


def shifts(shape: Sequence[int], layer: Conv) -> tuple[list[Array], tuple[int, ...]]:
    """`shift_1d` in every dimension, combined over flattened positions, and the shape of the output."""
    axes = [shift_1d(length, layer.taps, layer.stride, layer.padding) for length in shape]
    products = []
    for choice in itertools.product(*axes):
        products.append(functools.reduce(kron, choice))
    return products, tuple(len(axis[0]) for axis in axes)


def conv_kernels(
    x1: Array, x2: Array, layers: Sequence[Conv | Pool | Activation], head: str, sv: float = 1.0
) -> Kernels:
    """A stack of convolutions, poolings and activations on x of shape (example, *positions, channels).

    S[(x, i), (x', i')] <- sw^2 / taps sum_p S[(x, i + p), (x', i' + p)] + sb^2 and the same for Th, to which the new
    S is added (Arora et al. 2019, section 4; the sum is over all taps of the filter, reads outside give zero).
    head 'flatten': the mean of the entries i = i'; head 'gap': the mean over all pairs i, i'.
    """
    count, shape, x = len(x1) + len(x2), x1.shape[1:-1], np.concatenate([x1, x2])
    rows = x.reshape(-1, x.shape[-1])
    s = rows @ rows.T / x.shape[-1]
    theta = np.zeros_like(s)
    for layer in layers:
        if isinstance(layer, Activation):
            s, theta = pairwise(layer.value, s), pairwise(layer.slope, s) * theta
            continue
        conv = layer if isinstance(layer, Conv) else Conv(layer.size, layer.size, "valid", 1.0, 0.0)
        matrices, shape = shifts(shape, conv)
        lifted = [np.kron(np.eye(count), m) for m in matrices]
        if isinstance(layer, Pool):
            average = np.sum(lifted, axis=0) / len(lifted)
            s, theta = average @ s @ average.T, average @ theta @ average.T
        else:
            scale = conv.sw**2 / len(lifted)
            s, theta = (scale * sum(m @ k @ m.T for m in lifted) for k in (s, theta))
            s = s + conv.sb**2
            theta = theta + s
    return Kernels(*(sv**2 * readout(k, count, head)[: len(x1), len(x1) :] for k in (s, s + theta)))


def readout(k: Array, count: int, head: str) -> Array:
    """Reduce [(x, i), (x', i')] to [x, x']: over i = i' ('flatten') or over all pairs ('gap')."""
    blocks = k.reshape(count, -1, count, k.shape[0] // count)
    kept: Array = np.einsum("aibi->ab", blocks) / blocks.shape[1] if head == "flatten" else blocks.mean(axis=(1, 3))
    return kept


# Simple recurrent


def rnn_covariances(sequences: Sequence[Array], phi: Activation, sw: float, su: float, sb: float) -> list[list[Array]]:
    """K[i][j][t, s] = sw^2 E[phi(u_{t-1}) phi(u_{s-1})] + su^2 x_t.x_s / d + sb^2, the first term 0 at t = 0 or s = 0.

    u_t is the preactivation at step t. Tensor Programs I, section 5 and appendix (simple RNN).
    """
    k = [[np.zeros((len(a), len(b))) for b in sequences] for a in sequences]
    steps = range(max(map(len, sequences)))
    # The entry (t, s) needs entries up to max(t, s) - 1.
    for t, s in sorted(itertools.product(steps, repeat=2), key=max):
        for i, j in itertools.product(range(len(sequences)), repeat=2):
            if t >= len(sequences[i]) or s >= len(sequences[j]):
                continue
            x, y = sequences[i][t], sequences[j][s]
            k[i][j][t, s] = su**2 * x @ y / len(x) + sb**2
            if t and s:
                a, b, c = k[i][i][t - 1, t - 1], k[j][j][s - 1, s - 1], k[i][j][t - 1, s - 1]
                k[i][j][t, s] += sw**2 * phi.value(a, b, c)
    return k


def rnn_kernels(
    sequences1: Sequence[Array],
    sequences2: Sequence[Array],
    sw: float,
    su: float,
    sb: float,
    sv: float = 1.0,
    pooling: str = "last",
    phi: Activation = ERF,
) -> Kernels:
    """h_t = phi(W h_{t-1} + U x_t + b), h_0 = 0, output v.h_T (pooling 'last') or v.(h_1 + ... + h_T)/T ('mean').

    With p_t the pooling weights, V and V' the expectations of phi and phi' at K[t, s]:
    NNGP = sv^2 sum_ts p_t p_s V[t, s];
    Pi[t, s] = V'[t, s] (sv^2 p_t p_s + sw^2 Pi[t+1, s+1]), the covariance of the gradients at u_t, u_s;
    NTK = NNGP + sum_ts Pi[t, s] K[t, s] (the three terms of K belong to W, U and b).
    Tensor Programs II, section 6 (tied weights: uses at different times of the same matrix meet).
    """
    sequences, m = [*sequences1, *sequences2], len(sequences1)
    k = rnn_covariances(sequences, phi, sw, su, sb)
    result = Kernels(np.zeros((m, len(sequences2))), np.zeros((m, len(sequences2))))
    for i, j in itertools.product(range(m), range(len(sequences2))):
        cov, a, b = k[i][m + j], np.diag(k[i][i])[:, None], np.diag(k[m + j][m + j])[None, :]
        value, slope = phi.value(a, b, cov), phi.slope(a, b, cov)
        seed = sv**2 * np.outer(pooling_weights(cov.shape[0], pooling), pooling_weights(cov.shape[1], pooling))
        grad = np.zeros((cov.shape[0] + 1, cov.shape[1] + 1))
        for t, s in itertools.product(reversed(range(cov.shape[0])), reversed(range(cov.shape[1]))):
            grad[t, s] = slope[t, s] * (seed[t, s] + sw**2 * grad[t + 1, s + 1])
        result.nngp[i, j] = (seed * value).sum()
        result.ntk[i, j] = result.nngp[i, j] + (grad[:-1, :-1] * cov).sum()
    return result


def pooling_weights(length: int, pooling: str) -> Array:
    return np.full(length, 1 / length) if pooling == "mean" else np.eye(length)[-1]


# Transformer


def correlate(s: Array) -> Array:
    """Layer normalization of centred Gaussian vectors: covariance to correlation."""
    d = np.sqrt(np.diag(s))
    correlation: Array = s / np.outer(d, d)
    return correlation


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    rows: Array = e / e.sum(axis=1, keepdims=True)
    return rows


def block_diagonal(blocks: Sequence[Array]) -> Array:
    size, at = sum(len(b) for b in blocks), 0
    out = np.zeros((size, size))
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out


def transformer_kernels(
    sequences1: Sequence[Array], sequences2: Sequence[Array], depth: int, su: float, sw: float
) -> Kernels:
    """Keys k = E x; per block z = layernorm((I + softmax(k.k/n)) k), y = layernorm(z + B relu(A z)), k = E y.

    The output is v.mean_t y_t. Over all pairs of positions of all sequences, with D = blockdiag(softmax(S)) and
    C(.) covariance to correlation:  S = su^2 G;  Q = (I + D) S (I + D)^T;  Z = C(Q);  U = sw^2 Z;
    R = sw^2 V_relu(U);  P = Z + R;  Y = C(P);  then G = Y. NNGP = mean of Y over both positions.
    (Tensor Programs I, appendix on transformers.)

    Gradients, from the last block to the first, all as covariances over pairs: at P: gY / (std std); B adds gP R;
    at U: gU = sw^2 gP V_relu'(U), A adds gU U; at Z: gP + sw^2 gU; at Q: gZ / (std std); at k: (I+D)^T gQ (I+D),
    E adds gk S. The attention weights and the normalizers are constants in the limit: what flows through them is a
    multiple of k/n, smaller than the rest by n^(-1/2). (Tensor Programs II, section on transformers.)
    """
    sequences = [*sequences1, *sequences2]
    x = np.concatenate(sequences)
    owner = np.concatenate([np.full(len(q), i) for i, q in enumerate(sequences)])
    pool = np.array([(owner == i) / (owner == i).sum() for i in range(len(sequences))])
    gram, tape = x @ x.T / x.shape[1], []
    for _ in range(depth):
        s = su**2 * gram
        mix = np.eye(len(s)) + block_diagonal([softmax(s[np.ix_(owner == i, owner == i)]) for i in range(len(pool))])
        q = mix @ s @ mix.T
        u = sw**2 * correlate(q)
        r = sw**2 * pairwise(RELU.value, u)
        p = correlate(q) + r
        gram = correlate(p)
        tape.append((s, mix, q, u, r, p))
    nngp = pool @ gram @ pool.T
    terms, m = nngp.copy(), len(sequences1)
    for i, j in itertools.product(range(len(sequences)), repeat=2):
        terms[i, j] += backward_transformer(np.outer(pool[i], pool[j]), tape, su, sw)
    return Kernels(nngp[:m, m:], terms[:m, m:])


def backward_transformer(grad: Array, tape: Sequence[tuple[Array, ...]], su: float, sw: float) -> float:
    """The sum of the weights' terms for one pair of outputs whose gradient covariance at the last Y is `grad`."""
    total = 0.0
    for s, mix, q, u, r, p in reversed(tape):
        grad_p = grad / np.sqrt(np.outer(np.diag(p), np.diag(p)))
        grad_u = sw**2 * grad_p * pairwise(RELU.slope, u)
        grad_q = (grad_p + sw**2 * grad_u) / np.sqrt(np.outer(np.diag(q), np.diag(q)))
        grad_k = mix.T @ grad_q @ mix
        total += float((grad_p * r + grad_u * u + grad_k * s).sum())
        grad = su**2 * grad_k
    return total


# A matrix and its transpose in one forward pass


def transpose_nngp(x1: Array, x2: Array, sw: float) -> Array:
    """h = U x, y = tanh(W h), z = tanh(W^T y + h), output v.z, where W^T remembers the use of W.

    Z^{W^T y(x)} = Zhat(x) + sw^2 e(x) h(x) with e(x) = E tanh'(N(0, sw^2 q(x))), q = x.x/d, and
    Cov(Zhat(x), Zhat(x')) = sw^2 E[y(x) y(x')] (Tensor Programs III, arXiv 2009.10685, Box 1). Hence
    NNGP = V_tanh(sw^2 V_tanh(sw^2 q) + (1 + sw^2 e)(1 + sw^2 e')^T q).
    """
    gram, m = linear_gram(x1, x2)
    tanh = grid_dual(np.tanh, np.tanh)
    y = pairwise(tanh, sw**2 * gram)
    memory = np.array([1 + sw**2 * mean(lambda z: 1 - np.tanh(z) ** 2, sw**2 * q) for q in np.diag(gram)])
    z = sw**2 * y + np.outer(memory, memory) * gram
    return pairwise(tanh, z)[:m, m:]
