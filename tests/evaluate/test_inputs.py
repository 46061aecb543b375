"""Derivatives of kernels by inputs, against central differences of eighth order, and forwards against backwards."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import inputs, pairs
from tests.agreement.comparing import EXAMPLES, example_inputs
from tests.evaluate.test_gradients import DETERMINISTIC, STENCIL
from tests.writing import source_of

STEP = 0.002
X = np.random.default_rng(3).standard_normal((4, 5))
Y = np.vstack([X[1:2], -X[2:3], np.random.default_rng(4).standard_normal((2, 5))])


def moved(x, along, step):
    """The data a step further."""
    if isinstance(x, dict):
        return {k: moved(v, along[k], step) for k, v in x.items()}
    if isinstance(x, list):
        return [moved(v, a, step) for v, a in zip(x, along, strict=True)]
    return x + step * along


def direction(x, seed=1):
    """Normal numbers in the form of the data."""
    if isinstance(x, dict):
        return {k: direction(v, seed) for k, v in x.items()}
    if isinstance(x, list):
        return [direction(v, seed) for v in x]
    return np.random.default_rng(seed).standard_normal(x.shape)


def inner(a, b) -> float:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return sum(inner(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return sum(inner(v, w) for v, w in zip(a, b, strict=True))
    assert a.shape == b.shape
    return float(np.sum(a * b))


def check(net, x, y=None, want=("nngp", "ntk"), output=None) -> None:
    """The derivative along a direction, to 1e-8 of its largest entry, and the gradient along it."""
    along = direction(x)
    kernels = net.kernels(x, y, output, want=want)
    found = net.kernel_jvp(x, y, output, along=along, want=want)
    for name in want:
        kernel, slope = getattr(kernels, name), getattr(found, f"d_{name}")
        if kernel is None:
            assert slope is None
            continue
        np.testing.assert_allclose(getattr(found, name), kernel, rtol=1e-12, atol=1e-13 * np.abs(kernel).max())

        def at(step: float, name=name) -> np.ndarray:
            return getattr(net.kernels(moved(x, along, step), y, output, want=(name,)), name)

        expected = sum(w * (at(k * STEP) - at(-k * STEP)) for k, w in STENCIL.items()) / STEP
        scale = np.abs(expected).max()
        np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-8 * scale)
        weights = np.random.default_rng(2).standard_normal(kernel.shape)
        pulled = net.kernel_vjp(x, y, output, **{name: weights})
        np.testing.assert_allclose(getattr(pulled, name), kernel, rtol=1e-12, atol=1e-13 * np.abs(kernel).max())
        assert inner(pulled.x, along) == pytest.approx(np.sum(weights * slope), abs=1e-12 * scale * weights.size)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_examples(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    if net.program.inputs:
        x, y = example_inputs(net, 2), example_inputs(net, 2, seed=5)
        check(net, x, y)
        if name not in ("gcn", "transformer", "transformer_qkv"):  # see test_gradients: rounding at equal examples
            check(net, x)


@pytest.mark.parametrize("name", ["tied", "rnn", "cnn_flatten", "gcn", "transformer", "mean_pooled_mlp"])
def test_examples(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    check(net, example_inputs(net, 2), example_inputs(net, 2, seed=5))


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh"])
def test_one_data_set_moves_on_both_sides(phi):
    check(tensorprog.load(EXAMPLES / "mlp.tp", phi=phi, depth=2), X)


def test_equal_and_opposite_examples_of_a_smooth_network():
    """A kernel is smooth there; and at equal examples the left derivative is half of that on both sides."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="erf", depth=2)
    check(net, X, Y)
    along = direction(X)
    one, both = (net.kernel_jvp(X, y, along=along).d_ntk for y in (X, None))
    np.testing.assert_allclose(2 * np.diag(one), np.diag(both), rtol=1e-10)


def test_gradient_of_the_arc_cosine_kernel():
    """2 pi K = |x| |y| (sin t + (pi - t) cos t) (Cho and Saul 2009), 2 pi dK/dx = |y| sin t x / |x| + (pi - t) y."""
    net = tensorprog.load(source_of(
        "input x: [d]\nweight U: [n, d] ~ N(0, 1)\nweight v: [n] ~ N(0, 1 / n)\noutput dot(v, relu(U @ x))"
    ))
    weights = np.random.default_rng(0).standard_normal((4, 4))
    a, b = np.linalg.norm(X, axis=1)[:, None], np.linalg.norm(Y, axis=1)
    t = np.arccos(np.clip(X @ Y.T / (a * b), -1, 1))
    expected = X * np.sum(weights * b * np.sin(t) / a, axis=1)[:, None] + (weights * (np.pi - t)) @ Y
    found = net.kernel_vjp(X, Y, nngp=weights)
    np.testing.assert_allclose(found.x, expected / (2 * np.pi), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.nngp, a * b * (np.sin(t) + (np.pi - t) * np.cos(t)) / (2 * np.pi), atol=1e-12)


