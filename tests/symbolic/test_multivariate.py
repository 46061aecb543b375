"""Orthant probabilities of two to four Gaussians: against conditioning, exact cases, and their own identities."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tensorprog.symbolic.bivariate import pair
from tensorprog.symbolic.multivariate import orthant


def correlations(rng, n, near=0.0, how=0):
    """Random ones; `how` puts two vectors, three, two pairs, or a plane at distance `near` from degeneracy."""
    a = rng.normal(size=(n, n))
    if near and how == 0:
        a[1] = near * a[1] - a[0]
    if near and how == 1:
        a[1], a[2] = a[0] + near * a[1], a[0] + near * a[2]
    if near and how == 2:
        a[2] = a[0] - 2 * a[1] + near * a[2]
    if near and how == 3:
        a[1], a[n - 1] = a[0] + near * a[1], a[n - 2] + near * a[n - 1]
    a /= np.linalg.norm(a, axis=1)[:, None]
    return a @ a.T


def minors(r):
    """1 - r^2 of the floats."""
    return (1 - np.abs(r)) * (1 + np.abs(r))


def three_by_conditioning(h, r):
    """int phi(x) P(x1 < h1, x2 < h2 | x0 = x) with 18 digits."""

    def inner(x, u, v, rho):
        s = mp.sqrt(1 - rho * rho)
        return mp.quad(lambda y: mp.npdf(y) * mp.ncdf((v - rho * y) / s), [-9, min(u, mp.mpf(0)), u]) if u > -9 else 0

    with mp.workdps(18):
        h, r = [mp.mpf(x) for x in h], mp.matrix(r.tolist())
        s1, s2 = mp.sqrt(1 - r[0, 1] ** 2), mp.sqrt(1 - r[0, 2] ** 2)
        rho = (r[1, 2] - r[0, 1] * r[0, 2]) / (s1 * s2)

        def outer(x):
            return mp.npdf(x) * inner(x, (h[1] - r[0, 1] * x) / s1, (h[2] - r[0, 2] * x) / s2, rho)

        return float(mp.quad(outer, [-9, -3, h[0]]))


@pytest.mark.parametrize("h", [(0.3, -0.5), (1.0, 1.0), (-2.0, 2.0), (0.0, 0.7), (1e-7, 0.0)])
@pytest.mark.parametrize("r", [-1 + 1e-12, -0.97, -0.4, 0.0, 0.6, 0.95, 1 - 1e-6])
def test_two_against_mpmath(h, r):
    """P(x < h, y < k) = int_(-inf)^h phi(x) Phi((k - r x) / s)."""
    d = (1 - abs(r)) * (1 + abs(r))
    with mp.workdps(30):
        s = mp.sqrt(1 - mp.mpf(r) ** 2)
        turn = mp.mpf(h[1]) / (mp.mpf(r) or 1)
        ends = [-12, h[0], *(turn + x * s for x in (-9, -3, -1, 0, 1, 3, 9))]
        ends = sorted(e for e in ends if -12 <= e <= h[0])
        wanted = mp.quad(lambda x: mp.npdf(x) * mp.ncdf((h[1] - r * x) / s), ends)
    assert pair(*h, r, d) == pytest.approx(float(wanted), abs=1e-15)


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
def test_three_against_mpmath(seed):
    """Random laws and thresholds, within the error that is reported."""
    rng = np.random.default_rng(seed)
    r, h = correlations(rng, 3), rng.normal(size=3)
    value, error = orthant(h, r, minors(r))
    assert abs(value - three_by_conditioning(h, r)) <= error + 1e-15
    assert error < 1e-14


@pytest.mark.parametrize("n", [3, 4])
def test_against_scipy(n):
    """To the accuracy of its quasi-random integration."""
    rng = np.random.default_rng(n)
    for _ in range(4):
        r, h = correlations(rng, n), rng.normal(size=n)
        wanted = stats.multivariate_normal(np.zeros(n), r, seed=1, abseps=1e-7, maxpts=10**6).cdf(h)
        assert orthant(h, r, minors(r))[0] == pytest.approx(wanted, abs=1e-6)


def test_three_centred_half_lines_are_arcsines():
    """1/8 + (asin + asin + asin) / 4 pi."""
    r = correlations(np.random.default_rng(0), 3)
    angles = math.asin(r[0, 1]) + math.asin(r[0, 2]) + math.asin(r[1, 2])
    assert orthant(np.zeros(3), r, minors(r))[0] == pytest.approx(0.125 + angles / (4 * math.pi), abs=1e-15)


def test_four_equicorrelated_centred_half_lines():
    """r = 1/2: P = 1/5, as the least of five independent ones is the first."""
    r = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    assert orthant(np.zeros(4), r, minors(r))[0] == pytest.approx(0.2, abs=1e-15)


def test_four_of_one_factor():
    """x_i = l_i f + s_i e_i: a single integral."""
    rng = np.random.default_rng(8)
    for _ in range(10):
        loading, h = rng.uniform(-0.99, 0.99, 4), rng.normal(size=4)
        r = np.outer(loading, loading)
        np.fill_diagonal(r, 1.0)
        with mp.workdps(20):
            parts = [(mp.mpf(a), mp.sqrt(1 - mp.mpf(a) ** 2), mp.mpf(b)) for a, b in zip(loading, h, strict=True)]
            wanted = mp.quad(
                lambda x, p=parts: mp.npdf(x) * mp.fprod(mp.ncdf((b - a * x) / s) for a, s, b in p),
                [-10, -4, -2, 0, 2, 4, 10],
            )
        value, error = orthant(h, r, minors(r))
        assert abs(value - float(wanted)) <= error + 1e-14


def test_four_independent_pairs():
    """A product of two probabilities."""
    r = np.eye(4)
    r[0, 2] = r[2, 0] = -0.8
    r[1, 3] = r[3, 1] = 0.3
    h = np.array([0.3, -0.2, 1.1, 0.5])
    wanted = pair(0.3, 1.1, -0.8, 0.36) * pair(-0.2, 0.5, 0.3, 0.91)
    assert orthant(h, r, minors(r))[0] == pytest.approx(wanted, abs=1e-15)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    near=st.sampled_from([0.0, 1e-1, 1e-2, 1e-4, 1e-6]),
    how=st.integers(0, 3),
    size=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
)
def test_four_add_up_in_any_order(seed, near, how, size):
    """All orders agree, and P(x3 < h3) + P(x3 > h3) under the others is their probability; near-singular laws too."""
    rng = np.random.default_rng(seed)
    r, h = correlations(rng, 4, near, how), size * rng.normal(size=4)
    h[1] = h[0] if seed % 3 == 0 else h[1]
    d = minors(r)
    value, error = orthant(h, r, d)
    assert error < 1e-12
    for order in ([1, 3, 0, 2], [3, 2, 1, 0]):
        other, other_error = orthant(h[order], r[np.ix_(order, order)], d[np.ix_(order, order)])
        assert abs(value - other) <= error + other_error + rounding(d)
    flip = np.array([1.0, 1.0, 1.0, -1.0])
    below, below_error = orthant(h * flip, r * np.outer(flip, flip), d)
    rest, rest_error = orthant(h[:3], r[:3, :3], d[:3, :3])
    assert abs(value + below - rest) <= error + below_error + rest_error + rounding(d)


def rounding(d):
    """What one ulp of a correlation changes: at most 1 / (2 pi sqrt(1 - r^2)) times as much."""
    return 1e-16 * np.sum(1 / np.sqrt(d[d > 0]))
