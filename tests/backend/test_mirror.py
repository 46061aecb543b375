"""The lower triangle is that of the upper one, in any part of a matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tensorprog.backend.mirror import mirror


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("part", [(0, 70, 0, 70), (3, 50, 20, 67), (0, 16, 16, 48), (10, 11, 30, 31), (5, 5, 5, 70)])
def test_parts(dtype: str, part: tuple[int, ...]) -> None:
    """Whole squares of a line and what is left over, beside the diagonal and across it."""
    matrix: Any = np.random.default_rng(0).normal(size=(70, 70)).astype(dtype)
    wanted = matrix.copy()
    start, end, first, last = part
    for i in range(start, end):
        above = slice(max(first, i), last)
        wanted[above, i] = wanted[i, above]
    mirror(matrix, *part)
    np.testing.assert_array_equal(matrix, wanted)


def test_views() -> None:
    """Only a contiguous matrix is turned."""
    with pytest.raises(AssertionError):
        mirror(np.zeros((8, 8)).T[::2], 0, 4, 0, 8)
