"""Zonal reduction: a cross tape whose examples differ by one cosine only is a table of that cosine.

Where a cross tape reads its data through a single inner product, a kernel is at any depth a function of the cosine

    K(x, x') = f(c),  |x| = |x'| for all examples;        K(x, x') = |x|^p |x'|^p' f(c),  homogeneous (`tape.degrees`)
    c = <x, x'> / (|x| |x'|)

It is tabulated (`backend.cosine`) from evaluations of the tape itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.cosine import Part, Table, is_ready, tabulate
from tensorprog.evaluate.pairs import TABULATED, Pairs, Tables, part_of, single_run
from tensorprog.evaluate.tiles import Tile, on_tiles, scaled, tiles
from tensorprog.tape.blocks import DataGram
from tensorprog.tape.degrees import NONE, Inhomogeneous, degrees
from tensorprog.tape.execute import Run
from tensorprog.tape.gram import cosines_of, row_products
from tensorprog.tape.ranges import check_runs, variances_of
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SAME = 4e-15
"""Numbers of two examples that differ by less, relatively, are one up to the rounding of inner products."""
TOLERANCE = 2e-11
"""The error of a table relative to the largest value of its function, with that of the tape itself."""


@final
@dataclass(frozen=True, slots=True)
class Known:
    """A table (None: it is not accurate enough) for examples of which the tapes take `numbers` from data."""

    numbers: Floats
    table: Table | None


@final
@dataclass(frozen=True, slots=True)
class Zonal:
    """Kernels scale[0][:, i] * scale[1][:, j] * f(c[i, j]) of the cosines of `vectors` [examples, d], whose squared
    norms are `squares`; f is `table`."""

    table: Table
    vectors: tuple[Floats, Floats]
    squares: tuple[Floats, Floats]
    scale: tuple[Floats, Floats]

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """See `pairs.Evaluator`."""
        x = self._unit(0)
        y = x if mirrored else self._unit(1)
        cosines = cosines_of(x, y, all(k.dtype == np.float32 for k in kernels))

        def work(tile: Tile, room: Floats) -> None:
            cosines.fill(room[0], *tile)
            self.table.write(Part(*tile, mirrored, room[0]), self.scale, tuple(kernels))

        on_tiles(work, tiles(len(x), len(y), mirrored), (1, "float64"), progress)
        i, j, ends = cosines.i, cosines.j, np.where(cosines.values > 0, 0, 1)
        for f, kernel in enumerate(kernels):
            kernel[i, j] = self.scale[0][f, i] * self.scale[1][f, j] * self.table.ends[f, ends]

    def _unit(self, side: int) -> Floats:
        """The vectors at length one."""
        return scaled(self.vectors[side], 1 / np.sqrt(self.squares[side]))

    def errors(self) -> Floats:
        """The largest absolute error of every kernel."""
        largest: Floats = self.scale[0].max(axis=1) * self.scale[1].max(axis=1)
        return self.table.errors * largest


def zonal(pairs: Pairs, known: list[Known], names: tuple[str, ...], tables: Tables, count: int) -> Zonal | None:
    """The reduction of the kernels `names` between two groups, where it applies and pays for so many pairs of examples.

    Tables that were made are in `known`; the errors go into `tables`.
    """
    found = _found(pairs, known, count)
    if found is not None:
        for name, error in zip(names, found.errors().tolist(), strict=True):
            tables[name] = max(tables.get(name, 0.0), error)
    return found


def _found(pairs: Pairs, known: list[Known], count: int) -> Zonal | None:
    block = only_product(pairs)
    if block is None or count < TABULATED[is_ready()]:
        return None
    x, y = pairs.data[0][block.left][:, block.li[0]], pairs.data[1][block.right][:, block.rj[0]]
    own = row_products(x, x)
    norms = own, own if pairs.data[0] is pairs.data[1] else row_products(y, y)
    if min(n.min() for n in norms) <= 0:
        return None
    only = only_norm(pairs.singles[0], block)
    if _is_same(np.concatenate(norms)) and (only or _is_one_example(*pairs.selves)):
        scale = [np.ones((len(pairs.keys), len(n))) for n in norms]
        numbers = [norms[0][:1]] if only else [norms[0][:1], _numbers(pairs.selves[0])[:, 0]]
        table = _table(pairs, block, {name: x[:1] for name, x in pairs.data[0].items()}, np.concatenate(numbers), known)
    else:
        powers = _powers(pairs, block) if only else None
        if powers is None:
            return None
        scale = [n ** (p[:, None] / 2) for n, p in zip(norms, powers, strict=True)]
        table = _table(pairs, block, {block.left: placed(np.ones(1), block.li[0])}, np.ones(1), known)
    return None if table is None else Zonal(table, (x, y), norms, (scale[0], scale[1]))


def only_product(pairs: Pairs) -> DataGram | None:
    """The block of the one inner product of data that a cross tape reads; kernels must be numbers."""
    found = [b for b in pairs.tape.blocks if isinstance(b, DataGram)]
    numbers = all(pairs.tape.slots[k].rows == pairs.tape.slots[k].cols == 1 for k in pairs.keys)
    if len(found) != 1 or not numbers or pairs.singles[0] is not pairs.singles[1]:
        return None
    block = found[0]
    return block if block.left == block.right and len(block.out) == 1 and block.li[0] == block.rj[0] else None


def only_norm(tape: Tape, block: DataGram) -> bool:
    """Whether the tape of one run takes no number from data but the squared norm of what `block` multiplies."""
    grams = [b for b in tape.blocks if isinstance(b, DataGram)]
    one = (block.left, block.right, [block.li[0]], [block.rj[0]])
    return all((b.left, b.right, b.li.tolist(), b.rj.tolist()) == one for b in grams)


def _numbers(run: Run) -> Floats:
    """What the tape of one run takes from data, [numbers, examples]."""
    rows = [run.values[b.key][b.out] for b in run.tape.blocks if isinstance(b, DataGram)]
    return np.concatenate(rows) if rows else np.zeros((0, *run.examples))


def _is_one_example(left: Run, right: Run) -> bool:
    """Whether the examples of two runs of a tape differ in nothing but their inner products."""
    return all(_is_same(row) for row in np.concatenate([_numbers(left), _numbers(right)], axis=1))


def _is_same(values: Floats) -> bool:
    return bool(np.ptp(values) <= SAME * np.abs(values).max(initial=0.0))


def _powers(pairs: Pairs, block: DataGram) -> tuple[Floats, Floats] | None:
    """The powers p, p' of the norms for all kernels; None where they are not homogeneous."""
    inputs = frozenset(i.name for i in pairs.tape.program.inputs)
    try:
        own = degrees(pairs.singles[0].ordered, inputs)
        found = degrees(pairs.blocks(), inputs, (own, own))
    except Inhomogeneous:
        return None
    each = np.array([[float(p) for p in found.get(k, NONE)] for k in pairs.keys])
    return each[:, 0], each[:, 1]


