"""Gradients of one weight added up over its uses, for all samples, and the Gram matrix of them.

    d f[o] / d W[k] = sum over uses p of coef[p] row[rows[o, at[p]]] (x) col[cols[o, p]]

is a matrix product of rows with columns.  The columns are laid out in strips, zero where a row meets none, and every
weight element reads a window of them: taps of a filter that are a row of pixels apart share a strip, which is then
copied once for all of them.  A few examples at a time, so that strips and rows stay in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np

from tensorprog.finite.products import Run, repeated, repeats, take
from tensorprog.finite.threads import parallel, workers
from tensorprog.finite.uses import Floats, Gather, Side
from tensorprog.finite.weights import Array
from tensorprog.ir.tables import Ints

TILE = 1 << 21
"""Numbers of gradients from which on more are held than a cache of the machine has."""

COLUMNS = 128
"""Columns of a weight with which a matrix product is about as fast as with more."""

SMALL = 1_000_000
"""Multiplications of a matrix product up to which BLAS copies no operand."""

LEAST_USES = 112
"""Uses in a matrix product to which it pays to add another."""

HELD = 1 << 18
"""Numbers of strips that are held at once."""

GUESSES = 4
"""Places of a strip at which a window is tried."""


def summed_gram(sides: Sequence[Side], samples: int, chunk: int) -> Floats:
    """Gram matrix of the gradients, [samples, samples], from about `chunk` numbers of them at a time."""
    n1, n2 = sides[0].dims
    gram = np.zeros((samples, samples))
    elements = _elements(sides)
    tiles = list(_tiles(elements, n2, max(1, min(chunk, TILE) // (samples * n1))))
    most = max(len(part) * (cols.stop - cols.start) for part, cols in tiles)
    memory = np.empty(samples * n1 * most, dtype=sides[0].row_family.dtype)
    for part, cols in tiles:
        shape = samples, len(part), n1, cols.stop - cols.start
        gradients = memory[: math.prod(shape)].reshape(shape)
        if any(len(s.pattern.gathers) < len(elements) for s in sides):
            gradients[:] = 0
        add_up = partial(_add_up, elements=part, cols=cols, gradients=gradients, held=min(HELD, chunk // 2))
        parallel(add_up, sides)
        gram += inner_products(gradients.reshape(samples, -1))
    return gram


def inner_products(flat: Array) -> Floats:
    """flat @ flat.T, where there are many columns as the sum of those of a part of them for each thread."""
    length = flat.shape[1]
    size = max(COLUMNS * COLUMNS, -(-length // workers()))
    parts = [flat[:, a : a + size] for a in range(0, length, size)]
    return sum(parallel(lambda part: part @ part.T, parts), np.zeros((len(flat), len(flat))))


def _elements(sides: Sequence[Side]) -> list[int]:
    """The elements of the weight, those that share a strip one after the other."""
    met = {g.element for s in sides for g in s.pattern.gathers}
    windows = _layout(sides[0], tuple(g.element for g in sides[0].pattern.gathers), 0).windows
    start = {w.element: w.start for w in windows}
    return sorted(met, key=lambda element: (start.get(element, -1), element))


def _tiles(elements: list[int], n2: int, width: int) -> Iterator[tuple[tuple[int, ...], slice]]:
    """Weight elements and columns, at most about `width` columns in all at a time."""
    size = min(len(elements), max(1, width // min(n2, COLUMNS)))
    edges = np.linspace(0, n2, min(n2, -(-n2 * size // width)) + 1).astype(int).tolist()
    for k in range(0, len(elements), size):
        for a, b in zip(edges, edges[1:], strict=False):
            yield tuple(elements[k : k + size]), slice(a, b)


def _add_up(s: Side, elements: tuple[int, ...], cols: slice, gradients: Array, held: int) -> None:
    """gradients[sample, element] = rows.T @ columns for all samples of a group."""
    gathers = [g for g in s.pattern.gathers if g.element in elements]
    outputs = len(s.pattern.rows)
    layouts = [_layout(s, tuple(g.element for g in gathers), o) for o in range(len(gathers[0].cols))]
    length = max(len(layout.cols) for layout in layouts)
    size = min(s.examples, max(1, held // (length * gradients.shape[3])))
    strips = np.zeros((size, length, gradients.shape[3]), dtype=gradients.dtype)
    for a in range(0, s.examples, size):
        examples = slice(a, min(s.examples, a + size))
        met = strips[: examples.stop - a]
        for o in range(outputs):
            layout = layouts[min(o, len(layouts) - 1)]
            if o < len(layouts):
                layout.fill(met, s.col_family(), examples, cols)
            left = take(s.row_family, s.pattern.rows[o])[:, examples].transpose(1, 2, 0)
            for w in layout.windows:
                right = met[:, w.start : w.start + w.length]
                target = gradients[s.samples(o, examples), elements.index(w.element)]
                _multiply(left[:, :, w.row : w.row + w.length], right, target)


def _multiply(left: Array, right: Array, out: Array) -> None:
    """out = left @ right, matrix by matrix; many uses in parts that are added up."""
    uses = right.shape[1]
    parts = -(-left.shape[1] * uses * right.shape[2] // SMALL)
    size = -(-uses // parts) if uses >= LEAST_USES * parts else uses
    np.matmul(left[:, :, :size], right[:, :size], out=out)
    for a in range(size, uses, size):
        out += left[:, :, a : a + size] @ right[:, a : a + size]


# ---------------------------------------------------------------- strips


@final
@dataclass(frozen=True, slots=True)
class Window:
    """Row `row + k` meets under one weight element what is at `start + k` of the strips, k < length."""

    element: int
    row: int
    start: int
    length: int


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """All strips, one after the other, coef[k] * col[cols[k]], nothing where `cols` is -1; and who reads what.

    `runs` are the stretches of positions (the targets) in which columns (the sources) follow one another and the
    coefficient stays; `empty` are the positions of nothing.
    """

    cols: Ints
    windows: tuple[Window, ...]
    runs: tuple[Run, ...]
    empty: Ints

    def fill(self, strips: Array, family: Array | None, examples: slice, columns: slice) -> None:
        """Writes the columns of some examples into `strips` [examples, positions, columns]."""
        strips[:, self.empty] = 0
        for run in self.runs:
            target = repeats(strips.swapaxes(0, 1), run, 0)
            if family is None:
                target[:] = run.coef
            elif run.coef == 1:
                target[:] = repeats(family[:, examples, columns], run, 1)
            else:
                np.multiply(repeats(family[:, examples, columns], run, 1), run.coef, out=target)


def _layout(s: Side, elements: tuple[int, ...], o: int) -> Layout:
    """The strips of these weight elements, for one output element."""
    def found() -> Layout:
        return _laid_out([g for g in s.pattern.gathers if g.element in elements], o)

    return s.entries.state.plan.kept(("strips", id(s.pattern), elements, o), found)


def _laid_out(gathers: Sequence[Gather], o: int) -> Layout:
    strips: list[tuple[Ints, Floats]] = []
    places: list[tuple[int, int]] = []
    for g in gathers:
        new = _sequence(g, o)
        for k, strip in enumerate(strips):
            start = _overlap(strip, new)
            if start is not None:
                left = len(strip[0]) - start
                strips[k] = np.append(strip[0], new[0][left:]), np.append(strip[1], new[1][left:])
                places.append((k, start))
                break
        else:
            places.append((len(strips), 0))
            strips.append(new)
    cols, coef = (np.concatenate([strip[k] for strip in strips]) for k in (0, 1))
    starts = np.cumsum([0] + [len(strip[0]) for strip in strips])
    windows = tuple(Window(g.element, int(g.at[0]), int(starts[k]) + start, int(np.ptp(g.at)) + 1)
                    for g, (k, start) in zip(gathers, places, strict=True))
    runs = tuple(repeated(_pieces(cols, coef))) if (cols >= 0).any() else ()
    return Layout(cols, windows, runs, np.flatnonzero(cols < 0))


def _sequence(g: Gather, o: int) -> tuple[Ints, Floats]:
    """What the rows meet, from the first to the last that meets something; column -1 for nothing."""
    cols, coef = np.full(int(np.ptp(g.at)) + 1, -1), np.zeros(int(np.ptp(g.at)) + 1)
    cols[g.at - g.at[0]] = g.cols[min(o, len(g.cols) - 1)]
    coef[g.at - g.at[0]] = g.coef
    return cols, coef


def _overlap(strip: tuple[Ints, Floats], new: tuple[Ints, Floats]) -> int | None:
    """Where in the strip the new sequence starts, if half of it or more is there already and the strip ends in it."""
    for start in np.flatnonzero(strip[0] == new[0][0])[:GUESSES].tolist():
        shared = min(len(new[0]), len(strip[0]) - start)
        if 2 * shared >= len(new[0]) and all((old[start : start + shared] == add[:shared]).all()
                                             for old, add in zip(strip, new, strict=True)):
            return int(start)
    return None


def _pieces(cols: Ints, coef: Floats) -> Iterator[Run]:
    """The stretches of something."""
    cuts = np.flatnonzero((np.diff(cols) != 1) | (np.diff(coef) != 0)) + 1
    stops = [0, *cuts.tolist(), len(cols)]
    for a, b in zip(stops, stops[1:], strict=False):
        if cols[a] >= 0:
            yield Run(a, 0, int(cols[a]), b - a, float(coef[a]))
