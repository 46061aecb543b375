"""Machine code computes what the array interpreter computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import tensorprog
from tensorprog.backend import build
from tensorprog.backend.combine import combined
from tensorprog.backend.lower import Operand, Sum
from tensorprog.dataset import bind
from tensorprog.evaluate import analytic, pairs, tiles
from tensorprog.limit.moments import Moments

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("mlp", (5,), {}),
    ("mlp", (5,), {"phi": "gelu"}),
    ("rnn", (15, 3), {}),
    ("rnn_average", (4, 3), {}),
    ("cnn_flatten", (4, 4, 2), {"depth": 2}),
    ("layernorm", (6,), {}),
    ("transformer", (3, 4), {}),
    ("tied", (5,), {}),
]


def kernels(net: Any, x: Any, worth: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both kernels, compiled from so many slots on."""
    monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, worth))
    return net.kernels(x)


@pytest.mark.parametrize(("name", "shape", "params"), CASES, ids=[f"{n} {p}" for n, _, p in CASES])
def test_equals_arrays(name: str, shape: tuple[int, ...], params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To rounding, on data with equal, opposite and zero examples."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    x = np.random.default_rng(0).normal(size=(40, *shape))
    x[1], x[2] = x[0], -x[0]
    fast, slow = (kernels(net, x, worth, monkeypatch) for worth in (0, 1 << 60))
    for a, b in ((fast.nngp, slow.nngp), (fast.ntk, slow.ntk)):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13 * np.abs(b).max())
    assert {r.expectation for r in fast.report.rows} == {r.expectation for r in slow.report.rows}


def test_arrays_until_they_have_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the same sizes; then machine code computes the same."""
    monkeypatch.setattr(pairs, "PATIENCE", 1e-9)
    by_arrays: list[int] = []
    fill = pairs.Interpreted.fill
    monkeypatch.setattr(pairs.Interpreted, "fill", lambda self, *args: (by_arrays.append(1), fill(self, *args)))
    net, x = tensorprog.load(EXAMPLES / "mlp.tp"), np.random.default_rng(3).normal(size=(6, 5))
    first, second = net.kernels(x), net.kernels(x)
    assert len(by_arrays) == 1
    np.testing.assert_allclose(second.ntk, first.ntk, rtol=1e-12)
    tensorprog.load(EXAMPLES / "mlp.tp").kernels(x)
    assert len(by_arrays) == 2  # another network waits anew


@pytest.mark.parametrize("phi", ["relu", "erf"])
def test_tiles_on_threads(phi: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of a few rows, in both triangles and between two sets; pairs in doubt and equal ones in several tiles."""
    monkeypatch.setattr(tiles, "LEAST", 7)
    monkeypatch.setattr(tiles, "TILE", 7)
    x = np.random.default_rng(11).normal(size=(40, 12))
    x[9], x[30], x[22] = x[0], -x[3], x[33]
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi)
    for other in (None, x[5:]):
        monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, 0))
        fast = [net.kernels(x, other, dtype=dtype) for dtype in ("float64", "float32")]
        monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, 1 << 60))
        slow = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi).kernels(x, other)
        for found, rtol in zip(fast, (1e-12, 1e-6), strict=True):
            for a, b in ((found.nngp, slow.nngp), (found.ntk, slow.ntk)):
                np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())


def test_half_lines_off_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bivariate normal probabilities, by Owen's T; the NNGP of a shifted step also by scipy's."""
    text = (EXAMPLES / "mlp.tp").read_text().replace("dot(v, phi(h))", "dot(v, step(h - 0.5))")
    x = np.random.default_rng(7).normal(size=(40, 5))
    x[1], x[2] = x[0], -x[0]
    net = tensorprog.load(text, depth=1)
    fast, slow = (kernels(net, x, worth, monkeypatch) for worth in (0, 1 << 60))
    np.testing.assert_allclose(fast.nngp, slow.nngp, rtol=1e-11, atol=1e-15)
    cov = 1.4**2 * (x[[3, 4]] @ x[[3, 4]].T) / 5 + 0.1**2
    assert abs(fast.nngp[3, 4] - multivariate_normal.cdf([-0.5, -0.5], cov=cov)) < 1e-6


@pytest.mark.parametrize(("name", "shape", "params"), [("mlp", (5,), {"phi": "tanh"}), ("mlp", (5,), {"phi": "swish"})])
def test_series_equal_arrays(name: str, shape: tuple[int, ...], params: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expectations by Hermite series, to the accuracy of quadrature."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    x = np.random.default_rng(5).normal(size=(40, *shape))
    x[1], x[2], x[3] = x[0], -x[0], 1e-3 * x[3]
    fast, slow = (kernels(net, x, worth, monkeypatch) for worth in (0, 1 << 60))
    for a, b in ((fast.nngp, slow.nngp), (fast.ntk, slow.ntk)):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-13 * np.abs(b).max())


def test_groups_of_different_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of two lengths: every pair of lengths is a program of its own."""
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    rng = np.random.default_rng(1)
    x = [rng.normal(size=(t, 3)) for t in (4, 2, 4, 2, 4)]
    fast, slow = (kernels(net, x, worth, monkeypatch) for worth in (0, 1 << 60))
    np.testing.assert_allclose(fast.ntk, slow.ntk, rtol=1e-11)


