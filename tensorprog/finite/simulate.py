"""A program run at finite width: its outputs, and the empirical neural tangent kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.finite.forward import Group, State, run
from tensorprog.finite.gram import gradient_gram
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
) -> Simulation:
    """Runs all groups of examples through the same weights.

    Weights are drawn at the largest value of every size over the groups (of two sequence lengths the
    longer one), so that ragged examples share them.  The kernel of a `Differentiated` program is

        ntk = sum over weights W of lr(W) * <d f / d W, d f' / d W>

    with the learning rates evaluated at these widths.  Raises TensorProgError as `draw` and `forward` do.
    """
    program = what.program if isinstance(what, Differentiated) else what
    uses = what.uses if isinstance(what, Differentiated) else ()
    sizes = {name: max(g.sizes[name] for g in groups) for name in groups[0].sizes}
    network = draw(program, sizes, widths, seed, dtype)
    keep = {o.var for o in program.outputs} | {u.row for u in uses} | {u.col for u in uses if u.col is not None}
    states = [run(program, network, g, keep) for g in groups]
    outputs = {o.name: tuple(np.swapaxes(s.values[o.var], 0, 1) for s in states) for o in program.outputs}
    if not isinstance(what, Differentiated):
        return Simulation(network, outputs, None, {}, {}, np.zeros((0, 3), dtype=np.int64))
    rows, firsts = _rows(what, states)
    rates = {w: float(evaluate(program.weight(w).lr, network.env)) for w in dict.fromkeys(u.weight for u in uses)}
    grams = {w: gradient_gram([u for u in uses if u.weight == w], states, firsts, len(rows)) for w in rates}
    ntk = sum((rate * grams[w] for w, rate in rates.items()), np.zeros((len(rows), len(rows))))
    return Simulation(network, outputs, ntk, grams, rates, rows)


def _rows(what: Differentiated, states: Sequence[State]) -> tuple[NDArray[np.int64], list[int]]:
    """Group, example and output element of every row of the kernel, and where each group begins."""
    axes = what.program.var(what.program.output(what.output).var).axes
    blocks = []
    for g, state in enumerate(states):
        examples, elements = np.indices((state.group.examples, count(axes, state.env))).reshape(2, -1)
        blocks.append(np.stack([np.full(len(examples), g), examples, elements], axis=1))
    starts = np.cumsum([0] + [len(b) for b in blocks[:-1]])
    return np.concatenate(blocks), [int(s) for s in starts]
