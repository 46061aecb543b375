"""Sums of a Gaussian density over a product grid in double-double arithmetic (about 31 digits), compiled.

A number is an unevaluated sum of two floats (Dekker 1971; Hida, Li and Bailey 2001).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import mpmath as mp
import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
STEPS = 32  # of the table of exponentials, per unit
LARGEST = 400  # exp(-400) is taken for 0
TERMS = 15  # of the Taylor series, for |r| <= 1/64


def pairs(values: list[Any]) -> Array:
    """mpmath numbers as [2, N] double-doubles."""
    high = [float(v) for v in values]
    return np.array([high, [float(v - h) for v, h in zip(values, high, strict=True)]])


@cache
def _tables() -> tuple[Array, Array]:
    """exp(-k/32) and 1/k!"""
    with mp.workdps(45):
        exponentials = [mp.exp(-mp.mpf(k) / STEPS) for k in range(STEPS * LARGEST + 2)]
        return pairs(exponentials), pairs([1 / mp.factorial(k) for k in range(TERMS)])


def density_sum(x: Array, f: Array, y: Array, g: Array) -> Any:
    """sum_ij f_i g_j exp(-(x_i - y_j)^2 / 2) for double-doubles [2, N] and [2, M], as an mpmath number."""
    high, low = _density_sum(x, f, y, g, *_tables())
    return mp.mpf(high) + mp.mpf(low)


@njit(cache=True)
def _two_sum(a: float, b: float) -> tuple[float, float]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@njit(cache=True)
def _two_product(a: float, b: float) -> tuple[float, float]:
    p = a * b
    t = 134217729.0 * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = 134217729.0 * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(cache=True)
def _sum(a: float, al: float, b: float, bl: float) -> tuple[float, float]:
    s, e = _two_sum(a, b)
    t, f = _two_sum(al, bl)
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@njit(cache=True)
def _product(a: float, al: float, b: float, bl: float) -> tuple[float, float]:
    p, e = _two_product(a, b)
    return _two_sum(p, e + (a * bl + al * b))


@njit(cache=True)
def _decay(q: float, ql: float, table: Array, inverse: Array) -> tuple[float, float]:
    """exp(-q)"""
    k = int(q * STEPS + 0.5)
    r, rl = _sum(k / STEPS, 0.0, -q, -ql)
    v, vl = inverse[0, TERMS - 1], inverse[1, TERMS - 1]
    for n in range(TERMS - 2, -1, -1):
        v, vl = _product(v, vl, r, rl)
        v, vl = _sum(v, vl, inverse[0, n], inverse[1, n])
    return _product(v, vl, table[0, k], table[1, k])


@njit(cache=True)
def _density_sum(x: Array, f: Array, y: Array, g: Array, table: Array, inverse: Array) -> tuple[float, float]:
    total, rest = 0.0, 0.0
    for i in range(x.shape[1]):
        row, row_rest = 0.0, 0.0
        for j in range(y.shape[1]):
            d, dl = _sum(x[0, i], x[1, i], -y[0, j], -y[1, j])
            q, ql = _product(d, dl, 0.5 * d, 0.5 * dl)
            if q < LARGEST:
                e, el = _decay(q, ql, table, inverse)
                e, el = _product(e, el, g[0, j], g[1, j])
                row, row_rest = _sum(row, row_rest, e, el)
        row, row_rest = _product(row, row_rest, f[0, i], f[1, i])
        total, rest = _sum(total, rest, row, row_rest)
    return total, rest
