"""Index maps as integer tables: what a `Map` is once the sizes are known.

Elements of a family are numbered 0, 1, ... in row-major order of its axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.expr import Expr, evaluate, integer
from tensorprog.ir.program import Axis, Map

Sizes = Mapping[str, Any]
Ints = NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True)
class Table:
    """`target[k] <- source[k]` for k = 0, 1, ...; `index` gives the domain's indices by name, [k] each."""

    target: Ints
    source: Ints
    index: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.target)


def shape(axes: tuple[Axis, ...], sizes: Sizes) -> tuple[int, ...]:
    """The extents of the axes.  A negative extent counts as empty."""
    return tuple(max(0, integer(a.extent, sizes)) for a in axes)


def count(axes: tuple[Axis, ...], sizes: Sizes) -> int:
    """The number of elements of a family."""
    return int(np.prod(shape(axes, sizes), dtype=np.int64))


def grid(axes: tuple[Axis, ...], sizes: Sizes) -> dict[str, Ints]:
    """The index values of every element: one flat integer array per axis."""
    extents = shape(axes, sizes)
    ranges = np.indices(extents, dtype=np.int64).reshape(len(extents), math.prod(extents))
    return {a.index: ranges[k] for k, a in enumerate(axes)}


def flat_index(index: tuple[Expr, ...], axes: tuple[Axis, ...], env: Sizes, sizes: Sizes, length: int) -> Ints:
    """The element numbers at index expressions evaluated in `env`; -1 where outside the family."""
    flat = np.zeros(length, dtype=np.int64)
    inside = np.ones(length, dtype=bool)
    for expr, extent in zip(index, shape(axes, sizes), strict=True):
        value = _whole(np.asarray(evaluate(expr, env)))
        inside &= (value >= 0) & (value < extent)
        flat = flat * extent + value
    return np.where(inside, flat, -1)


def _whole(value: NDArray[Any]) -> Ints:
    """Index values as integers; parts that are not whole, i/3 + (L - i)/3, add up to one but for rounding."""
    if value.dtype.kind == "f":
        near = np.rint(value)
        value = np.where(np.abs(value - near) < 1e-9 * np.maximum(1, np.abs(near)), near, value)
    return value.astype(np.int64, copy=False)


def read_table(index: tuple[Expr, ...], domain: tuple[Axis, ...], axes: tuple[Axis, ...], sizes: Sizes) -> Ints:
    """For every element of `domain`, which element of the family over `axes` is read (-1: outside)."""
    indices = grid(domain, sizes)
    return flat_index(index, axes, {**sizes, **indices}, sizes, count(domain, sizes))


def map_table(map_: Map, target_axes: tuple[Axis, ...], source_axes: tuple[Axis, ...], sizes: Sizes) -> Table:
    """The pairs of a map that lie inside both families."""
    indices = grid(map_.domain, sizes)
    length = count(map_.domain, sizes)
    env = {**sizes, **indices}
    target = flat_index(map_.target, target_axes, env, sizes, length)
    source = flat_index(map_.source, source_axes, env, sizes, length)
    keep = (target >= 0) & (source >= 0)
    return Table(target[keep], source[keep], {name: values[keep] for name, values in indices.items()})


def coefficients(coef: Expr, table: Table, sizes: Sizes) -> NDArray[np.float64]:
    """The coefficient of every pair of a table."""
    value = evaluate(coef, {**sizes, **table.index})
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(table),))


def distinct(values: Ints, size: int) -> Ints:
    """The different values among integers from 0 to size - 1, ascending."""
    if len(values) < size // 16:
        ordered = np.sort(values)
        return ordered[np.flatnonzero(np.diff(ordered, prepend=-1))]
    seen = np.zeros(size, dtype=bool)
    seen[values] = True
    return np.flatnonzero(seen)
