"""Tier 2: values, and error estimates that hold."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Sym
from tensorprog.symbolic import marginals as marginals_module
from tensorprog.symbolic import series as series_module
from tensorprog.symbolic.bounded import resolved
from tensorprog.symbolic.expectation import Moments, Request, plan
from tensorprog.symbolic.line import curve
from tensorprog.symbolic.marginals import Side, doubt_of, function_of

SMOOTH = {
    "tanh": "tanh(u)",
    "sigmoid": "sigmoid(u)",
    "softplus": "softplus(u)",
    "swish": "u*sigmoid(u)",
    "mish": "u*tanh(softplus(u))",
    "rational": "1/(1+u^2)",
    "softsign": "u/(1+abs(u))",
    "atan": "atan(u)",
    "sharp sigmoid": "sigmoid(10*u-3)",
    "gelu by tanh": "0.5*u*(1+tanh(0.7978845608*(u+0.044715*u^3)))",
    "kinked": "max(tanh(u),0.3)*u",
}
LAWS = [(1.0, 1.0, 0.5, 0.0, 0.0), (2.0, 0.5, -0.7, 0.0, 0.0), (1.3, 0.7, 0.3, 0.4, -0.8)]


@pytest.mark.parametrize("name", [n for n in SMOOTH if n != "kinked"])
def test_agrees_with_brute_force(tools, name):
    """Three laws, to 1e-10."""
    text = SMOOTH[name]
    p = tools.pair(text, text)
    assert p.tier == "quadrature"
    f = tools.parse(text)
    for a, b, c, m, n in LAWS:
        value, error = p.evaluate(tools.moments(a, b, c, m, n), {})
        assert float(value) == pytest.approx(tools.brute_pair(f, f, a, b, c, m, n), rel=1e-10)
        assert float(error) < 1e-10 * abs(float(value))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("variance", [1e-6, 1.0, 100.0, 1e3])
def test_equal_and_opposite_inputs(tools, name, variance):
    """rho = 1 and -1 against mpmath, as one-dimensional integrals."""
    text = SMOOTH[name]
    functions = {"tanh": mp.tanh, "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "atan": mp.atan, "abs": abs, "max": max}
    functions["softplus"] = lambda x: mp.log1p(mp.exp(x))
    code = compile(text.replace("^", "**"), text, "eval")

    def f(u):
        return eval(code, {"__builtins__": {}}, functions | {"u": u})

    with mp.workdps(20):
        s = mp.sqrt(variance)
        kink = float(mp.atanh(0.3))
        inner = [x for x in (-50, -10, -3, -1, -kink, 0, 0.1, 0.3, kink, 0.5, 1, 3, 10, 50) if abs(x) < 12 * s]
        ends = sorted({*(float(x / s) for x in inner), -13, -6, -3, -1.5, 1.5, 3, 6, 13})
        wanted = [float(mp.quad(lambda x, t=t: f(s * x) * f(t * s * x) * mp.npdf(x), ends)) for t in (1, -1)]
    moments = tools.moments(variance, variance, [variance, -variance])
    value, error = tools.pair(text, text).evaluate(moments, {})
    assert value == pytest.approx(wanted, rel=1e-8)
    assert np.all(np.abs(value - wanted) <= 5 * error + 1e-12 * np.abs(wanted))


EXACT = ["max(u,0)", "step(u)", "abs(u)", "erf(u)", "u*normcdf(u)", "exp(-u^2)", "min(max(u,-1),1)"]


@pytest.mark.parametrize("text", EXACT)
def test_error_estimates_hold(tools, text):
    """Quadrature of functions with closed forms, over a hard grid: 1e-8 relative, and within the estimate."""
    a, b = np.meshgrid([1e-6, 1e-2, 1.0, 1e3, 1e6], [0.5, 1e3, 1e6])
    rho = np.array([-1, -1 + 1e-12, -1 + 1e-6, -0.99, -0.5, 0.0, 0.9, 1 - 1e-4, 1 - 1e-9, 1])
    a, b, rho = a.ravel()[:, None], b.ravel()[:, None], rho[None]
    moments = tools.moments(a, b, rho * np.sqrt(a * b), 0.0, 0.2)
    exact, slack = tools.pair(text, text).evaluate(moments, {})
    value, error = tools.pair(text, text, "quadrature").evaluate(moments, {})
    size = np.sqrt(np.abs(exact[:, -1:]) * np.abs(exact[:, -1:])) + np.abs(exact)
    assert np.all(np.abs(value - exact) <= 1e-8 * np.maximum(np.abs(exact), 1e-5 * size))
    assert np.all(np.abs(value - exact) <= 5 * (error + slack) + 1e-13 * size)


@pytest.mark.parametrize("name", SMOOTH)
def test_means(tools, name):
    """E f(u) over arrays of laws; variance 0 gives the value."""
    mean, variance = np.array([[0.0, -0.5]]), np.array([[1.0], [0.0], [30.0]])
    none = np.empty((0, 1, 1))
    moments = Moments(mean[None], variance[None, None], none, none[None, :0], none[None])
    value, error = tools.mean(SMOOTH[name]).evaluate(moments, {})
    assert value.shape == error.shape == (3, 2)
    f = tools.parse(SMOOTH[name])
    if name != "kinked":
        for i, v in enumerate((1.0, None, 30.0)):
            if v is not None:
                assert value[i] == pytest.approx([tools.brute_mean(f, m, v) for m in mean[0]], rel=1e-9)
    assert np.all(error <= 1e-9 * np.abs(value) + 1e-13)


def test_marginals_broadcast(tools):
    """[S0, A, 1] and [S0, 1, B] marginals with [S0, A, B] covariances, as the flat computation."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 4, 3))
    a, b = np.sum(x * x, -1)[:, :, None], np.sum(y * y, -1)[:, None, :]
    c = np.einsum("sik,sjk->sij", x, y)
    p = tools.pair("tanh(u)", "u*sigmoid(u)")
    zeros = np.zeros((1, 1, 1, 1))
    value, error = p.evaluate(Moments(zeros, a[None, None], zeros, b[None, None], c[None, None]), {})
    assert value.shape == error.shape == (2, 5, 4)
    flat, _ = p.evaluate(tools.moments(*(np.broadcast_to(t, c.shape).ravel() for t in (a, b, c))), {})
    assert value.ravel() == pytest.approx(flat, rel=1e-12)


