"""Numbers and small recursions that the literature states, as functions, each with its source.

TP0 = Yang, Scaling limits of wide neural networks with weight sharing (arXiv 1902.04760); TP II, TP III = Tensor
Programs II (arXiv 2006.14548) and III (arXiv 2009.10685). c(f, q) below stands for E f(z), z ~ N(0, q).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from .duals import Array, Dual, Scalar, mean, pairwise

# Signal propagation (Poole et al. 2016, Schoenholz et al. 2017; TP0 section 2)


def tanh_fixed_point(sw2: float, sb2: float) -> tuple[float, float]:
    """q* = sw2 E tanh^2(N(0, q*)) + sb2 and chi_1 = sw2 E tanh'^2(N(0, q*)).

    sb2 = 0.05: (0.41804, 0.93864) at sw2 = 1.5, critical near 1.76 (0.56946, 0.9998), (0.72176, 1.04767) at 2.
    """
    q = optimize.brentq(lambda q: sw2 * mean(lambda z: np.tanh(z) ** 2, q) + sb2 - q, 1e-9, 1e3, xtol=1e-14)
    return float(q), sw2 * mean(lambda z: (1 - np.tanh(z) ** 2) ** 2, q)


def tanh_critical_sw2(sb2: float) -> float:
    """The sw2 with chi_1 = 1."""
    return float(optimize.brentq(lambda sw2: tanh_fixed_point(sw2, sb2)[1] - 1, 1.0 + 1e-6, 20.0))


# Mean pooling of the last layer: the gradient does not forget W (TP0 section 6, TP II section 6.3)


@dataclass(frozen=True, slots=True)
class Gradient:
    """g = n d/dx of a mean over coordinates: E g^2, E[g x], and E g^2 if W^T is taken as a fresh matrix."""

    second_moment: float
    with_input: float
    naive_second_moment: float


def pooled_gradient(x2: float, sw2: float, slope2: float, curvature: float) -> Gradient:
    """g = W^T phi'(W x) for the sum of phi(W x): Z^g = Zhat + sw2 E[phi''] Z^x (TP III, Box 1).

    x2 = E x^2, slope2 = E phi'^2 and curvature = E phi'' at N(0, sw2 x2).
    """
    fresh, memory = sw2 * slope2, sw2 * curvature
    return Gradient(fresh + memory**2 * x2, memory * x2, fresh)


def pooled_gradient_square() -> Gradient:
    """phi = u^2 / 2, sw = 1, E x^2 = 1: E g^2 = 2 (naive 1), E[g x] = 1 (TP0 section 6)."""
    return pooled_gradient(1.0, 1.0, 1.0, 1.0)


def pooled_gradient_relu() -> Gradient:
    """phi = relu: E g^2 = 1/2 + 1/(2 pi) (naive 1/2), E[g x] = 1/sqrt(2 pi); E phi'' is the density at 0."""
    return pooled_gradient(1.0, 1.0, 0.5, 1 / math.sqrt(2 * math.pi))


def pooled_gradient_ones() -> tuple[float, float]:
    """x = (1, .., 1), g = 2 W^T W x: mean 2 and second moment 8; the naive limit is N(0, 4) (TP II, section 6.3)."""
    return 2.0, 4.0 + 2.0**2


@dataclass(frozen=True, slots=True)
class PooledMLP:
    """Layer by layer (first to last): S^l, the second moments H^l of n df/dh^l, and n times the NTK diagonal."""

    variances: list[float]
    gradients: list[float]
    ntk: float


def pooled_mlp(q: float, depth: int, sw: float, phi: Scalar, slope: Scalar, curvature: Scalar) -> PooledMLP:
    """f = mean of phi(h^L), h^1 = W x, h^l = W phi(h^{l-1}), no biases, q = |x|^2 / d (TP0 Theorem D.2, corrected).

    S^1 = sw^2 q, S^{l+1} = sw^2 c(phi^2, S^l). The gradient at phi(h^l) is Zhat + a_l phi(h^l) with
    a_{L-1} = sw^2 c(phi'', S^L) and a_l = sw^2 a_{l+1} c(phi'^2 + phi phi'', S^{l+1}), so that
    H^L = c(phi'^2, S^L), H^l = sw^2 H^{l+1} c(phi'^2, S^l) + a_l^2 c((phi phi')^2, S^l).
    NTK parametrization: n NTK = sum_l H^l S^l. The printed recursion has phi for phi phi' in the last term: for
    phi = z + z^2/4, L = 3, sw = 1, q = 1 the right H^1 is 5.695, the printed 4.581.
    """
    s = [sw**2 * q]
    for _ in range(depth - 1):
        s.append(sw**2 * mean(lambda z: phi(z) ** 2, s[-1]))
    h, a = [mean(lambda z: slope(z) ** 2, s[-1])], sw**2 * mean(curvature, s[-1])
    for layer in reversed(range(depth - 1)):
        v, product = s[layer], mean(lambda z: (phi(z) * slope(z)) ** 2, s[layer])
        h.append(sw**2 * h[-1] * mean(lambda z: slope(z) ** 2, v) + a**2 * product)
        a *= sw**2 * mean(lambda z: slope(z) ** 2 + phi(z) * curvature(z), v)
    h.reverse()
    return PooledMLP(s, h, sum(x * y for x, y in zip(h, s, strict=True)))


def relu_ntk_yang(sw2: float = 3.0) -> float:
    """f = v.x^2 / sqrt n, two hidden relu layers, |x|^2 / d = 1, parameters N(0, sw2) at rate 1: 6.75 at sw2 = 3.

    The formula printed in TP0 Theorem D.1 drops a factor sw2 and gives 5.25.
    """
    h1 = sw2
    h2 = sw2 * h1 / 2
    grad2 = sw2 / 2
    grad1 = sw2 * grad2 / 2
    return h2 / 2 + grad2 * h1 / 2 + grad1


# Random matrices from programs


def catalan(k: int) -> int:
    """binom(2k, k) / (k + 1): the moments of the semicircle law (TP0 section 7)."""
    return math.comb(2 * k, k) // (k + 1)


def semicircle_moments(count: int) -> list[int]:
    """E Z^{z_0} Z^{z_t} for t = 0 .. count - 1, z_t = (W + W^T) z_{t-1}, W_ij ~ N(0, 1 / (2n)).

    z_t = sum_r b^t_r Zhat-terms with b^t_t = 1 and b^{t+1}_r = sum_{s >= r} b^s_r b^t_{s+1}: 1, 0, 1, 0, 2, 0, 5, ...
    (TP0 section 7; only terms with t - r even are non-zero).
    """
    b = np.zeros((count + 1, count + 2), dtype=int)
    for t in range(count):
        b[t, t] = 1
        if t:
            for r in range(t):
                b[t, r] = sum(b[s, r] * b[t - 1, s + 1] for s in range(r, t - 1))
    return [int(b[t, 0]) for t in range(count)]


def marchenko_pastur_moment(r: int, alpha: float) -> float:
    """lim tr (A A^T)^r / m for A in R^{m x n}, A_ij ~ N(0, 1/n), m/n -> alpha.

    sum_k C(r-1, 2k) Cat_k alpha^k (1 + alpha)^(r-1-2k): 1, 2, 5, 14 at alpha = 1 and 1, 3, 11, 45 at 2 (TP0 section 7).
    """
    terms = range((r - 1) // 2 + 1)
    return sum(math.comb(r - 1, 2 * k) * catalan(k) * alpha**k * (1 + alpha) ** (r - 1 - 2 * k) for k in terms)


def fuss_catalan(k: int, depth: int) -> int:
    """C((L+1)k, k) / (Lk + 1): k-th moment of J J^T, J a product of L = `depth` square matrices, entries N(0, 1/n)."""
    return math.comb((depth + 1) * k, k) // (depth * k + 1)


def jacobian_ratio(kind: str, depth: int, orthogonal: bool = False) -> float:
    """m2 / m1^2 of the squared singular values of the input-output Jacobian (TP III section 4; Pennington et al. 2017).

    1 + L / p with p = P(phi' = 1): 1 for 'linear', 1/2 for 'relu'; 1 + L (1/p - 1) with orthogonal weights.
    """
    inverse = {"linear": 1.0, "relu": 2.0}[kind]
    return 1 + depth * (inverse - 1 if orthogonal else inverse)


# Weight tying


def tied_residual(q: float, steps: int, sw: float, dual: Dual) -> Array:
    """K[l, m] = E h_l h_m of h_t = h_{t-1} + W phi(h_{t-1}), one W for all steps, E h_0^2 = q, t = 0 .. steps.

    K(l, m) = sw^2 V(l-1, m-1) + K(l-1, m-1) + C(l-1, m-1) + C(m-1, l-1), with C(l, m) = E[h_l (W phi(h_m))] =
    C(l-1, m) + sw^2 V(l-1, m), C(0, .) = 0, K(0, m) = K(0, 0), V = V_phi(K) (TP0 appendix on residual networks).
    Linear phi, sw = q = 1: K(t, t) = binom(2t, t), whereas untied weights give 2^t.
    """
    k, c = np.full((steps + 1, steps + 1), q), np.zeros((steps + 1, steps + 1))
    for top in range(1, steps + 1):
        v = sw**2 * pairwise(dual, k[:top, :top])
        for row in range(1, top + 1):
            c[row, :top] = c[row - 1, :top] + v[row - 1]
        for row in range(1, top + 1):
            new = v[row - 1, top - 1] + k[row - 1, top - 1] + c[row - 1, top - 1] + c[top - 1, row - 1]
            k[row, top] = k[top, row] = new
    return k


def tied_relu_covariance() -> tuple[float, float]:
    """h_{t+1} = W relu(h_t), one W, sw^2 = 2, unit input: Cov(h_2, h_3) = 2/pi, with fresh matrices 0 (TP0 Cor. D.11).

    Cov(h_2, h_3) = sw^2 E relu(h_1) relu(h_2) = 2 (E relu(N(0, 2)))^2 since h_1 and h_2 are uncorrelated.
    """
    return 2 / math.pi, 0.0


def linear_rnn_ntk(x1: Array, x2: Array, sw: float, su: float, sv: float) -> float:
    """Last-state NTK of a linear RNN without bias: sv^2 su^2 sum_k (k + 2) sw^(2k) x_{T-k}.x'_{T'-k} / d, k = 0, 1, ...

    Steps are paired from the end (Alemohammad et al., The recurrent neural tangent kernel, arXiv 2006.10246).
    """
    d = x1.shape[1]
    dots = [x1[-1 - k] @ x2[-1 - k] / d for k in range(min(len(x1), len(x2)))]
    return float(sv**2 * su**2 * sum((k + 2) * sw ** (2 * k) * dot for k, dot in enumerate(dots)))


# Approximate message passing


def soft_threshold(theta: float) -> Callable[[Array], Array]:
    return lambda u: np.sign(u) * np.maximum(np.abs(u) - theta, 0.0)


def state_evolution(
    denoiser: Callable[[Array], Array], density: float, noise2: float, delta: float, steps: int
) -> list[float]:
    """tau_0^2, tau_1^2, ... of AMP for y = A x_0 + noise, A in R^{m x n}, A_ij ~ N(0, 1/m), m/n -> delta.

    x_0 has iid entries, N(0, 1) with probability `density`, else 0. tau_0^2 = noise2 + E x_0^2 / delta,
    tau_{t+1}^2 = noise2 + E(eta(x_0 + tau_t Z) - x_0)^2 / delta. Iteration: x' = eta(A^T z + x),
    z' = y - A x' + z mean(eta'(A^T z + x)) / delta (Donoho, Maleki & Montanari 2009; TP0 section 7).
    """
    taus = [noise2 + density / delta]
    for _ in range(steps):
        taus.append(noise2 + amp_error(denoiser, density, taus[-1]) / delta)
    return taus


def amp_error(denoiser: Callable[[Array], Array], density: float, tau2: float) -> float:
    """E(eta(u) - x_0)^2 at u = x_0 + tau Z; given u, a non-zero x_0 is N(g u, g tau^2) with g = 1 / (1 + tau^2)."""
    tau, wide = math.sqrt(tau2), math.sqrt(1 + tau2)
    gain = 1 / (1 + tau2)
    zero = expectation(lambda u: denoiser(u) ** 2, tau)
    other = expectation(lambda u: (denoiser(u) - gain * u) ** 2, wide) + gain * tau2
    return (1 - density) * zero + density * other


def expectation(f: Callable[[Array], Array], deviation: float) -> float:
    """E f(N(0, deviation^2)) on a fine grid, good also where f has kinks."""
    u = np.linspace(-10, 10, 40_001)
    return float(np.trapezoid(f(deviation * u) * stats.norm.pdf(u), u))
