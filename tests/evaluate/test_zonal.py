"""Kernels that are functions of one cosine: tables against the tape, and against the recursion of Cho and Saul."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorprog
from tensorprog.evaluate import analytic, tiles, zonal
from tensorprog.ir import expr as ex
from tensorprog.tape.degrees import Inhomogeneous, homogeneous

MLP = Path(__file__).parents[2] / "examples" / "mlp.tp"
RESIDUAL = """
program residual(depth = 4):
    width n = 64
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    h = U @ x
    for l in 1..depth:
        weight W: [n, n] ~ N(0, 1 / (2 * n))
        h = h + W @ relu(h)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, h)
"""


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables for any number of pairs."""
    for module in (zonal, analytic):
        monkeypatch.setattr(module, "TABULATED", {True: 1, False: 1})


def data(count: int, dim: int, normalized: bool) -> Any:
    """Random vectors, with equal, opposite and close ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, dim))
    x[1], x[2] = x[0], -x[0]
    x[3] = x[4] + 1e-3 * rng.normal(size=dim)
    x[5] = -x[6] + 1e-3 * rng.normal(size=dim)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if normalized else x


def compare(net: Any, *args: Any) -> None:
    """A table serves both kernels, and deviates from the tape by less than its error and rounding."""
    found, right = net.kernels(*args), net.kernels(*args, reductions=False)
    errors = [r.error for r in found.report.rows if r.tier == "table"]
    assert len(errors) == 2
    assert not any(r.tier == "table" for r in right.report.rows)
    for a, b, error in zip((found.nngp, found.ntk), (right.nngp, right.ntk), errors, strict=True):
        size = np.abs(b).max()
        assert error <= 10 * zonal.TOLERANCE * size
        np.testing.assert_allclose(a, b, rtol=0, atol=error + 1e-12 * size)
        if len(args) == 1:
            assert (a == a.T).all()
            np.testing.assert_allclose(np.diag(a), np.diag(b), rtol=1e-14)


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "gelu", "sin"])
@pytest.mark.parametrize("depth", [1, 3])
def test_equal_norms(phi: str, depth: int) -> None:
    """With biases."""
    net = tensorprog.load(MLP, depth=depth, phi=phi)
    compare(net, data(20, 5, True))
    compare(net, data(20, 5, True), data(13, 5, True))


@pytest.mark.parametrize("phi", ["relu", "leaky_relu", "abs"])
def test_homogeneous(phi: str) -> None:
    """Without biases, on any data."""
    net = tensorprog.load(MLP, depth=3, phi=phi, sb=0.0)
    compare(net, data(20, 5, False))
    compare(net, data(20, 5, False), data(13, 5, False))


def test_residual() -> None:
    """A residual network is homogeneous."""
    compare(tensorprog.load(RESIDUAL), data(20, 5, False))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tiles(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few examples, in both triangles and between two sets, with equal and opposite examples in several."""
    monkeypatch.setattr(tiles, "LEAST", 7)
    net, x = tensorprog.load(MLP, depth=2, phi="relu", sb=0.0), data(40, 12, False)
    x[19], x[33] = x[0], -x[8]
    for other in (None, x[5:31]):
        found, right = (net.kernels(x, other, dtype=dtype, reductions=r) for r in (True, False))
        assert any(r.tier == "table" for r in found.report.rows)
        for a, b in ((found.nngp, right.nngp), (found.ntk, right.ntk)):
            np.testing.assert_allclose(a, b, rtol=0, atol={"float64": 1e-10, "float32": 2e-6}[dtype] * np.abs(b).max())


def test_deep() -> None:
    """Depth 50: the recursion of Cho and Saul (Kernel methods for deep learning, 2009) for the NNGP kernel."""
    net = tensorprog.load(MLP, depth=50, sw=2**0.5, sb=0.0)
    x = data(20, 5, False)
    norms = np.linalg.norm(x, axis=1)
    c = np.clip(x @ x.T / np.outer(norms, norms), -1, 1)
    for _ in range(50):
        c = (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c) / np.pi
        c = np.clip(c, -1, 1)
    found = net.kernels(x)
    assert any(r.tier == "table" for r in found.report.rows)
    np.testing.assert_allclose(found.nngp, c * np.outer(norms, norms) / 5, rtol=1e-11)
    np.testing.assert_allclose(found.ntk, net.kernels(x, reductions=False).ntk, rtol=1e-11)


@pytest.mark.parametrize("phi", ["tanh", "relu6"])
def test_neither(phi: str) -> None:
    """Unequal norms and no homogeneity."""
    net = tensorprog.load(MLP, depth=2, phi=phi, sb=0.0)
    assert not any(r.tier == "table" for r in net.kernels(data(20, 5, False)).report.rows)


def test_a_function_that_polynomials_do_not_reach() -> None:
    """Nearly a jump: it bends within 1e-6 of cosine 1.  The tape computes it, and the report has no table."""
    net = tensorprog.load(MLP.read_text().replace("dot(v, phi(h))", "dot(v, erf(1000 * h))"), depth=1)
    found = net.kernels(data(20, 5, True))
    assert not any(r.tier == "table" for r in found.report.rows)
    right = net.kernels(data(20, 5, True), reductions=False)
    np.testing.assert_array_equal(found.nngp, right.nngp)


@pytest.mark.parametrize(
    ("text", "degree"),
    [("max(u, 0)", 1), ("max(u, 0)^2 * step(u)", 2), ("abs(u) * u + u^2", 2), ("u + 1", None), ("tanh(u)", None),
     ("3", 0), ("sign(u - 1)", None), ("sin(sign(u))", 0)],
)
def test_degree(text: str, degree: int | None) -> None:
    """f(a u) = a^q f(u), read from the expression."""
    e = ex.derivative_of(text)
    if degree is None:
        with pytest.raises(Inhomogeneous):
            homogeneous(e, frozenset(["u"]))
    else:
        assert homogeneous(e, frozenset(["u"])) == degree