def test_examples_with_themselves_leave_marginals_few(tools, monkeypatch):
    """Correlation one on a diagonal is another rule; the series of the rest are one for each example."""
    counts = []

    def counted(f, mean, deviation, reach, order):
        counts.append(len(mean))
        return series_module.series(f, mean, deviation, reach, order)

    monkeypatch.setattr(marginals_module, "series", counted)
    x = np.random.default_rng(4).normal(size=(7, 3))
    c = x @ x.T
    a, zeros = np.diag(c).copy(), np.zeros((1, 1, 1))
    p = tools.pair("sigmoid(u)", "sigmoid(u)")
    value, error = p.evaluate(Moments(zeros, a[None, None, :, None], zeros, a[None, None, None, :], c[None, None]), {})
    assert counts == [7]
    for i, j in ((0, 0), (3, 3), (1, 5)):
        alone, _ = p.evaluate(tools.moments(a[i], a[j], c[i, j]), {})
        assert value[i, j] == pytest.approx(float(alone), rel=1e-13)
    assert np.all(error < 1e-13)


def test_parameters_are_grouped(tools):
    """Per-entry parameters give what scalar ones give."""
    p = tools.pair("tanh(g*u)", "sigmoid(u+h)")
    g, h = np.array([0.5, 2.0, 0.5]), np.array([1.0, -1.0, 1.0])
    moments = tools.moments(*(np.full(3, x) for x in LAWS[2]))
    value, _ = p.evaluate(moments, {"g": g, "h": h})
    single = [float(p.evaluate(tools.moments(*LAWS[2]), {"g": x, "h": y})[0]) for x, y in zip(g, h, strict=True)]
    assert value == pytest.approx(single, rel=1e-12)


