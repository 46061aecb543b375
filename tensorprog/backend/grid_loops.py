"""The loops of product tapes that are the same for all networks, sums over entries: a module that is compiled once.

    S [rows * P]    the slots of all keys: row s1 * n2 + s2 from the first row of the key on, for P pairs of examples
    T [width * P]   a line of a mix between its two sums, or partial sums
    X, C            index columns and coefficients of the entries lo .. hi of the rows (1) and of the columns (2)

The last index column of the columns is the length of a run of entries whose indices go up by one: a run is one loop
over neighbours in memory, whose body becomes vector instructions.  A mix is two sums, over rows and over columns.
"""

from __future__ import annotations

from functools import cache

from tensorprog.backend.access import LANES, RESULTS
from tensorprog.backend.build import load

FEW = 4
"""Terms of a sum that are added in one go."""
COLUMNS = 16
RUN = COLUMNS - 1
"""The index column with the length of a run."""
TILE = LANES
"""Pairs of examples at a time, at most."""
CHUNK = 512
"""Numbers that a pointwise operation works on at a time."""

RESULT = "\n".join(f"results{n} = results[{n}]" for n in range(RESULTS))

HEAD = f'''"""Generated from the equations of a limit over rows and columns."""

import math

import numpy as np
from numba import njit

from tensorprog.backend import special
from tensorprog.backend.access import given, load, results, spread, store

OPTIONS = {{"error_model": "numpy", "nogil": True, "cache": True}}
Q = {CHUNK}
WHOLE = {TILE}
RUN = {RUN}
INFINITE = 0x7FF0000000000000  # the bits of infinity; those of what is no number are larger
{RESULT}
'''

FIXED = '''

@njit(**OPTIONS)
def fetch(M, at, last, A):
    """The numbers of some examples, beside each other; those of `last` are there."""
    n = len(at)
    if n == WHOLE and np.all(at == at[0]) and np.any(at != last):
        row = M[at[0]]
        for r in range(len(row)):
            spread(A, r * WHOLE, load(row, r))
        last[:] = at
        return
    for start in range(0, M.shape[1], 64):
        end = min(start + 64, M.shape[1])
        for p in range(n):
            if at[p] != last[p]:
                row = M[at[p]]
                for r in range(start, end):
                    store(A, r * n + p, load(row, r))
    for p in range(n):
        last[p] = at[p]


@njit(**OPTIONS)
def clear(S, P, first, rows):
    for q in range(first * P, (first + rows) * P):
        store(S, q, 0.0)


@njit(**OPTIONS)
def edges(S, P, first, rows, width):
    """The slots that stand for zero."""
    clear(S, P, first, width)
    for r in range(1, rows):
        for q in range((first + r * width) * P, (first + r * width + 1) * P):
            store(S, q, 0.0)


@njit(**OPTIONS)
def data(S, P, L, R, k, dim, nl, nr, X1, lo1, hi1, X2, lo2, hi2, n):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, m = (k + X1[e, 0] * n + X2[f, 0]) * P, X2[f, RUN] * P
            for q in range(m):
                store(S, o + q, 0.0)
            for c in range(dim):
                a, b = (c * nl + X1[e, 1] + X2[f, 1]) * P, (c * nr + X1[e, 2] + X2[f, 2]) * P
                for q in range(m):
                    store(S, o + q, load(S, o + q) + load(L, a + q) * load(R, b + q))
            f += X2[f, RUN]


@njit(**OPTIONS)
def constant(S, P, k, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, c = (k + X1[e, 0] * n + X2[f, 0]) * P, C1[e, 0] * C2[f, 0]
            for q in range(o, o + X2[f, RUN] * P):
                store(S, q, load(S, q) + c)
            f += X2[f, RUN]


@njit(**OPTIONS)
def times(S, P, k, a, b, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, na, nb):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, c = (k + X1[e, 0] * n + X2[f, 0]) * P, C1[e, 0] * C2[f, 0]
            i, j = (a + X1[e, 1] * na + X2[f, 1]) * P, (b + X1[e, 2] * nb + X2[f, 2]) * P
            for q in range(X2[f, RUN] * P):
                store(S, o + q, load(S, o + q) + c * (load(S, i + q) * load(S, j + q)))
            f += X2[f, RUN]


@njit(**OPTIONS)
def dot(S, T, P, k, a, b, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, na, nb):
    """A sum of products in one slot."""
    longest, f = 0, lo2
    while f < hi2:
        longest = max(longest, X2[f, RUN])
        f += X2[f, RUN]
    clear(T, P, 0, longest)
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            c = C1[e, 0] * C2[f, 0]
            i, j = (a + X1[e, 1] * na + X2[f, 1]) * P, (b + X1[e, 2] * nb + X2[f, 2]) * P
            for q in range(X2[f, RUN] * P):
                store(T, q, load(T, q) + c * (load(S, i + q) * load(S, j + q)))
            f += X2[f, RUN]
    o = (k + X1[lo1, 0] * n + X2[lo2, 0]) * P
    for t in range(0, longest * P, P):
        for p in range(P):
            store(S, o + p, load(S, o + p) + load(T, t + p))


@njit(**OPTIONS)
def gather(S, T, P, k, d, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, nd):
    """A mix of many terms."""
    e = lo1
    while e < hi1:
        o = X1[e, 0]
        clear(T, P, 0, nd)
        while e < hi1 and X1[e, 0] == o:
            a, c = (d + X1[e, 1] * nd) * P, C1[e, 0]
            for q in range(nd * P):
                store(T, q, load(T, q) + c * load(S, a + q))
            e += 1
        for f in range(lo2, hi2):
            r, b, c = (k + o * n + X2[f, 0]) * P, X2[f, 1] * P, C2[f, 0]
            for p in range(P):
                store(S, r + p, load(S, r + p) + c * load(T, b + p))
'''

