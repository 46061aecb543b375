"""The machine code of product tapes that is the same for all networks: sums over entries, and what runs all steps.

    S [rows * P]    the slots of all keys: row s1 * n2 + s2 from the first row of the key on, for P pairs of examples
    T [width * P]   a line of a mix between its two sums, or partial sums
    L, R [rows * P] what is known of the left and the right examples of the pairs
    W, D            the worst error of every expectation, entries (row, column) in doubt
    K, B            the first rows of the keys of an operation, and what else it needs (`SIDES` numbers)
    X, C            index columns and coefficients of the entries of the rows (1) and of the columns (2)
    A               which entries, lo .. hi, the rows of the first key, and the columns of all keys in this component

The last index column of the columns is the length of a run of entries whose indices go up by one: a run is one loop
over neighbours in memory, whose body becomes vector instructions.  A mix is two sums, over rows and over columns.

Every function is a module of its own, which is compiled when it is needed first; `run` knows its steps by address.
Where a value is in doubt, results are no numbers, and so is the largest error of a chunk of entries, which the formulas
of an operation say (`grid_emit`): only then these entries are looked for, and the errors of the others computed once
more.  `run` stops behind expectations that left entries in doubt, and is called again when they are settled.
"""

from __future__ import annotations

from functools import cache

from tensorprog.backend.access import LANES
from tensorprog.backend.emit import HEAD

FEW = 4
"""Terms of a sum that are added in one go."""
COLUMNS = 16
RUN = COLUMNS - 1
"""The index column with the length of a run."""
SIDES, WORDS = 10, 4
"""The numbers of what an operation needs beside keys (`grid._sides`), and of a step (`grid._steps`)."""
TILE = LANES
"""Pairs of examples at a time, at most."""
CHUNK = 512
"""Numbers that a pointwise operation works on at a time."""
KEYS, PLACES, SCRATCH = 5, 5 + COLUMNS, 10 + 2 * COLUMNS
"""Where A has the columns of keys and what formulas are told, and its size."""

FAMILY = f"""{HEAD}
STEP = types.int64(*(NUMBERS,) * 5, INDICES, types.int64, INDICES, INDICES, *(INDICES, NUMBERS) * 2, INDICES)
RUNNER = types.int64(*STEP.args, INDICES, types.int64, *(INDICES, types.int64) * 2, *(INDICES,) * 4)
FETCH = types.int64(NUMBERS, types.int64, INDICES, INDICES, types.int64, NUMBERS)
FORMULA = types.int64(*(NUMBERS,) * 5, INDICES, types.int64, types.float64)
CHUNK, LANES = {CHUNK}, {LANES}
FEW, COLUMNS, RUN, SIDES, WORDS = {FEW}, {COLUMNS}, {RUN}, {SIDES}, {WORDS}
KEYS, PLACES = {KEYS}, {PLACES}
INFINITE = 0x7FF0000000000000  # the bits of infinity; those of what is no number are larger
"""

ARGUMENTS = "S, T, L, R, W, D, P, K, B, X1, C1, X2, C2, A"
NAMED = """\
    doubts = 0
    k = K[0]
    a = K[1]
    b = K[2]
    lo1 = A[0]
    hi1 = A[1]
    lo2 = A[2]
    hi2 = A[3]
    n = A[KEYS]
    na = A[KEYS + 1]
    nb = A[KEYS + 2]
"""

