"""Kernels that are functions of two norms and an angle: tables against the tape in float64, and where they give up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorprog
from tensorprog.evaluate import analytic, polar, tiles

MLP = Path(__file__).parents[2] / "examples" / "mlp.tp"


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables for any number of pairs, and in tiles of a few examples."""
    monkeypatch.setattr(analytic, "TABULATED", {True: 1, False: 1})
    monkeypatch.setattr(polar, "WORTH", {True: 1, False: 1})
    monkeypatch.setattr(polar, "TERMS", 1 << 20)
    monkeypatch.setattr(polar, "MANY", 40)
    monkeypatch.setattr(tiles, "LEAST", 48)


def data(count: int, spread: float) -> Any:
    """Random vectors with norms that differ by a factor, among them equal, parallel, opposite and close ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 30)) * np.exp(spread * rng.uniform(-1, 1, (count, 1)))
    x[1], x[2], x[40], x[3] = x[0], -x[0], 1.1 * x[0], x[4] + 0.02 * rng.normal(size=30)
    return x


def deviations(net: Any, *args: Any) -> list[float]:
    """Of both kernels by a table in float32 from those by formulas in float64, relative to the largest entry."""
    found, right = net.kernels(*args, dtype="float32"), net.kernels(*args, reductions=False)
    told = [r.error for r in found.report.rows if r.tier == "table"]
    assert len(told) == 2
    off = []
    for a, b, error in zip((found.nngp, found.ntk), (right.nngp, right.ntk), told, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - b).max() <= error
        off.append(np.abs(a - b).max() / np.abs(b).max())
        if len(args) == 1:
            assert (a == a.T).all()
    return off


@pytest.mark.parametrize(("phi", "depth", "spread"), [("relu", 3, 0.2), ("relu", 10, 0.2), ("gelu", 2, 0.1)])
def test_single(phi: str, depth: int, spread: float) -> None:
    """With biases, between all pairs and two sets."""
    net, x = tensorprog.load(MLP, depth=depth, phi=phi), data(150, spread)
    assert max(deviations(net, x)) < 6e-7
    assert max(deviations(net, x, data(170, spread)[20:])) < 6e-7


def test_a_table_serves_the_norms_inside() -> None:
    """Of a part of the data; wider norms need another one."""
    net, x = tensorprog.load(MLP, depth=1), data(150, 0.2)
    made: list[int] = []
    original = polar.tabulate

    def counted(*args: Any) -> Any:
        made.append(1)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polar, "tabulate", counted)
        for part in (x, x[:100], 2 * x, 2 * x):
            net.kernels(part, dtype="float32")
    assert len(made) == 2


def test_nearly_parallel_examples() -> None:
    """Where most pairs are, the formulas compute all of them, as if there were no table."""
    net, rng = tensorprog.load(MLP, depth=2), np.random.default_rng(0)
    x = 1 + 0.02 * rng.normal(size=(100, 30))
    found, right = (net.kernels(x, dtype="float32", reductions=r) for r in (True, False))
    np.testing.assert_allclose(found.ntk, right.ntk, rtol=1e-6)


def test_out_of_reach() -> None:
    """A function that bends within the norms that are there has no table."""
    net = tensorprog.load(MLP.read_text().replace("dot(v, phi(h))", "dot(v, erf(1000 * h))"), depth=1)
    found = net.kernels(data(150, 2.0), dtype="float32")
    assert not any(r.tier == "table" for r in found.report.rows)


def test_few_examples_are_near() -> None:
    """Only these pass through the tape of one run."""
    net, x = tensorprog.load(MLP, depth=2), data(150, 0.2)
    net.kernels(x, dtype="float32")
    counts: list[int] = []
    original = polar.single_run

    def counted(tape: Any, families: Any, examples: int, errors: Any) -> Any:
        counts.append(examples)
        return original(tape, families, examples, errors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(polar, "single_run", counted)
        patch.setattr(polar, "CONTEXT", 4)
        patch.setattr("tensorprog.evaluate.pairs.CONTEXT", 4)
        deviations(net, x)
    assert counts == [6]  # 0 to 4, 40


def test_polynomials_that_take_longer_than_formulas_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of formulas is faster than polynomials in three variables; many layers are not."""
    monkeypatch.setattr(polar, "TERMS", 11)
    for depth, tabulated in ((1, False), (12, True)):
        found = tensorprog.load(MLP, depth=depth, phi="erf").kernels(data(50, 0.1), dtype="float32")
        assert any(r.tier == "table" for r in found.report.rows) == tabulated
