"""Two to four arguments by iterated quadrature: values to 1e-8, and error estimates that hold."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from tensorprog.ir.expr import ONE, derivative_of, evaluate
from tensorprog.symbolic.cubature import cubature
from tensorprog.symbolic.expectation import Moments, Request, plan
from tensorprog.symbolic.exponents import tamed

NAMES = ("a", "b", "c", "d")
CLOSED = [
    "max(a,b)",
    "max(a,0)*max(b-0.3,0)",
    "step(a)*sign(b)",
    "abs(a-2*b)",
    "exp(a/4)*max(b,0)",
    "a*normcdf(a)*max(b,0)",
    "erf(a)*erf(b)",
    "max(a,0)*max(b,0)*c^2",
    "a*normcdf(a)*erf(b)*c",
    "max(a,0)*max(b,0)*c*d",
    pytest.param("step(a-b)*c+max(b,c)*a^2", marks=pytest.mark.slow),
]


def integral(text, mean, cov):
    """Value and error estimate of one expectation."""
    n = len(mean)
    value, error = cubature(
        derivative_of(text), NAMES[:n], [np.asarray(m) for m in mean], [[np.asarray(c) for c in r] for r in cov], {}
    )
    return float(value), float(error)


def closed(text, mean, cov):
    """The closed form of the same."""
    n = len(mean)
    none = (np.zeros(0), np.zeros((0, 0)), np.zeros((n, 0)))
    p = plan(Request(derivative_of(text), NAMES[:n], ONE, ()), "closed")
    value, error = p.evaluate(Moments(np.asarray(mean, float), np.asarray(cov, float), *none), {})
    return float(value), float(error)


def laws(n, seed):
    """Covariances of all scales: full, nearly singular, and of lower rank."""
    rng = np.random.default_rng(seed)
    for spread in (1.0, 1e-6, 0.0):
        factor = rng.normal(size=(n, n)) * np.append(np.ones(n - 1), spread)
        factor *= 10 ** rng.uniform(-2, 1, size=(n, 1))
        for mean in (rng.normal(size=n), np.zeros(n))[: 5 - n]:
            yield mean, factor @ factor.T


@pytest.mark.parametrize("text", CLOSED)
def test_agrees_with_closed_forms(text):
    """A population of laws: 1e-8 of the size of the integrand, and within the estimate."""
    n = max(i + 1 for i, a in enumerate(NAMES) if a in text.replace("max", "").replace("abs", "").replace("cdf", ""))
    for mean, cov in laws(n, len(text)):
        exact, slack = closed(text, mean, cov)
        size = integral(f"abs({text})", mean, cov)[0]
        value, error = integral(text, mean, cov)
        assert abs(value - exact) <= 1e-8 * abs(exact) + 1e-12 * size + 5 * slack
        assert abs(value - exact) <= 3 * error + 5 * slack
        assert error <= 1e-8 * abs(exact) + 1e-11 * size


def one_dimensional(f, points=()):
    """E f(x), x standard normal, by mpmath."""
    with mp.workdps(30):
        return float(mp.quad(lambda x: f(x) * mp.npdf(x), sorted({-14, -8, -4, -2, -1, *points, 0, 1, 2, 4, 8, 14})))


@pytest.mark.parametrize("rho", [-1.0, -0.9, 0.0, 0.5, 0.999, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("variance", [1e-4, 1.0, 100.0])
def test_function_of_a_maximum(rho, variance):
    """E tanh(1/4 + max(a, b)) by the density 2 phi(x) Phi(x sqrt((1 - rho)/(1 + rho))) of the maximum."""
    value, error = integral("tanh(0.25+max(a,b))", (0, 0), [[variance, rho * variance], [rho * variance, variance]])
    s, r = mp.sqrt(variance), mp.mpf(rho)
    if rho == -1:
        exact = one_dimensional(lambda x: mp.tanh(0.25 + s * abs(x)), (-0.1, -0.01, 0.01, 0.1))
    else:
        k = mp.sqrt((1 - r) / (1 + r))
        exact = one_dimensional(lambda x: 2 * mp.tanh(0.25 + s * x) * mp.ncdf(k * x), (-0.3, -0.1, -0.025, 0.1, 0.3))
    assert value == pytest.approx(exact, rel=1e-9)
    assert abs(value - exact) <= 3 * error


@pytest.mark.parametrize("gap", [1e-3, 1.0, 50.0])
def test_softmax_of_two(gap):
    """E exp(a) / (exp(a) + exp(b)) is the mean of a sigmoid of the difference."""
    value, error = integral("exp(a)/(exp(a)+exp(b))", (0.3, 0.1), [[gap, 0.2 * gap], [0.2 * gap, gap]])
    s = mp.sqrt(1.6 * gap)
    exact = one_dimensional(lambda x: 1 / (1 + mp.exp(-0.2 - s * x)), (-0.3, -0.1, 0.1, 0.3))
    assert value == pytest.approx(exact, rel=1e-9)
    assert abs(value - exact) <= 3 * error


def test_softmax_times_a_value():
    """E softmax(a, b) c = cov(c, a - b) E sigmoid'(a - b), by Stein's lemma."""
    cov = np.array([[1.0, 0.5, 0.2], [0.5, 2.0, -0.4], [0.2, -0.4, 1.5]])
    value, error = integral("exp(a)/(exp(a)+exp(b))*c", (0, 0, 0), cov)
    s = mp.sqrt(2)
    exact = 0.6 * one_dimensional(lambda x: 1 / (4 * mp.cosh(s * x / 2) ** 2))
    assert value == pytest.approx(exact, rel=1e-10)
    assert abs(value - exact) <= 3 * error


@pytest.mark.parametrize("spread", [1.0, 1e-8, 0.0])
def test_steps_of_three(spread):
    """The orthant probability 1/8 + sum arcsin(rho) / (4 pi), also of nearly and fully dependent arguments."""
    factor = np.array([[1.0, 0.3, 0.0], [0.5, 1.0, 0.0], [1.0, -2.0, spread]])
    cov = factor @ factor.T
    scale = np.sqrt(np.diag(cov))
    rho = cov / np.outer(scale, scale)
    exact = 1 / 8 + sum(np.arcsin(rho[i, j]) for i, j in ((0, 1), (0, 2), (1, 2))) / (4 * np.pi)
    value, error = integral("step(a)*step(b)*step(c)", (0, 0, 0), cov)
    assert value == pytest.approx(exact, rel=1e-8)
    assert abs(value - exact) <= 3 * error


def test_equal_runs_are_two_dimensional():
    """A gated product at equal inputs: four arguments of rank two, as the integral of the square."""
    inner = np.array([[1.0, 0.4], [0.4, 2.0]])
    value, _ = integral("tanh(a)*sigmoid(b)*tanh(c)*sigmoid(d)", (0.1, 0.2, 0.1, 0.2), np.kron(np.ones((2, 2)), inner))
    square, _ = integral("(tanh(a)*sigmoid(b))^2", (0.1, 0.2), inner)
    assert value == pytest.approx(square, rel=1e-11)


@pytest.mark.slow
def test_independent_runs_factor():
    """max of two tanh in each run, no correlation across."""
    inner = np.array([[1.0, 0.4], [0.4, 2.0]])
    cov = np.kron(np.eye(2), inner)
    value, error = integral("max(tanh(a),tanh(b))*max(c,d)", (0, 0, 0, 0), cov)
    left, right = integral("max(tanh(a),tanh(b))", (0, 0), inner)[0], integral("max(a,b)", (0, 0), inner)[0]
    assert value == pytest.approx(left * right, rel=1e-9)
    assert error <= 1e-8 * value


def test_perfect_correlation_and_no_variance():
    """b = -2 a, c constant: one dimension."""
    cov = [[1.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    value, _ = integral("tanh(a)*sigmoid(b)*abs(c)", (0, 0, -3), cov)
    exact = 3 * one_dimensional(lambda x: mp.tanh(x) / (1 + mp.exp(2 * x)))
    assert value == pytest.approx(exact, rel=1e-10)


def test_kinks_on_curved_surfaces_are_not_trusted():
    """Where breakpoints are not known the estimate is that of the rules that were tried."""
    value, error = integral("abs(a^2+b^2-1)", (0, 0), np.eye(2))
    exact = 4 * np.exp(-0.5) - 1  # a^2 + b^2 is exponential of mean 2
    assert abs(value - exact) <= 2 * error
    assert error > 1e-6


def test_the_cost_is_told():
    """Before any number is computed."""
    p = plan(Request(derivative_of("tanh(max(a,b))"), ("a", "b"), ONE, ()))
    assert "broken at kinks, about" in p.describe()


@pytest.mark.parametrize("variance", [1.0, 100.0, 1e4, 1e6])
def test_softmax_without_a_shift(variance):
    """Two logits against a mean of sigmoids, three by symmetry, at variances where exponentials overflow."""
    cov = variance * np.array([[1.0, 0.2], [0.2, 1.0]])
    none = (np.zeros(0), np.zeros((0, 0)))
    p = plan(Request(derivative_of("exp(a)/(exp(a)+exp(b))"), ("a", "b"), ONE, ()))
    value, error = p.evaluate(Moments(np.array([0.3, 0.1]), cov, *none, np.zeros((2, 0))), {})
    s = mp.sqrt(1.6 * variance)
    near = [k / float(s) for k in (-40, -10, -3, -1, 1, 3, 10, 40) if abs(k) < 8 * s]
    exact = one_dimensional(lambda x: 1 / (1 + mp.exp(-0.2 - s * x)), near)
    assert float(value) == pytest.approx(exact, rel=1e-9)
    assert abs(float(value) - exact) <= 3 * float(error)
    three = plan(Request(derivative_of("exp(a)/(exp(a)+exp(b)+exp(c))"), NAMES[:3], ONE, ()))
    value, error = three.evaluate(Moments(np.zeros(3), variance * (np.eye(3) + 0.3), *none, np.zeros((3, 0))), {})
    assert float(value) == pytest.approx(1 / 3, rel=1e-9)
    assert abs(float(value) - 1 / 3) <= 3 * float(error)


@pytest.mark.parametrize(
    "text", ["exp(a)/(2*exp(a)+exp(b))", "exp(a)*exp(b)/(exp(a)+exp(b)+1)^2", "(exp(a)-exp(-a))/(exp(a)+exp(-a))*b"]
)
def test_quotients_of_exponentials_keep_their_values(text):
    """Rewritten quotients are the same functions."""
    e = derivative_of(text)
    a, b = np.random.default_rng(0).normal(size=(2, 50)) * 5
    env = {"a": a, "b": b}
    assert evaluate(tamed(e), env) == pytest.approx(evaluate(e, env), rel=1e-12, abs=1e-15)
