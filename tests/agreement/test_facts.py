"""Numbers that the literature states, out of the engine (SYSTEMS of the papers: see tests/oracles/facts.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorprog
from tensorprog.api import Network
from tests.agreement.comparing import EXAMPLES, relative
from tests.oracles import facts
from tests.oracles.duals import grid_dual, mean

INTEGER = 1e-12


def values(body: str, widths: str = "width n = 512", functions: str = "", **params) -> dict[str, float]:
    """The scalar outputs of a program without inputs; 0 for what vanishes as the width grows."""
    names = ", ".join(f"{k} = {v}" for k, v in params.items())
    lines = "\n".join("    " + line for line in f"{widths}\n{body}".strip().split("\n"))
    net = tensorprog.load(f"{functions}\nprogram p({names}):\n{lines}\n")
    return {o.name: value(net, o.name) for o in net.program.outputs}


def value(net: Network, output: str) -> float:
    limit = net.limit(output)
    power = limit.powers[limit.output_var]
    return 0.0 if power is None or power < 0 else float(net.value(output=output)[0])


# ---------------------------------------------------------------- random matrices


def test_semicircle_moments_are_the_catalan_numbers():
    """TP0 section 7, TP III: even moments of (W + W.T) / sqrt(2)."""
    net = tensorprog.load(EXAMPLES / "semicircle.tp", order=5)
    found = [net.value(output=f"m_{k}")[0] for k in range(1, 6)]
    assert found == pytest.approx([facts.catalan(k) for k in range(1, 6)], abs=INTEGER)


def test_moments_of_a_symmetric_matrix_by_single_powers():
    """The odd ones are 0."""
    body = """
weight W: [n, n] ~ N(0, 1 / (2 * n))
weight u: [n] ~ N(0, 1)
z = u
for k in 1..7:
    z = W @ z + W.T @ z
    output m_{k} = dot(u, z) / n"""
    found = values(body)
    assert [found[f"m_{k}"] for k in range(1, 8)] == pytest.approx(facts.semicircle_moments(8)[1:], abs=INTEGER)


@pytest.mark.parametrize("ratio", ["2 * n", "n", "n / 2", "3 * n"])
def test_marchenko_pastur_moments_are_narayana_sums(ratio):
    """Moments of W W.T for m / n = 2 (1, 3, 11, 45), 1 (1, 2, 5, 14), 1/2 and 3."""
    text = (EXAMPLES / "marchenko_pastur.tp").read_text()
    assert "width m = 2 * n" in text
    net = tensorprog.load(text.replace("width m = 2 * n", f"width m = {ratio}"))
    alpha = {"2 * n": 2, "n": 1, "n / 2": 0.5, "3 * n": 3}[ratio]
    found = [net.value(output=f"m_{k}")[0] for k in range(1, 5)]
    assert found == pytest.approx([facts.marchenko_pastur_moment(r, alpha) for r in range(1, 5)], rel=INTEGER)


JACOBIAN = """
weight W[depth]: [n, n] ~ N(0, sw2 / n)
weight x: [n] ~ N(0, 1)
weight u: [n] ~ N(0, 1)
h[0] = x
for l in 1..depth:
    g[l] = W[l - 1] @ h[l - 1]
    h[l] = phi(g[l])
