"""What a Python user asks for, checked: options of kernels, types, amounts of memory, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.errors import fail

if TYPE_CHECKING:
    from tensorprog.evaluate import Options

Seeds = int | Sequence[int]
TIERS = ("auto", "closed", "quadrature", "sampling")


def check_options(options: Options) -> None:
    if options.tier not in TIERS:
        raise fail(f"there is no tier '{options.tier}'", hint=f"tiers: {', '.join(TIERS)}")
    if options.dtype not in ("float32", "float64"):
        raise fail(f"kernels have no type '{options.dtype}'", hint="types: float32, float64")
    if isinstance(options.want, str) or not set(options.want) <= {"nngp", "ntk"}:
        raise fail(f"want = {options.want!r} is no tuple of 'nngp' and 'ntk'")
    if options.samples < 2 or options.replicates < 2:
        raise fail("samples and replicates must be at least 2")
    if options.accuracy is not None and not options.accuracy > 0:
        raise fail(f"an accuracy must be positive, not {options.accuracy}")


def weights_of(kernel: str, weights: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The weights of the entries of a kernel.  Raises TensorProgError where they do not have its shape."""
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != shape:
        raise fail(f"the weights of the {kernel.upper()} must have its shape {list(shape)}, not {list(found.shape)}")
    return found


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise fail(f"networks are simulated in float32 or float64, not {kind}")
    return kind


def byte_count(memory: str | int | None) -> int | None:
    from tensorprog.store.plan import parse_size

    return None if memory is None else parse_size(memory)


def seeds_of(seeds: Seeds) -> Sequence[int]:
    if isinstance(seeds, int) and seeds < 1:
        raise fail(f"the number of seeds must be at least 1, not {seeds}")
    return range(seeds) if isinstance(seeds, int) else seeds
