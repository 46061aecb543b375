"""Pairs of examples by tiles, on threads that keep the memory they work in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.threads import parallel, workers

Floats = NDArray[np.float64]
Tile = tuple[slice, slice]
T = TypeVar("T")
TILE, LEAST = 384, 128
"""Rows and columns of a tile: products of larger matrices are not faster, those of smaller ones are slower."""
ROOM = 1 << 22
"""Bytes that the numbers of a tile take, so that they stay in the cache."""
SHARE = 8
"""Tiles for each thread, so that none waits long for the last one."""
CACHED = 1 << 19
"""Bytes of examples that are looked at together."""


def tiles(rows: int, cols: int, mirrored: bool, numbers: int = 1, memory: int = sys.maxsize) -> list[Tile]:
    """All pairs, those of the diagonal and above where `mirrored`; the largest tiles first.

    So many numbers of a pair are kept for a tile; those of all threads take `memory` bytes at most.
    """
    pairs = rows * cols // (2 if mirrored else 1)
    most = max(1, int(np.sqrt(min(ROOM, memory // workers()) / (8 * max(1, numbers)))))
    side = min(most, max(LEAST, min(TILE, int(np.sqrt(pairs / (SHARE * workers()))) // LEAST * LEAST)))
    cuts = [[slice(k, min(k + side, n)) for k in range(0, n, side)] for n in (rows, cols)]
    found = [(i, j) for i in cuts[0] for j in cuts[1] if not mirrored or j.start >= i.start]
    return sorted(found, key=lambda tile: -_work(tile, mirrored))


def _work(tile: Tile, mirrored: bool) -> int:
    """Twice the pairs of a tile; a product of a matrix with itself takes half the time."""
    i, j = tile
    pairs: int = (i.stop - i.start) * (j.stop - j.start)
    return pairs if mirrored and i == j else 2 * pairs


def on_tiles(  # noqa: PLR0913
    work: Callable[[Tile, NDArray[Any]], T],
    tiles: list[Tile],
    room: tuple[int, str],
    progress: Callable[[float], None],
    beside: Callable[[], object] | None = None,
) -> list[T]:
    """work(tile, memory) for all tiles; the memory is [numbers of a pair, rows, columns]: `room` of them, of a type.

    What is done `beside` is begun first, by one of the threads.
    """
    largest = max((i.stop - i.start) * (j.stop - j.start) for i, j in tiles)
    spare: list[NDArray[Any]] = []
    found: list[tuple[int, T]] = []

    def one(k: int) -> None:
        if k < 0:
            assert beside is not None
            beside()
            return
        try:
            memory = spare.pop()
        except IndexError:
            memory = np.empty(room[0] * largest, room[1])
        shape = room[0], *(side.stop - side.start for side in tiles[k])
        found.append((k, work(tiles[k], memory[: np.prod(shape)].reshape(shape))))
        spare.append(memory)
        progress(len(found) / len(tiles))

    parallel(one, range(0 if beside is None else -1, len(tiles)))
    return [result for _, result in sorted(found, key=lambda x: x[0])]


def scaled(vectors: Floats, factors: Floats, dtype: str = "float64") -> NDArray[Any]:
    """vectors [examples, d] times a factor each, in some type."""
    result: NDArray[Any] = np.empty(vectors.shape, dtype)
    step = max(1, CACHED // max(1, vectors[:1].nbytes))

    def work(start: int) -> None:
        rows = slice(start, start + step)
        np.multiply(vectors[rows], factors[rows, None], out=result[rows], casting="same_kind")

    parallel(work, range(0, len(vectors), step))
    return result
