"""Slopes and leading coefficients on draws whose law is known."""

import numpy as np
import pytest

from tensorprog.finite.convergence import convergence
from tensorprog.finite.rates import intercept, leading_bias, leading_variance, log_slope
from tests.finite.test_convergence import kernel, wishart

WIDTHS = (16, 32, 64, 128)


def gaps(seeds, bias=0.0, size=4):
    limit = kernel(size)
    draws = wishart(limit, WIDTHS, seeds, np.random.default_rng(0), bias)
    norm = np.linalg.norm(limit)
    return limit, {w: np.array([(d - limit).ravel() / norm for d in ds]) for w, ds in draws.items()}


def test_intercepts_are_exact_for_polynomials():
    x = 1 / np.array(WIDTHS)
    for order, y in ((0, 0 * x + 3), (1, 3 - 2 * x), (2, 3 - 2 * x + 5 * x**2)):
        c = intercept(WIDTHS, [1.0, 2.0, 3.0, 4.0], order)
        assert c.sum() == pytest.approx(1) and c @ y == pytest.approx(3)


def test_a_power_law():
    deviation = [3 * w**-0.5 for w in WIDTHS]
    assert log_slope(WIDTHS, deviation, [0.1 * d for d in deviation]).value == pytest.approx(-0.5)


def test_the_error_of_the_slope_is_that_of_repeated_fits():
    """log deviation + N(0, 0.05^2): the slope scatters by its stated error."""
    rng, exact = np.random.default_rng(0), np.array([3 * w**-0.5 for w in WIDTHS])
    noisy = exact * np.exp(0.05 * rng.standard_normal((400, 4)))
    fits = [log_slope(WIDTHS, list(d), list(0.05 * exact)) for d in noisy]
    slopes = np.array([f.value for f in fits])
    assert np.std(slopes) == pytest.approx(min(f.error for f in fits), rel=0.1)
    assert abs(slopes.mean() + 0.5) < 4 * np.std(slopes) / 20


def test_the_leading_bias():
    limit, found = gaps(400, bias=20.0)
    bias = leading_bias(found)
    assert abs(bias.size.value - 20) < 4 * bias.size.error < 4
    error = (bias.entries * np.linalg.norm(limit) - 20 * limit.ravel()) / (bias.errors * np.linalg.norm(limit))
    assert np.abs(error).max() < 4.5


def test_no_bias():
    found = leading_bias(gaps(400)[1])
    assert found.size.value < 4 * found.size.error


def test_the_leading_variance_of_wishart_matrices():
    """n Var K_ij = L_ii L_jj + L_ij^2"""
    limit, found = gaps(400)
    variance = leading_variance(found)
    expected = np.outer(np.diag(limit), np.diag(limit)) + limit**2
    scaled = variance.entries * np.sum(limit**2), variance.errors * np.sum(limit**2)
    assert (np.abs(scaled[0] - expected.ravel()) < 4.5 * scaled[1]).all()
    assert abs(variance.size.value - expected.sum() / np.sum(limit**2)) < 4 * variance.size.error


def test_the_error_of_the_leading_variance_is_that_of_repeated_studies():
    rng, limit = np.random.default_rng(0), np.eye(1)
    studies = []
    for _ in range(200):
        draws = wishart(limit, WIDTHS, 40, rng)
        studies.append(leading_variance({w: np.array(d).reshape(-1, 1) - 1 for w, d in draws.items()}))
    values = np.array([s.size.value for s in studies])
    assert abs(values.mean() - 2) < 4 * values.std() / np.sqrt(200)
    assert np.median([s.size.error for s in studies]) == pytest.approx(values.std(), rel=0.25)


def test_the_leading_bias_of_a_network_by_hand():
    """Two layers of squares: K = 3 q^2, q = 3, is n E(K_n - K) = 3 n Var(q_n) = 3 (105 - 9) exactly, at every width."""
    rng, draws = np.random.default_rng(0), {}
    for n in (16, 32, 64):
        q = np.mean(rng.standard_normal((20000, n)) ** 4, axis=1)
        draws[n] = np.mean((np.sqrt(q)[:, None] * rng.standard_normal((20000, n))) ** 4, axis=1)[:, None] / 27 - 1
    found = leading_bias(draws)
    assert abs(27 * found.entries[0] - 288) < 4 * 27 * found.errors[0] < 4 * 40
    assert found.size.value == pytest.approx(abs(found.entries[0]), abs=found.size.error)


def test_interval_has_its_coverage():
    """95% intervals hold the exact deviation of Wishart matrices in about 95% of studies."""
    rng, limit = np.random.default_rng(0), kernel(3)
    exact = np.sqrt((1 + np.trace(limit) ** 2 / np.sum(limit**2)) / 64)
    intervals = [convergence(limit, wishart(limit, (32, 64), 16, rng)).interval[1] for _ in range(300)]
    assert 0.88 < np.mean([low < exact < high for low, high in intervals]) < 0.99
