"""The gradient-independence verdict, with its reason."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tests.agreement.comparing import EXAMPLES
from tests.writing import source_of

REMEMBERING = {"amp", "marchenko_pastur", "mean_pooled_mlp", "semicircle", "tied", "tied_autoencoder"}
X = np.random.default_rng(3).standard_normal((3, 4))
HEAD = """
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [n, n] ~ N(0, 1 / n)
weight v: [n] ~ N(0, {})
h = U @ x
"""


def net_of(body: str, variance: str = "1 / n"):
    return tensorprog.load(source_of(HEAD.format(variance) + body))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.tp")), ids=lambda p: p.stem)
def test_of_every_example(path):
    net = tensorprog.load(path)
    verdict = net.limit(net.program.outputs[-1].name).verdict
    assert verdict.holds == (path.stem not in REMEMBERING)
    assert verdict.reason


@pytest.mark.parametrize(
    ("body", "variance", "holds", "reason"),
    [
        ("output dot(v, tanh(W @ relu(h)))", "1 / n", True, "odd under a change of sign of the readout"),
        ("output dot(v, h)", "1 / n", True, "no transposed matrix occurs"),
        ("output z = relu(W @ h)", "1 / n", True, "a vector output has no NTK"),
        ("output avg(relu(W @ h))", "1 / n", False, "uses the transpose of W on vectors that depend on its forward"),
        ("output avg(tanh(W @ h))", "1 / n", True, "all dot Z terms vanish"),
        ("output dot(v, tanh(W.T @ relu(W @ h)))", "1 / n", False, "transpose of W"),
        ("output dot(v, W.T @ (W @ h))", "1 / n", False, "transpose of W"),
        ("output dot(v, tanh(W.T @ cos(W @ h)))", "1 / n", True, "all dot Z terms vanish"),
        # the readout occurs twice, beyond Condition 1 of Tensor Programs II
        ("output dot(v, tanh(W @ (relu(h) + v))) / sqrt(n)", "1", True, "odd under a change of sign"),
        ("output dot(v^2, relu(W @ h)) / n", "1", False, "transpose of W"),
    ],
)
def test_verdicts(body, variance, holds, reason):
    net = net_of(body, variance)
    verdict = net.limit().verdict
    assert (verdict.holds, reason in verdict.reason) == (holds, True), verdict.reason


def test_the_products_of_the_forward_pass_are_named():
    verdict = net_of("y = W @ h\ng = W.T @ relu(y)\noutput dot(v, tanh(g))").limit().verdict
    assert verdict.forward == ("g",)


def test_a_readout_that_is_used_twice_is_served_all_the_same():
    """dot(v, tanh(W (relu(h) + v))): Condition 1 of Tensor Programs II fails, the sign argument still holds."""
    net = net_of("output dot(v, tanh(W @ (relu(h) + v))) / sqrt(n)", "1")
    found = net.validate(X, widths=(64, 128, 256), seeds=16)
    assert found.verdict != "disagrees", str(found)
    assert found.ntk.extrapolated.noise < 0.15


POOLED = """
input x: [d]
weight U: [n, d] ~ N(0, 1 / d) lr n / d
weight W: [n, n] ~ N(0, 1 / n) lr 1
weight v: [n] ~ N(0, 1) lr 0
h = relu(W @ relu(U @ x))
output {}"""


def test_the_wrong_assumption_is_seen_by_simulation():
    """Fresh transposes make the mean of relu what a readout by independent signs is; its gradients are smaller."""
    net, naive = (tensorprog.load(source_of(POOLED.format(out))) for out in ("avg(h)", "dot(v, h) / n"))
    draws = np.array([d.ntk for d in net.simulate(X, width=512, seeds=24)])
    noise = np.linalg.norm(draws.std(axis=0, ddof=1)) / np.sqrt(len(draws))
    assert np.linalg.norm(draws.mean(axis=0) - net.ntk(X)) < 3.5 * noise
    assert np.linalg.norm(draws.mean(axis=0) - naive.ntk(X)) > 8 * noise
