"""What must hold for every function: identities of Gaussian expectations on random compositions of primitives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tensorprog as tp
from tensorprog.ir.expr import add, differentiate, mul, num
from tensorprog.symbolic.expectation import Moments, Request, plan

from .conftest import pair_moments, parse

ATOMS = ("max({},0)", "abs({})", "erf({})", "normcdf({})", "sin({})", "cos({})", "exp(-({})^2)", "exp(min({},0))")
SMOOTH = ("tanh({})", "sigmoid({})", "softplus({})", "atan({})")
JUMPS = ("step({})", "sign({})")
FORMS = ("u", "2*u", "u-0.5", "-0.5*u+1", "u+0.3")
EPS = float(np.finfo(float).eps)
TINY = 1e-20  # what is 13 deviations away may be taken for zero

atoms = st.one_of(
    st.sampled_from(("u", "u^2", "min(max(u,-1),0.7)", "u*normcdf(u)")),
    st.builds(str.format, st.sampled_from(ATOMS), st.sampled_from(FORMS)),
)
smooth = st.builds(str.format, st.sampled_from(SMOOTH), st.sampled_from(FORMS))
jumps = st.builds(str.format, st.sampled_from(JUMPS), st.sampled_from(FORMS))
weights = st.sampled_from(("1", "-0.7", "2.5"))


def sums(terms):
    """weight * term + weight * term"""
    return st.builds("{}*{}+{}*{}".format, weights, terms, weights, terms)


closed = st.one_of(atoms, sums(atoms), st.builds("{}*{}".format, st.sampled_from(("u", "(u-0.3)")), atoms))
continuous = st.one_of(closed, smooth, sums(st.one_of(atoms, smooth)))
functions = st.one_of(continuous, jumps)
variances = st.floats(-3, 3).map(lambda x: 10**x)
edges = st.sampled_from((-1.0, -1 + 1e-12, 0.0, 1 - 1e-9, 1.0))
correlations = st.one_of(st.floats(-1, 1).map(lambda x: round(x, 9)), edges)
means = st.sampled_from((0.0, 0.0, 0.4, -1.3))
laws = st.tuples(variances, variances, correlations, means, means)


def limited(examples):
    """Finite and repeatable."""
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def expectation(f, g, law, prefer=None):
    """(value, error) of E f(u) g(v) for expressions; `law` = (a, b, c, means)."""
    p = plan(Request(f, ("u",), g, ("u",)), prefer)
    value, error = p.evaluate(pair_moments(*law), {})
    return float(value), float(error)


def covariance(law):
    """The correlation replaced by the covariance."""
    a, b, rho, m, n = law
    return a, b, rho * np.sqrt(a * b), m, n


def norm(f, g, law):
    """sqrt(E f(u)^2 E g(v)^2)"""
    a, b, _, m, n = law
    squares = [expectation(h, h, (s, s, s, t, t))[0] for h, s, t in ((f, a, m), (g, b, n))]
    return np.sqrt(max(squares[0], 0.0) * max(squares[1], 0.0)) + TINY


@limited(60)
@given(functions, functions, laws)
@example("step(u)", "u*tanh(u)", (1.0, 100.0, 1.0, 0.0, 0.0))
@example("u*exp(min(u,0))", "u*exp(min(u,0))", (537.0, 213.0, -1.0, 0.0, 0.0))
def test_symmetry(f, g, law):
    """E f(u) g(v) = E g(v) f(u)."""
    f, g, law = parse(f), parse(g), covariance(law)
    a, b, c, m, n = law
    one, error = expectation(f, g, law)
    other, other_error = expectation(g, f, (b, a, c, n, m))
    assert abs(one - other) <= error + other_error + 8 * EPS * norm(f, g, law)


@limited(60)
@given(functions, st.integers(1, 6), st.integers(0, 2**31), st.floats(-3, 3))
def test_kernel_matrices_are_positive(f, rank, seed, size):
    """[E f(u_i) f(u_j)] for the covariance of 8 points in few dimensions, one of them repeated and one reflected."""
    f = parse(f)
    x = np.random.default_rng(seed).normal(size=(6, rank)) * 10 ** (size / 2)
    x = np.concatenate([x, x[:1], -x[1:2]])
    gram = x @ x.T
    d, zero = np.diag(gram), np.zeros((1, 8))
    moments = Moments(zero[:, :, None], d[None, None, :, None], zero[:, None], d[None, None, None], gram[None, None])
    value, error = plan(Request(f, ("u",), f, ("u",))).evaluate(moments, {})
    assert np.linalg.eigvalsh((value + value.T) / 2)[0] >= -np.linalg.norm(error) - 64 * EPS * np.trace(value)


@limited(60)
@given(continuous, functions, functions, weights, laws)
def test_linearity(f, g, h, weight, law):
    """E (f + w g) h = E f h + w E g h."""
    f, g, h, law, w = parse(f), parse(g), parse(h), covariance(law), float(weight)
    parts = [expectation(x, h, law) for x in (f, g)]
    whole, error = expectation(add(f, mul(num(w), g)), h, law)
    slack = error + parts[0][1] + abs(w) * parts[1][1]
    size = norm(f, h, law) + abs(w) * norm(g, h, law)
    assert abs(whole - parts[0][0] - w * parts[1][0]) <= slack + 8 * EPS * size


@limited(60)
@given(functions, functions, st.tuples(variances, variances, st.floats(-0.95, 0.95), means, means))
@example("step(u)", "step(u)", (1.0, 2.0, 0.5, 0.0, 0.0))
@example("u^2*normcdf(u)*gt(u,-1)", "sign(u)*max(abs(u)-0.3,0)", (1.0, 2.0, 0.5, 0.0, 0.0))
@example("gt(u,-1)", "lt(u,0.3)", (1.0, 2.0, -0.5, 0.0, 0.4))
def test_price(f, g, law):
    """d/dc E f g = E f' g' (Price 1958), by central differences of order 8 of the engine's values."""
    f, g, (a, b, rho, m, n) = parse(f), parse(g), law
    root = np.sqrt(a * b)
    room = root * (1 - abs(rho))  # to where the value is not analytic in c
    h = 0.06 * room
    steps = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
    ends = {k: expectation(f, g, (a, b, rho * root + k * h, m, n)) for s in steps for k in (-s, s)}
    slope = sum(w * (ends[k][0] - ends[-k][0]) for k, w in steps.items()) / h
    derivative, error = expectation(differentiate(f, "u"), differentiate(g, "u"), (a, b, rho * root, m, n))
    size = norm(f, g, (a, b, 0.0, m, n))
    slack = error + (max(e for _, e in ends.values()) + 8 * EPS * size) * 2 / h + 1e-7 * size / room
    assert abs(derivative - slope) <= slack


