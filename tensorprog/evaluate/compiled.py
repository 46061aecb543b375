"""Kernels by machine code, strip by strip, on threads that form the inner products of their strips themselves.

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
from tensorprog.backend.machine import Machine, Strip
from tensorprog.evaluate.pairs import Floats, Ints, Pairs, judge, settle
from tensorprog.finite.threads import parallel, workers
from tensorprog.tape.gram import Gram, equal_pairs, fingerprints, gram_of, numbered

STRIP = 1 << 22
"""Bytes that the inner products of a strip take, so that they stay in the cache."""
LEAST = 128
"""Rows of a strip below which the product of matrices is slower."""


@final
@dataclass(frozen=True, slots=True)
class Compiled:
    """All pairs by machine code."""

    pairs: Pairs
    machine: Machine

    def fill(self, kernels: Sequence[Floats], mirrored: bool, progress: Callable[[float], None]) -> None:
        """See `evaluate.pairs.Evaluator`."""
        rows = self.machine.prepare(*self.pairs.selves)
        grams = self._grams(mirrored, all(k.dtype == np.float32 for k in kernels))
        left, right = (run.examples[0] for run in self.pairs.selves)
        starts = range(0, left, self._height(left, right))
        none = np.zeros(0, dtype=np.int64)
        done: list[int] = []

        def work(first: int) -> tuple[tuple[Ints, Ints], Floats]:
            with np.errstate(all="ignore"):  # of the thread
                strip = self._strip(grams, first, min(first + starts.step, left), right, mirrored)
            doubt, worst = self.machine.strip(strip, rows, kernels)
            done.append(first)
            progress(len(done) / len(starts))
            i, j = np.nonzero(strip.doubt) if doubt else (none, none)
            return (i + first, j + strip.start), worst

        found = parallel(work, starts)
        for _, worst in found:
            judge(self.pairs.errors, self.machine.expectations, worst)
        doubtful = [(none, none) if self.machine.is_smooth else self._equal(mirrored), *(pairs for pairs, _ in found)]
        if mirrored:
            for kernel, at in zip(kernels, self.machine.shown, strict=True):
                _symmetrize(kernel, *at.shape)
        i, j = (np.concatenate(x) for x in zip(*doubtful, strict=True))
        settle(self.pairs, kernels, i, j, mirrored)

    def _height(self, rows: int, cols: int) -> int:
        """The number of left examples in a strip: enough for products of matrices, and several strips for a thread."""
        line = 8 * max(1, len(self.machine.given)) * cols
        most = max(1, self.pairs.memory // (workers() * line))
        return max(1, min(max(LEAST, min(STRIP // line, rows // (4 * workers()))), most))

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

    def _strip(self, grams: Sequence[Gram | Floats], first: int, last: int, right: int, mirrored: bool) -> Strip:
        start = first if mirrored else 0
        shape = last - first, right - start
        given = np.empty((len(grams), *shape))
        for out, products in zip(given, grams, strict=True):
            if isinstance(products, Gram):
                products.fill(out, slice(first, last), slice(start, right))
            else:
                out[:] = products[first:last, start:right]
        return Strip(first, last, start, mirrored, given, np.zeros(shape, dtype=np.uint8))

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


def _symmetrize(kernel: Floats, rows: int, cols: int) -> None:
    """Make the block of an example with itself symmetric."""
    if rows * cols > 1:
        diagonal = np.arange(kernel.shape[0] // rows)
        whole = kernel.reshape(-1, rows, len(diagonal), cols)
        block = whole[diagonal, :, diagonal]
        whole[diagonal, :, diagonal] = (block + block.transpose(0, 2, 1)) / 2


def _flat(data: Mapping[str, Floats]) -> list[Floats]:
    """Families as one row for every example."""
    return [x.reshape(len(x), -1) for _, x in sorted(data.items())]


def _prints(families: Sequence[Floats]) -> Floats:
    prints: Floats = np.sum([fingerprints(x) for x in families], axis=0)
    return prints