z = u
for k in 1..2:
    for l in 1..depth:
        z = W[depth - l].T @ (slope(g[depth + 1 - l]) * z)
    for l in 1..depth:
        z = slope(g[l]) * (W[l - 1] @ z)
    output m_{k} = dot(u, z) / n"""


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_singular_values_of_the_jacobian(kind, depth):
    """m2 / m1^2 of J J.T: 1 + L linear (Fuss-Catalan), 1 + 2 L for relu (TP III section 4; Pennington et al. 2017)."""
    rules = {"linear": ("u", "1 + 0 * u"), "relu": ("relu(u)", "step(u)")}
    functions = "def phi(u) = {}\ndef slope(u) = {}".format(*rules[kind])
    found = values(JACOBIAN, functions=functions, depth=depth, sw2=1 if kind == "linear" else 2)
    assert found["m_1"] == pytest.approx(1, abs=INTEGER)
    assert found["m_2"] / found["m_1"] ** 2 == pytest.approx(facts.jacobian_ratio(kind, depth), rel=INTEGER)
    if kind == "linear":
        assert found["m_2"] == pytest.approx(facts.fuss_catalan(2, depth), rel=INTEGER)


# ---------------------------------------------------------------- gradients of a mean (the transpose remembers)

GRADIENT = """
weight W: [n, n] ~ N(0, 1 / n)
weight x: [n] ~ N(0, 1)
h = W @ x
g = W.T @ slope(h)
output second = avg(g^2)
output cross = dot(g, x) / n
output mean = avg(g)"""


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        ("u", facts.pooled_gradient_square()),
        ("step(u)", facts.pooled_gradient_relu()),
        ("1 - tanh(u)^2", facts.pooled_gradient(1.0, 1.0, mean(lambda z: (1 - np.tanh(z) ** 2) ** 2, 1.0), 0.0)),
    ],
    ids=["square", "relu", "tanh"],
)
def test_the_gradient_of_a_mean(slope, expected):
    """E g^2 and E[g x] of g = W.T phi'(W x): 2 and 1 for a square, .6592 and .3989 for relu; fresh for odd phi."""
    found = values(GRADIENT, functions=f"def slope(u) = {slope}")
    assert found["second"] == pytest.approx(expected.second_moment, rel=1e-10)
    assert found["cross"] == pytest.approx(expected.with_input, abs=1e-10)
    assert found["mean"] == pytest.approx(0, abs=1e-12)


def test_the_gradient_of_a_mean_at_constant_inputs():
    """g = 2 W.T W 1: mean 2 and second moment 8, not N(0, 4) (TP II section 6.3)."""
    body = GRADIENT.replace("weight x: [n] ~ N(0, 1)", "weight x: [n] ~ N(1, 0)")
    found = values(body, functions="def slope(u) = 2 * u")
    assert (found["mean"], found["second"]) == pytest.approx(facts.pooled_gradient_ones(), rel=INTEGER)


POOLED = EXAMPLES / "mean_pooled_mlp.tp"


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_ntk_of_a_mean_pooled_network(depth):
    """phi = z + z^2/4: the corrected recursion of TP0 Theorem D.2, whose printed form has phi for phi phi' (E2)."""
    text = "def bent(u) = u + u^2 / 4\n" + POOLED.read_text()
    x = np.array([[1.0, 1.0, -1.0, 1.0]])
    found = tensorprog.load(text, depth=depth, sw=1.1, sb=0, phi="bent").ntk(x)
    expected = facts.pooled_mlp(1.0, depth, 1.1, lambda z: z + z * z / 4, lambda z: 1 + z / 2, lambda z: 0.5 + 0 * z)
    assert found[0, 0] == pytest.approx(expected.ntk, rel=1e-9)


def test_the_second_moment_of_a_mean_pooled_gradient():
    """The gradient at h^1 of the mean of phi(h^3), written out: 5.695, the printed recursion gives 4.581 (E2)."""
    body = """
weight x: [n] ~ N(0, 1)
weight W_1: [n, n] ~ N(0, 1 / n)
weight W_2: [n, n] ~ N(0, 1 / n)
weight W_3: [n, n] ~ N(0, 1 / n)
h_1 = W_1 @ x
h_2 = W_2 @ phi(h_1)
h_3 = W_3 @ phi(h_2)
g_3 = slope(h_3)
g_2 = slope(h_2) * (W_3.T @ g_3)
g_1 = slope(h_1) * (W_2.T @ g_2)
output a = avg(g_1^2)"""
    found = values(body, functions="def phi(u) = u + u^2 / 4\ndef slope(u) = 1 + u / 2")["a"]
    expected = facts.pooled_mlp(1.0, 3, 1.0, lambda z: z + z * z / 4, lambda z: 1 + z / 2, lambda z: 0.5 + 0 * z)
    assert found == pytest.approx(expected.gradients[0], rel=1e-9) and found == pytest.approx(5.695, abs=1e-3)


def test_mean_pooling_of_an_odd_function_needs_no_correction():
    """tanh without biases: E phi'' = 0, so the transposes are as good as fresh (TP0 Cor. D.4)."""
    assert tensorprog.load(POOLED, phi="tanh", sb=0).limit().verdict.holds
    assert not tensorprog.load(POOLED, phi="relu", sb=0).limit().verdict.holds


