"""Properties that every kernel has, whatever the program: symmetry, order of examples, tiles, tiers."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.dataset import bind
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import analytic
from tensorprog.evaluate import pairs as blocks
from tensorprog.evaluate.pairs import Demand
from tensorprog.limit.moments import Moments
from tests.agreement.comparing import EXAMPLES, example_inputs, relative

SAMPLED = {"attention_sqrt", "gru", "lstm", "maxpool_cnn", "tied_autoencoder"}
NAMES = sorted(p.stem for p in EXAMPLES.glob("*.tp") if p.stem not in {"amp", "semicircle", "marchenko_pastur"})
TWINS = {"mlp_blocks", "mlp_standard", "random_features", "wide_resnet", "myrtle", "cnn_global", "rnn_stacked"}
EXACT = [n for n in NAMES if n not in SAMPLED | TWINS | {"batchnorm"}]  # of a family of outputs: test_forms.py
FEW = ["mlp", "resnet", "rnn_average", "tied", "cnn_strided", "gcn", "transformer", "mean_pooled_mlp"]


def rows(x, order):
    return {name: values[order] for name, values in x.items()}


def pairs(kernels):
    return [k for k in (kernels.nngp, kernels.ntk) if k is not None and k.any()]


@pytest.mark.parametrize("name", EXACT)
def test_structure(name):
    """Symmetric, positive semidefinite, equal to x against itself as a second set, equivariant under permutations."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = example_inputs(net, 5)
    order = np.array([3, 0, 4, 1, 2])
    alone, both, moved = net.kernels(x), net.kernels(x, x), net.kernels(rows(x, order), rows(x, [0, 2]))
    for k, twice, part in zip(pairs(alone), pairs(both), pairs(moved), strict=True):
        np.testing.assert_array_equal(k, k.T)
        assert np.linalg.eigvalsh(k).min() > -1e-10 * np.trace(k)
        assert relative(twice, k) < 1e-8
        assert relative(part, k[np.ix_(order, [0, 2])]) < 1e-8


@pytest.mark.parametrize("name", ["gru", "attention_sqrt"])
def test_sampled_kernels_are_symmetric_and_reproducible(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = example_inputs(net, 2)
    first, again, other = (net.kernels(x, samples=512, replicates=4, seed=s) for s in (1, 1, 2))
    for kind in ("nngp", "ntk"):
        k, error = getattr(first, kind), getattr(first, f"{kind}_se")
        flat = k.reshape(int(np.sqrt(k.size)), -1)
        np.testing.assert_allclose(flat, flat.T, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(k, getattr(again, kind))
        assert not np.array_equal(k, getattr(other, kind)) and (error >= 0).all() and error.max() > 0


@pytest.mark.parametrize("name", FEW)
def test_equal_and_nearly_equal_inputs(name):
    """Copies of an example have the same rows; a change in the ninth digit changes nothing that matters."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = rows(example_inputs(net, 2), [0, 1, 0, 0])
    for values in x.values():
        values[3] = values[0] * (1 + 1e-9)
    for k in pairs(net.kernels(x)):
        np.testing.assert_allclose(k[2], k[0], rtol=1e-7)
        np.testing.assert_allclose(k[3], k[0], rtol=1e-3)  # relu: the angle is the square root of a rounding error


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "sin", "gelu", "leaky_relu", "abs"])
def test_zero_inputs(phi):
    """Without biases the network is zero at zero, and so are its gradients but for odd phi; with biases all is well."""
    x = np.array([[0.0, 0.0], [1.0, -2.0]])
    bare = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi, sb=0).kernels(x)
    assert np.isfinite(bare.ntk).all() and (bare.nngp[0] == 0).all() and (bare.ntk[0] == 0).all()
    biased = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi, sb=0.5).kernels(x)
    assert biased.nngp[0, 0] > 0 and np.isfinite(biased.ntk).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_relu_is_homogeneous_to_the_last_digits(scale):
    """K(c x, c' x') = c c' K(x, x'), for any size of the inputs."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", sb=0)
    x = np.random.default_rng(0).standard_normal((4, 3))
    plain, scaled = net.kernels(x, x), net.kernels(scale * x, 3 * scale * x)
    for a, b in zip(pairs(plain), pairs(scaled), strict=True):
        np.testing.assert_allclose(b, 3 * scale**2 * a, rtol=2e-13)


def test_single_precision_data():
    """Results have the type of the data and agree to its accuracy."""
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    x = np.random.default_rng(0).standard_normal((3, 4, 2))
    single, double = net.kernels(x.astype(np.float32)), net.kernels(x)
    assert single.ntk.dtype == np.float32 and double.ntk.dtype == np.float64
    assert relative(single.ntk, double.ntk) < 1e-6
    assert net.kernels(x.astype(np.float32), x).ntk.dtype == np.float64


# ---------------------------------------------------------------- order and tiles


