"""Runs the blocks of quadratic forms: those of one law together, every pair of examples and of forms by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.threads import parallel
from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.limit.moments import Unservable
from tensorprog.symbolic.forms import Asked, together
from tensorprog.tape.blocks import Block, Ensemble, Forms, Key

Floats = NDArray[np.float64]
Reading = Callable[[str, Key, Ints], Floats]


@final
@dataclass(frozen=True, slots=True)
class Entries:
    """Entries `out` of a block with the same forms, numbers `forms` of those of both runs, at `elements`."""

    block: Forms
    forms: tuple[int, int]
    out: Ints
    elements: tuple[Ints, ...]

    def asked(self) -> Asked:
        """The expectation, for all elements."""
        e = self.block.ensemble
        return Asked(e.expectation, [f[k] for f, k in zip(e.forms, self.forms, strict=True) if f], e.places)


@final
@dataclass(frozen=True, slots=True)
class Found:
    """The values of slots `out` of a block for one pair of examples, and the error and the size of all elements."""

    block: Forms
    out: Ints
    where: tuple[int, ...]
    values: Floats
    error: float
    size: float


def laws_of(blocks: Sequence[Block]) -> dict[int, list[Forms]]:
    """The blocks of every law: when the moments of one are there, those of the others are."""
    laws: dict[int, list[Forms]] = {}
    for block in blocks:
        if isinstance(block, Forms):
            laws.setdefault(block.ensemble.law, []).append(block)
    return laws


def integrated(blocks: Sequence[Forms], placed: Reading, examples: tuple[int, ...]) -> Iterator[Found]:
    """All entries of blocks of one law; `placed` reads the moments.  Raises Unservable where that is too much work."""
    alike: dict[tuple[int, int], list[Entries]] = {}
    for entries in (entries for block in blocks for entries in _entries(block)):
        alike.setdefault(entries.forms, []).append(entries)
    cov = _joint(blocks[0].ensemble, placed, examples)
    for group in alike.values():
        asked = [entries.asked() for entries in group]
        for where in np.ndindex(examples):
            for entries, (value, error) in zip(group, together(cov[where], asked, parallel), strict=True):
                if not np.isfinite(error):
                    request = entries.block.ensemble.expectation.request
                    text = ex.show(ex.mul(request.left, request.right))
                    raise Unservable(f"integrating E[{text}] for so many elements would take too long")
                size = float(np.max(np.abs(value), initial=0.0))
                yield Found(entries.block, entries.out, where, value[entries.elements], error, size)


def _entries(block: Forms) -> Iterator[Entries]:
    """The entries of a block by their forms."""
    e = block.ensemble
    rows, cols = (np.unravel_index(x, s) for x, s in zip((block.rows, block.cols), e.shapes, strict=True))
    elements = [(*rows[1:], *cols[1:])[k] for k in e.order]
    numbers = rows[0] * e.shapes[1][0] + cols[0]
    for number in np.unique(numbers).tolist():
        at = np.flatnonzero(numbers == number)
        yield Entries(block, divmod(number, e.shapes[1][0]), block.out[at], tuple(x[at] for x in elements))


def _joint(e: Ensemble, placed: Reading, examples: tuple[int, ...]) -> Floats:
    """[examples..., N, N]: the second moments of all elements of both runs."""
    shape = [(n, m) for n in e.sizes for m in e.sizes]
    flat = [np.broadcast_to(placed(*p), (len(p[2]), *examples)) for line in e.blocks for p in line]
    parts = [np.moveaxis(x.reshape(*s, *examples), (0, 1), (-2, -1)) for x, s in zip(flat, shape, strict=True)]
    n = len(e.sizes)
    return np.concatenate([np.concatenate(parts[k * n : (k + 1) * n], axis=-1) for k in range(n)], axis=-2)