STEPS = {
    "clear": """
    for q in range(k * P, (k + A[4] * n) * P):
        S[q] = 0.0
""",
    # the slots that stand for zero
    "edges": """
    for q in range(k * P, (k + n) * P):
        S[q] = 0.0
    for r in range(1, A[4]):
        for q in range((k + r * n) * P, (k + r * n + 1) * P):
            S[q] = 0.0
""",
    "data": """
    for e in range(lo1, hi1):
        x = behind(X1, e * COLUMNS)
        f = lo2
        while f < hi2:
            y = behind(X2, f * COLUMNS)
            o = (k + x[0] * n + y[0]) * P
            m = y[RUN] * P
            for q in range(m):
                S[o + q] = 0.0
            for c in range(B[0]):
                i = (c * B[1] + x[1] + y[1]) * P
                j = (c * B[2] + x[2] + y[2]) * P
                for q in range(m):
                    S[o + q] += L[i + q] * R[j + q]
            f += y[RUN]
""",
    "constant": """
    for e in range(lo1, hi1):
        f = lo2
        while f < hi2:
            y = behind(X2, f * COLUMNS)
            o = (k + X1[e * COLUMNS] * n + y[0]) * P
            c = C1[e * FEW] * C2[f * FEW]
            for q in range(o, o + y[RUN] * P):
                S[q] += c
            f += y[RUN]
""",
    "times": """
    for e in range(lo1, hi1):
        x = behind(X1, e * COLUMNS)
        f = lo2
        while f < hi2:
            y = behind(X2, f * COLUMNS)
            c = C1[e * FEW] * C2[f * FEW]
            o = (k + x[0] * n + y[0]) * P
            i = (a + x[1] * na + y[1]) * P
            j = (b + x[2] * nb + y[2]) * P
            for q in range(y[RUN] * P):
                S[o + q] += c * (S[i + q] * S[j + q])
            f += y[RUN]
""",
    # a sum of products in one slot
    "dot": """
    longest = 0
    f = lo2
    while f < hi2:
        m = X2[f * COLUMNS + RUN]
        longest = m if m > longest else longest
        f += m
    for q in range(longest * P):
        T[q] = 0.0
    for e in range(lo1, hi1):
        x = behind(X1, e * COLUMNS)
        f = lo2
        while f < hi2:
            y = behind(X2, f * COLUMNS)
            c = C1[e * FEW] * C2[f * FEW]
            i = (a + x[1] * na + y[1]) * P
            j = (b + x[2] * nb + y[2]) * P
            for q in range(y[RUN] * P):
                T[q] += c * (S[i + q] * S[j + q])
            f += y[RUN]
    o = (k + X1[lo1 * COLUMNS] * n + X2[lo2 * COLUMNS]) * P
    for t in range(0, longest * P, P):
        for p in range(P):
            S[o + p] += T[t + p]
""",
    # a mix of many terms
    "gather": """
    e = lo1
    while e < hi1:
        o = X1[e * COLUMNS]
        for q in range(na * P):
            T[q] = 0.0
        while e < hi1 and X1[e * COLUMNS] == o:
            i = (a + X1[e * COLUMNS + 1] * na) * P
            c = C1[e * FEW]
            for q in range(na * P):
                T[q] += c * S[i + q]
            e += 1
        for f in range(lo2, hi2):
            r = (k + o * n + X2[f * COLUMNS]) * P
            j = X2[f * COLUMNS + 1] * P
            c = C2[f * FEW]
            for p in range(P):
                S[r + p] += c * T[j + p]
""",
    "mix": """
    for q in range(na * P, (na + 1) * P):
        T[q] = 0.0
    for e in range(lo1, hi1):
        x = behind(X1, e * COLUMNS)
        d = behind(C1, e * FEW)
        m = na * P
{first}
        f = lo2
        while f < hi2:
            y = behind(X2, f * COLUMNS)
            d = behind(C2, f * FEW)
            r = (k + x[0] * n + y[0]) * P
            m = y[RUN] * P
            if B[2] > 0:
{second}
            else:
{third}
            f += y[RUN]
""",
    # the formulas at B[9], of B[7] results and B[8] slots in all
    "points": """
    each = CHUNK // P
    at = behind(A, PLACES)
    known = B[8]
    at[known + 2] = B[4] * P
    at[known + 3] = B[5] * P
    at[known + 4] = B[6]
    for e in range(lo1, hi1):
        x = behind(X1, e * COLUMNS)
        g = lo2
        while g < hi2:
            y = behind(X2, g * COLUMNS)
            for start in range(0, y[RUN], each):
                m = y[RUN] - start if y[RUN] - start < each else each
                for t in range(known):
                    at[t] = (K[t] + x[t] * A[KEYS + t] + y[t] + start) * P
                at[known] = (B[0] + x[known] * B[2] + y[known] + start) * P
                at[known + 1] = (B[1] + x[known + 1] * B[3] + y[known + 1] + start) * P
                if called(B[9], (S, T, L, R, W, at, m * P, math.nan)) > 0:
                    for t in range(m):
                        bad = 0
                        for o in range(B[7]):
                            for p in range(at[o] + t * P, at[o] + (t + 1) * P):
                                bad += 1 if S[p] != S[p] else 0
                        if bad > 0:
                            D[2 * doubts] = e
                            D[2 * doubts + 1] = g + start + t
                            doubts += 1
                    called(B[9], (S, T, L, R, W, at, m * P, 0.0))
            g += y[RUN]
""",
}


