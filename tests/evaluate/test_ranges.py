"""Data whose variances cannot be multiplied in float64: right kernels, or one message, never a wrong kernel."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorprog import TensorProgError, load

X = np.random.default_rng(0).normal(size=(5, 7))
IMAGES = np.random.default_rng(1).normal(size=(24, 8, 8, 3))
MANY = np.random.default_rng(2).normal(size=(300, 7))
RELU, CNN = load("examples/mlp.tp", sb=0), load("examples/cnn_global.tp")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: RELU.kernels(X * s),
        lambda s: RELU.kernels(X * s, X[:2]),
        lambda s: RELU.kernels(X, X[:2] * s),
        lambda s: RELU.kernels(MANY * s / np.linalg.norm(MANY, axis=1)[:, None]),
        lambda s: RELU.kernel_jvp(X * s, along=X),
        lambda s: RELU.kernel_vjp(X * s, ntk=np.eye(5)),
        lambda s: RELU.kernel_gradients(X * s, wrt="sw"),
        lambda s: load("examples/mlp.tp", sb=0, sw=s).kernels(X),
        lambda s: load("examples/mlp.tp", sb=0, phi="leaky_relu").kernels(X * s),
    ],
)
@pytest.mark.parametrize(("scale", "word"), [(1e78, "large"), (1e120, "large"), (1e-78, "small"), (1e-120, "small")])
def test_variances_out_of_range_are_one_message(call: Callable[[float], Any], scale: float, word: str) -> None:
    with pytest.raises(TensorProgError, match=f"a variance is so {word}") as caught:
        call(scale)
    assert "scale the data" in str(caught.value)


@pytest.mark.parametrize("scale", [1e78, 1e120])
@pytest.mark.parametrize("n", [2, 24])
def test_images_out_of_range(scale: float, n: int) -> None:
    with pytest.raises(TensorProgError, match="a variance is so large"):
        CNN.kernels(IMAGES[:n] * scale)


@pytest.mark.parametrize("scale", [1e70, 1e-70])
def test_kernels_of_homogeneous_networks_scale_to_the_bounds(scale: float) -> None:
    found, plain = RELU.kernels(X * scale), RELU.kernels(X)
    np.testing.assert_allclose(found.ntk, plain.ntk * scale**2, rtol=1e-12)
    np.testing.assert_allclose(found.nngp, plain.nngp * scale**2, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e70, 1e-3, 1e-6, 1e-8, 1e-30, 1e-70])
def test_derivatives_of_homogeneous_networks_scale_to_the_bounds(scale: float) -> None:
    """By Euler's theorem the derivative along the data is twice the kernel."""
    plain = RELU.kernels(X)
    moved = RELU.kernel_jvp(X * scale, along=X)
    np.testing.assert_allclose(moved.d_ntk, 2 * plain.ntk * scale, rtol=1e-10)
    np.testing.assert_allclose(moved.d_nngp, 2 * plain.nngp * scale, rtol=1e-10)
    by_weights = RELU.kernel_gradients(X * scale, wrt="sw")
    one = RELU.kernel_gradients(X, wrt="sw")
    np.testing.assert_allclose(by_weights.d_ntk["sw"], one.d_ntk["sw"] * scale**2, rtol=1e-10)
    np.testing.assert_allclose(by_weights.d_nngp["sw"], one.d_nngp["sw"] * scale**2, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e120, 1e-120])
def test_tables_of_cosines_have_no_such_bounds(scale: float) -> None:
    np.testing.assert_allclose(RELU.ntk(MANY * scale), RELU.ntk(MANY) * scale**2, rtol=1e-12)


def test_what_normalizes_or_hides_small_data_stays() -> None:
    norm, biased = load("examples/layernorm.tp"), load("examples/mlp.tp")
    np.testing.assert_allclose(norm.ntk(X * 1e120), norm.ntk(X * 1e20), rtol=1e-12)
    np.testing.assert_allclose(biased.ntk(X * 1e-120), biased.ntk(X * 0), rtol=1e-12)
    z = X.copy()
    z[1] = 0
    assert (RELU.ntk(z)[1] == 0).all()
