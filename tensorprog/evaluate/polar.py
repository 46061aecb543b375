"""Polar reduction: where examples meet in one inner product only, a kernel is a function of two norms and an angle.

A cross tape that reads its data through a single inner product, and whose tapes of one run read the squared norm only,
gives at any depth

    K(x, x') = f(|x|^2, |x'|^2, c),      c = <x, x'> / (|x| |x'|)

which `backend.polar` tabulates from evaluations of the tape itself.  Nearly parallel and opposite examples are computed
by arrays; where there are many of them, the reduction is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.cosine import Part
from tensorprog.backend.polar import SHAPES, Sampled, Table, is_ready, tabulate
from tensorprog.evaluate.pairs import CONTEXT, Errors, Evaluator, Pairs, Tables, part_of, settle, single_run
from tensorprog.evaluate.tiles import Tile, on_tiles, scaled, tiles
from tensorprog.evaluate.zonal import only_norm, only_product, placed
from tensorprog.tape.blocks import DataGram, Product
from tensorprog.tape.execute import Run
from tensorprog.tape.gram import row_products
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WORTH = {True: 1 << 18, False: 1 << 22}
"""Pairs of examples from which a table pays: where its machine code is on disk, and where it is not."""
MANY = 1024
"""Where more than one of so many pairs is outside of the table, there is none."""
TERMS, SERIES = 20, 10
"""The terms of a polynomial that take as long as one expectation by its formula, measured; a Hermite series takes as
long as so many formulas."""
WIDER = 0.1
"""The part by which a table reaches beyond the norms that are there, on either side, so that it serves others too."""


@final
@dataclass(frozen=True, slots=True)
class Known:
    """A table for squared norms from `low` to `high`; None: it is not accurate enough."""

    dtype: str
    low: float
    high: float
    table: Table | None

    def serves(self, dtype: str, low: float, high: float) -> bool:
        """Whether it answers for other norms: a table for those inside, a failure for those around."""
        inside = self.low <= low and high <= self.high
        around = low <= self.low and self.high <= high
        return dtype == self.dtype and (around if self.table is None else inside)


@final
@dataclass(frozen=True, slots=True)
class Polar:
    """Kernels f(q, q', c) of `vectors` [examples, d], whose squared norms are `squares`; f is `table`.

    Their errors go into `tables` under their `names`.
    """

    table: Table
    vectors: tuple[Floats, Floats]
    squares: tuple[Floats, Floats]
    pairs: Pairs
    names: tuple[str, ...]
    tables: Tables
    otherwise: Callable[[], Evaluator]

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """See `pairs.Evaluator`."""
        dtype = self.table.dtype
        x, y = (self._unit(side) for side in (0, 0 if mirrored else 1))
        rows, places = self.table.rows(self._places(0)), self._places(1).astype(dtype)
        found: list[tuple[Ints, Ints]] = []

        def work(tile: Tile, room: NDArray[Any]) -> None:
            if not self._are_many(found):
                cosines = np.matmul(x[tile[0]], y[tile[1]].T, out=room[0])
                found.append(self.table.write(Part(*tile, mirrored, cosines), rows, places, tuple(kernels)))

        on_tiles(work, tiles(len(x), len(y), mirrored), (1, dtype), progress)
        if self._are_many(found):
            self.otherwise().fill(kernels, mirrored, progress)
            return
        for name, error in zip(self.names, self.table.errors.tolist(), strict=True):
            self.tables[name] = max(self.tables.get(name, 0.0), error)
        i, j = (np.concatenate(side) for side in zip(*found, strict=True))
        settle(replace(self.pairs, runs=cache(lambda: self._runs(i, j))), kernels, i, j, mirrored)
        if mirrored:
            for kernel, values in zip(kernels, self.table.on_diagonal(self._places(0)), strict=True):
                np.fill_diagonal(kernel, values)

    def _runs(self, i: Ints, j: Ints) -> tuple[Run, Run]:
        """The runs of both sides by themselves, computed for the examples that `settle` reads only: others are 0."""
        few = np.arange(CONTEXT)
        if self.pairs.data[0] is self.pairs.data[1]:
            both = self._run(0, np.concatenate([i, j, few]))
            return both, both
        return self._run(0, np.concatenate([i, few])), self._run(1, np.concatenate([j, few]))

    def _run(self, side: int, examples: Ints) -> Run:
        count = len(self.squares[side])
        chosen = np.unique(examples[examples < count])
        data = {name: x[chosen] for name, x in self.pairs.data[side].items()}
        found = single_run(self.pairs.singles[side], data, len(chosen), self.pairs.errors)
        values = {key: np.zeros((len(v), count)) for key, v in found.values.items()}
        for key, v in found.values.items():
            values[key][:, chosen] = v
        return replace(found, examples=(count,), values=values)

    def _places(self, side: int) -> Floats:
        """The norms as the table takes them."""
        return self.table.places(self.squares[side])

    def _unit(self, side: int) -> NDArray[Any]:
        """The vectors at length one."""
        return scaled(self.vectors[side], 1 / np.sqrt(self.squares[side]), self.table.dtype)

    def _are_many(self, found: Sequence[tuple[Ints, Ints]]) -> bool:
        """Whether too many pairs are outside of the table."""
        return sum(len(i) for i, _ in found) * MANY > len(self.squares[0]) * len(self.squares[1])


def polar(  # noqa: PLR0913
    pairs: Pairs,
    known: list[Known],
    names: tuple[str, ...],
    tables: Tables,
    dtype: str,
    count: int,
    otherwise: Callable[[], Evaluator],
) -> Polar | None:
    """The reduction of the kernels `names`, where it applies and pays for so many pairs of examples.

    Tables that were made are in `known`; the errors go into `tables`, once the kernels are there.  `otherwise` computes
    them where there turn out to be many pairs outside of the table.
    """
    block = only_product(pairs)
    if block is None or dtype not in SHAPES or count < WORTH[is_ready(dtype)]:
        return None
    if not only_norm(pairs.singles[0], block):
        return None
    x, y = pairs.data[0][block.left][:, block.li[0]], pairs.data[1][block.right][:, block.rj[0]]
    own = row_products(x, x)
    squares = own, own if pairs.data[0] is pairs.data[1] else row_products(y, y)
    low, high = (float(f([f(s) for s in squares])) for f in (min, max))
    if not 0 < low <= high < np.inf:
        return None
    table = _table(pairs, block, dtype, (low, high), known)
    if table is None or table.coefficients.shape[-1] > TERMS * _formulas(pairs.tape):
        return None
    return Polar(table, (x, y), squares, pairs, names, tables, otherwise)


def _formulas(tape: Tape) -> int:
    """The work of the expectations of a pair, in those that have a formula."""
    groups = ((g, len(b.out)) for b in tape.blocks if isinstance(b, Product) for g in b.groups)
    tiers = ((g.expectation.tier, entries) for g, entries in groups if g.expectation is not None)
    return sum(entries * (1 if tier == "closed" else SERIES) for tier, entries in tiers)


def _table(
    pairs: Pairs, block: DataGram, dtype: str, norms: tuple[float, float], known: list[Known]
) -> Table | None:
    """The table for squared norms in a range."""
    for k in known:
        if k.serves(dtype, *norms):
            return k.table
    wider = (norms[1] / norms[0]) ** WIDER * (1 + 1e-3)
    low, high = norms[0] / wider, norms[1] * wider
    table = tabulate(_sampled(pairs, block), low, high, dtype)
    known.append(Known(dtype, low, high, table) if table is not None else Known(dtype, *norms, None))
    return table


def _sampled(pairs: Pairs, block: DataGram) -> Sampled:
    """The kernels by the tape."""

    def kernels(squares: Floats, i: Ints, j: Ints, cosines: Floats) -> Floats:
        radii = np.sqrt(squares)
        own = single_run(pairs.singles[0], {block.left: placed(radii, block.li[0])}, len(radii), Errors())
        q = radii * radii
        data = {block.left: placed(np.sqrt(q[i] * q[j]), block.li[0])}, {block.right: placed(cosines, block.rj[0])}
        cross = Run(pairs.tape, data, (len(i),), (part_of(own, i), part_of(own, j)), Errors())
        cross.execute(pairs.blocks(), pairs.keys)
        zero = np.zeros((1, len(i)))
        return np.stack([cross.values.get(k, zero)[pairs.tape.slots[k].at[0]] for k in pairs.keys])

    return kernels
