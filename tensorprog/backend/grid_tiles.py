"""All pairs of examples in tiles whose right examples stay the same: what is known of these is fetched once.

A block of P examples on the right meets every other example on the left: P pairs, one tile.  Within a symmetric kernel
a block meets itself in cyclic shifts, pair p of tile d being ((p + d) mod P, p), and other blocks once.  What does not
fill a tile is put together at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tensorprog.ir.tables import Ints

Tile = tuple[Ints, Ints]


def pair_tiles(examples: tuple[int, int], symmetric: bool, width: int) -> list[Tile]:
    """Every pair (left, right) once, of a symmetric kernel in one of both orders; `width` pairs in every tile, and the
    last one repeats its last pair."""
    full, rest = list[Tile](), list[Tile]()
    for start in range(0, examples[1], width):
        right = np.arange(start, min(start + width, examples[1]))
        for left in (*_blocks(start if symmetric else examples[0], len(right)), *_shifts(right, symmetric)):
            pairs = left, right[: len(left)]
            (full if len(left) == width else rest).append(pairs)
    if rest:
        i, j = (np.concatenate([pairs[side] for pairs in rest]) for side in (0, 1))
        full += [(i[at], j[at]) for at in _cuts(len(i), width)]
    return full


def same_tiles(examples: int, width: int) -> list[Tile]:
    """Every example with itself."""
    return [(at, at) for at in _cuts(examples, width)]


def _blocks(lefts: int, width: int) -> Iterator[Ints]:
    return iter(np.repeat(np.arange(lefts), width).reshape(-1, width))


def _shifts(right: Ints, symmetric: bool) -> Iterator[Ints]:
    """A block with itself: all shifts up to the one that is its own mirror image, of which half is enough."""
    n = len(right)
    shifts = np.arange(n // 2 + 1 if symmetric else 0)[:, None]
    return (left[: n // 2 if 0 < d == n - d else n] for d, left in enumerate(right[(np.arange(n) + shifts) % n]))


def _cuts(count: int, width: int) -> list[Ints]:
    return [np.minimum(np.arange(k, k + width), count - 1) for k in range(0, count, width)]
