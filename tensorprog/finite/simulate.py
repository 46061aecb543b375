"""A program run at finite width: its outputs, and the empirical neural tangent kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.finite.runs import Runs, run_all
from tensorprog.finite.state import Group
from tensorprog.finite.weights import Array, Network, draw
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Differentiated, Program
from tensorprog.ir.tables import count

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Simulation:
    """What one draw of the weights gave.

    `outputs[name][g]` is [examples, elements] for the examples of group g (for a vector [examples,
    elements, dim]).  A row of `ntk`, [N, N], is one element of the differentiated output for one example:
    row r belongs to group `rows[r, 0]`, example `rows[r, 1]` of that group, output element `rows[r, 2]`.
    `grams[W]` is the part of one weight before its learning rate, <d f / d W, d f' / d W>, so that
    ntk = sum over W of rates[W] * grams[W].  Without derivatives `ntk` is None and the rest is empty.
    """

    network: Network
    outputs: Mapping[str, tuple[Array, ...]]
    ntk: Floats | None
    grams: Mapping[str, Floats]
    rates: Mapping[str, float]
    rows: NDArray[np.int64]


def simulate(
    what: Program | Differentiated,
    groups: Sequence[Group],
    widths: Mapping[str, int],
    seed: int,
    dtype: DTypeLike = np.float32,
    memory: int | None = None,
) -> Simulation:
    """Draws a network and runs all groups of examples through it; see `measure`.

    Weights are drawn at the largest value of every size over the groups (of two sequence lengths the
    longer one), so that ragged examples share them.  Raises TensorProgError as `draw` and `measure` do.
    """
    program = what.program if isinstance(what, Differentiated) else what
    sizes = {name: max(g.sizes[name] for g in groups) for name in groups[0].sizes}
    return measure(what, draw(program, sizes, widths, seed, dtype), groups, memory)


def measure(
    what: Program | Differentiated, network: Network, groups: Sequence[Group], memory: int | None = None
) -> Simulation:
    """Runs all groups of examples through one network.  The kernel of a `Differentiated` program is

        ntk = sum over weights W of lr(W) * <d f / d W, d f' / d W>

    with the learning rates evaluated at these sizes and widths.  Arrays of at most `memory` bytes are held at once,
    weights and results included: examples that do not fit are run in blocks, each of them together with every other
    one.  Raises TensorProgError as `forward` does, and for too little memory.
    """
    program = what.program if isinstance(what, Differentiated) else what
    uses = what.uses if isinstance(what, Differentiated) else ()
    rows = rows_of(what, network, groups) if isinstance(what, Differentiated) else np.zeros((0, 3), dtype=np.int64)
    outputs, grams = run_all(Runs(program, uses, network), groups, len(rows), memory)
    found = {name: tuple(_regrouped(parts, groups)) for name, parts in outputs.items()}
    if not isinstance(what, Differentiated):
        return Simulation(network, found, None, {}, {}, rows)
    rates = {w: float(evaluate(program.weight(w).lr, network.env)) for w in grams}
    ntk = sum((rate * grams[w] for w, rate in rates.items()), np.zeros((len(rows), len(rows))))
    return Simulation(network, found, ntk, grams, rates, rows)


def rows_of(what: Differentiated, network: Network, groups: Sequence[Group]) -> NDArray[np.int64]:
    """Group, example and output element of every row of the kernel."""
    axes = what.program.var(what.program.output(what.output).var).axes
    return numbered_rows([(g.examples, count(axes, {**network.env, **g.sizes})) for g in groups])


def numbered_rows(shapes: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """(group, example, element) of every row, of groups of [examples, elements] one after the other."""
    blocks = []
    for g, shape in enumerate(shapes):
        index = np.indices(shape).reshape(2, -1)
        blocks.append(np.stack([np.full(index.shape[1], g), *index], axis=1))
    return np.concatenate(blocks)


def _regrouped(parts: list[Array], groups: Sequence[Group]) -> Iterator[Array]:
    """The parts of every group in one array."""
    waiting = iter(parts)
    for group in groups:
        mine: list[Array] = []
        while sum(map(len, mine)) < group.examples:
            mine.append(next(waiting))
        yield mine[0] if len(mine) == 1 else np.concatenate(mine)