def test_the_ntk_in_the_standard_parametrization():
    """Two hidden relu layers, parameters N(0, 3), |x|^2 / d = 1: 6.75, where the formula in print gives 5.25 (E1)."""
    text = """
program yang(s = 3):
    width n = 512
    input x: [d]
    weight U: [n, d] ~ N(0, s / d) lr 1 / d
    weight W: [n, n] ~ N(0, s / n) lr 1 / n
    weight v: [n]    ~ N(0, s / n) lr 1 / n
    output dot(v, relu(W @ relu(U @ x)))
"""
    x = np.array([[1.0, -1.0, 1.0]])
    assert tensorprog.load(text).ntk(x)[0, 0] == pytest.approx(facts.relu_ntk_yang(3.0), rel=1e-12)


# ---------------------------------------------------------------- tied weights

TIED_RELU = """
weight W: [n, n] ~ N(0, 2 / n)
weight {R}: [n, n] ~ N(0, 2 / n)
weight x: [n] ~ N(0, 1)
h_1 = W @ x
h_2 = W @ relu(h_1)
h_3 = {R} @ relu(h_2)
output cov = dot(h_2, h_3) / n"""


def test_layers_of_a_tied_network_are_correlated():
    """Cov(h_2, h_3) = 2/pi with one W, 0 with fresh matrices (TP0 Cor. D.11, corrected)."""
    tied, fresh = facts.tied_relu_covariance()
    assert values(TIED_RELU.replace("{R} @", "W @").replace("{R}", "unused"))["cov"] == pytest.approx(tied, rel=1e-12)
    assert values(TIED_RELU.replace("{R}", "R"))["cov"] == pytest.approx(fresh, abs=1e-12)


RESIDUAL = """
weight W: [n, n] ~ N(0, sw^2 / n)
weight h_0: [n] ~ N(0, 1)
h = h_0
for t in 1..4:
    h = h + W @ phi(h)
    output K_{t} = avg(h^2)
    output C_{t} = dot(h, h_0) / n"""


def test_a_tied_linear_residual_network_grows_like_central_binomials():
    """K(t, t) = binom(2t, t) = 2, 6, 20, 70 (untied: 2^t)."""
    found = values(RESIDUAL, functions="def phi(u) = u", sw=1)
    binomials = [math.comb(2 * t, t) for t in range(1, 5)]
    assert [found[f"K_{t}"] for t in range(1, 5)] == pytest.approx(binomials, rel=INTEGER)


@pytest.mark.parametrize("phi", ["tanh", "erf"])
def test_a_tied_residual_network(phi):
    """The recursion of TP0's appendix on residual networks for odd phi."""
    from scipy.special import erf

    function = {"tanh": np.tanh, "erf": erf}[phi]
    expected = facts.tied_residual(1.0, 4, 0.9, grid_dual(function, function))
    found = values(RESIDUAL, functions=f"def phi(u) = {phi}(u)", sw=0.9)
    assert [found[f"K_{t}"] for t in range(1, 5)] == pytest.approx(np.diag(expected)[1:].tolist(), rel=1e-9)
    assert [found[f"C_{t}"] for t in range(1, 5)] == pytest.approx(expected[0, 1:].tolist(), rel=1e-9)


def test_the_covariance_of_the_example_of_a_tied_residual_network():
    x = np.array([[1.0, 1.0, -1.0]])
    found = tensorprog.load(EXAMPLES / "tied_resnet.tp", steps=3, sw=0.9).nngp(x)
    expected = facts.tied_residual(1.0, 3, 0.9, grid_dual(np.tanh, np.tanh))
    assert found[0, 0] == pytest.approx(expected[3, 3], rel=1e-9)


