"""The lower triangle of a symmetric matrix from the upper one, by squares that are turned in registers.

Numba has no shuffles; they are written in LLVM.  A square of L rows with L numbers each is turned in log2 L rounds:
rows k and k + L/2 become the one that has the first halves of both in turn, and the one that has the second halves.  A
round moves the first binary digit of the row to the end of the column, and that of the column to the end of the row.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

LINE = 64
"""Bytes of a row of a square: a line of the cache."""


def _turn(typing_context: Any, matrix: Any, i: Any, j: Any) -> Any:
    if matrix.layout != "C":
        raise TypingError("a matrix must be contiguous to be turned")
    lanes = LINE * 8 // matrix.dtype.bitwidth

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(matrix)(context, builder, args[0])
        vector = ir.VectorType(context.get_value_type(matrix.dtype), lanes).as_pointer()
        width = builder.extract_value(array.shape, 1)

        def place(row: Any, column: Any, k: int) -> Any:
            start = builder.mul(builder.add(row, ir.Constant(row.type, k)), width)
            return builder.bitcast(builder.gep(array.data, [builder.add(start, column)]), vector)

        align = matrix.dtype.bitwidth // 8
        rows = [builder.load(place(args[1], args[2], k), align=align) for k in range(lanes)]
        for k, row in enumerate(_turned(builder, rows)):
            builder.store(row, place(args[2], args[1], k), align=align)
        return context.get_dummy_value()

    return types.void(matrix, types.intp, types.intp), codegen


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square."""
    lanes = len(rows)
    halves = [[n // 2 + start + n % 2 * lanes for n in range(lanes)] for start in (0, lanes // 2)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), half) for half in halves]
    for _ in range(lanes.bit_length() - 1):
        couples = zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True)
        rows = [builder.shuffle_vector(a, b, mask) for a, b in couples for mask in masks]
    return rows


turn: Any = intrinsic(_turn)
"""Sets matrix[j + l, i + k] to matrix[i + k, j + l], for as many k and l as fit into a line, of a contiguous matrix."""


@njit(error_model="numpy", nogil=True)
def mirror(matrix: Any, start: int, end: int, first: int, last: int) -> None:
    """matrix[j, i] = matrix[i, j] for start <= i < end and first <= j < last where i < j."""
    side = LINE // matrix.itemsize
    for b in range(first, last, side):
        for a in range(start, min(end, b + side), side):
            if a + side <= min(end, b + 1) and b + side <= last:
                turn(matrix, a, b)
            else:
                for j in range(b, min(b + side, last)):
                    for i in range(a, min(a + side, end, j)):
                        matrix[j, i] = matrix[i, j]