@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_ragged_examples_come_back_in_their_order(name):
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((length, 2)) for length in (3, 1, 3, 2)]
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    whole = net.kernels(xs)
    for i, x in enumerate(xs):
        one = net.kernels([x], xs[1:3])
        np.testing.assert_allclose(whole.ntk[i, 1:3], one.ntk[0], rtol=1e-8)
        np.testing.assert_allclose(whole.nngp[i, 1:3], one.nngp[0], rtol=1e-8)


@pytest.mark.parametrize("name", ["mlp", "rnn_average", "cnn_strided", "transformer", "tied"])
def test_tiles_change_nothing(name, monkeypatch):
    """With room for a few slots every pair of examples is a tile of its own."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x, y = example_inputs(net, 7), example_inputs(net, 3, seed=1)
    whole = net.kernels(x), net.kernels(x, y)
    monkeypatch.setattr(blocks, "MEMORY", 1)
    small = net.kernels(x), net.kernels(x, y)
    for a, b in zip(whole, small, strict=True):
        assert relative(b.nngp, a.nngp) < 1e-14 and relative(b.ntk, a.ntk) < 1e-14


def test_progress_goes_from_nothing_to_all(monkeypatch):
    monkeypatch.setattr(blocks, "MEMORY", 1)
    told: list[float] = []
    x = [np.ones((t, 2)) for t in (2, 3, 2)]
    tensorprog.load(EXAMPLES / "rnn.tp").kernels(x, progress=lambda message, fraction: told.append(fraction))
    assert told == sorted(told) and told[-1] == pytest.approx(1) and len(told) > 3


# ---------------------------------------------------------------- tiers


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mlp", {"phi": "erf"}),
        ("mlp", {"phi": "relu"}),
        ("mlp", {"phi": "sin"}),
        ("rnn_average", {}),
        ("layernorm", {}),
        ("cnn_strided", {}),
    ],
)
def test_the_tiers_agree(name, params):
    """Closed form = quadrature to its error estimate = sampling within standard errors."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    x = example_inputs(net, 3)
    closed, rule = net.kernels(x, tier="closed"), net.kernels(x, tier="quadrature")
    drawn = net.kernels(x, tier="sampling", samples=1024)
    assert {r.tier for r in closed.report.rows} == {"closed"} and "quadrature" in {r.tier for r in rule.report.rows}
    for kind in ("nngp", "ntk"):
        exact, error = getattr(closed, kind), getattr(drawn, f"{kind}_se")
        assert relative(getattr(rule, kind), exact) < 1e-6
        assert 0 < np.linalg.norm(error) < 0.05 * np.linalg.norm(exact)
        assert np.linalg.norm(getattr(drawn, kind) - exact) < 3.5 * np.linalg.norm(error)


def test_a_tier_that_cannot_serve_says_so():
    x = np.ones((1, 3, 2))
    with pytest.raises(TensorProgError, match="the quadrature tier cannot serve this program"):
        tensorprog.load(EXAMPLES / "gru.tp").kernels(x, tier="quadrature")
    with pytest.raises(TensorProgError, match="the closed tier cannot serve"):
        tensorprog.load(EXAMPLES / "mlp.tp", phi="tanh").kernels(np.ones((1, 2)), tier="closed")


def test_the_report_names_every_expectation_with_its_error():
    report = tensorprog.load(EXAMPLES / "gated_mlp.tp").kernels(np.ones((2, 3))).report
    assert all(0 <= row.error < 1e-6 for row in report.rows)
    assert "sigmoid" in str(report) and "quadrature" in str(report)


def test_time_does_not_count_where_it_is_known_what_will_be_asked():
    """Blocks of a kernel that are computed later, or elsewhere, are computed alike."""
    net = tensorprog.load(EXAMPLES / "mlp.tp")
    group = bind(net.program, np.ones((3, 2))).groups[0]
    for pairs, seconds in ((0, 5.0), (100, 0.0)):
        prepared = analytic.Prepared(net.limit(), Moments(net.limit()), ("nngp",), pairs)
        prepared.asked(group, group)
        prepared.took(group, group, 5.0)
        assert prepared.asked(group, group) == Demand(max(pairs, 18), seconds)


def test_what_machine_code_pays_for_is_counted_over_calls(monkeypatch):
    """Pairs of examples of equal sizes; images are looked at again when there are four times as many."""
    counts, tried = [], []
    chosen = analytic.evaluator
    monkeypatch.setattr(analytic, "evaluator", lambda *args: counts.append(args[-1].pairs) or chosen(*args))
    monkeypatch.setattr(analytic.grid, "grid", lambda *args: tried.append(args[-1].pairs))
    net = tensorprog.load(EXAMPLES / "cnn_global.tp", depth=1)
    image = np.random.default_rng(0).normal(size=(1, 4, 4, 2))
    for _ in range(5):
        net.kernels(image)
    net.kernels(np.ones((2, 3, 3, 2)))
    assert counts == [1, 2, 3, 4, 5, 4]
    assert tried == [1, 4, 4]
