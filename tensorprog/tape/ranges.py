"""Variances that float64 cannot multiply: v v' - c^2 of two arguments with variances v, v' and covariance c.

Beyond these bounds the product, or its error by what is lost below the smallest normal number, is none.  Looked at are
second moments on single runs, one for every example, not pairs of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.ir.tables import Ints
from tensorprog.tape.blocks import Block, GroupValue, Key, Product
from tensorprog.tape.execute import Run

Floats = NDArray[np.float64]
Variances = tuple[Mapping[Key, Ints], Mapping[Key, Ints]]
SMALLEST, LARGEST = 1e-146, 1e150


def variances_of(blocks: Iterable[Block]) -> Variances:
    """The slots, on the left and on the right run, of variances of arguments of expectations that have several."""
    found: tuple[dict[Key, list[Ints]], dict[Key, list[Ints]]] = {}, {}
    for block in blocks:
        for group in block.groups if isinstance(block, Product) else ():
            _add(group, found)
    left, right = ({key: np.unique(np.concatenate(slots)) for key, slots in side.items()} for side in found)
    return left, right


def _add(group: GroupValue, found: tuple[dict[Key, list[Ints]], dict[Key, list[Ints]]]) -> None:
    if group.expectation is None or sum(map(len, group.inside)) < 2:
        return
    for side, square in zip(found, group.inside, strict=True):
        for k, line in enumerate(square):
            key, slots = line[k]
            side.setdefault(key, []).append(slots)


def check_runs(variances: Variances, runs: tuple[Run, Run]) -> None:
    """Raises TensorProgError for variances on single runs that cannot be multiplied."""
    for side, run in zip(variances, runs, strict=True):
        for key, slots in side.items():
            check_range(run.own(key, slots))


def check_range(second: Floats) -> None:
    """The same for second moments in whatever shape; those that vanish, or are no numbers, do not count."""
    size = np.abs(second)
    outside = size[(size > LARGEST) | ((size > 0) & (size < SMALLEST))]
    if outside.size:
        what = "large" if outside[0] > LARGEST else "small"
        raise fail(f"a variance is so {what} ({outside[0]:.1e}) that products of two are out of the range of float64",
                   hint="scale the data, or the variances of the weights")
