"""Reading and writing arrays at indices that are not negative: loops over neighbours then become vector instructions.

Numba lets indices count from the end, so that it must ask for the sign of each, and LLVM finds no neighbours.  In a
loop that writes with `results[0]`, `results[1]`, ... and reads with `given`, nothing that is read is written, and no
two of them write to the same place: LLVM is told by scopes of aliases, and need not ask at run time.
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


def _load(typing_context: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, signature, args))

    return array.dtype(array, types.intp), codegen


def _store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def _spread(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = ir.VectorType(args[2].type, LANES)
        first = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[2], ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), None)
        place = builder.bitcast(_place(context, builder, signature, args), lanes.as_pointer())
        builder.store(builder.shuffle_vector(first, first, mask), place, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


def _given(typing_context: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_place(context, builder, signature, args))
        value.set_metadata("noalias", builder.module.add_metadata(_scopes(builder.module)))
        return value

    return array.dtype(array, types.intp), codegen


def _result(number: int) -> Any:
    def result(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            stored = builder.store(args[2], _place(context, builder, signature, args))
            scopes = _scopes(builder.module)
            stored.set_metadata("alias.scope", builder.module.add_metadata([scopes.pop(number)]))
            stored.set_metadata("noalias", builder.module.add_metadata(scopes))
            return context.get_dummy_value()

        return types.void(array, types.intp, array.dtype), codegen

    return intrinsic(result)


def _scopes(module: Any) -> list[Any]:
    domain = module.add_metadata(["tensorprog results"])
    return [module.add_metadata([f"tensorprog result {n}", domain]) for n in range(RESULTS)]


load: Any = intrinsic(_load)
"""The element of a contiguous array of one axis, with no check of the index."""
store: Any = intrinsic(_store)
"""Sets the element of a contiguous array of one axis."""
spread: Any = intrinsic(_spread)
"""Sets as many neighbours as there are LANES to one number."""
given: Any = intrinsic(_given)
"""As `load`, of what no result is written to."""
results: tuple[Any, ...] = tuple(map(_result, range(RESULTS)))
"""As `store`, each to a place of its own."""
