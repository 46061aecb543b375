"""The test of a joint Gaussian law: how often it is wrong about right ones, and that it finds wrong ones."""

import numpy as np
import pytest

from tensorprog.finite import law as module
from tensorprog.finite.law import energy_test, law

K = np.array([[1.0, 0.5, 0.2], [0.5, 1.3, 0.4], [0.2, 0.4, 0.8]])
WIDTHS = (16, 32, 64, 128)


@pytest.fixture
def few(monkeypatch):
    """The energy test, which is not looked at, without simulations."""
    monkeypatch.setattr(module, "REPLICATES", 1)


def finite(rng, width, seeds):
    """A Gaussian whose variance fluctuates by 1/width, as the kernel of a network does: kurtosis of order 1/width."""
    root, variance = np.linalg.cholesky(K).T, rng.gamma(width / 4, 4 / width, (seeds, 1))
    return rng.standard_normal((seeds, 3)) @ root * np.sqrt(variance)


def tied(rng, seeds):
    """Gaussian in every element with the right covariances, but not jointly: signs in common."""
    z = np.abs(rng.standard_normal((seeds, 2))) * rng.choice([-1.0, 1.0], (seeds, 1))
    return z[:, :1] * np.array([1.0, 0, 0]) + z[:, 1:] * np.array([0, 1.0, 0])


@pytest.mark.parametrize("seeds", [16, 64])
def test_right_laws_are_called_wrong_as_often_as_stated(few, seeds):
    rng = np.random.default_rng(seeds)
    p = np.array([law(K, {w: finite(rng, w, seeds) for w in WIDTHS}).p for _ in range(600)])
    assert np.mean(p < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert np.sum(p < 1e-3) <= 3  # more than 3 of 600 have a probability of 0.003


def test_the_energy_test_is_exact():
    rng = np.random.default_rng(0)
    p = np.array([energy_test(rng.standard_normal((20, 2))) for _ in range(200)])
    assert abs(np.mean(p < 0.1) - 0.1) < 3.5 * np.sqrt(0.09 / 200) and abs(p.mean() - 0.5) < 3.5 * np.sqrt(1 / 12 / 200)


@pytest.mark.parametrize("name", ["heavy tails", "no correlation", "common signs", "too small"])
def test_wrong_laws_are_found(name):
    rng, root = np.random.default_rng(1), np.linalg.cholesky(K).T
    make = {
        "heavy tails": lambda: rng.standard_normal((400, 3)) @ root * np.sqrt(rng.exponential(1, (400, 1))),
        "no correlation": lambda: rng.standard_normal((400, 3)) * np.sqrt(np.diag(K)),
        "common signs": lambda: tied(rng, 400),
        "too small": lambda: 0.7 * rng.standard_normal((400, 3)) @ root,
    }[name]
    covariance = np.diag([1.0, 1.0, 0.0]) if name == "common signs" else K
    found = law(covariance, {w: make() for w in (64, 128, 256)})
    assert found.verdict == "disagrees" and "law" in found.reason, found.p
    assert found.energy[-1] <= 0.05
    assert found.rank == (2 if name == "common signs" else 3)


def test_moments_and_kurtosis():
    """E |z|^4 = E s^2 r (r + 2) for a variance s ~ Gamma of mean 1: the excess is Var s."""
    rng = np.random.default_rng(2)
    found = law(K, {w: finite(rng, w, 4000) for w in (8, 64)})
    for width, excess in zip(found.widths, found.kurtosis, strict=True):
        assert abs(excess.value - 4 / width) < 4 * excess.error
    for mean, error, cov, cov_error in zip(
        found.mean, found.mean_error, found.covariance, found.covariance_error, strict=True
    ):
        assert (np.abs(mean) < 4.5 * error).all() and (np.abs(cov - K) < 4.5 * cov_error).all()


def test_an_error_of_the_limit_is_allowed_for(few):
    outputs = {w: finite(np.random.default_rng(w), w, 2000) for w in (128, 256)}
    assert law(1.5 * K, outputs).verdict == "disagrees" and law(1.5 * K, outputs, 0.5 * K).p > 0.05


def test_too_little_data(few):
    one = {64: finite(np.random.default_rng(0), 64, 50)}
    assert law(K, one).verdict == "inconclusive"
