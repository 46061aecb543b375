"""The module around the instructions: tiles of pairs, one after another, and the kernels they are written to.

`run` is called for a strip of left examples, `first` to `last`, and right ones from `start` on:

    G [given, STRIP, J - start]       inner products of data, from left example `origin` on
    D [STRIP, J - start]              the pairs in doubt
    O [I * rows, J * cols]            a kernel, for each of those asked for; `at` [rows, cols] are the slots it shows

Where both sides are the same (`mirrored`), pairs above the diagonal are computed and written twice, those on it are not
written at all.  The result is the number of tiles with pairs in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.backend.emit import Kind, lines_of

HEAD = '''"""Generated from the equations of a limit."""

import math

import numpy as np
from numba import njit

from tensorprog.backend import special

OPTIONS = {"error_model": "numpy", "nogil": True, "cache": True}
'''

WRITE = """
@njit(**OPTIONS)
def write(S, O, at, ii, jj, ni, nj, mirrored):
    rows, cols = at.shape
    for a in range(rows):
        for b in range(cols):
            tile = S[at[a, b]]
            for i in range(ni):
                first = min(nj, max(0, ii + i + 1 - jj)) if mirrored else 0
                row = O[(ii + i) * rows + a]
                if cols == 1:
                    row[jj + first : jj + nj] = tile[i, first:nj]
                else:
                    for j in range(first, nj):
                        row[(jj + j) * cols + b] = tile[i, j]
            for j in range(nj if mirrored else 0):
                last = min(ni, max(0, jj + j - ii))
                row = O[(jj + j) * cols + b]
                if rows == 1:
                    row[ii : ii + last] = tile[:last, j]
                else:
                    for i in range(last):
                        row[(ii + i) * rows + a] = tile[i, j]
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
    return f"""

@njit(**OPTIONS)
def run(S, F, W, L, R, steps, given, G, D, origin, first, last, start, mirrored, {", ".join(arrays)}):
    doubtful = 0
    for ii in range(first, last, S.shape[1]):
        ni = min(S.shape[1], last - ii)
        for jj in range(start, R.shape[1], S.shape[2]):
            nj = min(S.shape[2], R.shape[1] - jj)
            if mirrored and jj + nj <= ii:
                continue
            F[:] = 0.0
            for g in range(len(given)):
                for i in range(ni):
                    S[given[g], i, :nj] = G[g, ii - origin + i, jj - start : jj - start + nj]
            for s in range(len(steps)):
                kind, lo, hi = steps[s, 0], steps[s, 1], steps[s, 2]
{lines_of(choices, 16)}
{lines_of(writes, 12)}
            if F[:ni, :nj].any():
                doubtful += 1
                for i in range(ni):
                    D[ii - origin + i, jj - start : jj - start + nj] = F[i, :nj] > 0.0
    return doubtful
"""