def test_smooth_functions_of_several_arguments(tools):
    """A softmax over two logits sums to one; tanh(u) sigmoid(v) within one run separates."""
    cov = np.array([[1.0, 0.3], [0.3, 0.5]])
    mean = np.array([0.2, -0.4])
    moments = Moments(mean, cov, np.empty(0), np.empty((0, 0)), np.empty((2, 0)))
    parts = [f"exp({x})/(exp(u)+exp(v))" for x in "uv"]
    values = [plan(Request(tools.parse(t), ("u", "v"), ONE, ())).evaluate(moments, {}) for t in parts]
    assert float(values[0][0] + values[1][0]) == pytest.approx(1, rel=1e-12)
    product = plan(Request(tools.parse("tanh(u)*sigmoid(v)"), ("u", "v"), ONE, ())).evaluate(moments, {})[0]
    pair = tools.pair("tanh(u)", "sigmoid(u)").evaluate(tools.moments(1.0, 0.5, 0.3, 0.2, -0.4), {})[0]
    assert float(product) == pytest.approx(float(pair), rel=1e-12)


def test_too_many_arguments_are_left_to_sampling(tools):
    """Five Gaussians in a function without closed form."""
    f = tools.parse("tanh(a*b*c*d*e)")
    assert plan(Request(f, ("a", "b", "c", "d", "e"), ONE, ())) is None


def test_forced_tiers(tools):
    """prefer="closed" where there is none gives None."""
    assert tools.pair("tanh(u)", "u", "closed") is None
    assert tools.pair("max(u,0)", "u", "closed").tier == "closed"
    assert tools.pair("max(u,0)", "u", "quadrature").tier == "quadrature"


@pytest.mark.parametrize("name", ["tanh", "softplus", "abs", "atan"])
@pytest.mark.parametrize("variances", [(0.5, 1.5), (0.01, 0.05), (20.0, 100.0)])
def test_many_marginals_are_interpolated(name: str, variances: tuple[float, float]) -> None:
    """The series of many variances comes from a few, to the rounding of each by itself."""
    e = ex.call(name, Sym("u"))
    read = function_of("u", {})
    variance = np.random.default_rng(0).uniform(*variances, 400)
    deviation = np.sqrt(variance)
    span = -13 * deviation.max(), 13 * deviation.max()
    f = curve(e, read, doubt_of(Side(e, "u"), {}), span, deviation.min())
    found = series_module.series(f, np.zeros(400), deviation, 13.0)
    alone = series_module.series(f, np.zeros(100), deviation[:100], 13.0)
    size = np.sqrt(alone.norm)
    assert np.all(np.abs(found.coefficients[:, :100] - alone.coefficients) <= 2e-14 * size)
    assert np.all(np.abs(found.norm[:100] - alone.norm) <= 2e-14 * size**2)


@pytest.mark.parametrize("name", ["tanh", "cos", "abs"])
@pytest.mark.parametrize("mean", [0.0, -0.7])
@pytest.mark.parametrize("widest", [0.31, 1.0, 60.0])
def test_laws_that_share_panels_have_the_series_of_each_alone(name: str, mean: float, widest: float) -> None:
    """Near deviations, far ones, and kinks that move with the law: to the stated errors."""
    e, deviation, law = ex.call(name, Sym("u")), np.linspace(0.3, widest, 9), np.full(9, mean)
    f = curve(e, function_of("u", {}), doubt_of(Side(e, "u"), {}), (-800.0, 800.0), 0.3)
    found = series_module.series(f, law, deviation, 13.0)
    for n in range(9):
        alone = series_module.series(f, law[:1], deviation[n : n + 1], 13.0)
        gap = found.coefficients[:, n] - alone.coefficients[:, 0]
        assert np.all(np.abs(gap) <= 2e-14 * np.sqrt(alone.norm) + found.error[n] + alone.error)