HOMOGENEOUS = {
    "step(u)": 0,
    "sign(u)": 0,
    "max(u,0)": 1,
    "abs(u)": 1,
    "max(u,0)+0.1*min(u,0)": 1,
    "max(u,0)^2": 2,
    "u*abs(u)": 2,
    "u^3": 3,
    "abs(u)^3": 3,
}


@limited(60)
@given(
    st.sampled_from(sorted(HOMOGENEOUS)), st.sampled_from(sorted(HOMOGENEOUS)), laws, st.floats(-6, 6), st.floats(-6, 6)
)
def test_homogeneous_functions_scale(f, g, law, s, t):
    """E f(su) g(tv) = s^p t^q E f(u) g(v), to rounding of the covariance."""
    a, b, rho, _, _ = law
    s, t = 2.0 ** round(3 * s), 2.0 ** round(3 * t)  # exact in floats
    c = float(rho * np.sqrt(a * b))
    base, error = expectation(parse(f), parse(g), (a, b, c, 0.0, 0.0))
    scaled, _ = expectation(parse(f), parse(g), (a * s * s, b * t * t, c * s * t, 0.0, 0.0))
    factor = s ** HOMOGENEOUS[f] * t ** HOMOGENEOUS[g]
    assert abs(scaled / factor - base) <= 8 * EPS * abs(base) + error


@limited(60)
@given(st.one_of(closed, jumps), st.one_of(closed, jumps), laws)
def test_closed_forms_agree_with_quadrature(f, g, law):
    """Within the errors that both report."""
    f, g, law = parse(f), parse(g), covariance(law)
    value, error = expectation(f, g, law)
    other, other_error = expectation(f, g, law, "quadrature")
    size = norm(f, g, law)
    assert abs(value - other) <= error + other_error + 8 * EPS * size
    # thirteen deviations away from all that f or g is not zero on, their expectation is 1e-40, its error 1e-22
    assert error <= 1e-8 * size + 1e-20 or max(law[:2]) > 100


NETWORK = """
program one(sw = 1.3):
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, sw^2 / d)
    weight b: [n] ~ N(0, 0.1)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, phi(W @ x + b))
"""


@limited(6)
@given(sums(st.one_of(atoms, smooth)))
def test_sampling_agrees_with_both(f):
    """The kernels of a network, sampled, within six standard errors of many replicates."""
    text = f"def phi(u) = {f}\n{NETWORK}"
    x = np.random.default_rng(0).normal(size=(3, 4))
    exact = tp.load(text).kernels(x)
    sampled = tp.load(text).kernels(x, tier="sampling", samples=512, replicates=32)
    for kernel in ("nngp", "ntk"):
        gap = np.abs(getattr(exact, kernel) - getattr(sampled, kernel))
        assert np.all(gap <= 6 * getattr(sampled, f"{kernel}_se") + 1e-9 * np.abs(getattr(exact, kernel)))


KNOWN = (
    "relu(u) leaky_relu(u,0.2) elu(u) selu(u) celu(u) relu6(u) hard_tanh(u) hard_sigmoid(u) abs(u) sign(u) step(u) "
    "erf(u) erfc(u) normcdf(u) normpdf(u) sigmoid(u) tanh(u) softplus(u) softsign(u) gelu(u) gelu_tanh(u) swish(u) "
    "silu(u) mish(u) sin(u) cos(u) exp(u/2) cosh(u/2) sinh(u/2) atan(u) sinc(u) gaussian(u) clip(u,-1,2) min(u,1) "
    "max(u,1) u^3 hermite(u,3) log(1+u^2) sqrt(1+u^2)"
)


@pytest.mark.parametrize("text", KNOWN.split())
def test_known_functions_have_both_kernels(text):
    """Every function of the language is served without sampling, for both kernels, to 1e-8."""
    net = tp.load(f"def phi(u) = {text}\n{NETWORK}")
    x = np.random.default_rng(1).normal(size=(3, 4))
    kernels = net.kernels(x[:1], x[1:])
    assert {r.tier for r in kernels.report.rows} <= {"closed", "quadrature"}
    assert all(r.error <= 1e-8 * max(1.0, np.max(np.abs(kernels.nngp))) for r in kernels.report.rows)
