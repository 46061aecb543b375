"""Programs run forwards at a small width, to be compared with the same network written in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source
from tensorprog.finite.forward import forward
from tensorprog.finite.state import Group
from tensorprog.finite.weights import draw, widths_at
from tensorprog.ir.expr import evaluate, symbols
from tensorprog.ir.program import Program
from tensorprog.ir.tables import shape


@dataclass
class Run:
    """Arrays without the example axis: outputs and inputs as [*axes, dim], weights as [*axes, rows, cols]."""

    program: Program
    outputs: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]

    @property
    def output(self) -> np.ndarray:
        """The only output."""
        (value,) = self.outputs.values()
        return value


def run_program(source: str, params: dict[str, Any] | None = None, width: int = 6, **sizes: int) -> Run:
    """One example with random inputs through the program; sizes that are not given are 3."""
    program = elaborate(Source("<test>", source), params).program
    names = frozenset[str]().union(*(symbols(a.extent) for i in program.inputs for a in i.axes),
                                   *(symbols(i.dim) for i in program.inputs if i.dim is not None))
    sizes = {name: sizes.get(name, 3) for name in names}
    widths = widths_at(program, width, sizes)
    rng = np.random.default_rng(5)
    flat, inputs = {}, {}
    for i in program.inputs:
        dims = () if i.dim is None else (int(evaluate(i.dim, sizes)),)
        inputs[i.name] = rng.standard_normal((*shape(i.axes, sizes), *dims))
        flat[i.name] = inputs[i.name].reshape(1, -1, *dims)
    network = draw(program, sizes, widths, 3, np.float64)
    values = forward(program, network, Group(sizes, flat), [o.var for o in program.outputs])
    env = {**sizes, **widths}
    outputs = {o.name: np.reshape(values[o.var][0], (*shape(program.var(o.var).axes, env), *values[o.var].shape[2:]))
               for o in program.outputs}
    weights = {w.name: np.reshape(network.values[w.name], (*shape(w.axes, env), *network.values[w.name].shape[1:]))
               for w in program.weights}
    return Run(program, outputs, inputs, weights)


@pytest.fixture
def run() -> Callable[..., Run]:
    """`run(source, params, width, **sizes)`"""
    return run_program
