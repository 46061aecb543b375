"""Integrated Gaussian variables: the rows of matrices that are not drawn, and the nodes, linear combinations of them.

    u = mean + sum over matrices W of a_W g_W[row],    Cov(u, u') = sum over W of a_W a'_W C_W[row, row']

C_W is the covariance of the rows of W that were needed so far, with a row of its own for every combination of several.
Independent runs that are computed together have the same rows and nodes, and covariances of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse import block_diag, csr_matrix, identity, vstack

from tensorprog.evaluate.sampling_factor import Floats, Ints
from tensorprog.evaluate.sampling_record import Direct
from tensorprog.evaluate.sampling_terms import Block, Class, Matrix, Terms, U


class Rows:
    """The covariance of the rows of one integrated matrix, products and combinations of products.

    `mix` are all rows in terms of products, None as long as there are products alone.
    """

    def __init__(self, runs: int, arrays: Direct) -> None:
        self.arrays = arrays
        self.covariance: Floats = arrays.zeros(runs, 0, 0)
        self.mix: csr_matrix | None = None

    def add(self, own: Floats, cross: Floats) -> Ints:
        """New products with the covariance `cross` to those before; returns the numbers of the rows."""
        if self.mix is not None:
            cross = self.arrays.call(_rows_mixed, self.mix, cross.swapaxes(1, 2)).swapaxes(1, 2)
            self.mix = block_diag([self.mix, identity(own.shape[1])], format="csr")
        return self._extend(own, cross)

    def combine(self, mix: csr_matrix) -> Ints:
        """New rows that are combinations of those before."""
        known = identity(self.covariance.shape[1], format="csr") if self.mix is None else self.mix
        self.mix = vstack([known, mix @ known], format="csr")
        cross = self.arrays.call(_rows_mixed, mix, self.covariance)
        return self._extend(self.arrays.call(_rows_mixed, mix, cross.swapaxes(1, 2)), cross)

    def _extend(self, own: Floats, cross: Floats) -> Ints:
        old = self.covariance.shape[1]
        self.covariance = self.arrays.call(_bordered, self.covariance, cross, own)
        return np.arange(old, old + own.shape[1])


def _bordered(first: Floats, cross: Floats, last: Floats) -> Floats:
    """The symmetric matrices of these blocks, of every run."""
    runs, old = first.shape[:2]
    size = old + last.shape[1]
    found = np.empty((runs, size, size))
    found[:, :old, :old], found[:, old:, old:] = first, last
    found[:, old:, :old], found[:, :old, old:] = cross, cross.swapaxes(1, 2)
    return found


def _rows_mixed(mix: csr_matrix, values: Floats) -> Floats:
    """`mix` @ values of every run."""
    return np.stack([mix.dot(v) for v in values])


@final
@dataclass(frozen=True, slots=True)
class Part:
    """What nodes have of one matrix: `coef` times the row `row`; over (node, example)."""

    row: Ints
    coef: Floats

    def at(self, rows: Ints) -> Part:
        """Some of them."""
        return Part(self.row[rows], self.coef[rows])


NOTHING = Part(np.zeros(0, dtype=np.int64), np.zeros(0))


class Nodes:
    """The nodes of one class in one group of examples; node n of example e is row n * examples + e."""

    def __init__(self, examples: int, known: dict[Matrix, Rows], runs: int, arrays: Direct) -> None:
        self.examples, self.known, self.runs, self.arrays, self.count = examples, known, runs, arrays, 0
        self.mean: Floats = np.zeros(0)
        self.variance: Floats = arrays.zeros(runs, 0)
        self.parts: dict[Matrix, Part] = {}

    def add(self, mean: Floats, parts: dict[Matrix, Part]) -> Ints:
        """New nodes; `mean` and `parts` are over (node, example).  Returns their numbers."""
        own = [(self.known[m].covariance, p.row, p.row, p.coef, p.coef) for m, p in parts.items()]
        variance = self.arrays.call(_combined, (self.runs, len(mean)), own)
        for matrix in self.parts.keys() | parts.keys():
            old = _padded(self.parts.get(matrix, NOTHING), len(self.mean))
            new = _padded(parts.get(matrix, NOTHING), len(mean))
            self.parts[matrix] = Part(np.append(old.row, new.row), np.append(old.coef, new.coef))
        self.mean, self.variance = np.append(self.mean, mean), np.append(self.variance, variance, axis=1)
        first, self.count = self.count, len(self.mean) // self.examples
        return np.arange(first, self.count)

    def rows(self, nodes: Ints) -> Ints:
        """The rows of nodes, for all examples."""
        rows: Ints = (nodes[:, None] * self.examples + np.arange(self.examples)).ravel()
        return rows

    def covariance(self, rows: Ints, other: Nodes, others: Ints) -> Floats:
        """Cov(u, u') for all pairs of rows, [runs, rows, others]."""
        pairs = [(m, self.parts[m].at(rows), other.parts[m].at(others)) for m in self.parts.keys() & other.parts.keys()]
        found: Floats = self.arrays.call(_combined, (self.runs, len(rows), len(others)), [
            (self.known[m].covariance, a.row[:, None], b.row, a.coef[:, None], b.coef)
            for m, a, b in pairs if a.coef.any() and b.coef.any()
        ])
        return found

    # ------------------------------------------------------------ sums of nodes

    def combined(self, terms: Terms, elements: int) -> Ints:
        """New nodes: the sums of numbers and multiples of nodes."""
        mean, parts = np.zeros(elements * self.examples), dict[Matrix, list[tuple[Ints, Part]]]()
        for block in terms:
            target = (block.elem[:, None] * self.examples + np.arange(self.examples)).ravel()
            coef = np.broadcast_to(block.coef[:, :, 0], (len(block.elem), self.examples)).ravel()
            if not block.shape:
                np.add.at(mean, target, coef)
                continue
            source = self.rows(block.nodes[:, 0])
            np.add.at(mean, target, coef * self.mean[source])
            for matrix, part in self.parts.items():
                used = part.coef[source] != 0
                chosen = part.at(source[used])
                if used.any():
                    parts.setdefault(matrix, []).append((target[used], Part(chosen.row, chosen.coef * coef[used])))
        return self.add(mean, {matrix: self._one_row(matrix, p, len(mean)) for matrix, p in parts.items()})

    def _one_row(self, matrix: Matrix, parts: list[tuple[Ints, Part]], size: int) -> Part:
        """Multiples of single rows as they are, other sums as new rows of the matrix."""
        target = np.concatenate([t for t, _ in parts])
        row, coef = (np.concatenate([getattr(p, name) for _, p in parts]) for name in ("row", "coef"))
        result = Part(np.zeros(size, dtype=np.int64), np.zeros(size))
        several = np.bincount(target, minlength=size)[target] > 1
        result.row[target[~several]], result.coef[target[~several]] = row[~several], coef[~several]
        if several.any():
            where, at = np.unique(target[several], return_inverse=True)
            shape = (len(where), self.known[matrix].covariance.shape[1])
            result.row[where] = self.known[matrix].combine(csr_matrix((coef[several], (at, row[several])), shape=shape))
            result.coef[where] = 1.0
        return result


def _combined(shape: tuple[int, ...], parts: Sequence[tuple[Floats, Ints, Ints, Floats, Floats]]) -> Floats:
    """The sum of covariance[run, i, j] a b."""
    total = np.zeros(shape)
    for covariance, i, j, a, b in parts:
        total += covariance[:, i, j] * a * b
    return total


def _padded(part: Part, size: int) -> Part:
    return part if len(part.row) == size else Part(np.zeros(size, dtype=np.int64), np.zeros(size))


def as_terms(numbers: Ints, of: Class) -> Terms:
    """Elements that are one node each."""
    return (Block(((of, U),), np.arange(len(numbers)), numbers[:, None], np.ones((len(numbers), 1, 1))),)
