"""Numerics of minors and probabilities."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from tensorprog.symbolic import orthant


def test_minor_is_accurate():
    """ab - c^2 of floats against rational arithmetic, down to cancellation of 14 digits."""
    rng = np.random.default_rng(1)
    a, b = 10 ** rng.uniform(-6, 6, (2, 300))
    c = np.sqrt(a * b) * (1 - 10 ** rng.uniform(-14, 0, 300)) * rng.choice([-1, 1], 300)
    value = orthant.minor(a, b, c)
    exact = [Fraction(x) * Fraction(y) - Fraction(z) ** 2 for x, y, z in zip(a, b, c, strict=True)]
    assert value == pytest.approx([float(x) for x in exact], rel=1e-13)


def test_minor_forgives_rounding():
    """c a little above or below sqrt(ab) is equality."""
    a = np.array([0.1, 0.3, 7.7])
    assert np.all(orthant.minor(a, a, a * (1 + 2e-16)) == 0)
    assert np.all(orthant.minor(a, a, np.nextafter(a, 0)) == 0)


@pytest.mark.parametrize("rho", [-0.95, -0.3, 0.0, 0.6, 0.99])
def test_pair_probability(rho):
    """P(x > 0, y > 0) against scipy's multivariate normal."""
    for h, k in ((0.0, 0.0), (0.5, -0.3), (0.0, 1.0), (-1.0, -2.0), (2.0, 2.0)):
        value = orthant.step_pair(*map(np.asarray, (h, k, rho, 1 - rho * rho)))
        law = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        assert float(value) == pytest.approx(law.cdf([h, k]), abs=1e-9)


@pytest.mark.parametrize("h", [-1.3, 0.0, 1e-9, 0.7, 5.0])
def test_pair_probability_at_the_ends(h):
    """rho = 1 with equal thresholds: one half-line; rho = -1 with opposite ones: nothing."""
    from scipy.special import ndtr

    x = np.asarray(h)
    assert float(orthant.step_pair(x, x, np.asarray(1.0), np.asarray(0.0))) == pytest.approx(ndtr(h), rel=1e-14)
    assert float(orthant.step_pair(x, -x, np.asarray(-1.0), np.asarray(0.0))) == pytest.approx(0, abs=1e-15)
    assert float(orthant.sign_pair(x, x, np.asarray(1.0), np.asarray(0.0))) == pytest.approx(1, rel=1e-14)


def test_wedge_keeps_relative_precision():
    """The positive sum equals Stein's recursion where that does not cancel."""
    from tensorprog.symbolic.law import Law

    for p, q in ((1, 1), (2, 1), (0, 2), (3, 3)):
        a, b, c = map(np.asarray, (1.2, 0.8, 0.1))
        zero = np.zeros(())
        value = Law([zero, zero], [[a, c], [c, b]]).expect((p, q), ((0, "H"), (1, "H")))
        assert float(orthant.wedge(p, q, a, b, c, orthant.minor(a, b, c))) == pytest.approx(float(value), rel=1e-12)
