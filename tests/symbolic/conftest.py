"""Shared helpers of the tests of Gaussian expectations."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.ir.expr import ONE, derivative_of, evaluate
from tensorprog.symbolic.expectation import Moments, Request, plan

KNOTS = (-3.0, -1.0, -0.3, 0.0, 0.3, 0.5, 1.0, 3.0, 6.0)


def parse(text):
    """An expression from text in u."""
    return derivative_of(text)


def pair_moments(a, b, c, mean_l=0.0, mean_r=0.0):
    """Moments of one variable in each run."""
    a, b, c, m, n = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (a, b, c, mean_l, mean_r)))
    return Moments(m[None], a[None, None], n[None], b[None, None], c[None, None])


def pair_plan(left, right, prefer=None):
    """The plan of E[left(u) right(v)] from texts in u."""
    return plan(Request(parse(left), ("u",), parse(right), ("u",)), prefer)


def mean_plan(text, args=("u",), prefer=None):
    """The plan of a one-run mean."""
    return plan(Request(parse(text), args, ONE, ()), prefer)


def _composite(low, high, panels):
    """Nodes and weights [..., N] on [low, high] (arrays), with panel ends at KNOTS."""
    x, w = np.polynomial.legendre.leggauss(24)
    low, high = np.asarray(low)[..., None], np.asarray(high)[..., None]
    even = low + (high - low) * np.linspace(0, 1, panels + 1)
    knots = np.broadcast_to(KNOTS, (*low.shape[:-1], len(KNOTS)))
    ends = np.sort(np.concatenate([even, np.clip(knots, low, high)], axis=-1))
    half = np.diff(ends)[..., None] / 2
    nodes = (ends[..., :-1, None] + half) + half * x
    return nodes.reshape(*low.shape[:-1], -1), (half * w).reshape(*low.shape[:-1], -1)


def _density(x, mean, deviation):
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))


def _value(e, x):
    return np.broadcast_to(np.asarray(evaluate(e, {"u": x}), dtype=float), x.shape)


def brute_mean(f, mean, variance):
    """E f(u) by a plain composite Gauss rule with ends at KNOTS; `mean` may be an array."""
    deviation = np.sqrt(variance)
    mean = np.asarray(mean, dtype=float)
    x, w = _composite(mean - 12 * deviation, mean + 12 * deviation, 16)
    return np.sum(w * _value(f, x) * _density(x, mean[..., None], deviation), axis=-1)


def brute_pair(f, g, a, b, c, mean_l=0.0, mean_r=0.0):
    """E f(u) g(v) by plain nested composite Gauss rules, v given u inside."""
    x, w = _composite(mean_l - 12 * np.sqrt(a), mean_l + 12 * np.sqrt(a), 16)
    inner = brute_mean(g, mean_r + c / a * (x - mean_l), b - c * c / a)
    return float(np.sum(w * _value(f, x) * inner * _density(x, mean_l, np.sqrt(a))))


class Tools:
    """What the tests use."""

    parse = staticmethod(parse)
    moments = staticmethod(pair_moments)
    pair = staticmethod(pair_plan)
    mean = staticmethod(mean_plan)
    brute_mean = staticmethod(brute_mean)
    brute_pair = staticmethod(brute_pair)


@pytest.fixture
def tools():
    """The helpers above."""
    return Tools
