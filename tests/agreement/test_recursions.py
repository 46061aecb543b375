"""The kernels against the recursions of Tensor Programs I to III, written by hand in tests/oracles."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tests.agreement.comparing import EXAMPLES, relative
from tests.oracles import batchnorm, gru, recursions

EXACT = 1e-13


def sequences(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.standard_normal((length, 4)) for length in lengths]


def within_noise(found, error, expected, expected_error=0.0):
    """The distance is at most 3 times its rms under the standard errors, which are below 5 % of the whole."""
    noise = np.linalg.norm(np.hypot(error, expected_error))
    assert noise < 0.05 * np.linalg.norm(expected)
    return np.linalg.norm(found - expected) < 3 * noise


@pytest.mark.parametrize(("name", "pooling"), [("rnn", "last"), ("rnn_average", "mean")])
def test_rnn_with_ragged_sequences(name, pooling):
    """Lengths 7, 4, 7, 1 against 4, 5; Tensor Programs I (section 5) and II (section 6)."""
    left, right = sequences(7, 4, 7, 1), sequences(4, 5)
    net = tensorprog.load(EXAMPLES / f"{name}.tp", sw=1.3, su=0.8, sb=0.3, sv=1.2)
    found, expected = net.kernels(left, right), recursions.rnn_kernels(left, right, 1.3, 0.8, 0.3, 1.2, pooling)
    assert relative(found.nngp, expected.nngp) < EXACT and relative(found.ntk, expected.ntk) < EXACT
    found, expected = net.kernels(left), recursions.rnn_kernels(left, left, 1.3, 0.8, 0.3, 1.2, pooling)
    assert relative(found.nngp, expected.nngp) < EXACT and relative(found.ntk, expected.ntk) < EXACT


@pytest.mark.parametrize("depth", [1, 2])
def test_transformer_with_ragged_sequences(depth):
    """At depth 2 and su != 1 a backward pass with su^4 in place of su^2 would be seen (SYSTEMS, erratum E6)."""
    left, right = sequences(6, 3), sequences(3, 5)
    net = tensorprog.load(EXAMPLES / "transformer.tp", depth=depth, su=1.3, sw=0.9)
    found, expected = net.kernels(left, right), recursions.transformer_kernels(left, right, depth, 1.3, 0.9)
    assert relative(found.nngp, expected.nngp) < EXACT and relative(found.ntk, expected.ntk) < EXACT


def test_batchnorm():
    """Batches of 7 in 9 dimensions, two layers; NNGP by the tilted integral, NTK by Monte Carlo."""
    batches = np.random.default_rng(3).standard_normal((2, 7, 9))
    found = tensorprog.load(EXAMPLES / "batchnorm.tp", sw=1.3).kernels(batches)
    for j in (0, 1):
        expected = batchnorm.batchnorm_kernels(batches[0], batches[j], 2, 1.3, samples=500)
        assert relative(found.nngp[0, :, j], expected.nngp) < 1e-10
        assert within_noise(found.ntk[0, :, j], np.zeros_like(expected.ntk), expected.ntk, expected.ntk_error)


def test_gru():
    left = sequences(5, 3)
    found = tensorprog.load(EXAMPLES / "gru.tp", sw=1.3, su=0.9, sb=0.2).kernels(left, want=("nngp",))
    expected, error = gru.gru_nngp(left, 1.3, 0.9, 0.2, samples=8000)
    assert within_noise(found.nngp, found.nngp_se, expected, error)


# ---------------------------------------------------------------- a matrix and its transpose

NAIVE = """
program naive(sw = 1):
    width n = 512
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, sw^2 / n)
    weight R: [n, n] ~ N(0, sw^2 / n)
    weight v: [n]    ~ N(0, 1 / n)
    y = tanh(W @ (U @ x))
    z = tanh(R @ y + U @ x)
    output dot(v, z)
"""


def test_tied_agrees_with_the_recursion():
    rng = np.random.default_rng(6)
    x1, x2 = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    net = tensorprog.load(EXAMPLES / "tied.tp", sw=1.3)
    assert relative(net.nngp(x1, x2), recursions.transpose_nngp(x1, x2, 1.3)) < 1e-10
    assert relative(net.nngp(x1), recursions.transpose_nngp(x1, x1, 1.3)) < 1e-10


def test_tied_agrees_with_simulation_and_the_naive_limit_does_not():
    """W.T in place of an independent copy: the naive variances are a seventh to a third too small."""
    x = np.random.default_rng(6).standard_normal((3, 4))
    net = tensorprog.load(EXAMPLES / "tied.tp", sw=1.3)
    right, naive = net.nngp(x), tensorprog.load(NAIVE, sw=1.3).nngp(x)
    draws = np.array([d.nngp for d in net.simulate(x, width=1024, seeds=12)])
    mean, scale = draws.mean(axis=0), np.linalg.norm(right)
    noise = np.linalg.norm(draws.std(axis=0, ddof=1)) / np.sqrt(len(draws)) / scale
    assert noise < 0.02
    assert np.linalg.norm(mean - right) / scale < 3 * noise
    assert np.linalg.norm(mean - naive) / scale > 10 * noise


def test_tied_says_that_its_transpose_is_not_fresh():
    verdict = tensorprog.load(EXAMPLES / "tied.tp").limit().verdict
    assert not verdict.holds and verdict.forward == ("W_y",)
    assert "transpose of W" in verdict.reason and "dot Z" in verdict.reason
    assert tensorprog.load(NAIVE).limit().verdict.holds
