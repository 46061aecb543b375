"""Reading and writing arrays at indices that are not negative: loops over neighbours then become vector instructions.

Numba lets indices count from the end, so that it must ask for the sign of each, and LLVM finds no neighbours.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


def _load(typing_context: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, signature, args))

    return array.dtype(array, types.intp), codegen


def _store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature, args))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


load: Any = intrinsic(_load)
"""The element of a contiguous array of one axis, with no check of the index."""
store: Any = intrinsic(_store)
"""Sets the element of a contiguous array of one axis."""