MIX = """

@njit(**OPTIONS)
def mix(S, T, P, k, d, w1, w2, new, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, nd):
    clear(T, P, nd, 1)
    for e in range(lo1, hi1):
        m = nd * P
{first}
        f = lo2
        while f < hi2:
            r, m = (k + X1[e, 0] * n + X2[f, 0]) * P, X2[f, RUN] * P
            if new:
{second}
            else:
{third}
            f += X2[f, RUN]
"""


def _terms(indent: int, width: str, place: str, coef: str, source: str, result: str) -> str:
    """The loop of a sum for every number of terms."""
    lines = []
    for w in range(1, FEW + 1):
        lines.append(f"{'if' if w == 1 else 'elif'} {width} == {w}:")
        lines += [f"    a{t}, c{t} = {place.format(t=1 + t)}, {coef.format(t=t)}" for t in range(w)]
        lines.append("    for q in range(m):")
        lines.append(f"        {result.format(' + '.join(f'c{t} * load({source}, a{t} + q)' for t in range(w)))}")
    return "\n".join(" " * indent + line for line in lines)


def _mix() -> str:
    rows, columns = ("(d + X1[e, {t}] * nd) * P", "C1[e, {t}]"), ("X2[f, {t}] * P", "C2[f, {t}]")
    first = _terms(8, "w1", *rows, "S", "store(T, q, {})")
    second = _terms(16, "w2", *columns, "T", "store(S, r + q, {})")
    third = _terms(16, "w2", *columns, "T", "store(S, r + q, load(S, r + q) + ({}))")
    return MIX.format(first=first, second=second, third=third)


NAMES = ("fetch", "clear", "edges", "data", "constant", "times", "dot", "gather", "mix")


@cache
def loops() -> str:
    """The name of the module of `NAMES`, which is loaded."""
    return load(HEAD + FIXED + _mix()).__name__
