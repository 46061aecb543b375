"""Tier 1 against brute force and against mathematics: Price's theorem, symmetry, positivity, the edges."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tensorprog.ir.expr import ONE, differentiate, num, substitute
from tensorprog.symbolic.expectation import Moments, Request, plan

ACTIVATIONS = {
    "relu": "max(u,0)",
    "shifted relu": "max(u-0.5,0)",
    "leaky relu": "max(u,0)+0.1*min(u,0)",
    "relu^2": "max(u,0)^2",
    "relu6": "min(max(u,0),6)",
    "hard tanh": "min(max(u,-1),1)",
    "hard sigmoid": "min(max(u/6+0.5,0),1)",
    "hard swish": "u*min(max(u/6+0.5,0),1)",
    "abs": "abs(u)",
    "step": "step(u)",
    "sign": "sign(u)",
    "indicator": "gt(u,-1)*lt(u,0.5)",
    "elu": "max(u,0)+exp(min(u,0))-1",
    "selu": "1.05*(max(u,0)+1.67*(exp(min(u,0))-1))",
    "gelu": "u*normcdf(u)",
    "gelu'": "normcdf(u)+u*normpdf(u)",
    "erf": "erf(u)",
    "erf gate": "(1+erf(u))/2",
    "erfc": "erfc(u/2)",
    "sin": "sin(u)",
    "cos": "cos(2*u+1)",
    "rectified sine": "u*sin(u)",
    "exp": "exp(u/2)",
    "cosh": "cosh(u/3)",
    "gaussian": "exp(-u^2)",
    "gaussian bump": "u^2*exp(-u^2/2+u)",
    "polynomial": "u^3-2*u+1",
    "hermite": "u^4-6*u^2+3",
    "identity plus": "u+max(u,0)",
    "soft threshold": "sign(u)*max(abs(u)-0.3,0)",
    "exp of abs": "exp(-abs(u))",
}
LAWS = [(1.0, 1.0, 0.5, 0.0, 0.0), (2.0, 0.5, -0.7, 0.0, 0.0), (1.3, 0.7, 0.3, 0.4, -0.8)]


def evaluate(p, moments):
    """The closed form alone, without the quadrature that guards it."""
    return p.sums.evaluate(moments, {})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_agrees_with_brute_force(tools, name):
    """Values at three laws, two of them with zero mean."""
    text = ACTIVATIONS[name]
    p = tools.pair(text, text)
    assert p.tier == "closed"
    f = tools.parse(text)
    for a, b, c, m, n in LAWS:
        value, error = evaluate(p, tools.moments(a, b, c, m, n))
        assert float(value) == pytest.approx(tools.brute_pair(f, f, a, b, c, m, n), rel=1e-10)
        assert float(error) < 1e-11 * abs(float(value))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_agrees_with_quadrature_everywhere(tools, name):
    """Both tiers on a grid of laws, up to correlation +-1, within their own error estimates."""
    text = ACTIVATIONS[name]
    a, b, rho = (x.ravel() for x in np.meshgrid([1e-4, 1.0, 40.0], [0.5, 2.0], [-1, -1 + 1e-12, 0.3, 1 - 1e-5, 1]))
    for means in ((0.0, 0.0), (0.3, -0.7)):
        moments = tools.moments(a, b, rho * np.sqrt(a * b), *means)
        value, error = tools.pair(text, text).evaluate(moments, {})
        other, other_error = tools.pair(text, text, "quadrature").evaluate(moments, {})
        scale = np.maximum(np.abs(value), 1e-6)
        assert np.all(np.abs(value - other) <= 4 * (error + other_error) + 1e-12 * scale)
        assert np.all(error <= 1e-9 * scale)


@pytest.mark.parametrize("name", ["relu", "relu6", "elu", "gelu", "erf", "sin", "gaussian", "polynomial", "exp of abs"])
@pytest.mark.parametrize("law", LAWS)
def test_price(tools, name, law):
    """d/dc E[f g] = E[f' g'] by central differences."""
    a, b, c, m, n = law
    f = tools.parse(ACTIVATIONS[name])
    g = tools.parse("u*normcdf(u)+max(u-0.5,0)")
    h = 1e-4
    p = plan(Request(f, ("u",), g, ("u",)))
    ends = [float(p.evaluate(tools.moments(a, b, c + d, m, n), {})[0]) for d in (-2 * h, -h, h, 2 * h)]
    slope = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
    derivative = plan(Request(differentiate(f, "u"), ("u",), differentiate(g, "u"), ("u",)))
    assert float(derivative.evaluate(tools.moments(a, b, c, m, n), {})[0]) == pytest.approx(slope, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("name", ["relu", "leaky relu", "hard tanh", "elu", "gelu", "erf", "sin", "gaussian", "step"])
def test_kernel_matrix_is_symmetric_and_positive(tools, name):
    """K_ij = E f(z_i) f(z_j) for 40 inputs, repeated and opposite ones among them, with marginals kept small."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(36, 5))
    x = np.concatenate([x, x[:2], -x[:1], 1e-3 * x[:1]])
    gram = x @ x.T
    d = np.diag(gram)
    zeros = np.zeros(len(x))
    moments = Moments(
        zeros[None, :, None], d[None, None, :, None], zeros[None, None, :], d[None, None, None, :], gram[None, None]
    )
    value, error = tools.pair(ACTIVATIONS[name], ACTIVATIONS[name]).evaluate(moments, {})
    assert value.shape == error.shape == gram.shape
    size = np.max(np.diag(value))
    assert np.allclose(value, value.T, rtol=1e-12, atol=1e-14 * size)
    assert np.linalg.eigvalsh(value)[0] > -1e-8 * size


