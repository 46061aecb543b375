"""The lower triangle of a symmetric matrix from the upper one, by squares that are turned in registers.

Numba has no shuffles; they are written in LLVM (`access.turn`).  A square of L rows with L numbers each is turned in
log2 L rounds: rows k and k + L/2 become the one that has the first halves of both in turn, and the one that has the
second halves.  A round moves the first binary digit of the row to the end of the column, and that of the column to the
end of the row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.access import LINE
from tensorprog.backend.build import called, pointer
from tensorprog.backend.emit import HEAD, POINTERS


def _source(dtype: np.dtype[Any]) -> str:
    return f"""{HEAD}

@cfunc(types.int64(*[types.int64] * 6), **OPTIONS)
def function(address, width, start, end, first, last):
    matrix = {POINTERS[dtype]}(address)
    side = {LINE // dtype.itemsize}
    for b in range(first, last, side):
        bottom = b + side if b + side < last else last
        for a in range(start, end if end < b + side else b + side, side):
            right = a + side if a + side < end else end
            if a + side <= right and a + side <= b + 1 and b + side <= bottom:
                turn(matrix, width, a, b)
            else:
                for j in range(b, bottom):
                    for i in range(a, right if right < j else j):
                        matrix[j * width + i] = matrix[i * width + j]
    return 0
"""


MIRROR = {dtype: _source(dtype) for dtype in POINTERS}
"""The source of `mirror` for a matrix at an address, whose rows have some width, by its type."""


def mirror(matrix: NDArray[Any], start: int, end: int, first: int, last: int) -> None:
    """matrix[j, i] = matrix[i, j] for start <= i < end and first <= j < last where i < j; the matrix is contiguous."""
    called(MIRROR[matrix.dtype], 6)(pointer(matrix), matrix.shape[1], start, end, first, last)
