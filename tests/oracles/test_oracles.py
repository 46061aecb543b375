"""The oracles against each other, against figures in print, and against small random networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from . import batchnorm, duals, facts, gru, recursions
from .duals import ERF, RELU, Activation, Array
from .recursions import Conv, Kernels, Pool

FOLDER = Path(__file__).parent


def slope_of_gelu(u: Array) -> Array:
    slope: Array = special.ndtr(u) + u * np.exp(-u * u / 2) / np.sqrt(2 * np.pi)
    return slope


MLPS: dict[str, tuple[Activation, float, float]] = {
    "mlp_relu_1": (RELU, 1.0, 0.0),
    "mlp_relu_3": (RELU, 1.4, 0.1),
    "mlp_relu_5": (RELU, 1.2, 0.3),
    "mlp_erf_3": (ERF, 1.4, 0.1),
    "mlp_gelu_3": (duals.numeric(lambda u: u * special.ndtr(u), slope_of_gelu), 1.5, 0.2),
    "mlp_sin_3": (duals.numeric(np.sin, np.cos), 1.2, 0.1),
    "mlp_gaussian_3": (duals.numeric(lambda u: np.exp(-u * u), lambda u: -2 * u * np.exp(-u * u)), 1.3, 0.1),
    "mlp_polynomial_2": (
        duals.numeric(lambda u: 0.5 + u + 0.2 * u**2 - 0.1 * u**3, lambda u: 1 + 0.4 * u - 0.3 * u**2),
        0.8,
        0.1,
    ),
}


@pytest.fixture(scope="module")
def reference() -> dict[str, Array]:
    with np.load(FOLDER / "neural_tangents.npz") as file:
        return dict(file)


def assert_agree(kernels: Kernels, reference: dict[str, Array], name: str) -> None:
    np.testing.assert_allclose(kernels.nngp, reference[f"{name}/nngp"], rtol=0, atol=1e-12)
    # neural-tangents loses half the digits of the NTK of relu at parallel inputs.
    np.testing.assert_allclose(kernels.ntk, reference[f"{name}/ntk"], rtol=0, atol=1e-7 if "relu" in name else 2e-8)


def test_every_case_has_a_program(reference: dict[str, Array]) -> None:
    cases = {key.split("/")[0] for key in reference}
    assert cases == {path.stem for path in (FOLDER / "programs").glob("*.tp")}
    assert all(f"program {name}(" in (FOLDER / "programs" / f"{name}.tp").read_text() for name in cases)


@pytest.mark.parametrize("name", MLPS)
def test_mlp_agrees_with_neural_tangents(name: str, reference: dict[str, Array]) -> None:
    phi, sw, sb = MLPS[name]
    x1, x2 = reference[f"{name}/x1"], reference[f"{name}/x2"]
    assert_agree(recursions.mlp_kernels(x1, x2, int(name[-1]), phi, sw, sb), reference, name)


@pytest.mark.parametrize(
    "dims, padding, stride, head",
    list(itertools.product((1, 2), ("same", "valid", "circular"), (1, 2), ("flatten", "gap"))),
)
def test_convolution_agrees_with_neural_tangents(
    dims: int, padding: str, stride: int, head: str, reference: dict[str, Array]
) -> None:
    name = f"conv{dims}d_{padding}_{stride}_{head}"
    taps = 2 if (padding, stride) == ("valid", 2) else 3
    first, second = Conv(3, stride, padding, 1.4, 0.1), Conv(taps, 1, padding, 1.2, 0.1)
    layers: list[Conv | Pool | Activation] = [first, RELU, second, ERF]
    kernels = recursions.conv_kernels(reference[f"{name}/x1"], reference[f"{name}/x2"], layers, head)
    assert_agree(kernels, reference, name)


def test_myrtle_agrees_with_neural_tangents(reference: dict[str, Array]) -> None:
    conv, pool = Conv(3, 1, "same", 1.4, 0.1), Pool(2)
    layers: list[Conv | Pool | Activation] = [conv, RELU, conv, RELU, pool, conv, RELU, pool, conv, RELU]
    assert_agree(
        recursions.conv_kernels(reference["myrtle/x1"], reference["myrtle/x2"], layers, "gap"), reference, "myrtle"
    )


# Small random networks: f(parameters, x) with parameters drawn from N(0, 1)

Net = Callable[[dict[str, Array], Array], Any]


def simulate(
    net: Net, shapes: dict[str, tuple[int, ...]], xs: Sequence[Array], draws: int, seed: int = 0
) -> tuple[Array, Array]:
    """Samples of f(x) f(x')^T and of df(x) df(x')^T along a random direction, whose means are the NNGP and the NTK."""
    rng, step = np.random.default_rng(seed), 1e-4
    nngp, ntk = [], []
    for _ in range(draws):
        p = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        q = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        ahead, behind = ({name: p[name] + h * q[name] for name in p} for h in (step, -step))
        up, down = (np.concatenate([np.atleast_1d(net(w, x)) for x in xs]) for w in (ahead, behind))
        value, change = (up + down) / 2, (up - down) / (2 * step)
        nngp.append(np.outer(value, value))
        ntk.append(np.outer(change, change))
    return np.array(nngp), np.array(ntk)


def assert_mean(samples: Array, expected: Array) -> None:
    """Within 5 standard errors (and 4 % of the scale, for the finite width)."""
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(axis=0) - expected) < 5 * error + 0.04 * np.abs(expected).max())


N = 96


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_rnn_against_random_networks(pooling: str) -> None:
    rng = np.random.default_rng(1)
    xs = [rng.normal(size=(3, 4)), rng.normal(size=(2, 4))]

    def net(p: dict[str, Array], x: Array) -> Any:
        h, states = np.zeros(N), []
        for row in x:
            h = special.erf(1.3 / N**0.5 * p["W"] @ h + 0.4 * p["U"] @ row + 0.3 * p["b"])
            states.append(h)
        return 1.2 / N**0.5 * p["v"] @ (h if pooling == "last" else np.mean(states, axis=0))

    nngp, ntk = simulate(net, {"W": (N, N), "U": (N, 4), "b": (N,), "v": (N,)}, xs, draws=1200)
    kernels = recursions.rnn_kernels(xs, xs, 1.3, 0.8, 0.3, 1.2, pooling)
    assert_mean(nngp, kernels.nngp)
    assert_mean(ntk, kernels.ntk)


def layernorm(h: Array) -> Array:
    h = h - h.mean(axis=1, keepdims=True)
    normed: Array = h / np.sqrt((h * h).mean(axis=1, keepdims=True))
    return normed


def test_transformer_against_random_networks() -> None:
    rng = np.random.default_rng(2)
    xs = [rng.normal(size=(3, 4)), rng.normal(size=(2, 4))]
    shapes = {"v": (N,), "E0": (4, N), "E1": (N, N)} | dict.fromkeys(("A0", "B0", "A1", "B1"), (N, N))

    def net(p: dict[str, Array], x: Array) -> Any:
        h = x
        for layer in range(2):
            k = 1.3 / h.shape[1] ** 0.5 * h @ p[f"E{layer}"]
            z = layernorm(k + recursions.softmax(k @ k.T / N) @ k)
            u = 0.9 / N**0.5 * z @ p[f"A{layer}"]
            h = layernorm(z + 0.9 / N**0.5 * np.maximum(u, 0) @ p[f"B{layer}"])
        return h.mean(axis=0) @ p["v"] / N**0.5

    nngp, ntk = simulate(net, shapes, xs, draws=600)
    kernels = recursions.transformer_kernels(xs, xs, 2, 1.3, 0.9)
    assert_mean(nngp, kernels.nngp)
    assert_mean(ntk, kernels.ntk)


def test_batchnorm_against_random_networks() -> None:
    rng = np.random.default_rng(3)
    xs = [rng.normal(size=(7, 9)), rng.normal(size=(7, 9))]

    def net(p: dict[str, Array], x: Array) -> Any:
        h = x
        for layer in range(2):
            g = 1.3 / h.shape[1] ** 0.5 * h @ p[f"W{layer}"]
            g = g - g.mean(axis=0)
            h = np.maximum(g / np.sqrt((g * g).mean(axis=0)), 0)
        return h @ p["v"] / N**0.5

    nngp, ntk = simulate(net, {"W0": (9, N), "W1": (N, N), "v": (N,)}, xs, draws=1200)
    for i, j in ((0, 0), (0, 1)):
        kernels = batchnorm.batchnorm_kernels(xs[i], xs[j], 2, 1.3, samples=5000)
        assert_mean(nngp[:, 7 * i : 7 * i + 7, 7 * j : 7 * j + 7], kernels.nngp)
        assert_mean(ntk[:, 7 * i : 7 * i + 7, 7 * j : 7 * j + 7], kernels.ntk)


def test_batchnorm_of_a_batch_against_itself_is_the_diagonal_block() -> None:
    """The single and the double integral are two ways to the same numbers."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 8))
    gram = np.tile(x @ x.T / 8, (2, 2))
    np.testing.assert_allclose(batchnorm.forward_cross(gram, 5), batchnorm.forward_same(gram[:5, :5]), atol=1e-9)


