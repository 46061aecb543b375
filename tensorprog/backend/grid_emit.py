"""Operations of a product tape -> the source of a module that runs them for a tile of pairs of examples.

    S [rows * P]    the slots of all keys: row s1 * n2 + s2 from the first row of the key on
    T [width * P]   a line of a mix between its two sums, or partial sums
    L, R [rows * P] what is known of the left and the right examples of the pairs
    I, O [.., Q]    operands and results of an expectation, apart from S so that they are known not to overlap
    X, C            index columns and coefficients of all entries of the rows (1) and of the columns (2)

The last index column of the columns is the length of a run of entries whose indices go up by one: a run is one loop
over neighbours in memory, whose body becomes vector instructions.  An expectation at equal laws of both sides and their
covariance is that of one run with itself, which the run knows exactly.  `run` stops behind an expectation that left
entries in doubt, and is called again when they are settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from tensorprog.backend.emit import SETTLED, TEMPLATES
from tensorprog.backend.formula import ordered
from tensorprog.backend.trace import Scalar, Traced

FEW = 4
"""Terms of a sum that are added in one go."""
RUN = 7
"""The index column with the length of a run."""
CHUNK = 256
"""Numbers that an expectation works on at a time."""

HEAD = '''"""Generated from the equations of a limit over rows and columns."""

import math

from numba import njit

from tensorprog.backend import special

OPTIONS = {{"error_model": "numpy", "nogil": True, "cache": True}}
P = {tile}
Q = {chunk}
RUN = {run}


@njit(**OPTIONS)
def clear(S, first, rows):
    for q in range(first * P, (first + rows) * P):
        S[q] = 0.0


@njit(**OPTIONS)
def data(S, L, R, k, dim, nl, nr, X1, lo1, hi1, X2, lo2, hi2, n):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, m = (k + X1[e, 0] * n + X2[f, 0]) * P, X2[f, RUN] * P
            for c in range(dim):
                a, b = (c * nl + X1[e, 1] + X2[f, 1]) * P, (c * nr + X1[e, 2] + X2[f, 2]) * P
                for q in range(m):
                    S[o + q] += L[a + q] * R[b + q]
            f += X2[f, RUN]


@njit(**OPTIONS)
def constant(S, k, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, c = (k + X1[e, 0] * n + X2[f, 0]) * P, C1[e, 0] * C2[f, 0]
            for q in range(o, o + X2[f, RUN] * P):
                S[q] += c
            f += X2[f, RUN]


@njit(**OPTIONS)
def times(S, k, a, b, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, na, nb):
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            o, c = (k + X1[e, 0] * n + X2[f, 0]) * P, C1[e, 0] * C2[f, 0]
            i, j = (a + X1[e, 1] * na + X2[f, 1]) * P, (b + X1[e, 2] * nb + X2[f, 2]) * P
            for q in range(X2[f, RUN] * P):
                S[o + q] += c * (S[i + q] * S[j + q])
            f += X2[f, RUN]


@njit(**OPTIONS)
def dot(S, T, k, a, b, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, na, nb):
    """A sum of products in one slot."""
    longest, f = 0, lo2
    while f < hi2:
        longest = max(longest, X2[f, RUN])
        f += X2[f, RUN]
    clear(T, 0, longest)
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            c = C1[e, 0] * C2[f, 0]
            i, j = (a + X1[e, 1] * na + X2[f, 1]) * P, (b + X1[e, 2] * nb + X2[f, 2]) * P
            for q in range(X2[f, RUN] * P):
                T[q] += c * (S[i + q] * S[j + q])
            f += X2[f, RUN]
    o = (k + X1[lo1, 0] * n + X2[lo2, 0]) * P
    for t in range(0, longest * P, P):
        for p in range(P):
            S[o + p] += T[t + p]


@njit(**OPTIONS)
def gather(S, T, k, d, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, nd):
    """A mix of many terms."""
    e = lo1
    while e < hi1:
        o = X1[e, 0]
        clear(T, 0, nd)
        while e < hi1 and X1[e, 0] == o:
            a, c = (d + X1[e, 1] * nd) * P, C1[e, 0]
            for q in range(nd * P):
                T[q] += c * S[a + q]
            e += 1
        for f in range(lo2, hi2):
            r, b, c = (k + o * n + X2[f, 0]) * P, X2[f, 1] * P, C2[f, 0]
            for p in range(P):
                S[r + p] += c * T[b + p]


@njit(**OPTIONS)
def mix(S, T, k, d, w1, w2, X1, C1, lo1, hi1, X2, C2, lo2, hi2, n, nd):
    for e in range(lo1, hi1):
        m = nd * P
{first}
        f = lo2
        while f < hi2:
            r, m = (k + X1[e, 0] * n + X2[f, 0]) * P, X2[f, RUN] * P
{second}
            f += X2[f, RUN]
'''


def _terms(indent: int, width: str, place: str, coef: str, sums: tuple[str, str], loop: str) -> str:
    """The loop of a sum for every number of terms."""
    lines = []
    for w in range(1, FEW + 1):
        lines.append(f"{'if' if w == 1 else 'elif'} {width} == {w}:")
        lines += [f"    a{t}, c{t} = {place.format(t=1 + t)}, {coef.format(t=t)}" for t in range(w)]
        lines.append(f"    {loop}")
        lines.append(f"        {sums[0]} {' + '.join(f'c{t} * {sums[1]}[a{t} + q]' for t in range(w))}")
    return "\n".join(" " * indent + line for line in lines)


def _head(tile: int) -> str:
    first = _terms(8, "w1", "(d + X1[e, {t}] * nd) * P", "C1[e, {t}]", ("T[q] =", "S"), "for q in range(m):")
    second = _terms(12, "w2", "X2[f, {t}] * P", "C2[f, {t}]", ("S[r + q] +=", "T"), "for q in range(m):")
    return HEAD.format(tile=tile, chunk=CHUNK, run=RUN, first=first, second=second)


@final
@dataclass(frozen=True, slots=True)
class Formulas:
    """What an operation computes: values and errors in the nodes `left` and `right`, rows of L and R, and in S[cross].

    The last rows of L are the values of one run with itself, after the second moment; so is the second moment in R.
    """

    values: tuple[Scalar, ...]
    errors: tuple[Scalar, ...]
    left: tuple[Traced, ...]
    right: tuple[Traced, ...]
    second: tuple[Traced, Traced]
    cross: Traced


def expect_source(number: int, f: Formulas) -> str:
    """The formulas of an operation; `outs` columns come first, then cross, left and right."""
    n = len(f.values)
    names: dict[int, str] = {id(f.cross): "y"}
    copied = ["I[0, q] = S[x + q]"]
    lines = ["y = I[0, q]"]
    for side, array, nodes in (("l", "L", (*f.left, f.second[0])), ("r", "R", (*f.right, f.second[1]))):
        for t, node in enumerate(nodes):
            names[id(node)] = f"{side}{t}"
            lines.append(f"{side}{t} = I[{len(copied)}, q]")
            copied.append(f"I[{len(copied)}, q] = {array}[{side} + {t} * {side}n * P + q]")
    lines.append(f"one = (y == l{len(f.left)}) & (y == r{len(f.right)})")
    own = range(len(copied), len(copied) + n)
    copied += [f"I[{c}, q] = L[l + {len(f.left) + 1 + t} * ln * P + q]" for t, c in enumerate(own)]
    for t, node in enumerate(ordered([*f.values, *f.errors], frozenset(names))):
        names[id(node)] = f"t{t}"
        lines.append(f"t{t} = {TEMPLATES[node.op].format(*(_operand(a, names) for a in node.args))}")
    for t, (value, error) in enumerate(zip(f.values, f.errors, strict=True)):
        lines.append(f"v{t} = I[{own[t]}, q] if one else {_operand(value, names)}")
        lines.append(f"e{t} = 0.0 if one else {_operand(error, names)}")
        lines.append(f"good{t} = e{t} <= {SETTLED} * abs(v{t})")
        lines.append(f"w{t} = max(w{t}, special.bits(e{t} if good{t} else 0.0))")
        lines.append(f"O[{t}, q] = v{t}")
    lines.append(f"O[{n}, q] = 0.0 if {' & '.join(f'good{t}' for t in range(n))} else 1.0")
    lines.append(f"bad += 0 if {' & '.join(f'good{t}' for t in range(n))} else 1")
    results = [f"S[o{t} + q] = O[{t}, q]" for t in range(n)]
    keys = ", ".join(f"k{t}" for t in range(n + 1))
    strides = ", ".join(f"n{t}" for t in range(n + 1))
    outs = "\n".join(
        f"                o{t} = (k{t} + X1[e, {t}] * n{t} + X2[g, {t}]) * P + start" for t in range(n)
    )
    worst = "\n".join(f"    W[we + {t}] = max(W[we + {t}], special.number(w{t}))" for t in range(n))
    body = "\n".join(" " * 20 + line for line in lines)
    return f"""

