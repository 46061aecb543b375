"""Derivatives of kernels by parameters, against central differences of eighth order of the kernels themselves."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import analytic, pairs, zonal
from tests.agreement.comparing import EXAMPLES, example_inputs
from tests.oracles.duals import ERF, pairwise
from tests.writing import source_of

STENCIL = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
X = np.random.default_rng(3).standard_normal((4, 5))
Y = np.vstack([X[1:2], -X[2:3], np.random.default_rng(4).standard_normal((2, 5))])
NO_GRADIENT = {"attention_sqrt", "batchnorm", "gru", "lstm", "maxpool_cnn", "tied_autoencoder"}
DETERMINISTIC = sorted(p.stem for p in EXAMPLES.glob("*.tp") if p.stem not in NO_GRADIENT)
MANY = """
program many(sw = 1.2, sb = 0.3, slope = 0.2, alpha = 0.6, shift = 0.4, bend = 0.9, c = 0.5):
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, sw^2 / d)
    weight V: [n, n] ~ N(0, sw^2 / n)
    weight U: [n, n] ~ N(0, sb^2 / n)
    weight v: [n] ~ N(0, 1 / n)
    h = W @ x + shift
    g = alpha * (V @ leaky_relu(h, slope)) + sqrt(1 - alpha^2) * h
    y = U @ swish(g + c, bend) + 0.3 * g
    output dot(v, y * sigmoid(y))