def test_gru_against_random_networks() -> None:
    rng, n = np.random.default_rng(5), 400
    xs, draws = [rng.normal(size=(3, 4)), rng.normal(size=(2, 4))], []
    for _ in range(20):
        w = {g: (rng.normal(size=(n, n)) * 1.4 / n**0.5, rng.normal(size=(n, 4)) * 0.45) for g in "zrc"}
        b, last = {g: 0.2 * rng.normal(size=n) for g in "zrc"}, []
        for x in xs:
            h = np.zeros(n)
            for row in x:
                z, r = (gru.gate(w[g][0] @ h + w[g][1] @ row + b[g]) for g in "zr")
                h = (1 - z) * h + z * special.erf(w["c"][0] @ (r * h) + w["c"][1] @ row + b["c"])
            last.append(h)
        draws.append(np.array(last) @ np.array(last).T / n)
    mean, error = gru.gru_nngp(xs, 1.4, 0.9, 0.2)
    assert error.max() < 2e-3
    assert_mean(np.array(draws), mean)


def test_matrix_and_transpose_against_a_random_network() -> None:
    rng, n = np.random.default_rng(6), 1500
    x, draws = rng.normal(size=(2, 4)), []
    for _ in range(4):
        w, h = rng.normal(size=(n, n)) * 1.3 / n**0.5, rng.normal(size=(n, 4)) / 2 @ x.T
        z = np.tanh(w.T @ np.tanh(w @ h) + h)
        draws.append(z.T @ z / n)
    assert_mean(np.array(draws), recursions.transpose_nngp(x, x, 1.3))


