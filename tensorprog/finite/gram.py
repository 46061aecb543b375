"""Inner products of gradients from the uses of a weight, without any gradient of a matrix per example.

The gradient of f[o] for one example with respect to a weight element is a sum of dyads, one for every use,
row_p (x) col_p.  Hence

    <d f / d W, d f' / d W> = sum over pairs of uses p, p' of <row_p, row_p'> <col_p, col_p'>

which costs P^2 (n1 + n2) per pair of examples, P being the number of uses in one example (1 in a fully
connected network).  Where P is large (the pixels of a convolution) it is cheaper to add up the dyads, a
few rows of the weight at a time; `gradient_gram` takes whichever is cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.forward import State, weight_elements
from tensorprog.finite.weights import Array
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Use
from tensorprog.ir.tables import Ints, Table, count, flat_index, grid

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


@final
@dataclass(frozen=True, slots=True)
class Entries:
    """The uses of a weight in one group: which output element, weight element, row and column; with a factor."""

    state: State
    use: Use
    first: int
    out: Ints
    element: Ints
    row: Ints
    col: Ints
    coef: Floats


def gradient_gram(uses: Sequence[Use], states: Sequence[State], firsts: Sequence[int], samples: int) -> Floats:
    """G[a, b] = <d f_a / d W, d f_b / d W> over all elements of one weight W, [samples, samples].

    Samples are the pairs (example, output element); those of group g are numbered from `firsts[g]`,
    example by example.
    """
    entries = [entries_of(use, state, first) for use in uses for state, first in zip(states, firsts, strict=True)]
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


def entries_of(use: Use, state: State, first: int) -> Entries:
    """The elements of the domain of a use at which everything is inside its family."""
    env, program = state.env, state.plan.program
    index, length = grid(use.domain, env), count(use.domain, env)
    out_axes = use.domain[: len(use.out)]

    def find(at: tuple[Any, ...], axes: tuple[Any, ...]) -> Ints:
        return flat_index(at, axes, {**env, **index}, env, length)

    out, row = find(use.out, out_axes), find(use.row_index, program.var(use.row).axes)
    col = np.zeros(length, dtype=np.int64) if use.col is None else find(use.col_index, program.var(use.col).axes)
    keep = (out >= 0) & (row >= 0) & (col >= 0)
    inside = {name: values[keep] for name, values in index.items()}
    element = weight_elements(use.windex, use.weight, Table(out[keep], row[keep], inside), state)
    coef = _factors(use, inside, env, int(keep.sum()))
    return Entries(state, use, first, out[keep], element, row[keep], col[keep], coef)


def _factors(use: Use, index: Mapping[str, Ints], env: Mapping[str, Any], length: int) -> Floats:
    value = np.asarray(evaluate(use.coef, {**env, **index}), dtype=np.float64)
    return np.broadcast_to(value, (length,))


def _dyads(entries: Sequence[Entries], element: int) -> Dyads:
    """All uses of one weight element, of all groups, sorted by sample."""
    parts = [_group_dyads(e, np.flatnonzero(e.element == element)) for e in entries if element in e.element]
    sample = np.concatenate([p.sample for p in parts])
    order = np.argsort(sample, kind="stable")
    rows, cols = np.concatenate([p.rows for p in parts]), np.concatenate([p.cols for p in parts])
    return Dyads(sample[order], rows[order], cols[order])


def _group_dyads(e: Entries, mine: Ints) -> Dyads:
    values, examples = e.state.values, e.state.group.examples
    outputs = count(e.use.domain[: len(e.use.out)], e.state.env)
    number = e.first + np.arange(examples) * outputs
    sample = (e.out[mine][:, None] + number).ravel()
    rows = values[e.use.row][e.row[mine]]
    rows = rows * e.coef[mine].astype(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
    rows = rows.reshape(len(sample), -1)
    if e.use.col is None:
        return Dyads(sample, rows, np.ones((len(sample), 1), dtype=rows.dtype))
    return Dyads(sample, rows, values[e.use.col][e.col[mine]].reshape(len(sample), -1))