"""


def numbers_of(net: tensorprog.Network) -> dict[str, float]:
    """The parameters by which there is a derivative."""
    found = {}
    for name, text in net.program.params:
        if text.replace(".", "").isdigit() and name not in ("depth", "steps", "blocks", "order"):
            found[name] = float(text)
    return found


def differences(source, x, y, name: str, want: str, at: float, **params) -> np.ndarray:
    """The derivative of a kernel of order 8."""
    step = 0.01 * max(at, 0.3)

    def kernel(value: float) -> np.ndarray:
        net = tensorprog.load(source, **{**params, name: repr(value)})
        return np.asarray(getattr(net.kernels(x, y, want=(want,)), want))

    return sum(w * (kernel(at + k * step) - kernel(at - k * step)) for k, w in STENCIL.items()) / step


def check(source, x, y=None, names=None, **params) -> None:
    """All derivatives of both kernels, and the kernels."""
    net = tensorprog.load(source, **params)
    values = numbers_of(net)
    found, kernels = net.kernel_gradients(x, y, wrt=tuple(values)), net.kernels(x, y)
    for want in ("nngp", "ntk"):
        kernel, slopes = getattr(found, want), getattr(found, f"d_{want}")
        if kernel is None:
            assert slopes is None and getattr(kernels, want) is None
            continue
        np.testing.assert_allclose(kernel, getattr(kernels, want), rtol=1e-12)
        for name in names or values:
            expected = differences(source, x, y, name, want, values[name], **params)
            np.testing.assert_allclose(slopes[name], expected, rtol=1e-8, atol=1e-9 * np.abs(kernel).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_parameters_of_the_examples(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    if net.program.inputs and numbers_of(net):
        x, y = example_inputs(net), None
        if name.startswith("transformer"):
            # Layer normalizations leave a token and itself at correlation 1 - 1e-16, or 1.  The NTK of a relu moves by
            # the root of that (4e-10 when sw is changed by 1e-14), so differences say nothing about equal examples.
            x, y = ({k: v[cut] for k, v in x.items()} for cut in (slice(2), slice(2, None)))
        check(EXAMPLES / f"{name}.tp", x, y)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("resnet", "sr"), ("cnn_flatten", "sw"), ("rnn", "su"), ("layernorm", "sb"), ("mean_pooled_mlp", "sw")],
)
def test_a_parameter_of_an_example(name, parameter):
    path = EXAMPLES / f"{name}.tp"
    check(path, example_inputs(tensorprog.load(path)), names=(parameter,))


@pytest.mark.parametrize("phi", ["relu", "erf", "tanh", "relu6"])
def test_equal_and_opposite_examples(phi):
    """Correlations of 1 and -1, where kinks and jumps meet themselves."""
    check(EXAMPLES / "mlp.tp", X, Y, phi=phi, depth=2, names=("sb",))


def test_parameters_of_coefficients_means_and_nonlinearities():
    check(MANY, X[:2], Y[:2], names=("bend",))


@pytest.mark.slow
def test_all_parameters_of_coefficients_means_and_nonlinearities():
    check(MANY, X, Y)


def test_a_parameter_at_zero_has_a_derivative():
    """d E[phi phi'] / da at a = 0, where max(u, 0) + a min(u, 0) loses its second half."""
    source = MANY.replace("slope = 0.2", "slope = 0")
    found = tensorprog.load(source).kernel_gradients(X, wrt=("slope",), want=("nngp",)).d_nngp["slope"]
    expected = differences(source, X, None, "slope", "nngp", 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_the_derivative_of_a_jump_is_a_density():
    """E[step step'] = (pi - angle) / 2 pi: rho' / (2 pi sqrt(1 - rho^2)), and nothing at equal examples."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="step", depth=1)
    found = net.kernel_gradients(X, wrt=("sb",), want=("nngp",)).d_nngp["sb"]
    gram, moved = 1.4**2 * X @ X.T / 5 + 0.1**2, 2 * 0.1
    a = np.diag(gram)
    rho = gram / np.sqrt(np.outer(a, a))
    np.fill_diagonal(rho, 0.0)
    change = moved / np.sqrt(np.outer(a, a)) - rho * moved / 2 * (1 / a[:, None] + 1 / a)
    expected = change / (2 * np.pi * np.sqrt(1 - rho**2))
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_the_scale_of_a_readout():
    """K = sv^2 E[phi phi'], known from duals of the activation."""
    net = tensorprog.load(source_of(
        "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, sv^2 / n)\noutput dot(v, erf(U @ x))"
    ).replace("program p:", "program p(sv = 3):").replace("program p()", "program p(sv = 3)"))
    found = net.kernel_gradients(X, wrt=("sv",)).d_nngp["sv"]
    np.testing.assert_allclose(found, 6 * pairwise(ERF.value, X @ X.T / 5), rtol=1e-12)


def test_other_numbers_than_those_of_the_program():
    net, other = tensorprog.load(EXAMPLES / "mlp.tp"), tensorprog.load(EXAMPLES / "mlp.tp", sw=1.25)
    found, expected = net.kernel_gradients(X, wrt={"sw": 1.25}), other.kernel_gradients(X, wrt=("sw",))
    np.testing.assert_array_equal(found.d_ntk["sw"], expected.d_ntk["sw"])


@pytest.mark.slow
@pytest.mark.parametrize("phi", ["relu", "erf", "tanh"])
def test_machine_code_computes_the_same(phi, monkeypatch):
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi, depth=2)
    arrays = net.kernel_gradients(X, Y, wrt=("sw",))
    monkeypatch.setattr(pairs, "WORTH", dict.fromkeys(pairs.WORTH, 0))
    machine = net.kernel_gradients(X, Y, wrt=("sw",))
    for want in ("d_nngp", "d_ntk"):
        np.testing.assert_allclose(getattr(machine, want)["sw"], getattr(arrays, want)["sw"], rtol=1e-10)


def test_recurrences_of_one_run_by_machine_code(monkeypatch):
    """The changes of variances are functions of slots."""
    x = np.random.default_rng(6).standard_normal((4, 4, 3))
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    arrays = net.kernel_gradients(x, wrt=("su",), want=("ntk",))
    made = []
    monkeypatch.setattr(analytic, "worth", lambda tape, machine_code, pairs: made.append(machine_code()) or made[-1])
    machine = net.kernel_gradients(x, wrt=("su",), want=("ntk",))
    assert made and None not in made
    np.testing.assert_allclose(machine.d_ntk["su"], arrays.d_ntk["su"], rtol=1e-11)


@pytest.mark.parametrize("phi", ["relu", "erf"])
def test_on_data_of_equal_norms_derivatives_are_tables(phi, monkeypatch):
    """Functions of the cosine, equal and opposite examples among them; the report has their errors."""
    monkeypatch.setattr(analytic, "TABULATED_SLOPES", 0)
    monkeypatch.setattr(pairs, "TABULATED", {True: 0, False: 0})
    monkeypatch.setattr(zonal, "TABULATED", {True: 0, False: 0})
    unit = np.vstack([X, -X[:1]]) / np.linalg.norm(np.vstack([X, X[:1]]), axis=1)[:, None]
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi=phi)
    found, expected = (net.kernel_gradients(unit, wrt=("sw", "sb"), reductions=r) for r in (True, False))
    rows = [row for row in found.report.rows if row.tier == "table"]
    assert len(rows) == 6 and not any(row.tier == "table" for row in expected.report.rows)
    for name in ("sw", "sb"):
        for want in ("d_nngp", "d_ntk"):
            slope = getattr(expected, want)[name]
            np.testing.assert_allclose(getattr(found, want)[name], slope, rtol=0, atol=1e-10 * np.abs(slope).max())


def test_the_gradient_of_the_marginal_likelihood():
    """d log p / dp = tr((a a' - K^-1) K') / 2 with a = K^-1 y, against differences of log p."""
    y, noise = np.sin(X[:, 0]), 0.1

    def likelihood(sw: float) -> tuple[float, float]:
        found = tensorprog.load(EXAMPLES / "mlp.tp").kernel_gradients(X, wrt={"sw": sw}, want=("nngp",))
        inverse = np.linalg.inv(found.nngp + noise * np.eye(len(X)))
        a = inverse @ y
        value = -0.5 * y @ a + 0.5 * np.linalg.slogdet(inverse)[1]
        return value, 0.5 * np.sum((np.outer(a, a) - inverse) * found.d_nngp["sw"])

    step = 0.01
    expected = sum(w * (likelihood(1.4 + k * step)[0] - likelihood(1.4 - k * step)[0]) for k, w in STENCIL.items())
    assert likelihood(1.4)[1] == pytest.approx(expected / step, rel=1e-9)


def test_the_page_finds_a_maximum(monkeypatch):
    """The program of docs/gradients.md: its gradient vanishes where the optimizer stops."""
    text = (EXAMPLES.parent / "docs" / "gradients.md").read_text("utf-8")
    monkeypatch.chdir(EXAMPLES.parent)
    names: dict = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    value, slopes = names["loss"](names["best"].x)
    assert value < names["loss"](np.log([1.4, 0.1, 0.5]))[0]
    assert np.abs(slopes).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("mlp", "depth", "decides what is computed"),
        ("resnet", "depth", "decides what is computed"),
        ("mlp", "phi", "is a function"),
        ("mlp", "width", "has no parameter 'width'"),
        ("gru", "sw", "cannot be computed"),
        ("batchnorm", "sw", "have no gradient yet"),
    ],
)
def test_what_has_no_derivative(name, parameter, message):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    with pytest.raises(TensorProgError, match=message):
        net.kernel_gradients(example_inputs(net), wrt=(parameter,))
