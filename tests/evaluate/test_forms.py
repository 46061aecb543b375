"""Kernels of normalizations over a batch, without sampling."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.symbolic import forms
from tensorprog.tape.contracting import Contracting
from tensorprog.tape.execute import Run
from tests.agreement.comparing import EXAMPLES

SOURCE = (EXAMPLES / "batchnorm.tp").read_text()


@pytest.mark.parametrize(("b", "growth"), [(5, 3 / 2), (8, 6 / 5)])
def test_gradients_of_a_linear_normalization_grow(b, growth, tmp_path):
    """By (B - 2) / (B - 3) a layer (Yang et al., arXiv 1902.08129)."""
    path = tmp_path / "linear.tp"
    path.write_text(SOURCE.replace("relu((g[i] - m) / s)", "(g[i] - m) / s"))
    traces = []
    for depth in (1, 2, 3):
        found = tensorprog.load(path, depth=depth).kernels(np.sqrt(b) * np.eye(b)[None])
        traces.append(np.trace((found.ntk - found.nngp)[0, :, 0, :]))
    assert (traces[2] - traces[1]) / (traces[1] - traces[0]) == pytest.approx(growth, rel=1e-9)


def test_a_batch_of_three_has_no_ntk():
    found = tensorprog.load(EXAMPLES / "batchnorm.tp").kernels(np.random.default_rng(0).normal(size=(2, 3, 9)))
    assert found.ntk is None and np.isfinite(found.nngp).all() and "there is no NTK" in found.report.reason


def test_what_takes_too_many_nodes_is_sampled(monkeypatch):
    """Kernels have numbers in any case, and the report says why they are means."""
    monkeypatch.setattr(forms, "MOST_WORK", 1)
    x = np.random.default_rng(0).normal(size=(1, 5, 9))
    found = tensorprog.load(EXAMPLES / "batchnorm.tp").kernels(x, samples=64, replicates=2)
    assert np.isfinite(found.ntk).all() and found.ntk_se.any()
    assert "would take too long" in found.report.reason


def test_batches_of_data_of_many_dimensions():
    """Twelve examples of twenty dimensions: the outer nodes hold nothing.  The mean of relu^2 over a batch is 1/2."""
    x = np.random.default_rng(0).normal(size=(2, 12, 20))
    nngp = tensorprog.load(EXAMPLES / "batchnorm.tp", depth=1).nngp(x)
    spread = np.einsum("kiki->ki", nngp).mean(axis=1)
    np.testing.assert_allclose(spread, 0.5, rtol=1e-9)


RECURRENT = """
program recurrent(steps = 2):
    width n = 64
    input x[B]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
    h[i in B] = U @ x[i]
    for t in 1..steps:
        m = mean(i in B) h[i]
        s = sqrt(mean(i in B) (h[i] - m)^2)
        h[i in B] = W @ relu((h[i] - m) / s)
    output f[i in B] = dot(v, relu(h[i]))
"""


@pytest.mark.parametrize("source", [SOURCE, RECURRENT])
def test_sums_inside_of_expectations_are_products_of_matrices(source, tmp_path, monkeypatch):
    """As one product of groups after the other; batches of different sizes, weights of one layer or of all."""
    (tmp_path / "program.tp").write_text(source)
    rng = np.random.default_rng(1)
    batches = [rng.normal(size=(b, 8)) for b in (4, 5)]
    blocks, found = [], []
    for expanded in (False, True):
        if expanded:
            monkeypatch.setattr(Contracting, "_contraction", lambda *args: None)
        net = tensorprog.load(tmp_path / "program.tp")
        monkeypatch.setattr(Run, "_contraction", _noted(Run._contraction, blocks))
        found.append(net.kernels(batches).ntk)
    assert blocks
    np.testing.assert_allclose(*found, rtol=1e-12)


def _noted(function, calls):
    def noting(*args):
        calls.append(args)
        return function(*args)

    return noting
