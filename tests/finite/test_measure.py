"""Empirical kernels against per-example Jacobians by finite sums, in blocks, by threads, at several widths."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog.autodiff import differentiate
from tensorprog.dataset import bind
from tensorprog.finite import Group, forward, measure
from tensorprog.finite.gram import gradient_gram
from tensorprog.finite.weights import Network
from tensorprog.loading import gaussian_data

EXAMPLES = Path(__file__).parents[2] / "examples"
CNN = EXAMPLES / "cnn_flatten.tp"
NETWORKS = ["mlp", "cnn_flatten", "cnn_strided", "rnn_average", "transformer_qkv", "batchnorm", "gcn", "tied"]
RNG = np.random.default_rng(0)


def jacobian_kernel(net, x, network, step=1e-5):
    """sum over weights of lr J J.T, every entry of J by a central difference of the outputs."""
    program, data = net.program, bind(net.program, x)
    (group,) = data.groups
    var = program.outputs[0].var

    def outputs(name, at, shift):
        moved = network.values[name].copy()
        moved.flat[at] += shift
        values = Network(network.sizes, network.widths, {**network.values, name: moved}, network.dtype)
        return forward(program, values, Group(group.sizes, group.batch), [var])[var].ravel()

    rates = measure(differentiate(program, program.outputs[0].name), network, [Group(group.sizes, group.batch)]).rates
    total = 0.0
    for name, rate in rates.items():
        columns = [(outputs(name, k, step) - outputs(name, k, -step)) / (2 * step)
                   for k in range(network.values[name].size)]
        jacobian = np.stack(columns, axis=1)
        total = total + rate * jacobian @ jacobian.T
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_kernel_is_that_of_the_jacobian(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = gaussian_data(net.program, 3)
    network = net.weights(x, 3, seed=3, dtype=np.float64)
    found = net.empirical(x, network).ntk
    expected = jacobian_kernel(net, x, network)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("way", ["pair", "sum"])
def test_both_ways_and_small_pieces_agree(way, monkeypatch):
    """By pairs of uses or by sums, whole or in the smallest pieces."""
    net = tensorprog.load(EXAMPLES / "cnn_flatten.tp")
    x = RNG.standard_normal((5, 4, 4, 2))
    network = net.weights(x, 6, dtype=np.float64)
    whole = net.empirical(x, network).ntk
    monkeypatch.setattr(f"tensorprog.finite.gram.{way}_cost", lambda *given: 0.0)
    monkeypatch.setattr("tensorprog.finite.runs.gradient_gram", lambda *given: gradient_gram(*given[:4], chunk=1))
    np.testing.assert_allclose(net.empirical(x, network).ntk, whole, rtol=1e-12)


@pytest.mark.parametrize("name", ["cnn_global", "rnn_average", "batchnorm"])
def test_blocks_of_examples_change_nothing_and_the_memory_is_kept(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = RNG.standard_normal({"cnn_global": (24, 8, 8, 3), "rnn_average": (60, 20, 3), "batchnorm": (60, 8, 3)}[name])
    network = net.weights(x, 64)
    whole = net.empirical(x, network)
    memory = {"cnn_global": 24, "rnn_average": 10, "batchnorm": 40}[name] * 10**6
    data_and_network = sum(v.nbytes for v in network.values.values())
    net.empirical(x[:2], network)
    tracemalloc.start()
    found = net.empirical(x, network, memory=memory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found.ntk, whole.ntk, atol=1e-5 * np.abs(whole.ntk).max())
    np.testing.assert_allclose(found.outputs, whole.outputs, atol=1e-5 * np.abs(whole.outputs).max())
    assert peak + data_and_network < memory


def test_too_little_memory_is_told():
    net = tensorprog.load(CNN)
    with pytest.raises(tensorprog.TensorProgError, match="are too little"):
        net.empirical(RNG.standard_normal((4, 8, 8, 3)), memory="1MB")


def test_ragged_sequences_are_those_of_their_own():
    net = tensorprog.load(EXAMPLES / "rnn_average.tp")
    xs = [RNG.standard_normal((t, 3)) for t in (5, 2, 5, 3)]
    network = net.weights(xs, 16, dtype=np.float64)
    found = net.empirical(xs, network).ntk
    for i, j in ((0, 1), (1, 3), (0, 2), (2, 2)):
        pair = net.empirical([xs[i], xs[j]], network).ntk
        np.testing.assert_allclose(found[np.ix_([i, j], [i, j])], pair, rtol=1e-10)


def test_widths_by_name_and_seeds():
    text = """
program two:
    width n = 8
    width m = 2 * n
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [m, n] ~ N(0, 1 / n)
    weight v: [m] ~ N(0, 1 / m)
    output dot(v, tanh(W @ (U @ x)))
"""
    net = tensorprog.load(text)
    x = RNG.standard_normal((3, 2))
    assert net.weights(x, {"n": 5, "m": 7}).values["W"].shape == (1, 7, 5)
    assert net.weights(x, 6).values["W"].shape == (1, 12, 6)
    with pytest.raises(tensorprog.TensorProgError, match="widths are given for n"):
        net.weights(x, {"n": 5})
    with pytest.raises(tensorprog.TensorProgError, match="float32 and float64"):
        net.simulate(x, dtype=np.float16)
    draws = net.simulate(x, {"n": 5, "m": 7}, seeds=[4, 9], dtype=np.float64)
    for draw, seed in zip(draws, (4, 9), strict=True):
        alone = net.empirical(x, net.weights(x, {"n": 5, "m": 7}, seed, np.float64))
        np.testing.assert_allclose(draw.ntk, alone.ntk, rtol=1e-12)


def test_threads_change_nothing(monkeypatch):
    net = tensorprog.load(CNN)
    x = RNG.standard_normal((6, 8, 8, 3))
    network = net.weights(x, 16, dtype=np.float64)
    whole = net.empirical(x, network).ntk
    monkeypatch.setattr("tensorprog.finite.runs.MANY", 1)
    monkeypatch.setattr("tensorprog.finite.threads.workers", lambda: 3)
    monkeypatch.setattr("tensorprog.finite.runs.workers", lambda: 3)
    np.testing.assert_allclose(net.empirical(x, network).ntk, whole, rtol=1e-10)
