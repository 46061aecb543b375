"""A user's arrays -> groups of examples of equal sizes, checked against the inputs of a program.

    x [N, T, d]                         one group with T and d solved from the shape
    [x0 [T0, d], x1 [T1, d], ...]       one group for every length
    {"A": ..., "x": ...}                several inputs, matched example by example
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import TensorProgError, fail
from tensorprog.finite.threads import are_finite
from tensorprog.ir.check import check_sizes, parameter_sizes
from tensorprog.ir.expr import Expr, Num, Sym, evaluate, show
from tensorprog.ir.program import Input, Program

Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Examples of equal sizes.

    `batch[name]` is float64, [examples, elements, dim] for an input of vectors and [examples, elements]
    for an input of numbers, elements in row-major order of its axes.  `rows` are the positions of the
    examples in the user's order.
    """

    sizes: Mapping[str, int]
    batch: Mapping[str, Floats]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


@final
@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of a user in groups; together their `rows` are 0, ..., count - 1."""

    groups: tuple[Group, ...]
    count: int

    def sizes(self) -> dict[str, int]:
        """The largest value of every size over the groups."""
        names = self.groups[0].sizes
        return {name: max(g.sizes[name] for g in self.groups) for name in names}


def bind(program: Program, x: Any) -> Dataset:
    """The data set that `x` is for `program`.

    `x` is an array (first axis the example) or a list of arrays (axes may differ between examples) when the
    program has one input, a dict of those by name for any number of inputs, None for a program without
    inputs (one example).  The sizes of the program are solved from the shapes.

    Raises TensorProgError, with the expected and the given shape, when the data does not fit; for data that
    is not numeric or not finite (naming the example); and for sizes at which an axis of the program is not
    a whole number or a weight is read outside its range.
    """
    if not program.inputs:
        return _without_inputs(program, x)
    examples = {i.name: _examples(i, value) for i, value in _by_input(program, x)}
    total = _common_count(program, examples)
    groups = tuple(_group(program, rows, examples) for rows in _equal_shapes(examples, total))
    check_shared(program, [g.sizes for g in groups])
    for sizes in _distinct([g.sizes for g in groups]):
        _check_sizes(program, tuple(sizes.items()))
    return Dataset(groups, total)


@lru_cache(maxsize=256)
def _check_sizes(program: Program, sizes: tuple[tuple[str, int], ...]) -> None:
    check_sizes(program, dict(sizes))


def check_shared(program: Program, sizes: Iterable[Mapping[str, int]]) -> None:
    """Raises TensorProgError if a size that the shape or law of a weight depends on takes several values."""
    found = list(sizes)
    for name in sorted(parameter_sizes(program)):
        values = sorted({s[name] for s in found if name in s})
        if len(values) > 1:
            raise fail(f"{name} is {values[0]} for some examples and {values[1]} for others", program.span,
                       f"weights depend on {name}, and all examples share the weights")


def check_pair(program: Program, left: Dataset, right: Dataset) -> None:
    """Raises TensorProgError if the two data sets cannot share weights."""
    check_shared(program, [g.sizes for d in (left, right) for g in d.groups])


def check_same_shapes(program: Program, data: Dataset, direction: Dataset) -> None:
    """Raises TensorProgError if a direction in which data moves has not its shapes."""
    shapes = [[(g.sizes, g.rows.tolist()) for g in d.groups] for d in (data, direction)]
    if shapes[0] != shapes[1]:
        raise fail("the direction must have the shapes of the data, example by example", program.span)


def _without_inputs(program: Program, x: Any) -> Dataset:
    if x is not None:
        raise fail(f"program '{program.name}' has no inputs and takes no data", program.span)
    check_sizes(program, {})
    return Dataset((Group({}, {}, np.zeros(1, dtype=np.int64)),), 1)


# ---------------------------------------------------------------- which array is which input


def _by_input(program: Program, x: Any) -> list[tuple[Input, Any]]:
    names = [i.name for i in program.inputs]
    if x is None:
        raise fail(f"program '{program.name}' needs data for its inputs: {_shapes(program)}", program.span)
    if not isinstance(x, Mapping):
        if len(names) > 1:
            raise fail(f"program '{program.name}' has the inputs {_shapes(program)}", program.span,
                       "give a dict (or an .npz file) with one entry per input")
        return [(program.inputs[0], x)]
    missing = [n for n in names if n not in x]
    unknown = [str(n) for n in x if n not in names]
    if missing:
        raise fail(f"the data has no entry '{missing[0]}'", program.input(missing[0]).span,
                   f"the inputs are {_shapes(program)}; the data has {', '.join(map(str, x)) or 'nothing'}")
    if unknown:
        raise fail(f"the data has an entry '{unknown[0]}', which is no input of '{program.name}'", program.span,
                   f"the inputs are {_shapes(program)}")
    return [(i, x[i.name]) for i in program.inputs]


def _shapes(program: Program) -> str:
    return ", ".join(f"{i.name} {expected_shape(i)}" for i in program.inputs)


def expected_shape(i: Input, batch: bool = True) -> str:
    """The shape that data for an input must have: `[N, T, d]`, or `[T, d]` for one example."""
    parts = ["N"] if batch else []
    parts += [show(e) for e in _extents(i)]
    return f"[{', '.join(parts)}]"


def _extents(i: Input) -> tuple[Expr, ...]:
    return tuple(a.extent for a in i.axes) + (() if i.dim is None else (i.dim,))


# ---------------------------------------------------------------- one input


@final
@dataclass(frozen=True, slots=True)
class _Examples:
    """The examples of one input: one array [N, ...], or a list of arrays of several shapes."""

    input: Input
    stacked: Floats | None
    ragged: Sequence[Floats]

    def __len__(self) -> int:
        return len(self.ragged) if self.stacked is None else len(self.stacked)

    def shape(self, k: int) -> Shape:
        return self.ragged[k].shape if self.stacked is None else self.stacked.shape[1:]

    def take(self, rows: NDArray[np.int64]) -> Floats:
        if self.stacked is None:
            return np.stack([self.ragged[k] for k in rows])
        return self.stacked if len(rows) == len(self.stacked) else self.stacked[rows]


def _examples(i: Input, value: Any) -> _Examples:
    if isinstance(value, list | tuple) and value:
        arrays = [_numeric(i, v, f"example {k} of input {i.name}") for k, v in enumerate(value)]
        if len({a.shape for a in arrays}) > 1:
            return _checked(i, _Examples(i, None, arrays))
        return _checked(i, _Examples(i, np.stack(arrays), ()))
    return _checked(i, _Examples(i, _numeric(i, value, f"input {i.name}"), ()))


def _numeric(i: Input, value: Any, what: str) -> Floats:
    """The array as float64."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise fail(f"{what} has masked entries", i.span, "remove or fill them: x.filled(0)")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        hint = "lists inside an example must have equal lengths"
        raise fail(f"{what} is not an array: {error}", i.span, hint) from None
    if array.dtype.kind not in "fiub":
        raise fail(f"{what} is not an array of real numbers: its type is {array.dtype}", i.span, _dtype_hint(value))
    return np.asarray(array, dtype=np.float64)


