"""Weights drawn at finite width: the random part of a simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.errors import fail
from tensorprog.ir.expr import evaluate, integer
from tensorprog.ir.program import Dim, Program, Weight
from tensorprog.ir.tables import Sizes, count

Array = NDArray[np.floating[Any]]


@final
@dataclass(frozen=True, slots=True)
class Network:
    """One draw of all weights.

    `values[W]` has shape [elements, rows, cols] for matrices, [elements, rows] for vectors and [elements]
    for scalars, elements in row-major order of the axes of W at `sizes`.
    """

    sizes: Mapping[str, int]
    widths: Mapping[str, int]
    values: Mapping[str, Array]
    dtype: np.dtype[Any]

    @property
    def env(self) -> dict[str, Any]:
        """Sizes and widths by name, in which variances and learning rates are evaluated."""
        return {**self.sizes, **self.widths}


def widths_at(program: Program, width: int, sizes: Sizes) -> dict[str, int]:
    """All widths when the first one is `width`: the program's defaults, scaled together and rounded.

    Raises TensorProgError when a default is not a positive number.
    """
    env: dict[str, Any] = dict(sizes)
    for w in program.widths:
        env[w.name] = evaluate(w.size, env)
        if not env[w.name] > 0:
            raise fail(f"width {w.name} is not positive", w.span, "give the width a positive default")
    first = program.widths[0].name if program.widths else ""
    return {w.name: max(1, round(float(env[w.name]) * width / float(env[first]))) for w in program.widths}


def draw(
    program: Program, sizes: Mapping[str, int], widths: Mapping[str, int], seed: int, dtype: DTypeLike = np.float32
) -> Network:
    """Draws every weight: entries N(mean, variance), evaluated at these sizes and widths.

    The k-th weight of the program is drawn from its own stream (seed, k): adding a weight or an axis to
    another one does not change it, and data of `default_rng(seed)` has nothing in common with them.
    Raises TensorProgError for a negative variance.
    """
    env = {**sizes, **widths}
    kind = np.dtype(dtype)
    streams = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,))) for k in range(len(program.weights))]
    values = {w.name: _entries(w, env, rng, kind) for w, rng in zip(program.weights, streams, strict=True)}
    return Network(dict(sizes), dict(widths), values, kind)


def _entries(weight: Weight, env: Sizes, rng: np.random.Generator, dtype: np.dtype[Any]) -> Array:
    shape = shape_of(weight, env)
    mean, variance = float(evaluate(weight.mean, env)), float(evaluate(weight.variance, env))
    if not (variance >= 0 and math.isfinite(variance) and math.isfinite(mean)):
        raise fail(f"weight {weight.name} has mean {mean:g} and variance {variance:g}", weight.span)
    if variance == 0:
        return np.full(shape, mean, dtype=dtype)
    try:
        entries = rng.standard_normal(shape, dtype=dtype.type)
    except (MemoryError, ValueError):
        message = f"weight {weight.name} of the shape {list(shape)} takes more memory than there is"
        raise fail(message, weight.span, "take a smaller width") from None
    entries *= dtype.type(math.sqrt(variance))
    entries += dtype.type(mean)
    return entries


def shape_of(weight: Weight, env: Sizes) -> tuple[int, ...]:
    """[elements], [elements, rows] or [elements, rows, cols] at these sizes and widths."""
    return count(weight.axes, env), *(_size(d, weight, env) for d in (weight.rows, weight.cols) if d is not None)


def _size(dim: Dim, weight: Weight, env: Sizes) -> int:
    try:
        return integer(dim.size, env)
    except ValueError as error:
        raise fail(f"weight {weight.name} has a dimension that is not an integer: {error}", weight.span) from error
