"""The blocks and functions of the prelude against numpy, and against the same networks written out."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

PROGRAMS = Path(__file__).parent.parent / "oracles" / "programs"

VECTOR = "program p():\n    width n = 6\n    input x: [d]\n    u = dense(x, n, sw = 2)\n"
SEQUENCE = "program p():\n    width n = 6\n    input x[T]: [d]\n"
IMAGE = "program p():\n    width n = 6\n    input x[H, W]: [c]\n"


def relu(u):
    return np.maximum(u, 0)


FUNCTIONS = {
    "relu(u)": relu,
    "leaky_relu(u)": lambda u: np.where(u > 0, u, 0.01 * u),
    "leaky_relu(u, 0.3)": lambda u: np.where(u > 0, u, 0.3 * u),
    "relu6(4 * u)": lambda u: np.clip(4 * u, 0, 6),
    "clip(u, -0.5, 0.25)": lambda u: np.clip(u, -0.5, 0.25),
    "hard_tanh(u)": lambda u: np.clip(u, -1, 1),
    "hard_sigmoid(4 * u)": lambda u: np.clip(4 * u / 6 + 0.5, 0, 1),
    "elu(u)": lambda u: np.where(u > 0, u, np.exp(u) - 1),
    "celu(u, 2)": lambda u: np.where(u > 0, u, 2 * (np.exp(u / 2) - 1)),
    "selu(u)": lambda u: 1.0507009873554805 * np.where(u > 0, u, 1.6732632423543772 * (np.exp(u) - 1)),
    "softsign(u)": lambda u: u / (1 + np.abs(u)),
    "gelu(u)": lambda u: u * special.ndtr(u),
    "gelu_tanh(u)": lambda u: u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3))) / 2,
    "swish(u)": lambda u: u * special.expit(u),
    "silu(u)": lambda u: u * special.expit(u),
    "mish(u)": lambda u: u * np.tanh(np.log1p(np.exp(u))),
    "gaussian(u)": lambda u: np.exp(-(u**2)),
    "identity(u)": lambda u: u,
    "sinc(u)": lambda u: np.sin(u) / u,
    "max(u, 0.1, -u)": lambda u: np.maximum(np.maximum(u, 0.1), -u),
    "min(u, 0.1)": lambda u: np.minimum(u, 0.1),
}


@pytest.mark.parametrize("text", FUNCTIONS)
def test_function(run, text):
    r = run(VECTOR + f"    output h = {text}\n")
    assert_allclose(r.output, FUNCTIONS[text](r.weights["W"] @ r.inputs["x"]), atol=1e-14)


def test_readout_and_residuals(run):
    r = run("block layer(h):\n    return sin(dense(h, dim(h)))\n" + VECTOR
            + "    h = residual(u, layer, scale = 0.5)\n    h = residual_dense(h, phi = tanh)\n"
            "    output readout(h, sv = 3)\n")
    w = r.weights
    h = w["W"] @ r.inputs["x"]
    h = h + 0.5 * np.sin(w["W.2"] @ h)
    h = h + w["W.3"] @ np.tanh(h)
    assert_allclose(r.output, w["v"] @ h)


def test_layernorm(run):
    r = run(VECTOR + "    output h = layernorm(u, eps = 0.1)\n")
    u = r.weights["W"] @ r.inputs["x"]
    assert_allclose(r.output, (u - u.mean()) / np.sqrt(u.var() + 0.1))


def test_batchnorm(run):
    r = run(SEQUENCE + "    output h = batchnorm(dense(x, n), eps = 0.1)\n", T=4)
    u = r.inputs["x"] @ r.weights["W"].T
    assert_allclose(r.output, (u - u.mean(0)) / np.sqrt(u.var(0) + 0.1))


def test_batchnorm_example_is_the_block(run):
    source = (Path(__file__).parents[2] / "examples" / "batchnorm.tp").read_text()
    start = source.index("        m = mean")
    block = source[:start] + "        h = relu(batchnorm(g))\n" + source[source.index("    weight v"):]
    assert_allclose(run(source, B=4).output, run(block, B=4).output)


@pytest.mark.parametrize("pad", ["same", "circular", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv1d(run, pad, stride):
    """Against the convolutions that tests/oracles compares with neural-tangents."""
    source = (PROGRAMS / f"conv1d_{pad}_{stride}_gap.tp").read_text()
    taps = 2 if (pad, stride) == ("valid", 2) else 3
    block = f"""
program q(sw1 = 1.4, sw2 = 1.2, sb = 0.1):
    width n = 512
    input x[L]: [c]
    h = relu(conv1d(x, n, stride = {stride}, pad = {pad}, sw = sw1, sb = sb))
    h = erf(conv1d(h, n, k = {taps}, pad = {pad}, sw = sw2, sb = sb))
    output readout(globalpool1d(h))
