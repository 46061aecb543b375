"""Gaussian process regression against formulas written out."""

import numpy as np
import pytest

from tensorprog.errors import TensorProgError
from tensorprog.predict import accuracy, centered_one_hot, determination, posterior

RNG = np.random.default_rng(0)


def rbf(a, b):
    return np.exp(-((a[:, None, :] - b[None, :, :]) ** 2).sum(-1) / 2)


def test_mean_and_variance_are_those_of_the_joint_gaussian():
    x, z, y = RNG.normal(size=(6, 2)), RNG.normal(size=(3, 2)), RNG.normal(size=(6, 2))
    k = rbf(x, x) + 0.1 * np.eye(6)
    result = posterior(rbf(x, x), rbf(z, x), y, np.ones(3), noise=0.1)
    np.testing.assert_allclose(result.mean, rbf(z, x) @ np.linalg.inv(k) @ y, rtol=1e-10)
    expected = np.diag(rbf(z, z) - rbf(z, x) @ np.linalg.inv(k) @ rbf(x, z))
    np.testing.assert_allclose(result.variance, expected, rtol=1e-9)
    assert result.ridge == 0.1


def test_training_points_are_interpolated():
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=5)
    result = posterior(rbf(x, x), rbf(x, x), y, np.ones(5))
    np.testing.assert_allclose(result.mean[:, 0], y, rtol=1e-9)
    np.testing.assert_allclose(result.variance, 0, atol=1e-9)


def test_a_singular_kernel_gets_a_small_ridge_that_is_reported():
    x = np.repeat(RNG.normal(size=(4, 2)), 2, axis=0)
    y = np.repeat(RNG.normal(size=4), 2)
    result = posterior(rbf(x, x), rbf(x, x), y)
    assert 0 < result.ridge <= 1e-8
    np.testing.assert_allclose(result.mean[:, 0], y, atol=1e-5)


def test_an_indefinite_kernel_is_refused():
    with pytest.raises(TensorProgError, match="not positive semi-definite"):
        posterior(np.diag([1.0, -1.0]), np.ones((1, 2)), np.ones(2))


@pytest.mark.parametrize(
    ("train", "cross", "targets"),
    [(np.ones((2, 3)), np.ones((1, 3)), np.ones(2)), (np.eye(2), np.ones((1, 3)), np.ones(2)),
     (np.eye(2), np.ones((1, 2)), np.ones(3)), (np.full((2, 2), np.nan), np.ones((1, 2)), np.ones(2))],
)
def test_what_does_not_fit_is_refused(train, cross, targets):
    with pytest.raises(TensorProgError):
        posterior(train, cross, targets)


def test_classes():
    targets, classes = centered_one_hot(["b", "a", "b", "c"])
    assert list(classes) == ["a", "b", "c"]
    np.testing.assert_allclose(targets[0], [-1 / 3, 2 / 3, -1 / 3])
    np.testing.assert_allclose(targets.sum(axis=1), 0, atol=1e-15)
    assert accuracy([[0.1, 0.9, 0], [0.2, 0.1, 0]], classes, ["b", "b"]) == 0.5


def test_determination():
    y = np.array([1.0, 2.0, 4.0])
    assert determination(y, y) == 1
    assert determination(np.full(3, y.mean()), y) == pytest.approx(0)
