"""Closed forms against the published ones, evaluated with 60 digits at the very floats that the code is given."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

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
    """Cho & Saul (2009), eq. 6: E[relu^n relu^n] = (ab)^(n/2) J_n(angle) / (2 pi)."""

    def value(a, b, c, rho):
        t = angle(a, b, c, rho)
        j = (
            mp.pi - t,
            mp.sin(t) + (mp.pi - t) * mp.cos(t),
            3 * mp.sin(t) * mp.cos(t) + (mp.pi - t) * (1 + 2 * mp.cos(t) ** 2),
        )[order]
        return mp.mpf(a * b) ** (mp.mpf(order) / 2) * j / (2 * mp.pi)

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


def cubic(a, b, c, rho):
    """Isserlis: E u^3 v^3 = 9abc + 6c^3"""
    a, b, c = map(mp.mpf, (a, b, c))
    return 9 * a * b * c + 6 * c**3


CASES = {
    "step(u)": arc_cosine(0),
    "max(u,0)": arc_cosine(1),
    "max(u,0)^2": arc_cosine(2),
    "sign(u)": sign,
    "abs(u)": absolute,
    "erf(u)": erf,
    "2/sqrt(pi)*exp(-u^2)": erf_slope,
    "sin(u)": sine,
    "cos(u)": cosine,
    "exp(-u^2)": gaussian,
    "u^3": cubic,
}


@pytest.mark.parametrize("text", CASES)
def test_published_form(tools, text):
    """Relative error below 1e-10 for variances 1e-6 ... 1e6 and correlations up to and at +-1."""
    cases = [x for x in grid() if not (text in ("sin(u)", "cos(u)") and max(x[:2]) > 100)]
    a, b, c, _ = np.array(cases).T
    with mp.workdps(60):
        wanted = np.array([float(CASES[text](*x)) for x in cases])
    value, error = tools.pair(text, text).sums.evaluate(tools.moments(a, b, c), {})
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
