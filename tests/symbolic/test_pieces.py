"""Piecewise polynomials with knots at roots, and maxima of several arguments: closed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtr

from tensorprog.ir.expr import ONE, differentiate
from tensorprog.symbolic.expectation import Moments, Request, plan
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.points import split_points
from tensorprog.symbolic.roots import real_roots

AT_ROOTS = {
    "abs": "abs(u^2-1)",
    "relu": "max(u^2-1,0)",
    "step": "step(u^2-1)",
    "clip": "min(max(u^3,-1),1)",
    "three roots": "abs(u^3-u)",
    "two polynomials": "max(u^2,u)",
    "double root": "u*sign(u^2*(u-1))",
}
LAWS = [(1.0, 1.0, 0.5, 0.0, 0.0), (2.0, 0.5, -0.7, 0.0, 0.0), (1.3, 0.7, 0.3, 0.4, -0.8)]


@pytest.mark.parametrize("text", AT_ROOTS.values(), ids=AT_ROOTS)
@pytest.mark.parametrize("law", LAWS)
def test_knots_at_roots(tools, text, law):
    """Against brute force with panels that end at the roots."""
    f, p = tools.parse(text), tools.pair(text, text)
    assert p.tier == "closed"
    value, error = p.evaluate(tools.moments(*law), {})
    assert float(value) == pytest.approx(tools.brute_pair(f, f, *law), rel=1e-11)
    assert error <= 1e-10 * np.abs(value)


@pytest.mark.parametrize("text", ["abs(u^2-2)", "max(abs(u^2-1),u)", "max(u^3-2,0)", "sign(u^4-3*u^2+1)*u"])
def test_irrational_roots(tools, text):
    """Against quadrature, the derivatives too."""
    for f in (tools.parse(text), differentiate(tools.parse(text), "u")):
        request = Request(f, ("u",), f, ("u",))
        for law in LAWS:
            value, _ = plan(request, "closed").evaluate(tools.moments(*law), {})
            other, error = plan(request, "quadrature").evaluate(tools.moments(*law), {})
            assert abs(value - other) <= 1e-11 * abs(other) + error


def test_point_masses_at_roots(tools):
    """step(u^2 - 2)' = sign(u) (dirac(u - r) + dirac(u + r)): four values of the joint density."""
    f = differentiate(tools.parse("step(u^2-2)"), "u")
    a, b, c, m, n = LAWS[2]
    value, _ = plan(Request(f, ("u",), f, ("u",)), "closed").evaluate(tools.moments(a, b, c, m, n), {})
    inverse, det = np.linalg.inv([[a, c], [c, b]]), a * b - c * c
    points = [(s, t, np.sqrt(2) * np.array([s, t]) - (m, n)) for s in (1, -1) for t in (1, -1)]
    wanted = sum(s * t * np.exp(-0.5 * z @ inverse @ z) for s, t, z in points) / (2 * np.pi * np.sqrt(det))
    assert float(value) == pytest.approx(wanted, rel=1e-12)


def test_a_point_mass_at_a_double_root(tools):
    """Has no value."""
    with pytest.raises(NotClosed):
        split_points(tools.parse("dirac(u^2)"), "u")


def test_real_roots():
    """(x - 1/3)^2 (x + 2)^3 (x^2 + 1), and simple ones that are close to each other."""
    p = np.polynomial.Polynomial([Fraction(1)])
    for factor in 2 * [[Fraction(-1, 3), 1]] + 3 * [[2, 1]] + [[1, 0, 1]]:
        p = p * np.polynomial.Polynomial([Fraction(c) for c in factor])
    assert real_roots(list(p.coef)) == [(Fraction(-2), 3), (Fraction(1, 3), 2)]
    x = Fraction(1) + Fraction(1, 10**5)
    assert real_roots([x, -1 - x, Fraction(1)]) == [(Fraction(1), 1), (x, 1)]


# ---------------------------------------------------------------- several arguments


def joint(cov, k, mean=None):
    """Moments of k arguments in each run."""
    mean = np.zeros(2 * k) if mean is None else mean
    return Moments(mean[:k], cov[:k, :k], mean[k:], cov[k:, k:], cov[:k, k:])


def several(tools, text, args, moments):
    """E f f' and E of the product of the derivatives in the first argument; closed."""
    f = tools.parse(text)
    plans = [plan(Request(e, args, e, args)) for e in (f, differentiate(f, args[0]))]
    assert [p.tier for p in plans] == ["closed", "closed"]
    return [float(p.sums.evaluate(moments, {})[0]) for p in plans]


