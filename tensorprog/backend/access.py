"""Machine code on pointers: what is read and written at indices that are not negative, and functions in tables.

A pointer is one number; an array of numba is seven, which every call passes on, and lets indices count from the end, so
that numba must ask for the sign of each, and LLVM finds no neighbours.  In a loop that writes with `results[0]`,
`results[1]`, ... and reads with `given`, nothing that is read is written, and no two of them write to the same place:
LLVM is told by scopes of aliases, and need not ask at run time.

A function that is called by its address is compiled once, by itself, when it is needed first; what numba calls by name
becomes part of the caller, and is compiled again with it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

RESULTS = 8
"""Places that a loop writes to."""
LANES = 8
"""Numbers of a vector."""
LINE = 64
"""Bytes of a row of a square that is turned: a line of the cache."""
Pointer: Any = types.CPointer
NUMBERS, INDICES, BYTES = (Pointer(t) for t in (types.float64, types.int64, types.uint8))


def _spread(typing_context: Any, pointer: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(args[2].type, LANES)
        first = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[2], ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), lanes.as_pointer())
        builder.store(builder.shuffle_vector(first, first, mask), place, align=8)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, pointer.dtype), codegen


def _behind(typing_context: Any, pointer: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


def _given(typing_context: Any, pointer: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.gep(args[0], [args[1]]))
        value.set_metadata("noalias", builder.module.add_metadata(_scopes(builder.module)))
        return value

    return pointer.dtype(pointer, types.intp), codegen


def _result(number: int) -> Any:
    def result(typing_context: Any, pointer: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            stored = builder.store(args[2], builder.gep(args[0], [args[1]]))
            scopes = _scopes(builder.module)
            stored.set_metadata("alias.scope", builder.module.add_metadata([scopes.pop(number)]))
            stored.set_metadata("noalias", builder.module.add_metadata(scopes))
            return context.get_dummy_value()

        return types.void(pointer, types.intp, pointer.dtype), codegen

    return intrinsic(result)


def _scopes(module: Any) -> list[Any]:
    domain = module.add_metadata(["tensorprog results"])
    return [module.add_metadata([f"tensorprog result {n}", domain]) for n in range(RESULTS)]


def _called(typing_context: Any, address: Any, arguments: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.IntType(64), map(context.get_value_type, arguments))
        unpacked = [builder.extract_value(args[1], n) for n in range(len(arguments))]
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), unpacked)

    return types.int64(address, arguments), codegen


def _turn(typing_context: Any, matrix: Any, width: Any, i: Any, j: Any) -> Any:
    align = matrix.dtype.bitwidth // 8
    lanes = LINE // align

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(context.get_value_type(matrix.dtype), lanes).as_pointer()
        start, width, i, j = args

        def place(row: Any, column: Any, k: int) -> Any:
            first = builder.mul(builder.add(row, ir.Constant(row.type, k)), width)
            return builder.bitcast(builder.gep(start, [builder.add(first, column)]), vector)

        rows = [builder.load(place(i, j, k), align=align) for k in range(lanes)]
        for k, row in enumerate(_turned(builder, rows)):
            builder.store(row, place(j, i, k), align=align)
        return context.get_dummy_value()

    return types.void(matrix, *[types.intp] * 3), codegen


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square."""
    lanes = len(rows)
    halves = [[n // 2 + start + n % 2 * lanes for n in range(lanes)] for start in (0, lanes // 2)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), lanes), half) for half in halves]
    for _ in range(lanes.bit_length() - 1):
        couples = zip(rows[: lanes // 2], rows[lanes // 2 :], strict=True)
        rows = [builder.shuffle_vector(a, b, mask) for a, b in couples for mask in masks]
    return rows


def _at(kind: Any) -> Any:
    def pointer(typing_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(kind))

        return kind(address), codegen

    return intrinsic(pointer)


spread: Any = intrinsic(_spread)
"""Sets as many neighbours as there are LANES to one number."""
behind: Any = intrinsic(_behind)
"""The pointer so many places behind another."""
numbers, indices, singles = (intrinsic(_at(kind)) for kind in (NUMBERS, INDICES, Pointer(types.float32)))
"""Pointers to what begins at an address."""
given: Any = intrinsic(_given)
"""The number at a place that no result is written to."""
results: tuple[Any, ...] = tuple(map(_result, range(RESULTS)))
"""Set the number at a place, each another."""
called: Any = intrinsic(_called)
"""The number that the function at an address returns for a tuple of arguments."""
turn: Any = intrinsic(_turn)
"""Sets matrix[j + l, i + k] to matrix[i + k, j + l] in rows of some width, for as many k and l as fit into a line."""