KINKED = """
program kinked():
    width n = 64
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    s = zeros(n)
    for t in T:
        s = relu(W @ s + U @ x[t])
    output dot(v, s)
"""


def test_kinked_recurrence(monkeypatch: pytest.MonkeyPatch) -> None:
    """At equal sequences a relu stands at correlation one at every step."""
    net = tensorprog.load(KINKED)
    x = np.random.default_rng(6).normal(size=(20, 8, 3))
    x[4] = x[9]
    fast, slow = (kernels(net, x, worth, monkeypatch) for worth in (0, 1 << 60))
    for a, b in ((fast.nngp, slow.nngp), (fast.ntk, slow.ntk)):
        np.testing.assert_allclose(a, b, rtol=1e-11)
    np.testing.assert_allclose(fast.ntk[4, 9], fast.ntk[4, 4], rtol=1e-14)


@pytest.mark.parametrize("steps", [20, 50])
def test_one_code_for_all_lengths(steps: int) -> None:
    """What is compiled for a recurrence does not depend on its length."""
    limit, sources = tensorprog.load(EXAMPLES / "rnn.tp").limit(), []
    for length in (30, steps):
        group = bind(limit.source, np.zeros((2, length, 3))).groups[0]
        cross = analytic.prepare(limit, Moments(limit), group, group, ("nngp", "ntk"))
        assert cross.machine is not None and cross.left.machine is not None
        sources.append([k.source for m in (cross.machine, cross.left.machine) for k in m.kinds])
    assert sources[0] == sources[1]


def test_entries_in_doubt_are_integrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly opposite inputs of a relu net cancel in the formula, an input of zeros has no correlation; the kernel does
    not show it."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", sb=0, depth=2)
    x = np.random.default_rng(2).normal(size=(6, 4))
    data = np.concatenate([x, -x + 1e-3 * x[::-1], np.zeros((1, 4))])
    fast, slow = (kernels(net, data, worth, monkeypatch) for worth in (0, 1 << 60))
    np.testing.assert_allclose(fast.nngp, slow.nngp, rtol=1e-12)
    np.testing.assert_array_equal(fast.nngp, fast.nngp.T)


def test_equal_inputs_are_at_correlation_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theta(x, x) of two bias-free relu layers is |x|^2 / d: E[relu^2] + E[step] |x|^2 / d, both halves of it."""
    source = """
program two():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, relu(W @ x))
"""
    x = np.random.default_rng(3).normal(size=(50, 300))
    x[7] = x[31]
    ntk = kernels(tensorprog.load(source), x, 0, monkeypatch).ntk
    norms = (x**2).mean(axis=1)
    np.testing.assert_allclose(np.diag(ntk), norms, rtol=1e-14)
    np.testing.assert_allclose(ntk[7, 31], norms[7], rtol=1e-14)


def test_modules_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is written once, under a name made of its content."""
    monkeypatch.setenv("TENSORPROG_CACHE", str(tmp_path))
    source = build_source(3)
    assert not build.is_built(source)
    assert build.load(source).three() == 3
    assert build.is_built(source) and build.load(source) is build.load(source)
    assert len(list((tmp_path / "modules").glob("*.py"))) == 1
    assert not list((tmp_path / "modules").glob("*.part"))


def build_source(number: int) -> str:
    """A module with one compiled function."""
    return f"from numba import njit\n\n\n@njit(cache=True)\ndef three():\n    return {number}\n"


def test_sums_are_combined_without_changing_them() -> None:
    """Random sums of products of slots: evaluated one by one, and after copies are put in and terms joined."""
    rng = np.random.default_rng(4)
    size, sums = 40, []
    for out in range(10, 40):
        for _ in range(rng.integers(1, 5)):
            operands = tuple(Operand("own", np.array([rng.integers(1, out)])) for _ in range(rng.integers(0, 3)))
            sums.append(Sum(np.array([out]), rng.normal(size=1), operands))
    start = np.where(np.arange(size) < 10, rng.normal(size=size), 0.0)
    start[0] = 0.0
    plain = start.copy()
    for s in sums:
        plain[s.out[0]] += s.coef[0] * np.prod([plain[o.rows[0]] for o in s.operands])
    kept, joined = np.arange(30, 40), start.copy()
    found = combined(sums, kept, size)
    for out in range(10, 40):
        for c in sorted(found, key=lambda c: not c.first):
            for k in np.flatnonzero(c.out == out):
                terms = [c.coef[k, t] * np.prod([joined[r[k]] for r in c.rows[t]]) for t in range(len(c.forms))]
                joined[out] = sum(terms) + (0.0 if c.first else joined[out])
    np.testing.assert_allclose(joined[kept], plain[kept], rtol=1e-12)
    assert sum(len(c.out) for c in found) < len(sums)