@pytest.mark.parametrize(("f", "g"), [("tanh(u)", "tanh(u)"), ("sigmoid(u)", "abs(u)")])
def test_many_laws_of_one_variable(tools, f: str, g: str) -> None:
    """E f(u) g(u) of many variances as of each alone, and bit for bit the same on a part that spans as far."""
    variances = np.random.default_rng(1).uniform(0.5, 1.5, 200)
    variances[:2] = 0.5, 1.5
    pair = tools.pair(f, g, "quadrature")
    value, error = pair.evaluate(tools.moments(variances, variances, variances), {})
    for n in range(0, 200, 40):
        exact = tools.brute_mean(ex.mul(tools.parse(f), tools.parse(g)), 0.0, variances[n])
        assert abs(value[n] - exact) <= error[n] + 4e-15
    assert np.all(error < 1e-13)
    part, _ = pair.evaluate(tools.moments(variances[:150], variances[:150], variances[:150]), {})
    np.testing.assert_array_equal(part, value[:150])


CANCELLING = [(v, rho) for v in (1e-6, 1e-2, 1.0) for rho in (1.0, -1.0)]
CANCELLING += [(1e-2, 0.5), *(pytest.param(v, 0.5, marks=pytest.mark.slow) for v in (1e-6, 1.0))]


@pytest.mark.parametrize(("variance", "rho"), CANCELLING)
def test_cancellation_of_the_function_is_in_the_estimate(tools, variance, rho):
    """u - tanh(u) near 0, by Mehler's series or a line integral with 40 digits."""
    value, error = tools.pair("u-tanh(u)", "u-tanh(u)").evaluate(tools.moments(variance, variance, rho * variance), {})
    with mp.workdps(40):
        s, sign = mp.sqrt(variance), mp.sign(rho)

        def f(u):
            return u - mp.tanh(u)

        if abs(rho) == 1:
            exact = mp.quad(lambda x: f(s * x) * f(sign * s * x) * mp.npdf(x), [-14, -6, -2, 0, 2, 6, 14])
        else:
            exact = mp.mpf(0)
            for k in range(1, 50, 2):
                hermite = mp.quad(
                    lambda x, k=k: f(s * x) * mp.hermite(k, x / mp.sqrt(2)) * mp.npdf(x), [-14, -5, 0, 5, 14]
                )
                exact += hermite**2 * mp.mpf(rho) ** k / (2**k * mp.factorial(k))
    assert abs(float(value) - float(exact)) <= 3 * float(error)
    assert float(error) <= 1e-3 * abs(float(exact))


def test_what_vanishes_before_the_reach_is_not_claimed_to_be_zero(tools):
    """E u max(v, 0) = c P(v > 0) where v is positive thirteen deviations from its mean."""
    value, error = tools.pair("u", "max(u,0)", "quadrature").evaluate(tools.moments(1.0, 0.01, 0.1, 0.0, -1.3), {})
    exact = float(0.1 * mp.ncdf(-13))
    assert abs(float(value) - exact) <= float(error)
    closed, _ = tools.pair("u", "max(u,0)").evaluate(tools.moments(1.0, 0.01, 0.1, 0.0, -1.3), {})
    assert float(closed) == pytest.approx(exact, rel=1e-3)


