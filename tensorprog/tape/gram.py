"""Inner products of data, consistent on equal inputs: <x, x> is the same number wherever it is formed.

A kernel at equal inputs is at correlation one, where rounding errors enter the NTK of kinked nonlinearities by their
square root.  A matrix product sums in another order than a norm; entries of equal (or opposite) rows take the norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.threads import parallel

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]
GOLDEN = 0.6180339887498949
NEAR = 0.98
"""Products above so much of both norms are formed in float64, whatever is asked for: angles are small there."""
MANY = 64
"""Where more than one of so many products is, all of them are."""
CACHED = 16
"""Rows that are looked at together, while they are in the cache."""
SHARED = 256
"""Rows that a thread takes at a time."""
SHORT = 4
"""So few products are added in their order, which costs about as much as to look for equal rows, however many are."""


def row_products(x: Floats, y: Floats) -> Floats:
    """<x[k], y[k]> of two arrays [N, d]."""
    products = np.empty(len(x))
    if x.shape[1] <= SHORT:
        _in_order(x.T, y.T, products, np.empty(len(x)))
        return products
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)

    def work(start: int) -> None:
        rows = slice(start, start + SHARED)
        np.einsum("kd,kd->k", x[rows], y[rows], out=products[rows])

    parallel(work, range(0, len(x), SHARED))
    return products


def _in_order(x: Floats, y: Floats, total: Floats, room: Floats) -> None:
    """The sum of x[k] y[k] over k, one after another: the same to the last bit wherever factors are."""
    total[:] = 0.0
    for one, other in zip(x, y, strict=True):
        total += np.multiply(one, other, out=room)


@final
@dataclass(frozen=True, slots=True)
class Coarse:
    """Two arrays in float32; norms[0][i] norms[1][j] are the products from which on they are formed in float64."""

    x: Singles
    y: Singles
    norms: tuple[Singles, Singles]


@final
@dataclass(frozen=True, slots=True)
class Gram:
    """<x[i], y[j]> of arrays [N, d] and [M, d], block by block; at i[k], j[k] (i ascending) they are values[k].

    `coarse` are the arrays in float32 and their norms: products of this accuracy, relative to the norms, will do.
    """

    x: Floats
    y: Floats
    i: Ints
    j: Ints
    values: Floats
    coarse: Coarse | None

    def fill(self, out: Floats, rows: slice, cols: slice) -> None:
        """Write the products of some rows of x and of y."""
        if self.x.shape[1] <= SHORT:
            self._fill_in_order(out, rows, cols)
        elif self.coarse is None or not self._fill_coarsely(self.coarse, out, rows, cols):
            np.matmul(self.x[rows], self.y[cols].T, out=out)
        first, last = np.searchsorted(self.i, (rows.start, rows.stop))
        inside = first + np.flatnonzero((self.j[first:last] >= cols.start) & (self.j[first:last] < cols.stop))
        out[self.i[inside] - rows.start, self.j[inside] - cols.start] = self.values[inside]

    def _fill_in_order(self, out: Floats, rows: slice, cols: slice) -> None:
        """As `row_products` adds up short rows, a few rows at a time."""
        x, y = self.x[rows].T[:, :, None], np.ascontiguousarray(self.y[cols].T)[:, None, :]
        room = np.empty((CACHED, out.shape[1]))
        for k in range(0, len(out), CACHED):
            part = out[k : k + CACHED]
            _in_order(x[:, k : k + CACHED], y, part, room[: len(part)])

    def _fill_coarsely(self, coarse: Coarse, out: Floats, rows: slice, cols: slice) -> bool:
        """In float32; False where too many rows are nearly parallel."""
        products = coarse.x[rows] @ coarse.y[cols].T
        found = [np.zeros(0, dtype=np.int64)]
        for start in range(0, len(products), CACHED):
            part = slice(start, start + CACHED)
            near = np.abs(products[part]) > np.multiply.outer(coarse.norms[0][rows][part], coarse.norms[1][cols])
            found.append(np.flatnonzero(near) + start * near.shape[1])
            out[part] = products[part]
        i, j = np.divmod(np.concatenate(found), products.shape[1])
        if len(i) * MANY > products.size + MANY * MANY:
            return False
        out[i, j] = row_products(self.x[rows][i], self.y[cols][j])
        return True


def _coarse(x: Floats, y: Floats) -> Coarse | None:
    """The arrays in float32; None where their squares leave its range."""
    left = np.sqrt(row_products(x, x))
    norms = left, left if x is y else np.sqrt(row_products(y, y))
    largest = max(float(n.max(initial=0.0)) for n in norms)
    if not 1e-6 < largest < 1e15:
        return None
    single = x.astype(np.float32)
    bounds = (NEAR * norms[0]).astype(np.float32), norms[1].astype(np.float32)
    return Coarse(single, single if x is y else y.astype(np.float32), bounds)


def gram_of(x: Floats, y: Floats, coarse: bool = False) -> Gram:
    """The inner products of the rows of x and of y, which may be the same array; `coarse` ones in float32."""
    if x.shape[1] <= SHORT:
        none = np.zeros(0, dtype=np.int64)
        return Gram(x, y, none, none, np.zeros(0), None)
    i, j, signs = twins(x, y)
    return Gram(x, y, i, j, signs * row_products(x, x)[i], _coarse(x, y) if coarse else None)


def cosines_of(x: Floats, y: Floats, coarse: bool = False) -> Gram:
    """The inner products of rows of length one, which are 1 and -1 where these are equal or opposite."""
    i, j, signs = twins(x, y)
    return Gram(x, y, i, j, signs, _coarse(x, y) if coarse else None)


def gram(x: Floats, y: Floats) -> Floats:
    """<x[i], y[j]> of arrays [N, d] and [M, d]: [N, M]."""
    products = np.empty((len(x), len(y)))
    gram_of(x, y).fill(products, slice(0, len(x)), slice(0, len(y)))
    return products


def twins(x: Floats, y: Floats) -> tuple[Ints, Ints, Floats]:
    """The rows x[i], y[j] that are equal (1) or opposite (-1), i ascending; x and y may be the same array."""
    left = fingerprints(x)
    prints = left, left if x is y else fingerprints(y)
    different = left if x is y else np.concatenate(prints)
    if len(np.unique(different)) == len(different):
        alone = np.arange(len(x) if x is y else 0)
        return alone, alone, np.ones(len(alone))
    i, j = equal_pairs(*numbered(prints, lambda side, k: _upright((x, y)[side][k]).tobytes(), x is y))
    signs = np.ones(len(i))
    apart = np.flatnonzero((i != j) | (x is not y))
    signs[apart] = _signs(x, i[apart]) * _signs(y, j[apart])
    return i, j, signs


def _signs(x: Floats, rows: Ints) -> Floats:
    """Of the first number that is not 0, of some rows."""
    unique, place = np.unique(rows, return_inverse=True)
    chosen = x[unique]
    signs: Floats = np.copysign(1.0, chosen[np.arange(len(unique)), np.argmax(chosen != 0, axis=1)])
    return signs[place]


def _upright(row: Floats) -> Floats:
    """The row or its opposite, whose first number that is not 0 is positive; no zero has a sign."""
    upright: Floats = row * np.copysign(1.0, row[np.argmax(row != 0)]) + 0.0
    return upright


def fingerprints(x: Floats) -> Floats:
    """A number for every row of [N, d], equal where rows are equal or opposite, and hardly ever elsewhere."""
    weights = 1.0 + np.modf(GOLDEN * np.arange(x.shape[1]))[0]
    prints = np.empty(len(x))

    def work(start: int) -> None:
        for k in range(start, min(start + SHARED, len(x)), CACHED):
            part = slice(k, k + CACHED)
            np.einsum("kd,d->k", np.abs(np.ascontiguousarray(x[part])), weights, out=prints[part])

    parallel(work, range(0, len(x), SHARED))
    return prints


def numbered(prints: tuple[Floats, Floats], content: Callable[[int, int], bytes], same: bool) -> tuple[Ints, Ints]:
    """Numbers of the rows of two sides: equal ones have the same.

    `prints` are equal where rows are; `content(side, k)` is read where that does not tell rows apart.  Both sides are
    the same where `same`.
    """
    sides = prints[:1] if same else prints
    _, numbers, counts = np.unique(np.concatenate(sides), return_inverse=True, return_counts=True)
    known: dict[bytes, int] = {}
    for k in np.flatnonzero(counts[numbers] > 1):
        side = int(k >= len(prints[0]))
        numbers[k] = known.setdefault(content(side, int(k) - side * len(prints[0])), len(counts) + len(known))
    return numbers[: len(prints[0])], numbers if same else numbers[len(prints[0]) :]


def equal_pairs(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """The pairs (i, j) with a[i] = b[j], i ascending."""
    order = np.argsort(b, kind="stable")
    low, high = (np.searchsorted(b[order], a, side=s) for s in ("left", "right"))
    counts = high - low
    i = np.repeat(np.arange(len(a)), counts)
    within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    return i, order[low[i] + within]
