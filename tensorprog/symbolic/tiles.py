"""Blocks of a broadcast shape that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tensorprog.symbolic.orthant import Array

ENTRIES = 1 << 15


Tile = tuple[Any, ...]  # slices, or an ellipsis for a shape without axes


def tiles(shape: tuple[int, ...]) -> Iterator[Tile]:
    """Slices along the longest axis, each of about `ENTRIES` entries, that cover `shape`."""
    size = int(np.prod(shape))
    if size <= ENTRIES:
        yield (slice(None),) * len(shape) or (Ellipsis,)
        return
    axis = int(np.argmax(shape))
    step = max(1, ENTRIES * shape[axis] // size)
    for start in range(0, shape[axis], step):
        yield tuple(slice(start, start + step) if i == axis else slice(None) for i in range(len(shape)))


def cut(x: Array, tile: Tile, lead: int = 0) -> Array:
    """The part of `x`, whose axes after the first `lead` broadcast to the tiled shape, that belongs to a tile."""
    own = x.shape[lead:]
    aligned = tile[len(tile) - len(own) :]
    picks = tuple(s if n > 1 else slice(None) for s, n in zip(aligned, own, strict=True))
    return np.asarray(x[(slice(None),) * lead + picks])
