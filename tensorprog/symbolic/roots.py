"""The real roots of polynomials with rational coefficients, with their multiplicities.

Yun's square-free factors, each bisected between the roots of its derivative; signs are exact.  A root is a fraction
where a small one is exact, else the float next to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

Coefs = tuple[Fraction, ...]  # ascending, the last one not 0; () is 0

SMALL = 10**6  # denominators that are tried


def real_roots(coefs: Sequence[Fraction]) -> list[tuple[Fraction, int]]:
    """The roots, ascending, with multiplicities."""
    found = [(r, m) for factor, m in _square_free(_trimmed(coefs)) for r in _simple_roots(factor)]
    return sorted(found)


def value(coefs: Sequence[Fraction], x: Fraction) -> Fraction:
    """The polynomial at x (Horner)."""
    total = Fraction(0)
    for c in reversed(coefs):
        total = total * x + c
    return total


def derivative(coefs: Sequence[Fraction]) -> Coefs:
    """The coefficients of the derivative."""
    return tuple(k * c for k, c in enumerate(coefs))[1:]


def _trimmed(coefs: Sequence[Fraction]) -> Coefs:
    n = len(coefs)
    while n and coefs[n - 1] == 0:
        n -= 1
    return tuple(coefs[:n])


def _divided(p: Coefs, q: Coefs) -> tuple[Coefs, Coefs]:
    """Quotient and remainder."""
    rest, quotient = list(p), [Fraction(0)] * max(len(p) - len(q) + 1, 0)
    for k in reversed(range(len(quotient))):
        quotient[k] = rest[k + len(q) - 1] / q[-1]
        for j, c in enumerate(q):
            rest[k + j] -= quotient[k] * c
    return tuple(quotient), _trimmed(rest)


def _gcd(p: Coefs, q: Coefs) -> Coefs:
    while q:
        p, q = q, _divided(p, q)[1]
    return tuple(c / p[-1] for c in p)


def _square_free(p: Coefs) -> list[tuple[Coefs, int]]:
    """Factors without multiple roots, and how often each divides p."""
    factors, count = [], 1
    common = _gcd(p, derivative(p))
    once = _divided(p, common)[0]
    while len(once) > 1:
        shared = _gcd(once, common)
        factors.append((_divided(once, shared)[0], count))
        once, common, count = shared, _divided(common, shared)[0], count + 1
    return [(f, m) for f, m in factors if len(f) > 1]


def _simple_roots(p: Coefs) -> list[Fraction]:
    """The roots of a polynomial without multiple ones."""
    if len(p) < 2:
        return []
    if len(p) == 2:
        return [-p[0] / p[1]]
    bound = 1 + max(abs(c / p[-1]) for c in p[:-1])
    turns = [r for factor, _ in _square_free(derivative(p)) for r in _simple_roots(factor)]
    ends = [-bound, *sorted(turns), bound]
    return [_bisected(p, low, high) for low, high in pairwise(ends) if value(p, low) * value(p, high) < 0]


def _bisected(p: Coefs, low: Fraction, high: Fraction) -> Fraction:
    upward = value(p, high) > 0
    while True:
        middle = Fraction(float((low + high) / 2))
        if not low < middle < high:
            break
        if (value(p, middle) > 0) == upward:
            high = middle
        else:
            low = middle
    short = middle.limit_denominator(SMALL)
    return short if value(p, short) == 0 else middle
