"""Blocks of a broadcast shape that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorprog.symbolic.orthant import Array

ENTRIES = 1 << 15


def tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slices along the longest axis, each of about `ENTRIES` entries, that cover `shape`."""
    size = int(np.prod(shape))
    if size <= ENTRIES:
        yield (slice(None),) * len(shape)
        return
    axis = int(np.argmax(shape))
    step = max(1, ENTRIES * shape[axis] // size)
    for start in range(0, shape[axis], step):
        yield tuple(slice(start, start + step) if i == axis else slice(None) for i in range(len(shape)))


def cut(x: Array, tile: tuple[slice, ...], lead: int = 0) -> Array:
    """The part of `x`, whose axes after the first `lead` broadcast to the tiled shape, that belongs to a tile."""
    own = x.shape[lead:]
    aligned = tile[len(tile) - len(own) :]
    picks = tuple(s if n > 1 else slice(None) for s, n in zip(aligned, own, strict=True))
    return x[(slice(None),) * lead + picks]
