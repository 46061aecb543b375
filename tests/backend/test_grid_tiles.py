"""Tiles of pairs of examples."""

import numpy as np
import pytest

from tensorprog.backend.grid_tiles import pair_tiles


@pytest.mark.parametrize("n", [1, 2, 5, 8, 13, 16, 41])
@pytest.mark.parametrize("width", [1, 2, 3, 6, 8])
def test_every_pair_is_there_once(n: int, width: int) -> None:
    """Of a symmetric kernel in one of both orders; only the last pair may be repeated."""
    for symmetric, m in ((True, n), (False, n), (False, 7)):
        tiles = pair_tiles((n, m), symmetric, width)
        assert all(len(i) == len(j) == width for i, j in tiles)
        pairs = [(a, b) for i, j in tiles for a, b in zip(i.tolist(), j.tolist(), strict=True)]
        pairs = pairs[: pairs.index(pairs[-1]) + 1]
        found = [tuple(sorted(p)) if symmetric else p for p in pairs]
        assert len(set(found)) == len(found) == (n * (n + 1) // 2 if symmetric else n * m)


def test_right_examples_stay() -> None:
    """Of 40 examples with themselves, every block of eight is fetched once."""
    tiles = pair_tiles((40, 40), True, 8)
    changes = sum(not np.array_equal(a[1], b[1]) for a, b in zip(tiles, tiles[1:], strict=False))
    assert changes <= 4 + 3  # blocks, and what is left of them
