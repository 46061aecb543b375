"""What a Python user gets: the rows of a kernel, its shape and type, and whether it is one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from tensorprog.dataset import Dataset
from tensorprog.errors import fail
from tensorprog.finite.threads import are_finite
from tensorprog.ir.program import Input, Output, Program
from tensorprog.ir.tables import shape
from tensorprog.limit import Limit

if TYPE_CHECKING:
    from tensorprog.evaluate import Kernels


def is_number(limit: Limit) -> bool:
    """Whether the output becomes deterministic: not a vector, not random (a random scalar may vanish: then it is 0)."""
    var = limit.output_var
    return not limit.is_vector and (var not in limit.random or limit.powers[var] != 0)


def kind_of(limit: Limit) -> str:
    """What the output is in the limit, in words."""
    return "a vector" if limit.is_vector else "a number" if is_number(limit) else "random"


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one side of a kernel: how many, and the shape in which the user sees them."""

    total: int
    shape: tuple[int, ...]


def rows_of(program: Program, output: Output, data: Dataset) -> Rows:
    extents = {shape(program.var(output.var).axes, g.sizes) for g in data.groups}
    total = sum(len(g) * int(np.prod(shape(program.var(output.var).axes, g.sizes))) for g in data.groups)
    return Rows(total, (data.count, *extents.pop()) if len(extents) == 1 else (total,))


def row_names(program: Program, outputs: Sequence[Output], data: Dataset) -> tuple[str, ...]:
    """f[index](example) for every row, example by example, and of one example output by output.

    The number of the example alone where that says all.
    """
    if len(outputs) == 1 and not program.var(outputs[0].var).axes:
        return tuple(map(str, range(data.count)))
    sizes = {int(row): g.sizes for g in data.groups for row in g.rows}
    return tuple(f"{o.name}{_index(k)}({example})" for example in range(data.count) for o in outputs
                 for k in np.ndindex(shape(program.var(o.var).axes, sizes[example])))


def _index(k: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, k))}]" if k else ""


def like(program: Program, data: Dataset, batches: Sequence[Mapping[str, Any]], x: Any, dtype: str) -> Any:
    """Batches of all groups in the form in which the user gave the data x: arrays [N, ...], or lists of arrays."""
    found = {i.name: _examples(i, data, [b[i.name] for b in batches], dtype) for i in program.inputs}
    return found if isinstance(x, Mapping) or len(found) != 1 else next(iter(found.values()))


def _examples(i: Input, data: Dataset, batches: Sequence[Any], dtype: str) -> Any:
    examples: dict[int, Any] = {}
    for group, batch in zip(data.groups, batches, strict=True):
        extents = shape(i.axes, group.sizes) + (() if i.dim is None else batch.shape[2:])
        examples |= zip(group.rows.tolist(), batch.reshape(len(group), *extents).astype(dtype), strict=True)
    ordered = [examples[k] for k in range(data.count)]
    return np.stack(ordered) if len({e.shape for e in ordered}) == 1 else ordered


def is_single(x: Any) -> bool:
    """Whether data is float32 (or shorter) throughout."""
    if isinstance(x, dict):
        return all(is_single(v) for v in x.values())
    if isinstance(x, list | tuple):
        return bool(x) and all(is_single(v) for v in x)
    return str(getattr(x, "dtype", "")).removeprefix("torch.") in ("float32", "float16")


def type_of(x1: Any, x2: Any) -> str:
    """The type of results: float32 when all data is."""
    return "float32" if is_single(x1) and (x2 is None or is_single(x2)) else "float64"


def check_memory(entries: int, copies: int) -> None:
    """Raises TensorProgError when `copies` matrices of `entries` numbers cannot fit into memory."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if 8 * entries * copies > available:
        raise fail(f"the kernels need {8 * entries * copies / 2**30:.0f} GB, more memory than this machine has",
                   hint="ask for fewer examples at a time")


def check_finite(kernels: Kernels, output: Output, symmetric: bool) -> None:
    """Raises TensorProgError for a kernel with an entry that is not a number or infinite."""
    for name, k in (("NNGP", kernels.nngp), ("NTK", kernels.ntk)):
        if k is not None and not are_finite(k, symmetric):
            raise fail(f"the {name} of '{output.name}' is not finite: an expectation overflows, or does not exist",
                       output.span, "look for a nonlinearity that grows fast, and for very large data or variances")

