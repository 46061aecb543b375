"""Products with three and four gates: closed in both runs, without a rule of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from tensorprog.errors import TensorProgError
from tensorprog.ir.expr import ONE, differentiate
from tensorprog.symbolic.expectation import Moments, Request, plan

GATED = {
    "u^2 normcdf(u) 1{u > -1}": "u^2*normcdf(u)*gt(u,-1)",
    "gelu times step": "u*normcdf(u)*step(u)",
    "squared normcdf": "normcdf(u)^2",
    "squared erf": "erf(u)^2",
    "erf gelu": "u*normcdf(u)*erf(u)",
    "squared erf gate": "((1+erf(u))/2)^2",
    "gelu of hard tanh": "min(max(u,-1),1)*normcdf(u)",
    "abs gate": "abs(u)*normcdf(1-u)",
    "two slopes": "erf(2*u)*erf(u/2)",
    "gated exponential": "exp(-u/2)*normcdf(u)*step(u)",
    "gated gaussian": "exp(-u^2/2)*erf(u)*sign(u)",
}
LAWS = [(1.0, 1.0, 0.5, 0.0, 0.0), (2.0, 0.5, -0.7, 0.0, 0.0), (1.3, 0.7, 0.3, 0.4, -0.8)]


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("law", LAWS)
def test_agrees_with_brute_force(tools, name, law):
    """Values, and an error estimate that covers and is small."""
    f = tools.parse(GATED[name])
    p = tools.pair(GATED[name], GATED[name])
    assert p.tier == "closed"
    value, error = p.sums.evaluate(tools.moments(*law), {})
    assert float(value) == pytest.approx(tools.brute_pair(f, f, *law), rel=1e-11)
    assert float(error) < 2e-10 * abs(float(value))


@pytest.mark.parametrize("name", GATED)
def test_agrees_with_quadrature_on_the_boundary(tools, name):
    """Variances 1e-4 ... 40, correlations up to and at +-1."""
    text = GATED[name]
    a, b, rho = (x.ravel() for x in np.meshgrid([1e-4, 1.0, 40.0], [0.5, 2.0], [-1, -1 + 1e-12, 0.3, 1 - 1e-6, 1]))
    for means in ((0.0, 0.0), (0.3, -0.7)):
        moments = tools.moments(a, b, rho * np.sqrt(a * b), *means)
        value, error = tools.pair(text, text).sums.evaluate(moments, {})
        other, other_error = tools.pair(text, text, "quadrature").evaluate(moments, {})
        assert np.all(np.abs(value - other) <= error + 4 * other_error + 1e-12 * np.abs(other))
        value, error = tools.pair(text, text).evaluate(moments, {})
        assert np.all(error <= 1e-9 * np.maximum(np.abs(value), 1e-6))


def equal_moments(root):
    """Two arguments in each run, given by coefficients root [4, m] of independent variables."""
    cov, zero = root @ root.T, np.zeros(2)
    return Moments(zero, cov[:2, :2], zero, cov[2:, 2:], cov[:2, 2:])


def pair_value(tools, text, moments):
    """E f(u, v) f(u', v')"""
    f = tools.parse(text)
    p = plan(Request(f, ("u", "v"), f, ("u", "v")))
    assert p.tier == "closed"
    return float(p.sums.evaluate(moments, {})[0])


def test_equal_arguments_have_the_moments_of_one(tools):
    """E (relu x)^4 = 3/2, E step = 1/2, opposite ones 0, and what comes close to them."""
    ones = np.ones((4, 1))
    mixed = np.array([[1.0], [1.0], [-1.0], [1.0]])
    assert pair_value(tools, "max(u,0)*max(v,0)", equal_moments(ones)) == pytest.approx(1.5, rel=1e-14)
    assert pair_value(tools, "step(u)*step(v)", equal_moments(ones)) == pytest.approx(0.5, rel=1e-14)
    assert pair_value(tools, "max(u,0)*max(v,0)", equal_moments(mixed)) == pytest.approx(0, abs=1e-14)
    assert pair_value(tools, "abs(u)*sign(v)", equal_moments(mixed)) == pytest.approx(1, rel=1e-14)
    near = np.column_stack([ones, 1e-7 * np.random.default_rng(0).normal(size=(4, 4))])
    assert pair_value(tools, "max(u,0)*max(v,0)", equal_moments(near)) == pytest.approx(1.5, rel=1e-6)


def test_linearly_dependent_arguments(tools):
    """relu(x) relu(y) relu(x + y)^2 = x y (x + y)^2 on the quadrant: 2 E x^3 y + 2 E x^2 y^2 = 4 / 2 pi + 1/2."""
    root = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    wanted = 2 * 2 / (2 * np.pi) + 2 * 0.25
    assert pair_value(tools, "max(u,0)*max(v,0)", equal_moments(root)) == pytest.approx(wanted, rel=1e-13)


def test_four_relus_of_independent_arguments(tools):
    """A product of means."""
    wanted = (1 / np.sqrt(2 * np.pi)) ** 4
    assert pair_value(tools, "max(u,0)*max(v,0)", equal_moments(np.eye(4))) == pytest.approx(wanted, rel=1e-13)


def test_erf_gates_of_a_recurrent_network(tools):
    """Yang (1910.12478): E of four erf-sigmoids is an orthant probability; here against a single integral.

    u_i = l_i x + s_i e_i:  E[(1 + erf u_i) / 2 | x] = Phi(sqrt2 l_i x / sqrt(1 + 2 s_i^2)).
    """
    loading, spread = np.array([0.8, -0.5, 1.3, 0.2]), np.array([0.5, 0.7, 0.1, 1.0])
    names = ("u", "v", "w", "t")
    f = tools.parse("*".join(f"(1+erf({n}))/2" for n in names))
    none = np.empty((0, 0))
    cov = np.outer(loading, loading) + np.diag(spread**2)
    p = plan(Request(f, names, ONE, ()))
    assert p.tier == "closed"
    value, error = p.sums.evaluate(Moments(np.zeros(4), cov, np.empty(0), none, np.empty((4, 0))), {})
    x, w = np.polynomial.hermite_e.hermegauss(200)
    gates = ndtr(np.sqrt(2) * loading[:, None] * x / np.sqrt(1 + 2 * spread[:, None] ** 2))
    assert float(error) < 1e-13
    assert float(value) == pytest.approx(float(gates.prod(axis=0) @ w / w.sum()), rel=1e-12)


def test_maximum_of_affine_forms(tools):
    """max(u + v, 2 v - 1) in both runs against max of two variables at the law of the forms."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(4, 4))
    cov, mean = root @ root.T / 4, rng.normal(size=4) / 2
    a = np.array([[1.0, 1.0, 0, 0], [0, 2.0, 0, 0], [0, 0, 1.0, 1.0], [0, 0, 0, 2.0]])
    image, at = a @ cov @ a.T, a @ mean - np.array([0, 1, 0, 1])
    forms = Moments(mean[:2], cov[:2, :2], mean[2:], cov[2:, 2:], cov[:2, 2:])
    direct = Moments(at[:2], image[:2, :2], at[2:], image[2:, 2:], image[:2, 2:])
    left = pair_value(tools, "max(u+v,2*v-1)*step(u)", forms)
    back = np.linalg.inv(a[:2, :2])
    right = pair_value(tools, f"max(u,v)*step({back[0, 0]}*u+{back[0, 1]}*(v+1))", direct)
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("text", ["u*normcdf(u)*step(u)", "u^2*normcdf(u)*gt(u,-1)", "step(u)*step(u+1)*normcdf(u)"])
def test_price_under_gates(tools, text):
    """d/dc E[f f] = E[f' f'], point masses of the steps included."""
    slope = differentiate(tools.parse(text), "u")
    derivative = plan(Request(slope, ("u",), slope, ("u",)))
    assert derivative.tier == "closed"
    wanted = central_difference(lambda c: float(tools.pair(text, text).evaluate(tools.moments(1.0, 1.3, c), {})[0]))
    assert float(derivative.evaluate(tools.moments(1.0, 1.3, 0.5), {})[0]) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("text", ["max(u,0)*max(v,0)", "max(u,v)*step(u)", "abs(u-v)*sign(u)"])
