"""Pairs of elements that fill a rectangle: one matrix product for every example in the place of many of vectors.

    s[k] = <u[i(k)], v[j(k)]>         U V.T, of which the entries (i(k), j(k)) are taken
    y[t(k)] += c[k] h[s(k)]           C h, with C[t(k), s(k)] = c[k]

The pairs of tokens in attention, the pairs of nodes in a graph with numbers as edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.finite.products import mix
from tensorprog.finite.weights import Array
from tensorprog.ir.tables import Ints

WASTE = 8
"""How many entries of a rectangle may be computed for one that is needed."""


@final
@dataclass(frozen=True, slots=True)
class Rectangle:
    """Pairs as entries of a matrix: pair k is (rows[at[k]], cols[to[k]])."""

    rows: Ints
    cols: Ints
    at: Ints
    to: Ints

    @property
    def filled(self) -> bool:
        """Whether most of the matrix is needed, and it is more than a list of vectors."""
        entries = len(self.rows) * len(self.cols)
        return min(len(self.rows), len(self.cols)) > 1 and entries <= WASTE * len(self.at)


def rectangle(left: Ints, right: Ints) -> Rectangle:
    """The smallest rectangle that holds the pairs (left[k], right[k])."""
    rows, at = np.unique(left, return_inverse=True)
    cols, to = np.unique(right, return_inverse=True)
    return Rectangle(rows, cols, at, to)


def inner_products(pairs: Rectangle, left: Array, right: Array) -> Array:
    """[pairs, examples]: <left[i], right[j]> for families of vectors [elements, examples, dim]."""
    rows, cols = left[pairs.rows].transpose(1, 0, 2), right[pairs.cols].transpose(1, 2, 0)
    products: Array = np.matmul(rows, cols)
    chosen: Array = products[:, pairs.at, pairs.to].T
    return chosen


def weighted_sums(pairs: Rectangle, scale: Array, operand: Array) -> Array:
    """[rows, examples, dim]: sum over k with at[k] = t of scale[k] * operand[cols[to[k]]]."""
    shape = len(pairs.rows), len(pairs.cols)
    place, all_pairs = pairs.at * shape[1] + pairs.to, np.arange(len(scale))
    entries = mix(place, all_pairs, np.ones(len(scale)), shape[0] * shape[1], scale)
    matrices = np.ascontiguousarray(entries.T).reshape(-1, *shape)
    result = np.empty((len(pairs.rows), *operand.shape[1:]), dtype=operand.dtype)
    np.matmul(matrices, operand[pairs.cols].transpose(1, 0, 2), out=result.transpose(1, 0, 2))
    return result
