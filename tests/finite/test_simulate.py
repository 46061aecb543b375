"""Simulations: groups share weights, and kernels come out as independent formulas say."""

import math

import numpy as np
import pytest

from tensorprog.autodiff import differentiate
from tensorprog.elaborate import elaborate
from tensorprog.errors import Source
from tensorprog.finite import Group, simulate
from tensorprog.finite.convergence import convergence
from tensorprog.finite.dyads import Dyads, pair_gram, summed_gram

RELU = """
program relu2:
    width n = 512
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, relu(W @ x))
"""
SEQUENCE = """
program sequence:
    width n = 16
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1 / n)
    weight U[T]: [n, d] ~ N(0, 1 / d)
    weight b: [n] ~ N(0, 1)
    weight v: [n] ~ N(0, 1 / n) lr 2 / n
    h[0] = zeros(n)
    for t in T:
        h[t + 1] = tanh(W @ h[t] + U[t] @ x[t] + b)
    output f[t in T] = dot(v, h[t + 1])
"""
RNG = np.random.default_rng(0)


def differentiated(text):
    program = elaborate(Source("test", text)).program
    return differentiate(program, program.outputs[0].name)


def sequences(lengths):
    return [RNG.standard_normal((1, length, 3)) for length in lengths]


def group(*xs):
    return Group({"T": xs[0].shape[1], "d": 3}, {"x": np.concatenate(xs)})


def test_splitting_a_group_changes_only_the_order():
    diff = differentiated(SEQUENCE)
    xs = sequences([4, 4, 4])
    whole = simulate(diff, [group(*xs)], {"n": 16}, seed=5, dtype=np.float64)
    split = simulate(diff, [group(xs[2]), group(xs[0], xs[1])], {"n": 16}, seed=5, dtype=np.float64)
    assert split.rows.tolist() == [[g, e, t] for g, e in ((0, 0), (1, 0), (1, 1)) for t in range(4)]
    order = [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(split.ntk, whole.ntk[np.ix_(order, order)], rtol=1e-12)
    np.testing.assert_allclose(split.outputs[diff.output][1], whole.outputs[diff.output][0][:2], rtol=1e-12)


def test_ragged_examples_share_the_weights():
    """A causal program: the first steps of a longer sequence are the shorter sequence."""
    diff = differentiated(SEQUENCE)
    (x,) = sequences([5])
    both = simulate(diff, [group(x[:, :3]), group(x)], {"n": 16}, seed=5, dtype=np.float64)
    assert both.ntk.shape == (8, 8)
    np.testing.assert_allclose(both.ntk[:3], both.ntk[3:6], rtol=1e-12)
    np.testing.assert_allclose(both.ntk[:3, :3], both.ntk[3:6, 3:6], rtol=1e-12)
    np.testing.assert_allclose(both.outputs[diff.output][0][0], both.outputs[diff.output][1][0, :3], rtol=1e-12)


def test_kernel_is_the_sum_over_weights_at_their_rates():
    diff = differentiated(SEQUENCE)
    found = simulate(diff, [group(*sequences([3, 3]))], {"n": 16}, seed=1)
    assert found.rates == pytest.approx({"W": 1 / 16, "U": 1 / 3, "b": 1, "v": 1 / 8})
    np.testing.assert_allclose(found.ntk, sum(found.rates[w] * found.grams[w] for w in found.rates))
    assert np.linalg.eigvalsh(found.ntk).min() > -1e-4


def test_readout_gram_is_the_feature_kernel():
    diff = differentiated(RELU)
    x = RNG.standard_normal((4, 1, 3))
    found = simulate(diff, [Group({"d": 3}, {"x": x})], {"n": 64}, seed=1, dtype=np.float64)
    features = np.maximum(x[:, 0] @ found.network.values["W"][0].T, 0)
    np.testing.assert_allclose(found.grams["v"], features @ features.T)


def test_without_derivatives_there_are_only_outputs():
    program = elaborate(Source("test", RELU)).program
    x = RNG.standard_normal((4, 1, 3))
    found = simulate(program, [Group({"d": 3}, {"x": x})], {"n": 64}, seed=1)
    assert found.ntk is None and found.outputs[program.outputs[0].name][0].shape == (4, 1)


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_the_two_ways_to_sum_dyads_agree(chunk, monkeypatch):
    monkeypatch.setattr("tensorprog.finite.dyads.CHUNK", chunk)
    sample = np.sort(RNG.integers(0, 6, 40))
    dyads = Dyads(sample, RNG.standard_normal((40, 7)), RNG.standard_normal((40, 5)))
    start = np.unique(sample, return_index=True)[1]
    jacobian = np.zeros((6, 35))
    for s, row, col in zip(dyads.sample, dyads.rows, dyads.cols, strict=True):
        jacobian[s] += np.outer(row, col).ravel()
    jacobian = jacobian[np.unique(sample)]
    np.testing.assert_allclose(pair_gram(dyads, start), jacobian @ jacobian.T, atol=1e-12)
    np.testing.assert_allclose(summed_gram(dyads, start), jacobian @ jacobian.T, atol=1e-12)


def arccos_ntk(x):
    """Two-layer bias-free ReLU: |x||x'| h(u) / (2 pi d), h(u) = 2u(pi - arccos u) + sqrt(1 - u^2), u the cosine."""
    norms = np.linalg.norm(x, axis=1)
    u = np.clip(x @ x.T / np.outer(norms, norms), -1, 1)
    h = 2 * u * (math.pi - np.arccos(u)) + np.sqrt(1 - u**2)
    return np.outer(norms, norms) * h / (2 * math.pi * x.shape[1])


def relu_draws(x, widths, seeds):
    diff = differentiated(RELU)
    groups = [Group({"d": x.shape[1]}, {"x": x[:, None]})]
    return {n: [simulate(diff, groups, {"n": n}, seed).ntk for seed in range(seeds)] for n in widths}


def test_kernel_tends_to_the_closed_form_and_not_to_a_wrong_one():
    """The limit is Cho and Saul's (2009); draws at widths 64 to 1024, 12 seeds."""
    x = RNG.standard_normal((6, 4))
    draws = relu_draws(x, [64, 128, 256, 512, 1024], 12)
    right = convergence(arccos_ntk(x), draws)
    assert right.verdict == "agrees", right.reason
    assert right.slope == pytest.approx(-0.5, abs=0.15)
    wrong = convergence(1.1 * arccos_ntk(x), draws)
    assert wrong.verdict == "disagrees", wrong.reason


def test_moments_of_a_symmetric_random_matrix_are_the_catalan_numbers():
    """z_t = (W + W.T) z_{t-1}, W_ij ~ N(0, 1/(2n)): avg(z_0 z_2k) -> 1, 2, 5 (the semicircle law)."""
    text = """
program semicircle:
    width n = 64
    weight W: [n, n] ~ N(0, 1 / (2 * n))
    weight z: [n] ~ N(0, 1)
    y[0] = z
    for t in 1..6:
        y[t] = W @ y[t - 1] + W.T @ y[t - 1]
    output m[k in 4] = dot(z, y[2 * k]) / n
"""
    program = elaborate(Source("test", text)).program
    found = np.array([simulate(program, [Group({}, {})], {"n": 500}, s).outputs["m"][0][0] for s in range(12)])
    error = found.std(axis=0, ddof=1) / np.sqrt(12)
    assert (error < [0.05, 0.05, 0.15, 0.5]).all()
    assert (np.abs(found.mean(axis=0) - [1, 1, 2, 5]) < 4 * error).all()
