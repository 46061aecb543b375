"""Closed forms against the published ones, evaluated with 60 digits at the very floats that the code is given."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from tensorprog.symbolic.expectation import Moments, Request, plan

VARIANCES = (1e-6, 1e-2, 1.0, 37.0, 1e6)
RHOS = (-1.0, -1 + 1e-12, -1 + 1e-6, -0.9, -0.3, 0.0, 1e-9, 0.5, 0.99, 1 - 1e-6, 1 - 1e-12, 1.0)


def grid():
    """(a, b, c, rho) with c rounded to a float."""
    return [(a, b, rho * np.sqrt(a * b), rho) for a in VARIANCES for b in VARIANCES for rho in RHOS]


def angle(a, b, c, rho):
    """The angle of the given floats; exact at the ends, where the floats are rounded."""
    if abs(rho) == 1:
        return mp.mpf(0) if rho > 0 else mp.pi
    return mp.acos(mp.mpf(c) / mp.sqrt(mp.mpf(a) * mp.mpf(b)))


def arc_cosine(order):
    """Cho & Saul (2009): E[relu^n relu^n] = (ab)^(n/2) J_n(t) / (2 pi), t the angle,

    J_n(t) = (-1)^n sin(t)^(2n + 1) (1/sin(t) d/dt)^n ((pi - t) / sin t),
    that is J_{n+1} = (2n + 1) cos(t) J_n - sin(t) J_n', and J_n = A_n(cos t) sin t + B_n(cos t) (pi - t).
    """
    x = sp.Symbol("x")
    sine, angular = sp.Integer(0), sp.Integer(1)
    for n in range(order):
        slopes = [(1 - x**2) * sp.diff(p, x) for p in (sine, angular)]
        sine, angular = 2 * n * x * sine + slopes[0] + angular, (2 * n + 1) * x * angular + slopes[1]
    parts = [[int(k) for k in sp.Poly(p, x).all_coeffs()] for p in (sine, angular)]

    def value(a, b, c, rho):
        with mp.workdps(150):  # near opposite inputs the terms cancel
            t = angle(a, b, c, rho)
            shape = mp.polyval(parts[0], mp.cos(t)) * mp.sin(t) + mp.polyval(parts[1], mp.cos(t)) * (mp.pi - t)
            return mp.mpf(a * b) ** (mp.mpf(order) / 2) * shape / (2 * mp.pi)

    return value


def sign(a, b, c, rho):
    """2/pi arcsin(rho)"""
    return 1 - 2 * angle(a, b, c, rho) / mp.pi


def absolute(a, b, c, rho):
    """2/pi sqrt(ab) (sin t + (pi/2 - t) cos t)"""
    t = angle(a, b, c, rho)
    return 2 / mp.pi * mp.sqrt(mp.mpf(a) * mp.mpf(b)) * (mp.sin(t) + (mp.pi / 2 - t) * mp.cos(t))


def erf(a, b, c, rho):
    """Williams (1997): 2/pi arcsin(2c / sqrt((1+2a)(1+2b)))"""
    a, b, c = map(mp.mpf, (a, b, c))
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b)))


def erf_slope(a, b, c, rho):
    """4/pi ((1+2a)(1+2b) - 4c^2)^(-1/2)"""
    a, b, c = map(mp.mpf, (a, b, c))
    return 4 / mp.pi / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c)


def sine(a, b, c, rho):
    """exp(-(a+b)/2) sinh c"""
    a, b, c = map(mp.mpf, (a, b, c))
    return mp.exp(-(a + b) / 2) * mp.sinh(c)


def cosine(a, b, c, rho):
    """exp(-(a+b)/2) cosh c"""
    a, b, c = map(mp.mpf, (a, b, c))
    return mp.exp(-(a + b) / 2) * mp.cosh(c)


def gaussian(a, b, c, rho):
    """((1+2a)(1+2b) - 4c^2)^(-1/2) for exp(-u^2)"""
    return erf_slope(a, b, c, rho) * mp.pi / 4


def probit(a, b, c, rho):
    """1/4 + arcsin(c / sqrt((1+a)(1+b))) / 2 pi, of erf(u / sqrt 2)"""
    a, b, c = map(mp.mpf, (a, b, c))
    return mp.mpf(1) / 4 + mp.asin(c / mp.sqrt((1 + a) * (1 + b))) / (2 * mp.pi)


def gelu(a, b, c, rho):
    """Tsuchida et al., Avoiding kernel fixed points (2021), with d = (1+a)(1+b) - c^2 and ab cos(t)^2 = c^2."""
    a, b, c = map(mp.mpf, (a, b, c))
    d = (1 + a) * (1 + b) - c * c
    inner = (c * c + a * b * d) / ((1 + a) * (1 + b) * mp.sqrt(d)) + c * mp.atan(c / mp.sqrt(d))
    return c / 4 + inner / (2 * mp.pi)


def cubic(a, b, c, rho):
    """Isserlis: E u^3 v^3 = 9abc + 6c^3"""
    a, b, c = map(mp.mpf, (a, b, c))
    return 9 * a * b * c + 6 * c**3


CASES = {
    "step(u)": arc_cosine(0),
    "max(u,0)": arc_cosine(1),
    "max(u,0)^2": arc_cosine(2),
    "max(u,0)^3": arc_cosine(3),
    "max(u,0)^4": arc_cosine(4),
    "max(u,0)^5": arc_cosine(5),
    "max(u,0)^6": arc_cosine(6),
    "sign(u)": sign,
    "abs(u)": absolute,
    "erf(u)": erf,
    "2/sqrt(pi)*exp(-u^2)": erf_slope,
    "sin(u)": sine,
    "cos(u)": cosine,
    "exp(-u^2)": gaussian,
    "u^3": cubic,
    "normcdf(u)": probit,
    "u*normcdf(u)": gelu,
}


@pytest.mark.parametrize("text", CASES)
def test_published_form(tools, text):
    """Relative error below 1e-10 for variances 1e-6 ... 1e6 and correlations up to and at +-1.

    The formula alone, but for gelu, whose terms cancel at opposite inputs: there quadrature helps.
    """
    cases = [x for x in grid() if not (text in ("sin(u)", "cos(u)") and max(x[:2]) > 100)]
    a, b, c, _ = np.array(cases).T
    with mp.workdps(60):
        wanted = np.array([float(CASES[text](*x)) for x in cases])
    form = tools.pair(text, text)
    value, error = (form if "normcdf" in text else form.sums).evaluate(tools.moments(a, b, c), {})
    noise = 1e-50 * (1 + a * b)  # of the reference, where it is zero
    assert np.all(np.abs(value - wanted) <= 1e-10 * np.abs(wanted) + noise)
    assert np.all(np.abs(value - wanted) <= 10 * error + 1e-14 * np.abs(wanted) + noise)


def test_hermite_polynomials_are_orthogonal(tools):
    """Unit variances: E He_3 He_3 = 3! rho^3, E He_3 He_2 = 0."""
    rho = np.array([-1.0, -0.3, 0.0, 0.5, 1.0])
    value, _ = tools.pair("u^3-3*u", "u^3-3*u").evaluate(tools.moments(1.0, 1.0, rho), {})
    assert value == pytest.approx(6 * rho**3, abs=1e-14)
    value, _ = tools.pair("u^3-3*u", "u^2-1").evaluate(tools.moments(1.0, 1.0, rho), {})
    assert value == pytest.approx(0 * rho, abs=1e-14)


def test_sine_of_huge_variance_does_not_overflow(tools):
    """exp(c - (a+b)/2) / 2 with a = b = c = 1e6 is 1/2."""
    value, _ = tools.pair("sin(u)", "sin(u)").evaluate(tools.moments(1e6, 1e6, 1e6), {})
    assert value == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("variance", [1e-6, 0.5, 20.0, 1e4])
def test_gelu_of_equal_inputs(tools, variance):
    """E gelu(u)^2 is a one-dimensional integral."""
    with mp.workdps(30):
        s = mp.sqrt(variance)
        ends = [-14, -5, -2, -10 / s, -1 / s, 0, 1 / s, 10 / s, 2, 5, 14]
        wanted = mp.quad(lambda x: (s * x * mp.ncdf(s * x)) ** 2 * mp.npdf(x), sorted(ends))
    value, _ = tools.pair("u*normcdf(u)", "u*normcdf(u)").evaluate(tools.moments(variance, variance, variance), {})
    assert float(value) == pytest.approx(float(wanted), rel=1e-11)


def test_random_fourier_features(tools):
    """Rahimi & Recht (2007): E[cos u cos v + sin u sin v] = exp(-E(u - v)^2 / 2), a Gaussian kernel."""
    a, b, c, _ = np.array([x for x in grid() if max(x[:2]) < 100]).T
    parts = [tools.pair(t, t).evaluate(tools.moments(a, b, c), {})[0] for t in ("cos(u)", "sin(u)")]
    with mp.workdps(40):
        wanted = [float(mp.exp(-(mp.mpf(x) + mp.mpf(y) - 2 * mp.mpf(z)) / 2)) for x, y, z in zip(a, b, c, strict=True)]
    assert parts[0] + parts[1] == pytest.approx(wanted, rel=1e-13)


def orthant(cov):
    """P(x_1, ..., x_4 > 0) for zero means, by Plackett (1954) along covariances scaled by t:

    dP/dt = sum_{i<j} r_ij / (2 pi sqrt(1 - t^2 r_ij^2)) * P(x_k, x_l > 0 | x_i = x_j = 0),   P(t = 0) = 1/16
    """
    n = range(4)
    r = [[mp.mpf(cov[i][j]) / mp.sqrt(mp.mpf(cov[i][i]) * mp.mpf(cov[j][j])) for j in n] for i in n]

    def slope(t):
        s = mp.matrix([[r[i][j] * (1 if i == j else t) for j in n] for i in n])
        total = mp.mpf(0)
        for i in n:
            for j in range(i + 1, 4):
                k, m = (x for x in n if x not in (i, j))
                inner = mp.inverse(mp.matrix([[s[i, i], s[i, j]], [s[i, j], s[j, j]]]))
                rows = mp.matrix([[s[k, i], s[k, j]], [s[m, i], s[m, j]]])
                given = mp.matrix([[s[k, k], s[k, m]], [s[m, k], s[m, m]]]) - rows * inner * rows.T
                rest = mp.mpf(1) / 4 + mp.asin(given[0, 1] / mp.sqrt(given[0, 0] * given[1, 1])) / (2 * mp.pi)
                total += r[i][j] / (2 * mp.pi * mp.sqrt(1 - (t * r[i][j]) ** 2)) * rest
        return total

    return mp.mpf(1) / 16 + mp.quad(slope, [0, 0.5, 1])


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("rank", [2, 4])
def test_four_gates_of_a_gru(tools, size, rank):
    """Yang, Tensor Programs I: E of four erf gates is an orthant probability of cov + 1/2, two in each run."""
    root = np.random.default_rng(rank).normal(size=(4, rank)) * np.sqrt(size / rank)
    cov = root @ root.T
    gates = tools.parse("(1+erf(u))/2*(1+erf(v))/2")
    p = plan(Request(gates, ("u", "v"), gates, ("u", "v")))
    zero = np.zeros(2)
    value, error = p.evaluate(Moments(zero, cov[:2, :2], zero, cov[2:, 2:], cov[:2, 2:]), {})
    with mp.workdps(25):
        wanted = float(orthant([[cov[i, j] + (0.5 if i == j else 0.0) for j in range(4)] for i in range(4)]))
    assert p.tier == "closed"
    assert float(value) == pytest.approx(wanted, rel=1e-10)
    assert abs(float(value) - wanted) <= float(error) + 1e-15
