"""Kernels of programs over rows and columns (images): product tapes in machine code, for all pairs of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.trace import NotTraceable
from tensorprog.evaluate.pairs import Demand, Errors, judge
from tensorprog.ir.tables import Sizes, count
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments
from tensorprog.tape.product import ProductTapes, product_tapes
from tensorprog.tape.projections import NotSeparable

if TYPE_CHECKING:
    from tensorprog.backend.grid import GridMachine

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WORTH = {"kept": 1 << 18, "made": 1 << 22}
"""Slots of all pairs of examples from which the machine code of a product tape pays: on disk, and to be made."""


@final
@dataclass(frozen=True, slots=True)
class Grid:
    """What computes the kernels between two groups of images."""

    tapes: ProductTapes
    machine: GridMachine


def grid(
    limit: Limit, moments: Moments, sizes: tuple[Sizes, Sizes], want: Sequence[str], demand: Demand
) -> Grid | None:
    """The machine for a pair of sizes; None where there is none, or it does not pay.

    Raises Unservable where a moment needs sampling.
    """
    elements = [sum(count(i.var.axes, s) for i in limit.program.instrs) for s in sizes]
    if not demand.waits and elements[0] * elements[1] * demand.pairs < WORTH["kept"]:
        return None
    try:
        tapes = product_tapes(limit, moments, sizes, want)
        slots = tapes.cross.count * demand.pairs
        if not demand.waits and slots < WORTH["kept"]:
            return None
        from tensorprog.backend.grid import compiled

        machine = compiled(tapes)
        return Grid(tapes, machine) if demand.waits or machine.is_built or slots >= WORTH["made"] else None
    except (NotSeparable, NotTraceable):
        return None


def kernels(  # noqa: PLR0913
    found: Grid,
    data: tuple[Mapping[str, Floats], Mapping[str, Floats]],
    examples: tuple[int, int],
    symmetric: bool,
    errors: Errors,
    memory: int,
    progress: Callable[[float], None],
) -> dict[str, Floats]:
    """The kernels [I * rows, J * cols] between two groups, or of one with itself."""
    pairs, values, worst = found.machine.run(data, symmetric, memory, progress)
    judge(errors, [e for e, _ in worst], np.array([error for _, error in worst]))
    cross, keys = found.tapes.cross, found.tapes.keys
    return {n: _placed(values[k], cross.slots(k), pairs, examples, symmetric) for n, k in keys.items()}


def _placed(
    values: Floats, slots: Ints, pairs: tuple[Ints, Ints], examples: tuple[int, int], symmetric: bool
) -> Floats:
    """The kernel of the pairs of examples, and its mirror image."""
    kernel = np.zeros((examples[0], slots.shape[0], examples[1], slots.shape[1]))
    blocks = values[slots].transpose(2, 0, 1)  # [pairs, rows, cols]
    i, j = pairs
    if symmetric:
        mirrored, same = blocks.transpose(0, 2, 1), (i == j)[:, None, None]
        blocks = np.where(same, (blocks + mirrored) / 2, blocks)
        kernel[j, :, i, :] = blocks.transpose(0, 2, 1)
    kernel[i, :, j, :] = blocks
    return kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
