"""The parameters of a finite network in a file: arrays by the names of the exported module, and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.export.names import names_of
from tensorprog.files import check_suffix, written_whole
from tensorprog.finite.forward import needed
from tensorprog.finite.weights import Network
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Program
from tensorprog.ir.tables import shape


def save_parameters(program: Program, network: Network, out: Path) -> None:
    """Writes NAME, [axes..., rows, cols], and lr/NAME, the learning rate, for every weight to a .npz file.

    Raises TensorProgError for a file of another name, and where it cannot be written.
    """
    check_suffix(out, "parameters go", ".npz")
    names = names_of(needed(program, {o.var for o in program.outputs})).weights
    arrays: dict[str, Any] = {}
    for w in program.weights:
        value = network.values[w.name]
        arrays[names[w.name]] = value.reshape((*shape(w.axes, network.env), *value.shape[1:]))
        arrays[f"lr/{names[w.name]}"] = np.float64(evaluate(w.lr, network.env))
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
