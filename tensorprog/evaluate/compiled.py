"""Kernels by machine code, tile by tile, on threads that form the inner products of their tiles themselves.

Entries that it leaves in doubt (a formula that cancels, a special case) are computed by arrays, and so are pairs of
equal examples where some function has a kink: their kernel is that at correlation one, which rounding of two
computations would miss by its square root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.backend.lower import SeedOf
from tensorprog.backend.machine import Machine, Part
from tensorprog.evaluate.pairs import Floats, Ints, Pairs, Settled, judge, settle, settled
from tensorprog.evaluate.tiles import Tile, on_tiles, tiles
from tensorprog.finite.threads import once
from tensorprog.tape.gram import Gram, equal_pairs, fingerprints, gram_of, numbered


@final
@dataclass(frozen=True, slots=True)
class Compiled:
    """All pairs by machine code."""

    pairs: Pairs
    machine: Machine

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """See `evaluate.pairs.Evaluator`."""
        if not kernels:
            return
        rows = once(lambda: self.machine.prepare(*self.pairs.selves))
        grams = self._grams(mirrored, all(k.dtype == np.float32 for k in kernels))
        left, right = (n // m for n, m in zip(kernels[0].shape, self.machine.shown[0].shape, strict=True))
        none = np.zeros(0, dtype=np.int64)
        equal: list[Settled] = []

        def work(tile: Tile, room: Floats) -> tuple[tuple[Ints, Ints], Floats]:
            with np.errstate(all="ignore"):  # of the thread
                _fill(grams, tile, room)
                part = Part(*tile, mirrored, room, np.zeros(room.shape[1:], dtype=np.uint8))
                doubt, worst = self.machine.write(part, rows(), kernels)
            i, j = np.nonzero(part.doubt) if doubt else (none, none)
            i, j = i + tile[0].start, j + tile[1].start
            chosen = (i <= j) | (not mirrored)
            return (i[chosen], j[chosen]), worst

        def beside() -> None:
            with np.errstate(all="ignore"):
                rows()
                if not self.machine.is_smooth:
                    equal.extend(settled(self.pairs, *self._equal(mirrored), mirrored))

        numbers = max(1, len(grams))
        cut = tiles(left, right, mirrored, numbers, self.pairs.memory)
        found = on_tiles(work, cut, (numbers, "float64"), progress, beside)
        for _, worst in found:
            judge(self.pairs.errors, self.machine.expectations, worst)
        i, j = (np.concatenate(x) for x in zip(*(pairs for pairs, _ in found), strict=True))
        settle(self.pairs, kernels, i, j, mirrored)
        for part in equal:
            part.place(kernels, mirrored)

    def _grams(self, mirrored: bool, coarse: bool) -> list[Gram | Floats]:
        """The inner products of the data, or numbers of the pairs, one for each slot that is given."""
        found: list[Gram | Floats] = []
        for g in self.machine.given:
            if isinstance(g, SeedOf):
                found.append(self.pairs.seeds[g.name][g.row])
                continue
            x = np.ascontiguousarray(self.pairs.data[0][g.names[0]][:, g.elements[0]])
            same = mirrored and g.names[0] == g.names[1] and g.elements[0] == g.elements[1]
            y = x if same else np.ascontiguousarray(self.pairs.data[1][g.names[1]][:, g.elements[1]])
            found.append(gram_of(x, y, coarse))
        return found

    def _equal(self, mirrored: bool) -> tuple[Ints, Ints]:
        """The pairs of equal examples; of two orders of a pair the first one, where mirrored."""
        left, right = self.pairs.data
        sides = (_flat({name: left[name] for name in right}), _flat(left if mirrored else right))
        own = _prints(sides[0])
        prints = own, own if mirrored else _prints(sides[1])
        numbers = numbered(prints, lambda s, k: b"".join((x[k] + 0.0).tobytes() for x in sides[s]), mirrored)
        i, j = equal_pairs(*numbers)
        once = (i <= j) | (not mirrored)
        return i[once], j[once]


def _fill(grams: Sequence[Gram | Floats], tile: Tile, room: Floats) -> None:
    """The inner products of a tile, or the numbers of its pairs."""
    for out, products in zip(room, grams, strict=False):  # there is room for one where there are none
        if isinstance(products, Gram):
            products.fill(out, *tile)
        else:
            out[:] = products[tile]


def _flat(data: Mapping[str, Floats]) -> list[Floats]:
    """Families as one row for every example."""
    return [x.reshape(len(x), -1) for _, x in sorted(data.items())]


def _prints(families: Sequence[Floats]) -> Floats:
    prints: Floats = np.sum([fingerprints(x) for x in families], axis=0)
    return prints
