"""Exponentials that overflow although the expectation is finite: exponents are joined before exp."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

VARIANCES = (1.0, 20.0, 1e3, 1e6)


def half_exponential(variance, mean=0):
    """E exp(min(u, 0)) = 1 - Phi(-m/s) + exp(m + v/2) Phi(-(m + v)/s)"""
    v, m = mp.mpf(variance), mp.mpf(mean)
    s = mp.sqrt(v)
    return mp.ncdf(m / s) + mp.exp(m + v / 2) * mp.erfc((m + v) / s / mp.sqrt(2)) / 2


@pytest.mark.parametrize("variance", VARIANCES)
def test_independent_arguments(tools, variance):
    """A product of means; the bound is what exp(12) or exponents of this size lose."""
    p = tools.pair("exp(min(u,0))", "exp(min(u,0))")
    value, error = p.sums.evaluate(tools.moments(variance, 30.0, 0.0, 0.3, -0.7), {})
    with mp.workdps(30):
        wanted = float(half_exponential(variance, 0.3) * half_exponential(30, -0.7))
    assert abs(float(value) - wanted) <= float(error) + 1e-15 * wanted
    assert float(error) <= (1e-9 + 8e-15 * variance) * wanted


@pytest.mark.parametrize("text", ["max(u,0)+exp(min(u,0))-1", "exp(-abs(u))", "max(u,0)+2*(exp(min(u,0)/2)-1)"])
def test_agrees_with_quadrature(tools, text):
    """Variances up to 1e6, correlations up to and at +-1: finite, and within the reported errors."""
    rhos = [-1, -1 + 1e-12, -0.6, 0.0, 0.3, 1 - 1e-6, 1]
    a, b, rho = (x.ravel() for x in np.meshgrid(VARIANCES, [0.5, 30.0, 1e6], rhos))
    for means in ((0.0, 0.0), (0.3, -0.7)):
        moments = tools.moments(a, b, rho * np.sqrt(a * b), *means)
        value, error = tools.pair(text, text).sums.evaluate(moments, {})
        other, other_error = tools.pair(text, text, "quadrature").evaluate(moments, {})
        assert np.all(np.abs(value - other) <= error + 4 * other_error + 1e-13 * np.abs(other))
        assert np.all(error <= 1e-7 * np.abs(value))
