"""What goes through the steps of a tape: tiles of pairs, one after another, and the kernels they are written to.

`RUN` is called for left examples `first` to `last` and right ones `start` to `end`:

    G [given, last - first, end - start]   inner products of data
    D [last - first, end - start]          the pairs in doubt
    A                                      the tile: its first pair, its rows and columns, and those there is room for;
                                           the numbers of examples; whether both sides are the same
    steps                                  functions, their entries and coefficients, which of these, their first error
    outs                                   of every kernel: the functions that write it and turn it over, where it is,
                                           the slots [rows, cols] that it shows of two examples, the length of a row

Where both sides are the same, pairs above the diagonal and on it are computed, and turned over from there.
The result is the number of tiles with pairs in doubt.
"""

from __future__ import annotations

from tensorprog.backend.emit import HEAD, POINTERS

STEP, OUT, TILE = 6, 7, 9
"""How many numbers say what a step, a kernel and a tile are."""


def _write(pointer: str) -> str:
    return f"""{HEAD}

@cfunc(types.int64(NUMBERS, INDICES, types.int64, INDICES, *[types.int64] * 3), **OPTIONS)
def function(S, A, address, at, rows, cols, length):
    kernel = {pointer}(address)
    ii = A[0]
    jj = A[1]
    ni = A[2]
    nj = A[3]
    wide = A[5]
    for a in range(rows):
        for b in range(cols):
            tile = behind(S, at[a * cols + b] * A[4] * wide)
            for i in range(ni):
                first = 0
                if A[8] > 0 and ii + i > jj:
                    first = ii + i - jj if ii + i - jj < nj else nj
                out = behind(kernel, ((ii + i) * rows + a) * length + jj * cols + b)
                if cols == 1:
                    for j in range(first, nj):
                        out[j] = tile[i * wide + j]
                else:
                    for j in range(first, nj):
                        out[j * cols] = tile[i * wide + j]
    return 0
"""


WRITE = {dtype: _write(pointer) for dtype, pointer in POINTERS.items()}
"""The source of what writes a tile to a kernel, by its type."""

RUN = f"""{HEAD}
RUN = types.int64(NUMBERS, INDICES, NUMBERS, NUMBERS, NUMBERS, INDICES, NUMBERS, INDICES, types.int64,
                  INDICES, types.int64, NUMBERS, BYTES, INDICES, *[types.int64] * 5)


@cfunc(RUN, **OPTIONS)
def function(S, F, W, L, R, A, T, steps, count, given, products, G, D, outs, kernels, first, last, start, end):
    high = A[4]
    cols = A[5]
    wide = end - start
    doubtful = 0
    for ii in range(first, last, high):
        for jj in range(start, end, cols):
            A[0] = ii
            A[1] = jj
            A[2] = high if last - ii > high else last - ii
            A[3] = cols if end - jj > cols else end - jj
            if A[8] > 0 and jj + A[3] <= ii:
                continue
            for q in range(high * cols):
                F[q] = 0
            for g in range(products):
                for i in range(A[2]):
                    o = (given[g] * high + i) * cols
                    p = (g * (last - first) + ii - first + i) * wide + jj - start
                    for j in range(A[3]):
                        S[o + j] = G[p + j]
            for s in range(count):
                step = behind(steps, s * {STEP})
                first_error = behind(W, step[5])
                called(step[0], (S, F, first_error, L, R, A, T, indices(step[1]), numbers(step[2]), step[3], step[4]))
            for k in range(kernels):
                out = behind(outs, k * {OUT})
                called(out[0], (S, A, out[2], indices(out[3]), out[4], out[5], out[6]))
            doubts = 0
            for i in range(A[2]):
                for j in range(A[3]):
                    doubts += F[i * cols + j]
            if doubts > 0:
                doubtful += 1
                for i in range(A[2]):
                    p = (ii - first + i) * wide + jj - start
                    for j in range(A[3]):
                        D[p + j] = 1 if F[i * cols + j] > 0 else 0
        if A[8] > 0:
            for k in range(kernels):
                out = behind(outs, k * {OUT})
                r = out[4]
                c = out[5]
                called(out[1], (out[2], out[6], ii * r, (ii + A[2]) * r, start * c, end * c))
    return doubtful
"""