def test_several_outputs_and_inputs_of_several_forms():
    """A list of sequences of two lengths, numbers beside vectors, a kernel [N, B, N, B] and one of two outputs."""
    net = tensorprog.load(source_of(
        "input x[T]: [d]\ninput a[B]\nweight U: [n, d] ~ N(0, 1 / d)\nweight W: [n, n] ~ N(0, 1 / n)\n"
        "weight v: [n] ~ N(0, 1 / n)\nh = sum(t in T) erf(U @ x[t])\n"
        "output f[b in B] = dot(v, erf(a[b] * (W @ h)))\noutput g = dot(v, tanh(W @ h))"
    ))
    rng = np.random.default_rng(7)
    x = {"x": [rng.standard_normal((t, 3)) for t in (2, 3, 2)], "a": rng.standard_normal((3, 2))}
    y = {"x": rng.standard_normal((2, 2, 3)), "a": rng.standard_normal((2, 2))}
    check(net, x, y, output="f")
    check(net, x, output="g")


def test_inputs_that_are_combined_before_the_first_weight():
    """A norm, a recurrence, an elementwise function, a factor that is a number, a maximum."""
    net = tensorprog.load(source_of(
        "input x[T]: [d]\ninput s\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
        "z[t in T] = x[t] / sqrt(avg(x[t] * x[t]))\nr = zeros(d)\n"
        "for t in T:\n    r = exp(s) * z[t] + 0.5 * r\n    m[t] = r\n"
        "p = max(t in T) tanh(m[t])\noutput mean(t in T) dot(v, erf(s * (U @ (m[t] + p))))"
    ))
    x = {"x": np.random.default_rng(0).standard_normal((3, 3, 4)), "s": np.array([0.5, -0.3, 0.7])}
    check(net, x)
    check(net, x, {"x": x["x"][:2, :2] + 1, "s": np.array([0.2, 0.4])})


@pytest.mark.parametrize("phi", ["relu", pytest.param("tanh", marks=pytest.mark.slow)])
def test_machine_code_computes_the_same(phi, monkeypatch):
    """Equal examples among them, several strips, and chunks of left examples."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi, depth=1)
    weights = np.random.default_rng(0).standard_normal((4, 4))
    arrays = net.kernel_vjp(X, Y, nngp=weights, ntk=weights)
    monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, 0))
    monkeypatch.setattr(inputs, "MEMORY", 1)
    machine = net.kernel_vjp(X, Y, nngp=weights, ntk=weights)
    for name in ("nngp", "ntk", "x"):
        np.testing.assert_allclose(getattr(machine, name), getattr(arrays, name), rtol=1e-9, atol=1e-12)


def test_results_have_the_type_of_the_data():
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="erf", depth=1)
    x, weights = X.astype(np.float32), np.eye(4)
    found = net.kernel_vjp(x, nngp=weights)
    assert found.x.dtype == found.nngp.dtype == np.float32
    assert found.ntk is None
    assert net.kernel_jvp(x, along=x).d_ntk.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "message"), [("gru", "cannot be computed"), ("batchnorm", "have no gradient yet")]
)
def test_what_has_no_derivative(name, message):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = example_inputs(net)
    with pytest.raises(TensorProgError, match=message):
        net.kernel_jvp(x, along=x)


def test_directions_and_weights_have_the_shapes_of_data_and_kernels():
    net = tensorprog.load(EXAMPLES / "mlp.tp")
    with pytest.raises(TensorProgError, match="the shapes of the data"):
        net.kernel_jvp(X, along=X[:2])
    with pytest.raises(TensorProgError, match="must have its shape"):
        net.kernel_vjp(X, nngp=np.eye(2))
    with pytest.raises(TensorProgError, match="needs weights"):
        net.kernel_vjp(X)


def test_gradient_descent_on_inducing_inputs_finds_a_minimum():
    """Nystroem's error tr(K - K_xz K_zz^-1 K_zx) by z, with the gradient put together from that of both kernels."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="erf", depth=1)

    def loss(flat):
        z = flat.reshape(2, 5)
        zx, zz = net.nngp(z, X), net.nngp(z)
        a = np.linalg.solve(zz, zx)
        slope = net.kernel_vjp(z, X, nngp=-2 * a).x + net.kernel_vjp(z, nngp=a @ a.T).x
        return np.trace(net.nngp(X)) - np.sum(zx * a), slope.ravel()

    start = 0.3 * Y[2:].ravel()
    along = np.random.default_rng(9).standard_normal(10)
    steps = {k: k * STEP * along for k in STENCIL}
    expected = sum(w * (loss(start + steps[k])[0] - loss(start - steps[k])[0]) for k, w in STENCIL.items())
    assert loss(start)[1] @ along == pytest.approx(expected / STEP, rel=1e-8)
    best = minimize(loss, start, jac=True)
    assert best.fun < 0.7 * loss(start)[0]
    assert np.abs(best.jac).max() < 1e-4


def test_the_page_finds_the_sensitivity_of_a_prediction():
    """The second program of docs/gradients.md, against differences of its prediction."""
    text = (EXAMPLES.parent / "docs" / "gradients.md").read_text("utf-8")
    names: dict = {}
    exec(text.split("```python\n")[2].split("```")[0].replace("examples/", f"{EXAMPLES}/"), names)
    along = np.random.default_rng(1).standard_normal((3, 8))

    def predicted(step: float) -> np.ndarray:
        return names["net"].ntk(names["new"] + step * along, names["x"]) @ names["weights"]

    expected = sum(w * (predicted(k * STEP) - predicted(-k * STEP)) for k, w in STENCIL.items()) / STEP
    np.testing.assert_allclose(np.sum(names["sensitivity"] * along, axis=1), expected, rtol=1e-8)