"""
    assert_allclose(run(source, L=8).output, run(block, L=8).output, rtol=1e-12)


@pytest.mark.parametrize("pad", ["same", "circular", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d(run, pad, stride):
    source = (PROGRAMS / f"conv2d_{pad}_{stride}_gap.tp").read_text()
    taps = 2 if (pad, stride) == ("valid", 2) else 3
    block = f"""
program q(sw1 = 1.4, sw2 = 1.2, sb = 0.1):
    width n = 512
    input x[H, W]: [c]
    h = relu(conv2d(x, n, stride = {stride}, pad = {pad}, sw = sw1, sb = sb))
    h = erf(conv2d(h, n, k = {taps}, pad = {pad}, sw = sw2, sb = sb))
    output readout(globalpool2d(h))
"""
    assert_allclose(run(source, H=8, W=6).output, run(block, H=8, W=6).output, rtol=1e-12)


def test_pooling(run):
    r = run(IMAGE + "    u = dense(x, n)\n    output a = avgpool2d(u)\n    output b = maxpool2d(u, 3, 1)\n"
            "    output c = globalpool2d(u)\n", H=4, W=6)
    u = r.inputs["x"] @ r.weights["W"].T
    assert_allclose(r.outputs["a"], u.reshape(2, 2, 3, 2, 6).mean((1, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(u, (3, 3), (0, 1))
    assert_allclose(r.outputs["b"], windows.max((-1, -2)))
    assert_allclose(r.outputs["c"], u.mean((0, 1)))


def test_pooling_of_sequences(run):
    r = run(SEQUENCE + "    u = dense(x, n)\n    output a = avgpool1d(u, 3, 1)\n    output b = maxpool1d(u)\n"
            "    output c = globalpool1d(u)\n", T=6)
    u = r.inputs["x"] @ r.weights["W"].T
    assert_allclose(r.outputs["a"], np.stack([u[i:i + 3].mean(0) for i in range(4)]))
    assert_allclose(r.outputs["b"], u.reshape(3, 2, 6).max(1))
    assert_allclose(r.outputs["c"], u.mean(0))


def test_attention(run):
    r = run(SEQUENCE + "    q = dense(x, n)\n    k = dense(x, n)\n    v = dense(x, n)\n"
            "    output attention(q, k, v)\n    output b = attention(q, k, v, scale = 1 / sqrt(n))\n", T=4)
    q, k, v = (r.inputs["x"] @ r.weights[name].T for name in ("W", "W.2", "W.3"))
    assert_allclose(r.outputs["output"], special.softmax(q @ k.T / 6, 1) @ v)
    assert_allclose(r.outputs["b"], special.softmax(q @ k.T / np.sqrt(6), 1) @ v)


def test_rnn(run):
    r = run(SEQUENCE + "    output h = rnn(x, n, phi = erf, sb = 1)\n", T=4)
    h, states = np.zeros(6), []
    for x in r.inputs["x"]:
        h = special.erf(r.weights["W"] @ h + r.weights["U"] @ x + r.weights["b"])
        states.append(h)
    assert_allclose(r.output, states)


def test_gru(run):
    r = run(SEQUENCE + "    output h = gru(x, n, sb = 1)\n", T=4)
    w, u, b = (r.weights[k] for k in "WUb")
    h, states = np.zeros(6), []
    for x in r.inputs["x"]:
        z, g = (special.expit(w[k] @ h + u[k] @ x + b[k]) for k in (0, 1))
        h = (1 - z) * h + z * np.tanh(w[2] @ (g * h) + u[2] @ x + b[2])
        states.append(h)
    assert_allclose(r.output, states)


def test_lstm(run):
    r = run(SEQUENCE + "    output h = lstm(x, n, sb = 1, forget = 0.5)\n", T=4)
    w, u, b = (r.weights[k] for k in "WUb")
    h, c, states = np.zeros(6), np.zeros(6), []
    for x in r.inputs["x"]:
        a = [w[k] @ h + u[k] @ x + b[k] for k in range(4)]
        c = special.expit(a[1] + 0.5) * c + special.expit(a[0]) * np.tanh(a[3])
        h = special.expit(a[2]) * np.tanh(c)
        states.append(h)
    assert_allclose(r.output, states)


def test_cells_with_weights_of_ones_own(run):
    cell = """
    weight W[4]: [n, n] ~ N(0, 1 / n)
    weight U[4]: [n, d] ~ N(0, 1 / d)
    weight b[4]: [n]    ~ N(0, 1)
    h = zeros(n)
    c = zeros(n)
    for t in T:
        h, c = lstm_cell(h, c, x[t], W, U, b)
    output h
"""
    layer = "    y = lstm(x, n, sb = 1)\n    output y[T - 1]\n"
    assert_allclose(run(SEQUENCE + cell, T=4).output, run(SEQUENCE + layer, T=4).output)
