"""Waves under gates: closed by complex tilting, against brute force and quadrature."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtr

from tensorprog.symbolic import weighted

PAIRS = {
    "half sine": ("sin(u)*step(u)", "sin(u)*step(u)"),
    "shifted cosine on a ramp": ("cos(2*u+1)*max(u,0)", "cos(2*u+1)*max(u,0)"),
    "sine and relu": ("sin(u)", "max(u,0)"),
    "damped wave": ("max(u,0)*exp(-u)*cos(u)", "max(u,0)*exp(-u)*cos(u)"),
    "wave of a soft gate": ("u*cos(u)*normcdf(u)", "u*cos(u)*normcdf(u)"),
    "sine times distance": ("sin(u)*abs(u-1)", "sin(u)*abs(u-1)"),
    "mixed": ("cos(u)*gt(u,-1)", "sin(2*u)*erf(u)"),
    "wave in a gaussian": ("sin(3*u)*exp(-u^2)*step(u-0.5)", "max(u,0)"),
}
LAWS = [(1.0, 1.0, 0.5, 0.0, 0.0), (2.0, 0.5, -0.7, 0.0, 0.0), (1.3, 0.7, 0.3, 0.4, -0.8)]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("law", LAWS)
def test_agrees_with_brute_force(tools, name, law):
    """Ordinary laws."""
    left, right = PAIRS[name]
    p = tools.pair(left, right)
    assert p.tier == "closed"
    value, error = p.sums.evaluate(tools.moments(*law), {})
    wanted = tools.brute_pair(tools.parse(left), tools.parse(right), *law)
    assert float(value) == pytest.approx(wanted, rel=1e-11)
    assert float(error) < 1e-9 * abs(float(value))


@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_quadrature_on_the_boundary(tools, name):
    """Variances up to 40, correlations up to and at +-1: within the reported errors."""
    left, right = PAIRS[name]
    a, b, rho = (x.ravel() for x in np.meshgrid([1e-4, 1.0, 40.0], [0.5, 2.0], [-1, -1 + 1e-12, 0.3, 1 - 1e-6, 1]))
    for means in ((0.0, 0.0), (0.3, -0.7)):
        moments = tools.moments(a, b, rho * np.sqrt(a * b), *means)
        other, other_error = tools.pair(left, right, "quadrature").evaluate(moments, {})
        value, error = tools.pair(left, right).sums.evaluate(moments, {})
        assert np.all(np.abs(value - other) <= error + 4 * other_error + 1e-12 * np.abs(other))
        value, error = tools.pair(left, right).evaluate(moments, {})
        assert np.all(error <= 1e-8 * np.abs(value) + 1e-13)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("law", [(1.0, 2.0, 0.3, -0.7), (40.0, 2.0, 0.0, 0.0)])
def test_on_a_line_against_mpmath(tools, law, side):
    """E sin(u) |u - 1| sin(v) |v - 1| at correlation +-1 is a single integral."""
    a, b, m, n = law
    text = "sin(u)*abs(u-1)"
    c = side * np.sqrt(a * b)
    value, error = tools.pair(text, text).sums.evaluate(tools.moments(a, b, c, m, n), {})
    with mp.workdps(30):
        root, other = mp.sqrt(a), side * mp.sqrt(b)
        ends = sorted([*range(-12, 13), (1 - mp.mpf(m)) / root, (1 - mp.mpf(n)) / other])

        def f(u):
            return mp.sin(u) * abs(u - 1)

        wanted = float(mp.quad(lambda x: mp.npdf(x) * f(m + root * x) * f(n + other * x), ends))
    assert abs(float(value) - wanted) <= float(error)
    assert float(error) < 1e-9 * abs(wanted)


@pytest.mark.parametrize("frequency", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("mean", [-3.0, 0.0, 3.0])
def test_fast_waves_neither_over_nor_underflow(frequency, mean):
    """exp(-w^2 / 2) Phi(h + i w) against mpmath."""
    value = weighted.step_mean(np.asarray(mean + 1j * frequency), np.asarray(-0.5 * frequency**2))
    with mp.workdps(40):
        z = mp.mpc(mean, frequency)
        plain = mp.exp(-mp.mpf(frequency) ** 2 / 2) * mp.erfc(-z / mp.sqrt(2)) / 2 if frequency < 50 else _tail(z)
        wanted = complex(plain)
    assert complex(value) == pytest.approx(wanted, rel=1e-10, abs=1e-14 * abs(wanted))


def _tail(z):
    """The same from the asymptotic series of the complementary error function."""
    series = mp.nsum(lambda n: (-1) ** int(n) * mp.fac2(2 * int(n) - 1) / z ** (2 * int(n)), [0, 12])
    return -mp.exp(-(z**2 + z.imag**2) / 2) / (mp.sqrt(2 * mp.pi) * z) * series


def test_pair_at_real_thresholds_is_the_plain_one():
    """P(x > 0, y > 0) with independent and dependent variables."""
    h, k, rho = np.array([0.3, -1.0, 0.0]), np.array([0.5, 2.0, 0.0]), np.array([0.0, 0.7, -0.5])
    value, error = weighted.step_pair(h + 0j, k + 0j, rho, 1 - rho**2, np.zeros(3))
    assert complex(value[0]) == pytest.approx(ndtr(0.3) * ndtr(0.5), rel=1e-14)
    assert complex(value[2]) == pytest.approx(0.25 + np.arcsin(-0.5) / (2 * np.pi), rel=1e-14)
    assert np.all(error < 1e-14)