def _dtype_hint(value: Any) -> str | None:
    if hasattr(value, "toarray"):
        return "give a dense array: x.toarray()"
    if isinstance(value, np.ndarray) and value.dtype == object:
        return "give examples of different shapes as a list of arrays"
    return None


def _checked(i: Input, examples: _Examples) -> _Examples:
    if examples.stacked is not None and examples.stacked.ndim == 0:
        raise fail(f"input {i.name} must have the shape {expected_shape(i)}, not be a single number", i.span)
    if len(examples) == 0:
        raise fail(f"the data for input {i.name} has no examples", i.span)
    _check_shapes(i, examples)
    arrays = examples.ragged if examples.stacked is None else [examples.stacked]
    if not all(map(are_finite, arrays)):
        raise _not_finite(i, examples)
    return examples


def _check_shapes(i: Input, examples: _Examples) -> None:
    expected = len(_extents(i))
    if examples.stacked is not None:
        if examples.stacked.ndim != expected + 1:
            shape = examples.stacked.shape
            raise fail(f"input {i.name} has the shape {expected_shape(i)}, the data has {list(shape)}", i.span,
                       _shape_hint(i, len(shape) - expected - 1))
        return
    for k, array in enumerate(examples.ragged):
        if array.ndim != expected:
            message = f"an example of input {i.name} has the shape {expected_shape(i, batch=False)}"
            hint = _shape_hint(i, array.ndim - expected, single=True)
            raise fail(f"{message}, example {k} has {list(array.shape)}", i.span, hint)