def test_price_of_several_arguments(tools, text):
    """d/d Cov(u, v') E[f f] = E[df/du df/dv']."""
    f = tools.parse(text)

    def moments(c):
        cov = np.array([[1, 0.3, 0.5, c], [0.3, 1, 0.1, 0.4], [0.5, 0.1, 1, 0.3], [c, 0.4, 0.3, 1]])
        return Moments(np.zeros(2), cov[:2, :2], np.zeros(2), cov[2:, 2:], cov[:2, 2:])

    request = Request(differentiate(f, "u"), ("u", "v"), differentiate(f, "v"), ("u", "v"))
    wanted = central_difference(lambda c: pair_value(tools, text, moments(c)))
    assert float(plan(request).evaluate(moments(0.5), {})[0]) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("text", ["step(u)", "u^2*normcdf(u)*gt(u,-1)"])
def test_jumps_have_no_tangent_kernel_at_equal_inputs(tools, text):
    """The product of two point masses at one place."""
    slope = differentiate(tools.parse(text), "u")
    with pytest.raises(TensorProgError, match="diverges"):
        plan(Request(slope, ("u",), slope, ("u",))).evaluate(tools.moments(1.0, 1.0, 1.0), {})


def central_difference(value, at=0.5, h=1e-4):
    """To fourth order."""
    low, below, above, high = (value(at + k * h) for k in (-2, -1, 1, 2))
    return (low - 8 * below + 8 * above - high) / (12 * h)


def test_a_moment_of_four_gates_is_quick(tools):
    """Below a millisecond an entry."""
    import time

    x = np.random.default_rng(0).normal(size=(30, 5))
    gram = x @ x.T
    d = np.diag(gram)
    p = tools.pair(GATED["gelu times step"], GATED["gelu times step"])
    moments = tools.moments(d[:, None], d[None, :], gram)
    p.sums.evaluate(moments, {})
    start = time.perf_counter()
    p.sums.evaluate(moments, {})
    assert time.perf_counter() - start < 0.9
