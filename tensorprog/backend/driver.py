"""The module around the instructions: tiles of pairs, one after another, and the kernels they are written to.

`run` is called for left examples `first` to `last` and right ones `start` to `end`:

    G [given, last - first, end - start]       inner products of data
    D [last - first, end - start]              the pairs in doubt
    O [I * rows, J * cols]    a kernel, for each of those asked for; `at` [rows, cols] are the slots it shows

Where both sides are the same (`mirrored`), pairs above the diagonal and on it are computed, and turned over from there.
The result is the number of tiles with pairs in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.backend.emit import Kind, lines_of

HEAD = '''"""Generated from the equations of a limit."""

import math

import numpy as np
from numba import njit

from tensorprog.backend import special
from tensorprog.backend.mirror import mirror

OPTIONS = {"error_model": "numpy", "nogil": True, "cache": True}
'''

WRITE = """
@njit(**OPTIONS)
def write(S, O, at, ii, jj, ni, nj, mirrored):
    rows, cols = at.shape
    for a in range(rows):
        for b in range(cols):
            s = at[a, b]
            for i in range(ni):
                first = min(nj, max(0, ii + i - jj)) if mirrored else 0
                if cols == 1:
                    row, tile = O[(ii + i) * rows + a, jj + first : jj + nj], S[s, i, first:nj]
                    for j in range(len(row)):
                        row[j] = tile[j]
                else:
                    for j in range(first, nj):
                        O[(ii + i) * rows + a, (jj + j) * cols + b] = S[s, i, j]


@njit(**OPTIONS)
def turn_over(O, at, first, last, start, end):
    rows, cols = at.shape
    mirror(O, first * rows, last * rows, start * cols, end * cols)
"""


def module(kinds: Sequence[Kind], kernels: int) -> str:
    """The source of the module: all kinds, and `run` over tiles."""
    return HEAD + WRITE + "\n".join(k.source for k in kinds) + _run(kinds, kernels)


def _run(kinds: Sequence[Kind], kernels: int) -> str:
    arrays = [name for n in range(kernels) for name in (f"O{n}", f"at{n}")]
    arrays += [name for n in range(len(kinds)) for name in (f"index{n}", f"coef{n}")]
    arguments = "S, F, W, L, R, ii, jj, ni, nj"
    choices = []
    for n, kind in enumerate(kinds):
        choices.append(f"{'if' if n == 0 else 'elif'} kind == {n}:")
        choices.append(f"    {kind.name}({arguments}, index{n}, coef{n}, lo, hi)")
    writes = [f"write(S, O{n}, at{n}, ii, jj, ni, nj, mirrored)" for n in range(kernels)]
    turns = [f"turn_over(O{n}, at{n}, ii, ii + ni, start, end)" for n in range(kernels)]
    return f"""

@njit(**OPTIONS)
def run(S, F, W, L, R, steps, given, G, D, first, last, start, end, mirrored, {", ".join(arrays)}):
    doubtful = 0
    for ii in range(first, last, S.shape[1]):
        ni = min(S.shape[1], last - ii)
        for jj in range(start, end, S.shape[2]):
            nj = min(S.shape[2], end - jj)
            if mirrored and jj + nj <= ii:
                continue
            F[:] = 0
            for g in range(len(given)):
                for i in range(ni):
                    products = G[g, ii - first + i, jj - start : jj - start + nj]
                    for j in range(nj):
                        S[given[g], i, j] = products[j]
            for s in range(len(steps)):
                kind, lo, hi = steps[s, 0], steps[s, 1], steps[s, 2]
{lines_of(choices, 16)}
{lines_of(writes, 12)}
            doubts = 0
            for i in range(ni):
                for j in range(nj):
                    doubts += F[i, j]
            if doubts > 0:
                doubtful += 1
                for i in range(ni):
                    for j in range(nj):
                        D[ii - first + i, jj - start + j] = F[i, j] > 0
        if mirrored:
{lines_of(turns, 12)}
    return doubtful
"""