def test_no_covariance_means_a_product_of_means(tools):
    """Of a clip with a wave over a wide law: the wave has no mean."""
    value, error = tools.pair("min(max(u,-1),0.7)", "sin(u)+exp(-u^2)", "quadrature").evaluate(
        tools.moments(1.0, 1000.0, 0.0), {}
    )
    with mp.workdps(30):
        left = mp.quad(lambda x: max(min(x, 0.7), -1) * mp.npdf(x), [-12, -1, 0.7, 12])
    exact = float(left / mp.sqrt(2001))
    assert float(value) == pytest.approx(exact, rel=1e-8)
    assert abs(float(value) - exact) <= float(error)


@pytest.mark.parametrize("name", ["tanh", "swish"])
def test_long_series_of_many_pairs(tools, name):
    """A kernel at variances around 100 against its entries one by one, which nested rules integrate."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 20)) + 2
    k = 100 * np.einsum("ik,jk->ij", x, x) / np.mean(np.sum(x * x, axis=1))
    d = np.diag(k).copy()
    p = tools.pair(SMOOTH[name], SMOOTH[name])
    zeros = np.zeros((1, 1, 1))
    moments = Moments(zeros, d[None, None, :, None], zeros, d[None, None, None, :], k[None, None])
    value, error = (np.broadcast_to(t, (1, 40, 40))[0] for t in p.evaluate(moments, {}))
    i, j = rng.integers(0, 40, size=(2, 12))
    for a, b in zip(i, j, strict=True):
        single, slack = p.evaluate(tools.moments(d[a], d[b], k[a, b]), {})
        assert value[a, b] == pytest.approx(float(single), rel=1e-9)
        assert abs(value[a, b] - float(single)) <= error[a, b] + float(slack)
    assert np.all(error <= 1e-8 * np.abs(value))


@pytest.mark.parametrize("variance", [1.0, 1e-4, 400.0])
def test_roots_at_kinks(tools, variance):
    """E |u| at correlation one, from its root; and E sqrt|u| sqrt|v| at correlation 1/2, in polar coordinates."""
    p = tools.pair("sqrt(abs(u))", "sqrt(abs(u))", "quadrature")
    value, error = p.evaluate(tools.moments(variance, variance, variance, 0.0, 0.0), {})
    assert float(value) == pytest.approx(np.sqrt(2 * variance / np.pi), rel=1e-9)
    assert abs(float(value) - np.sqrt(2 * variance / np.pi)) <= 4 * float(error)
    value, error = p.evaluate(tools.moments(variance, variance, variance / 2, 0.0, 0.0), {})
    angle = lambda t: mp.sqrt(abs(mp.cos(t) * mp.cos(t - mp.pi / 3)))  # noqa: E731
    corners = [-mp.pi / 2, -mp.pi / 6, mp.pi / 2]
    wanted = mp.gamma(1.5) * mp.sqrt(2) * variance**0.5 * mp.quad(angle, corners) / mp.pi
    assert float(value) == pytest.approx(float(wanted), rel=1e-8)


@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_derivatives_are_resolved_to_the_bound_of_cauchy_and_schwarz(tools, variance):
    """E[f' g'] of an odd f' passes through zero at correlation 0; the scale of its error is sqrt(E f'^2 E g'^2)."""
    f, g = tools.parse("tanh(u)*(1-tanh(u)^2)"), tools.parse("1.2*tanh(u)-u")
    expectation = resolved(plan(Request(f, ("u",), g, ("u",))))
    rho = np.array([-0.9, -0.3, -1e-3, 1e-6, 0.1, 0.6, 0.97])
    value, error = expectation.evaluate(tools.moments(variance, variance, variance * rho), {})
    exact = np.array([tools.brute_pair(f, g, variance, variance, variance * r) for r in rho])
    bound = np.sqrt(tools.brute_mean(ex.mul(f, f), 0.0, variance) * tools.brute_mean(ex.mul(g, g), 0.0, variance))
    assert np.all(error <= np.maximum(2e-11 * np.abs(value), 1e-12 * bound))
    assert np.all(np.abs(value - exact) <= error + 1e-13 * bound)