@pytest.mark.parametrize("ratio", [0.5, 1, 3])
def test_the_decoder_of_a_tied_autoencoder(ratio):
    """W.T tanh(W h): a sw^2 gamma h + N(0, a sw^2 E tanh^2), a = m / n, gamma = E tanh' (Li and Nguyen 2019)."""
    body = """
weight W: [m, n] ~ N(0, sw^2 / n)
weight h: [n] ~ N(0, 1)
y = W.T @ tanh(W @ h)
output second = avg(y^2)
output cross = dot(y, h) / n"""
    found = values(body, widths=f"width n = 256\nwidth m = {ratio} * n", sw=1.2)
    gamma, rho = mean(lambda z: 1 - np.tanh(z) ** 2, 1.44), mean(lambda z: np.tanh(z) ** 2, 1.44)
    assert found["cross"] == pytest.approx(ratio * 1.44 * gamma, rel=1e-9)
    assert found["second"] == pytest.approx((ratio * 1.44 * gamma) ** 2 + ratio * 1.44 * rho, rel=1e-9)


# ---------------------------------------------------------------- recurrences


def test_the_ntk_of_a_linear_rnn():
    """sv^2 su^2 sum_k (k + 2) sw^(2k) x_{T-k}.x'_{T'-k} / d (Alemohammad et al. 2020)."""
    text = (EXAMPLES / "rnn.tp").read_text().replace("erf(W @ s + U @ x[t] + b)", "W @ s + U @ x[t] + b")
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((6, 3))
    found = tensorprog.load(text, sw=1.2, su=0.9, sb=0, sv=1.1).ntk([x, y])
    expected = [[facts.linear_rnn_ntk(a, b, 1.2, 0.9, 1.1) for b in (x, y)] for a in (x, y)]
    assert relative(found, expected) < 1e-13


@pytest.mark.parametrize("onsager", [1, 0])
def test_approximate_message_passing_follows_state_evolution(onsager):
    """The mean squared errors of examples/amp.tp; without the Onsager term W.T remembers W, and they differ."""
    net = tensorprog.load(EXAMPLES / "amp.tp", steps=3, onsager=onsager)
    sampled = [net.estimate(output=f"mse_{t}", samples=1 << 16) for t in range(1, 4)]
    found, errors = ([float(x[k][0]) for x in sampled] for k in (0, 1))
    density, delta, noise2 = 0.15865525393145707, 0.5, 0.01  # P(N(0, 1) > 1)
    denoiser = facts.soft_threshold(0.8)
    taus = facts.state_evolution(denoiser, density, noise2, delta, 2)
    expected = [facts.amp_error(denoiser, density, tau) for tau in taus]
    assert found[0] == pytest.approx(expected[0], rel=1e-6)
    if onsager:
        assert found == pytest.approx(expected, rel=2e-3)  # the later ones are sampled
        assert all(e < 1e-3 * b for b, e in zip(expected, errors, strict=True))
    else:
        assert all(abs(a / b - 1) > 0.02 for a, b in zip(found[1:], expected[1:], strict=True))


# ---------------------------------------------------------------- signal propagation


PROPAGATION = """
weight h: [n] ~ N(0, 1) lr 0
for l in 1..40:
    weight W: [n, n] ~ N(0, sw2 / n) lr 0
    weight b: [n] ~ N(0, 0.05) lr 0
    h = W @ tanh(h) + b
output q = avg(h^2)
output chi = sw2 * avg((1 - tanh(h)^2)^2)"""


@pytest.mark.parametrize(
    ("sw2", "q", "chi"), [(1.5, 0.41804, 0.93864), (1.76, 0.56946, 0.9998), (2.0, 0.72176, 1.04767)]
)
def test_the_fixed_point_of_a_deep_tanh_network(sw2, q, chi):
    """Poole et al. 2016, sb^2 = .05: the variance q* and the factor chi_1 by which squared gradients grow per layer."""
    found = values(PROPAGATION, sw2=sw2)
    assert (found["q"], found["chi"]) == pytest.approx((q, chi), abs=6e-6)
    assert (found["q"], found["chi"]) == pytest.approx(facts.tanh_fixed_point(sw2, 0.05), rel=1e-5)


def test_the_ntk_of_a_deep_network_grows_by_chi():
    """Th <- q + chi_1 Th at the fixed point, below criticality."""
    x = np.array([[1.0, -1.0]])
    nets = [tensorprog.load(EXAMPLES / "mlp.tp", depth=k, phi="tanh", sw=1.5**0.5, sb=0.05**0.5) for k in (20, 21, 22)]
    growth = np.diff([net.ntk(x)[0, 0] for net in nets])
    assert growth[1] / growth[0] == pytest.approx(0.93864, abs=1e-4)