def _terms(indent: int, width: str, place: str, source: str, result: str) -> str:
    """The loop of a sum for every number of terms."""
    lines = []
    for w in range(1, FEW + 1):
        lines.append(f"{'if' if w == 1 else 'elif'} {width} == {w}:")
        for t in range(w):
            lines += [f"    i{t} = {place.format(t=1 + t)}", f"    c{t} = d[{t}]"]
        lines.append("    for q in range(m):")
        lines.append(f"        {result.format(' + '.join(f'c{t} * {source}[i{t} + q]' for t in range(w)))}")
    return "\n".join(" " * indent + line for line in lines)


@cache
def step(name: str) -> str:
    """The source of the function of a step."""
    body = STEPS[name]
    if name == "mix":
        first = _terms(8, "B[0]", "(a + x[{t}] * na) * P", "S", "T[q] = {}")
        second = _terms(16, "B[1]", "y[{t}] * P", "T", "S[r + q] = {}")
        third = _terms(16, "B[1]", "y[{t}] * P", "T", "S[r + q] += {}")
        body = body.format(first=first, second=second, third=third)
    return f"{FAMILY}\n\n@cfunc(STEP, **OPTIONS)\ndef function({ARGUMENTS}):\n{NAMED}{body}    return doubts\n"


RUNNING = f"""{FAMILY}

@cfunc(RUNNER, **OPTIONS)
def function({ARGUMENTS}, steps, count, M, rows, N, columns, U, P1, P2, state):
    c1 = state[0]
    c2 = state[1]
    s = state[2]
    while c1 < rows:
        while c2 < columns:
            while s < count:
                step = behind(steps, s * WORDS)
                op = step[1]
                keys = behind(U, op * COLUMNS)
                A[0] = P1[op * (rows + 1) + c1]
                A[1] = P1[op * (rows + 1) + c1 + 1]
                A[2] = P2[op * (columns + 1) + c2]
                A[3] = P2[op * (columns + 1) + c2 + 1]
                s += 1
                if step[2] > 0 and (A[0] == A[1] or A[2] == A[3]):
                    continue
                A[4] = M[keys[0] * rows + c1]
                for t in range(step[3]):
                    A[KEYS + t] = N[keys[t] * columns + c2]
                k = behind(K, op * COLUMNS)
                b = behind(B, op * SIDES)
                doubts = called(step[0], (S, T, L, R, W, D, P, k, b, X1, C1, X2, C2, A))
                if doubts > 0:
                    state[0] = c1
                    state[1] = c2
                    state[2] = s
                    state[3] = op
                    return doubts
            s = 0
            c2 += 1
        c2 = 0
        c1 += 1
    return 0
"""
"""The source of what runs all steps for every pair of components, from `state` on, where it leaves how far it came."""

FETCHING = f"""{FAMILY}

@cfunc(FETCH, **OPTIONS)
def function(M, width, at, last, n, A):
    same = 0
    new = 0
    for p in range(n):
        same += 1 if at[p] == at[0] else 0
        new += 1 if at[p] != last[p] else 0
    if same == LANES and n == LANES and new > 0:
        row = behind(M, at[0] * width)
        for r in range(width):
            spread(A, r * LANES, row[r])
    else:
        for start in range(0, width, 64):
            end = start + 64 if start + 64 < width else width
            for p in range(n):
                if at[p] != last[p]:
                    row = behind(M, at[p] * width)
                    for r in range(start, end):
                        A[r * n + p] = row[r]
    for p in range(n):
        last[p] = at[p]
    return 0
"""
"""The source of what puts the numbers of some examples beside each other; those of `last` are there."""