def _shape_hint(i: Input, excess: int, single: bool = False) -> str | None:
    """What a user most likely has to do with data of `excess` axes too many."""
    if excess > 0 and not i.axes:
        return "flatten each example: x.reshape(-1)" if single else "flatten each example: x.reshape(len(x), -1)"
    if excess == -1 and i.axes and i.dim is not None:
        return "add an axis for the vector at each index (one channel): x[..., None]"
    if excess == -1 and not single:
        return "the first axis counts the examples; a single example is x[None]"
    return None


def _not_finite(i: Input, examples: _Examples) -> TensorProgError:
    arrays = examples.ragged if examples.stacked is None else examples.stacked
    k, array = next((k, a) for k, a in enumerate(arrays) if not np.isfinite(a).all())
    place = tuple(int(j) for j in np.argwhere(~np.isfinite(array))[0])
    what = "NaN" if np.isnan(array[place]) else "an infinite number"
    where = f" at {list(place)}" if place else ""
    return fail(f"example {k} of input {i.name} has {what}{where}", i.span, "remove or replace such examples")


# ---------------------------------------------------------------- groups


def _common_count(program: Program, examples: Mapping[str, _Examples]) -> int:
    counts = {name: len(e) for name, e in examples.items()}
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{name} has {n}" for name, n in counts.items())
        raise fail(f"the inputs have different numbers of examples: {given}", program.span)
    return next(iter(counts.values()))


def _equal_shapes(examples: Mapping[str, _Examples], total: int) -> list[NDArray[np.int64]]:
    """The rows of examples whose shapes agree in all inputs, in order of first appearance."""
    if all(e.stacked is not None for e in examples.values()):
        return [np.arange(total)]
    rows: dict[tuple[Shape, ...], list[int]] = {}
    for k in range(total):
        rows.setdefault(tuple(e.shape(k) for e in examples.values()), []).append(k)
    return [np.array(r, dtype=np.int64) for r in rows.values()]


def _group(program: Program, rows: NDArray[np.int64], examples: Mapping[str, _Examples]) -> Group:
    first = int(rows[0])
    sizes = _solve(program, {name: e.shape(first) for name, e in examples.items()}, first)
    batch = {name: _elements(e.input, e.take(rows)) for name, e in examples.items()}
    return Group(sizes, batch, rows)


def _elements(i: Input, array: Floats) -> Floats:
    """[examples, axes..., dim] -> [examples, elements, dim]"""
    axes = array.shape[1:] if i.dim is None else array.shape[1:-1]
    dim = () if i.dim is None else array.shape[-1:]
    return np.ascontiguousarray(array.reshape(len(array), math.prod(axes), *dim))


def _distinct(sizes: Iterable[Mapping[str, int]]) -> list[Mapping[str, int]]:
    return list({tuple(sorted(s.items())): s for s in sizes}.values())


# ---------------------------------------------------------------- sizes from shapes


def _solve(program: Program, shapes: Mapping[str, Shape], example: int) -> dict[str, int]:
    """The sizes at which the inputs have these shapes."""
    equations = [(i, e, n) for i in program.inputs for e, n in zip(_extents(i), shapes[i.name], strict=True)]
    sizes: dict[str, int] = {}
    for _, e, n in equations:  # a name stands by itself where it occurs first
        if isinstance(e, Sym):
            sizes.setdefault(e.name, n)
    for i, e, n in equations:
        _check_equation(i, e, n, sizes, shapes[i.name], example)
    return sizes


def _check_equation(i: Input, e: Expr, given: int, sizes: Mapping[str, int], shape: Shape, example: int) -> None:
    value = evaluate(e, sizes)
    if value == given and given > 0:
        return
    if given == 0:
        raise fail(f"{show(e)} is 0 in the data for input {i.name}: example {example} has {list(shape)}", i.span)
    known = "" if isinstance(e, Num) else f" with {show(e)} = {float(value):g}"
    raise fail(f"input {i.name} has the shape {expected_shape(i)}{known}, example {example} has {list(shape)}", i.span,
               f"{show(e)} must be {float(value):g}, not {given}")
