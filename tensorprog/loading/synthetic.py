"""Gaussian examples for a program when no data is given."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorprog.ir.check import default_sizes
from tensorprog.ir.expr import integer
from tensorprog.ir.program import Program
from tensorprog.ir.tables import shape


def gaussian_data(program: Program, examples: int, seed: int = 0) -> dict[str, Any] | None:
    """Independent N(0, 1) entries for every input at `default_sizes`; None for a program without inputs."""
    if not program.inputs:
        return None
    sizes = default_sizes(program)
    rng = np.random.default_rng(seed)
    dims = {i.name: () if i.dim is None else (integer(i.dim, sizes),) for i in program.inputs}
    return {i.name: rng.standard_normal((examples, *shape(i.axes, sizes), *dims[i.name])) for i in program.inputs}