@njit(**OPTIONS)
def expect{number}(S, I, O, L, R, W, D, {keys}, lb, rb, ls, rs, ln, rn, we, X1, lo1, hi1, X2, lo2, hi2, {strides}):
    doubts = 0
    {" = ".join(f"w{t}" for t in range(n))} = 0
    for e in range(lo1, hi1):
        g = lo2
        while g < hi2:
            for start in range(0, X2[g, RUN] * P, Q):
                m = min(Q, X2[g, RUN] * P - start)
{outs}
                x = (k{n} + X1[e, {n}] * n{n} + X2[g, {n}]) * P + start
                l = (lb + X1[e, {n + 1}] * ls + X2[g, {n + 1}]) * P + start
                r = (rb + X1[e, {n + 2}] * rs + X2[g, {n + 2}]) * P + start
{_loops(copied)}
                bad = 0
                for q in range(m):
{body}
{_loops(results)}
                if bad > 0:
                    for t in range(0, m, P):
                        if O[{n}, t : t + P].sum() > 0.0:
                            D[doubts, 0], D[doubts, 1] = e, g + (start + t) // P
                            doubts += 1
            g += X2[g, RUN]
{worst}
    return doubts
"""


def _loops(lines: Sequence[str]) -> str:
    """A loop for every line: copies between arrays that the compiler knows too little about."""
    return "\n".join(f"                for q in range(m):\n                    {line}" for line in lines)


def _operand(value: Scalar, names: Mapping[int, str]) -> str:
    if isinstance(value, Traced):
        return names[id(value)]
    if isinstance(value, bool):
        return str(value)
    return {"inf": "math.inf", "-inf": "-math.inf", "nan": "math.nan"}.get(repr(value), f"({value!r})")


TABLES = "X1, C1, lo1, hi1, X2, C2, lo2, hi2, n0"


def module(tile: int, formulas: Sequence[Formulas]) -> str:
    """The source of the module: the same for all networks with these nonlinearities."""
    parts = [_head(tile)]
    parts += [expect_source(n, f) for n, f in enumerate(formulas)]
    calls = [
        "clear(S, K[op, 0], M[U[op, 0], c1] * n0)",
        "data(S, L, R, K[op, 0], B[op, 0], B[op, 1], B[op, 2], X1, lo1, hi1, X2, lo2, hi2, n0)",
        f"constant(S, K[op, 0], {TABLES})",
        f"times(S, K[op, 0], K[op, 1], K[op, 2], {TABLES}, N[U[op, 1], c2], N[U[op, 2], c2])",
        f"dot(S, T, K[op, 0], K[op, 1], K[op, 2], {TABLES}, N[U[op, 1], c2], N[U[op, 2], c2])",
        f"gather(S, T, K[op, 0], K[op, 1], {TABLES}, N[U[op, 1], c2])",
        f"mix(S, T, K[op, 0], K[op, 1], B[op, 0], B[op, 1], {TABLES}, N[U[op, 1], c2])",
    ]
    for n, f in enumerate(formulas):
        keys = ", ".join(f"K[op, {t}]" for t in range(len(f.values) + 1))
        strides = ", ".join(f"N[U[op, {t}], c2]" for t in range(len(f.values) + 1))
        known = ", ".join(f"B[op, {t}]" for t in range(7))
        tables = "X1, lo1, hi1, X2, lo2, hi2"
        calls.append(f"doubts = expect{n}(S, I, O, L, R, W, D, {keys}, {known}, {tables}, {strides})")
    choices = "\n".join(
        f"{' ' * 16}{'if' if n == 0 else 'elif'} kind == {n}:\n{' ' * 20}{call}" for n, call in enumerate(calls)
    )
    return "".join(parts) + DRIVER.format(choices=choices)


DRIVER = """

@njit(**OPTIONS)
def run(S, T, I, O, L, R, W, D, steps, K, U, B, M, N, X1, C1, P1, X2, C2, P2, state):
    c1, c2, s = state[0], state[1], state[2]
    while c1 < M.shape[1]:
        while c2 < N.shape[1]:
            while s < len(steps):
                kind, op = steps[s, 0], steps[s, 1]
                lo1, hi1, lo2, hi2 = P1[op, c1], P1[op, c1 + 1], P2[op, c2], P2[op, c2 + 1]
                n0 = N[U[op, 0], c2]
                doubts = 0
                s += 1
                if kind > 0 and (lo1 == hi1 or lo2 == hi2):
                    continue
{choices}
                if doubts > 0:
                    state[0], state[1], state[2], state[3] = c1, c2, s, op
                    return doubts
            s = 0
            c2 += 1
        c2 = 0
        c1 += 1
    return 0
"""