def _table(
    pairs: Pairs, block: DataGram, example: Mapping[str, Floats], numbers: Floats, known: list[Known]
) -> Table | None:
    """The table for examples of which the tapes take `numbers` from data, the squared length first, as from one."""
    for k in known:
        if all(_is_same(np.array(n)) for n in zip(k.numbers, numbers, strict=True)):
            return k.table
    run = single_run(pairs.singles[0], example, 1, pairs.errors)
    check_runs(variances_of(pairs.tape.blocks), (run, run))
    table = tabulate(lambda cosines: _on_cosines(pairs, block, run, float(numbers[0]), cosines), TOLERANCE)
    known.append(Known(numbers, table))
    return table


def _on_cosines(pairs: Pairs, block: DataGram, run: Run, norm: float, cosines: Floats) -> Floats:
    """The kernels [kernels, P] of vectors of squared length `norm` at cosines [P], by the tape."""
    data = (
        {block.left: placed(np.full_like(cosines, norm), block.li[0])},
        {block.right: placed(cosines, block.rj[0])},
    )
    own = part_of(run, np.zeros(len(cosines), dtype=np.int64))
    cross = Run(pairs.tape, data, (len(cosines),), (own, own), pairs.errors)
    cross.execute(pairs.blocks(), pairs.keys)
    zero = np.zeros((1, len(cosines)))
    return np.stack([cross.values.get(k, zero)[pairs.tape.slots[k].at[0]] for k in pairs.keys])


def placed(values: Floats, element: int) -> Floats:
    """Vectors [P, elements, 1] that have `values` at an element."""
    placed = np.zeros((len(values), element + 1, 1))
    placed[:, element, 0] = values
    return placed
