"""What the tests of agreement share: data of a fixed seed and errors relative to the largest entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.api import Network
from tensorprog.ir.check import default_sizes
from tensorprog.ir.expr import integer
from tensorprog.ir.tables import shape

EXAMPLES = Path(__file__).parents[2] / "examples"


def relative(found: Any, expected: Any) -> float:
    """max |found - expected| / max |expected|"""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def example_inputs(net: Network, count: int = 3, seed: int = 0, **sizes: int) -> Any:
    """Gaussian data for every input at the smallest sizes that the program allows; None without inputs."""
    rng, at = np.random.default_rng(seed), {**default_sizes(net.program), **sizes}
    shapes = {i.name: shape(i.axes, at) + (() if i.dim is None else (integer(i.dim, at),)) for i in net.program.inputs}
    return {name: rng.standard_normal((count, *s)) for name, s in shapes.items()} or None