def wedge_pair(c):
    """E max(u, w, 0) max(u', w', 0) where (u', w') = c R (u, w) + sqrt(1 - c^2) noise, R a turn by 1 (radian).

    The inner mean is the integral over t >= 0 of 1 - P(max <= t); the outer one is taken in polar coordinates.
    """
    x, w = np.polynomial.legendre.leggauss(40)

    def panel(low, high):
        return (low + high) / 2 + (high - low) / 2 * x, (high - low) / 2 * w

    t, t_weight = (np.concatenate(v) for v in zip(*(panel(k, k + 1) for k in range(12)), strict=True))
    r, r_weight = (np.concatenate(v) for v in zip(*(panel(k, k + 2) for k in range(0, 12, 2)), strict=True))
    total, noise = 0.0, np.sqrt(1 - c * c)
    for low, high in ((-np.pi / 2, np.pi / 4), (np.pi / 4, np.pi)):
        angle, weight = panel(low, high)
        size = r[:, None] * np.maximum(np.cos(angle), np.sin(angle))
        a, b = c * r[:, None] * np.cos(angle + 1), c * r[:, None] * np.sin(angle + 1)
        below = ndtr((t - a[..., None]) / noise) * ndtr((t - b[..., None]) / noise)
        inner = (1 - below) @ t_weight
        total += (r_weight * r * np.exp(-r * r / 2)) @ (size * inner) @ weight / (2 * np.pi)
    return total


@pytest.mark.parametrize("text", ["max(max(u,0),max(w,0))", "max(max(u,w),0)", "-min(min(-u,-w),0)"])
def test_maximum_of_two_rectified_arguments(tools, text):
    """At equal runs E f^2 = 3/4 + 1/(2 pi) and E f'^2 = 3/8, and a law of full rank."""
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    equal = several(tools, text, ("u", "w"), joint(np.kron(np.ones((2, 2)), np.eye(2)), 2))
    assert equal == pytest.approx([0.75 + 1 / (2 * np.pi), 0.375], rel=1e-12)
    cov = np.block([[np.eye(2), 0.6 * turn.T], [0.6 * turn, np.eye(2)]])
    assert several(tools, text, ("u", "w"), joint(cov, 2))[0] == pytest.approx(wedge_pair(0.6), rel=1e-10)


def test_maximum_of_three(tools):
    """The largest of three normal variables: E M = 3 / (2 sqrt(pi)), E M^2 = 1 + sqrt(3) / (2 pi)."""
    args = ("u", "w", "z")
    same = several(tools, "max(max(u,w),z)", args, joint(np.kron(np.ones((2, 2)), np.eye(3)), 3))
    assert same == pytest.approx([1 + np.sqrt(3) / (2 * np.pi), 1 / 3], rel=1e-11)
    apart = several(tools, "max(max(u,w),z)", args, joint(np.eye(6), 3))
    assert apart == pytest.approx([9 / (4 * np.pi), 1 / 9], rel=1e-11)


def test_equal_pieces_are_found_by_other_words(tools):
    """max(|u|, |w|) = (|u + w| + |u - w|) / 2"""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(4, 4))
    moments = joint(root @ root.T, 2, rng.normal(size=4))
    value = several(tools, "max(abs(u),abs(w))", ("u", "w"), moments)
    assert value == pytest.approx(several(tools, "(abs(u+w)+abs(u-w))/2", ("u", "w"), moments), rel=1e-10)


@pytest.mark.slow  # four variables with jumps: nested quadrature, which is tried, takes a minute or two
def test_a_small_value_stays_with_the_formula(tools):
    """A rounding error of 1e-15 is much beside 1e-6, but nested quadrature does no better."""
    f, args = tools.parse("step(max(u,w)-1)*step(w-u)"), ("u", "w")
    moments = joint(np.diag([1.0, 0.045, 1.0, 0.045]), 2)
    value, error = plan(Request(f, args, f, args)).evaluate(moments, {})
    mean, _ = plan(Request(f, args, ONE, ()), "quadrature").evaluate(joint_of_one(moments), {})
    assert value == pytest.approx(mean**2, rel=2e-8)
    assert 0 < error <= 1e-8 * value


def joint_of_one(moments):
    """The law of the left run alone."""
    return Moments(moments.mean_l, moments.cov_ll, np.zeros(0), np.zeros((0, 0)), np.zeros((2, 0)))


def test_a_maximum_of_four_has_too_many_half_lines(tools):
    """Three conditions a piece are six in a pair."""
    f, args = tools.parse("max(max(u,w),max(z,0))"), ("u", "w", "z")
    assert plan(Request(f, args, f, args), "closed") is None
    assert plan(Request(f, args, ONE, ()), "closed").tier == "closed"