# Figures in print


def test_critical_tanh() -> None:
    """Poole et al. 2016, sigma_b^2 = 0.05: q* and chi_1 below, at and above the critical weight variance."""
    table = {1.5: (0.41804, 0.93864), 1.76: (0.56946, 0.9998), 2.0: (0.72176, 1.04767)}
    for sw2, expected in table.items():
        assert facts.tanh_fixed_point(sw2, 0.05) == pytest.approx(expected, abs=6e-6)
    assert facts.tanh_critical_sw2(0.05) == pytest.approx(1.76, abs=2e-3)


def test_mean_pooling() -> None:
    assert facts.pooled_gradient_square().second_moment == 2
    assert facts.pooled_gradient_relu().second_moment == pytest.approx(0.6592, abs=5e-5)
    rng, n = np.random.default_rng(7), 3000
    w, x = rng.normal(size=(n, n)) / n**0.5, rng.normal(size=n)
    g = w.T @ (w @ x > 0)
    expected = facts.pooled_gradient_relu()
    assert g @ g / n == pytest.approx(expected.second_moment, rel=0.06)
    assert g @ x / n == pytest.approx(expected.with_input, rel=0.1)


def test_corrections_of_printed_formulas() -> None:
    mlp = facts.pooled_mlp(1.0, 3, 1.0, lambda z: z + z * z / 4, lambda z: 1 + z / 2, lambda z: 0.5 + 0 * z)
    assert mlp.gradients[0] == pytest.approx(5.695, abs=5e-4)
    assert facts.relu_ntk_yang() == pytest.approx(6.75)


def test_random_matrix_moments() -> None:
    assert facts.semicircle_moments(11)[::2] == [1, 1, 2, 5, 14, 42] == [facts.catalan(k) for k in range(6)]
    assert [facts.marchenko_pastur_moment(r, 1) for r in range(1, 5)] == [1, 2, 5, 14]
    assert [facts.marchenko_pastur_moment(r, 2) for r in range(1, 5)] == [1, 3, 11, 45]
    assert [facts.fuss_catalan(3, depth) for depth in (1, 2, 3)] == [5, 12, 22]
    assert all(facts.fuss_catalan(2, depth) == facts.jacobian_ratio("linear", depth) for depth in (1, 2, 3))


def test_tied_residual() -> None:
    linear = np.diag(facts.tied_residual(1.0, 4, 1.0, lambda a, b, c: c))
    assert linear.tolist() == [1, 2, 6, 20, 70]
    rng, n = np.random.default_rng(8), 1500
    w, h = 0.9 * rng.normal(size=(n, n)) / n**0.5, rng.normal(size=n)
    states = [h]
    for _ in range(3):
        states.append(states[-1] + w @ np.tanh(states[-1]))
    gram = np.array(states) @ np.array(states).T / n
    expected = facts.tied_residual(1.0, 3, 0.9, duals.grid_dual(np.tanh, np.tanh))
    np.testing.assert_allclose(gram, expected, rtol=0.15)


def test_linear_rnn_closed_form_is_the_recursion() -> None:
    rng = np.random.default_rng(9)
    x1, x2 = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    identity = Activation(lambda a, b, c: c, lambda a, b, c: 1.0 + 0 * c)
    kernels = recursions.rnn_kernels([x1], [x2], 1.2, 0.9, 0.0, 1.1, phi=identity)
    assert kernels.ntk[0, 0] == pytest.approx(facts.linear_rnn_ntk(x1, x2, 1.2, 0.9, 1.1), rel=1e-12)


def test_state_evolution() -> None:
    rng, n, m, draws = np.random.default_rng(10), 2000, 1000, []
    # Quantiles of the law in place of a sample: the norm of a random signal of this size moves tau_0 by 10 %.
    signal = np.zeros(n)
    signal[: n // 10] = special.ndtri((np.arange(n // 10) + 0.5) / (n // 10))
    signal *= np.sqrt(0.1 / np.mean(signal**2))
    for _ in range(12):
        a = rng.normal(size=(m, n)) / m**0.5
        y = a @ signal + 0.1 * rng.normal(size=m)
        x, z, taus = np.zeros(n), y, []
        for _ in range(5):
            taus.append(z @ z / m)
            u = a.T @ z + x
            x = facts.soft_threshold(0.3)(u)
            z = y - a @ x + z * np.mean(np.abs(u) > 0.3) * n / m
        draws.append(taus)
    assert_mean(np.array(draws), np.array(facts.state_evolution(facts.soft_threshold(0.3), 0.1, 0.01, 0.5, 4)))
