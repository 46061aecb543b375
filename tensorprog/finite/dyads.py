"""Inner products of gradients from a list of dyads, for uses in no pattern: ragged, of a matrix and its transpose.

See `gram.py`; here every pair of uses, or every sum, is made from dyads sorted by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.uses import Entries
from tensorprog.finite.weights import Array
from tensorprog.ir.tables import Ints

CHUNK = 1 << 23
"""Numbers held at once."""

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Dyads:
    """`rows[p] (x) cols[p]` adds to the gradient of sample `sample[p]`; ascending in `sample`."""

    sample: Ints
    rows: Array
    cols: Array


def dyad_gram(entries: Sequence[Entries], samples: int) -> Floats:
    """G[a, b] = <d f_a / d W, d f_b / d W> from the uses `entries` of one weight, [samples, samples]."""
    gram = np.zeros((samples, samples))
    elements = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(e.element for e in entries)]))
    for k in elements:
        dyads = _dyads(entries, int(k))
        present, start = np.unique(dyads.sample, return_index=True)
        part = pair_gram(dyads, start) if _pairs_cheaper(dyads, len(present)) else summed_gram(dyads, start)
        gram[np.ix_(present, present)] += part
    return gram


def _pairs_cheaper(dyads: Dyads, samples: int) -> bool:
    uses, n1, n2 = len(dyads.sample), dyads.rows.shape[1], dyads.cols.shape[1]
    return bool(uses * uses * (n1 + n2) <= (uses + samples * samples) * n1 * n2)


def pair_gram(dyads: Dyads, start: Ints) -> Floats:
    """The gram matrix by products of inner products; `start` is where each sample begins."""
    uses = len(dyads.sample)
    size = max(1, CHUNK // uses)
    left = np.zeros((uses, len(start)))
    for a in range(0, uses, size):
        part = slice(a, a + size)
        products = (dyads.rows[part] @ dyads.rows.T) * (dyads.cols[part] @ dyads.cols.T)
        left[part] = np.add.reduceat(products, start, axis=1, dtype=np.float64)
    total: Floats = np.add.reduceat(left, start, axis=0)
    return total


def summed_gram(dyads: Dyads, start: Ints) -> Floats:
    """The gram matrix by adding up the dyads of every sample, for a few rows of the weight at a time."""
    n1, n2 = dyads.rows.shape[1], dyads.cols.shape[1]
    stop = [*start[1:], len(dyads.sample)]
    size = max(1, CHUNK // (len(start) * n2))
    total = np.zeros((len(start), len(start)))
    for a in range(0, n1, size):
        rows = dyads.rows[:, a : a + size]
        sums = [rows[i:j].T @ dyads.cols[i:j] for i, j in zip(start, stop, strict=True)]
        flat = np.stack(sums).reshape(len(start), -1)
        total += flat @ flat.T
    return total


def _dyads(entries: Sequence[Entries], element: int) -> Dyads:
    """All uses of one weight element, of all groups, sorted by sample."""
    parts = [_group_dyads(e, np.flatnonzero(e.element == element)) for e in entries if element in e.element]
    sample = np.concatenate([p.sample for p in parts])
    order = np.argsort(sample, kind="stable")
    rows, cols = np.concatenate([p.rows for p in parts]), np.concatenate([p.cols for p in parts])
    return Dyads(sample[order], rows[order], cols[order])


def _group_dyads(e: Entries, mine: Ints) -> Dyads:
    values, examples = e.state.values, e.state.group.examples
    number = e.first + np.arange(examples) * e.outputs
    sample = (e.out[mine][:, None] + number).ravel()
    rows = values[e.use.row][e.row[mine]]
    rows = rows * e.coef[mine].astype(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
    rows = rows.reshape(len(sample), -1)
    if e.use.col is None:
        return Dyads(sample, rows, np.ones((len(sample), 1), dtype=rows.dtype))
    return Dyads(sample, rows, values[e.use.col][e.col[mine]].reshape(len(sample), -1))