def test_homogeneous_functions_scale(tools):
    """relu: E f(s u) f(t v) = s t E f(u) f(v), over twelve orders of magnitude."""
    p = tools.pair("max(u,0)", "max(u,0)")
    base, _ = p.evaluate(tools.moments(1.0, 2.0, 0.9), {})
    scaled, _ = p.evaluate(tools.moments(1e12, 2e-12, 0.9), {})
    assert float(scaled) == pytest.approx(float(base), rel=1e-13)


def test_linearity(tools):
    """E (2f - 3g) h = 2 E f h - 3 E g h."""
    moments = tools.moments(1.3, 0.7, 0.3, 0.4, -0.8)
    parts = [float(tools.pair(t, "u*normcdf(u)").evaluate(moments, {})[0]) for t in ("erf(u)", "max(u-1,0)")]
    whole, _ = tools.pair("2*erf(u)-3*max(u-1,0)", "u*normcdf(u)").evaluate(moments, {})
    assert float(whole) == pytest.approx(2 * parts[0] - 3 * parts[1], rel=1e-12)


@pytest.mark.parametrize("text", ["max(u,0)", "erf(u)", "step(u)", "sign(u)", "u*normcdf(u)", "exp(u)", "tanh(u)"])
def test_zero_variance(tools, text):
    """A constant argument: f(m) E g, and f(m) f(n)."""
    f = tools.parse(text)
    half, _ = tools.pair(text, text).evaluate(tools.moments(0.0, 0.7, 0.0, 0.4, -0.2), {})
    at = float(tools.mean(text).evaluate(one_run(0.4, 0.0), {})[0])
    assert float(half) == pytest.approx(at * tools.brute_mean(f, -0.2, 0.7), rel=1e-12)
    mean, none = [0.4, 0.0], [0.0, 0.0]
    both, _ = tools.pair(text, text).evaluate(tools.moments(none, none, none, mean, mean), {})
    zero = float(tools.mean(text).evaluate(one_run(0.0, 0.0), {})[0])
    assert both == pytest.approx([at**2, zero**2], rel=1e-14)


