"""Inner products are consistent at equal and opposite rows, in blocks and in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import pairs
from tensorprog.tape.gram import gram, gram_of, row_products

EXAMPLES = Path(__file__).parents[2] / "examples"


def rows() -> np.ndarray:
    """Rows of one norm, two of them equal, two opposite, one zero, one close to another."""
    x = np.random.default_rng(0).normal(size=(60, 40))
    x /= np.linalg.norm(x, axis=1)[:, None]
    x[3], x[9], x[11], x[20] = x[7], -x[7], 0.0, x[21] + 1e-4 * x[22]
    return x


def test_equal_and_opposite_rows() -> None:
    """<x, x> is one number, and <x, -x> its opposite, whether both sides are one array or two, whole or in blocks."""
    x = rows()
    norms = row_products(x, x)
    for y in (x, x.copy()):
        products = gram(x, y)
        np.testing.assert_allclose(products, x @ x.T, atol=1e-15)
        np.testing.assert_array_equal(np.diag(products), norms)
        assert products[3, 7] == products[7, 3] == norms[7] == -products[9, 3] == -products[7, 9]
        block = np.empty((13, 30))
        gram_of(x, y).fill(block, slice(2, 15), slice(1, 31))
        assert block[1, 6] == norms[7] and block[7, 2] == -norms[7] and block[5, 6] == norms[7]


@pytest.mark.parametrize("dimension", range(12))
def test_short_rows(dimension: int) -> None:
    """<x, x> is the norm to the last bit whatever the dimension: an angle is the root of what it is off by."""
    x = np.random.default_rng(1).normal(size=(500, dimension))
    norms = row_products(x, x)
    np.testing.assert_array_equal(np.diag(gram(x, x)), norms)
    np.testing.assert_array_equal(np.diag(gram(x, x.copy())), norms)
    np.testing.assert_array_equal(np.diag(gram(x, -x)), -norms)
    np.testing.assert_allclose(gram(x[:50], x[50:]), x[:50] @ x[50:].T, atol=1e-14)


def test_the_tangent_kernel_at_equal_short_rows() -> None:
    """That of a relu network at x, x is a constant and a multiple of |x|^2."""
    x = np.random.default_rng(5).normal(size=(320, 6))[300:]  # with one that was off by 7e-9
    ntk = np.diag(tensorprog.load(EXAMPLES / "mlp.tp", depth=3, phi="relu").kernels(x).ntk)
    squares = row_products(x, x)
    line = np.polynomial.Polynomial.fit(squares, ntk, 1)
    np.testing.assert_allclose(ntk, line(squares), rtol=1e-13)


def test_float32_keeps_small_angles() -> None:
    """Products are within 1e-6 of the norms, and those of nearly parallel rows exact."""
    x = rows()
    products = np.empty((60, 60))
    gram_of(x, x, coarse=True).fill(products, slice(0, 60), slice(0, 60))
    np.testing.assert_allclose(products, x @ x.T, atol=1e-6)
    assert abs(products[20, 21] - x[20] @ x[21]) < 1e-15
    assert np.abs(products - x @ x.T).max() > 1e-10


@pytest.mark.parametrize("worth", [0, 1 << 60])
def test_kernels_in_float32(worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By machine code and by arrays: within 1e-6 of the largest entry, also near equal inputs, and symmetric."""
    monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, worth))
    net = tensorprog.load(EXAMPLES / "mlp.tp", sb=0, depth=2)
    x = 3.0 * rows()
    fine, single = net.kernels(x), net.kernels(x, dtype="float32")
    for a, b in ((fine.nngp, single.nngp), (fine.ntk, single.ntk)):
        assert a.dtype == np.float64 and b.dtype == np.float32
        np.testing.assert_array_equal(b, b.T)
        np.testing.assert_allclose(b, a, atol=1e-6 * np.abs(a).max())


def test_other_types_are_refused() -> None:
    """With a message."""
    with pytest.raises(TensorProgError, match="float16"):
        tensorprog.load(EXAMPLES / "mlp.tp").kernels(rows(), dtype="float16")