def one_run(mean, variance):
    """The moments of a one-run mean."""
    mean, variance = np.asarray(mean, dtype=float), np.asarray(variance, dtype=float)
    s = mean.shape
    return Moments(mean[None], variance[None, None], np.empty((0, *s)), np.empty((0, 0, *s)), np.empty((1, 0, *s)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_one_run_means(tools, name):
    """E f(u) on arrays of laws."""
    mean, variance = np.array([0.0, -0.5, 1.2]), np.array([1.0, 0.3, 2.5])
    value, error = tools.mean(ACTIVATIONS[name]).evaluate(one_run(mean, variance), {})
    wanted = [tools.brute_mean(tools.parse(ACTIVATIONS[name]), m, v) for m, v in zip(mean, variance, strict=True)]
    assert value == pytest.approx(wanted, rel=1e-11, abs=1e-14)
    assert np.all(error < 1e-11)


def test_correlation_above_one_by_rounding(tools):
    """c = sqrt(ab)(1 + 2e-16) is the rounding of equal inputs."""
    for text, wanted in (("step(u)", 0.5), ("max(u,0)", 0.5 * 0.3), ("abs(u)", 0.3)):
        value, _ = tools.pair(text, text).evaluate(tools.moments(0.3, 0.3, 0.3 * (1 + 2.3e-16)), {})
        assert float(value) == pytest.approx(wanted, rel=1e-15)


def test_new_activations_need_no_new_code(tools):
    """u^2 normcdf(u) 1{u > -1} and its mean."""
    text = "u^2*normcdf(u)*gt(u,-1)"
    p = tools.mean(text)
    assert p.tier == "closed"
    value, _ = p.sums.evaluate(one_run(0.2, 1.7), {})
    assert float(value) == pytest.approx(tools.brute_mean(tools.parse(text), 0.2, 1.7), rel=1e-11)
    both, error = tools.pair(text, text).evaluate(tools.moments(*LAWS[2]), {})
    f = tools.parse(text)
    assert float(both) == pytest.approx(tools.brute_pair(f, f, *LAWS[2]), rel=1e-10)


def test_several_arguments(tools):
    """max(u, v) in both runs; Isserlis and waves in four variables; all against moments of linear maps."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(4, 4))
    cov, mean = root @ root.T / 4, rng.normal(size=4) / 2
    moments = Moments(mean[:2], cov[:2, :2], mean[2:], cov[2:, 2:], cov[:2, 2:])
    args = ("u", "v")

    def value(left, right):
        p = plan(Request(tools.parse(left), args, tools.parse(right), args))
        assert p.tier == "closed"
        return float(p.evaluate(moments, {})[0])

    # max(u, v) = (u + v + |u - v|) / 2, and u - v is one Gaussian
    d = np.array([[1.0, -1.0]])
    one = Moments(d @ mean[:2], d @ cov[:2, :2] @ d.T, d @ mean[2:], d @ cov[2:, 2:] @ d.T, d @ cov[:2, 2:] @ d.T)
    gap = float(tools.pair("abs(u)", "abs(u)").evaluate(one, {})[0])
    wanted = (value("u+v", "u+v") + value("u+v", "abs(u-v)") + value("abs(u-v)", "u+v") + gap) / 4
    assert value("max(u,v)", "max(u,v)") == pytest.approx(wanted, rel=1e-12)
    assert value("exp(u)*exp(v)", "exp(u-v)") == pytest.approx(
        np.exp((w := np.array([1, 1, 1, -1])) @ mean + w @ cov @ w / 2), rel=1e-12
    )
    assert value("sin(u+v)", "1") == pytest.approx(
        np.sin(mean[0] + mean[1]) * np.exp(-cov[:2, :2].sum() / 2), rel=1e-12
    )
    assert value("u*v", "u*v") == pytest.approx(_fourth_moment(mean, cov), rel=1e-12)


def _fourth_moment(mean, cov):
    """E x1 x2 x3 x4 = m m m m + sum m m C + sum C C."""
    total = np.prod(mean)
    for i, j, k, m in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)):
        total += cov[i, j] * mean[k] * mean[m] + cov[k, m] * mean[i] * mean[j] + cov[i, j] * cov[k, m]
    return total


@pytest.mark.parametrize(
    "text",
    [
        "max(u,0)+p*min(u,0)",
        "min(max(u,q),r)",
        "max(p*u+q,0)",
        "min(max(-p*u,q),r)",
        "abs(p*u-r)",
        "exp(q*u)*normcdf(p*u+r)",
    ],
)
def test_parameters_per_entry(tools, text):
    """Coefficients, knots and slopes (of either sign) as arrays; each entry as if its numbers stood in the text."""
    params = {"p": np.array([0.3, 1.5, -0.7]), "q": np.array([-1.0, -0.5, -0.5]), "r": np.array([1.0, 1.5, 0.4])}
    moments = tools.moments(*(np.full(3, x) for x in LAWS[2]))
    p = tools.pair(text, text)
    assert p.tier == "closed"
    value, _ = p.evaluate(moments, params)
    for k in range(3):
        one = {name: float(x[k]) for name, x in params.items()}
        f = substitute(tools.parse(text), {name: num(x) for name, x in one.items()})
        other, _ = plan(Request(f, ("u",), f, ("u",)), "quadrature").evaluate(tools.moments(*LAWS[2]), {})
        assert float(value[k]) == pytest.approx(float(other), rel=1e-11)


def test_plans_are_cheap(tools):
    """A fresh plan of a common activation takes a few milliseconds."""
    for name in ("relu", "gelu", "elu", "hard tanh"):
        f = tools.parse(ACTIVATIONS[name].replace("u", "fresh"))
        start = time.perf_counter()
        plan(Request(f, ("fresh",), f, ("fresh",)))
        assert time.perf_counter() - start < 0.05


def test_a_constant_has_its_square_as_mean(tools):
    """No arguments at all."""
    p = plan(Request(tools.parse("3"), (), ONE, ()))
    empty = np.empty((0,))
    moments = Moments(empty, np.empty((0, 0)), empty, np.empty((0, 0)), np.empty((0, 0)))
    assert float(p.evaluate(moments, {})[0]) == 3
