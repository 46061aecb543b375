"""What a Python user asks for, checked: numbers, seeds, widths, types, arrays of numbers, options of kernels.

Every function takes a number of Python or of numpy, gives it back in one form, and raises TensorProgError for what is
none, infinite, or out of range.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.errors import fail
from tensorprog.ir.check import parameter_sizes, size_names
from tensorprog.ir.expr import evaluate, num, symbols
from tensorprog.ir.program import Program

if TYPE_CHECKING:
    from tensorprog.evaluate import Options
    from tensorprog.finite import Network as Weights

Seeds = int | Sequence[int]
Width = int | Mapping[str, int] | None
Floats = NDArray[np.float64]

TIERS = ("auto", "closed", "quadrature", "sampling")
KERNELS = ("nngp", "ntk")
TYPES = ("float32", "float64")


# ---------------------------------------------------------------- numbers


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`; 64.0 is one, True is none."""
    found = _plain(value)
    number = int(found) if isinstance(found, Integral) or (isinstance(found, float) and found.is_integer()) else None
    if number is not None and number >= least:
        return number
    raise fail(f"{name} must be a whole number of at least {least}, not {value!r}", hint=f"for example {least + 1}")


def positive(name: str, value: Any) -> float:
    """A finite number above zero."""
    found = finite(name, value)
    if not found > 0:
        raise fail(f"{name} must be a positive number, not {value!r}", hint="for example 0.1")
    return found


def finite(name: str, value: Any) -> float:
    """A finite number."""
    found = _plain(value)
    if isinstance(found, Real) and math.isfinite(found):
        return float(found)
    raise fail(f"{name} must be a finite number, not {value!r}", hint="for example 0.1")


def _plain(value: Any) -> Any:
    """The number of Python for one of numpy, or for an array without axes; None for a truth value."""
    found = value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value
    return None if isinstance(found, bool) else found


def reals(name: str, values: Any) -> Floats:
    """An array of real numbers, which may be infinite or NaN."""
    try:
        found = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise fail(f"{name} are no array: {error}", hint="give real numbers, rows of equal lengths") from None
    if found.dtype.kind not in "fiub":
        raise fail(f"{name} are no array of real numbers: their type is {found.dtype}", hint="give int or float")
    return found.astype(np.float64)


def _several(name: str, values: Any, hint: str) -> list[Any]:
    """The items of a list, a tuple, a range or an array with one axis, at least one."""
    if (isinstance(values, list | tuple | range) or np.ndim(values) == 1) and len(values):
        return list(values)
    raise fail(f"{name} must be a list of at least one whole number, not {values!r}", hint=hint)


# ---------------------------------------------------------------- options


def checked(options: Options) -> Options:
    """The options with numbers as Python has them."""
    if options.tier not in TIERS:
        raise fail(f"there is no tier '{options.tier}'", hint=f"tiers: {', '.join(TIERS)}")
    return replace(
        options,
        want=kinds(options.want),
        accuracy=None if options.accuracy is None else positive("accuracy", options.accuracy),
        samples=whole("samples", options.samples, 2),
        replicates=whole("replicates", options.replicates, 2),
        seed=whole("seed", options.seed, 0),
    )


def kinds(want: Any) -> tuple[str, ...]:
    """Which kernels are wanted: a list of "nngp" and "ntk"."""
    if isinstance(want, list | tuple | set | frozenset) and all(kind in KERNELS for kind in want):
        return tuple(kind for kind in KERNELS if kind in want)
    raise fail(f"want = {want!r} is no tuple of 'nngp' and 'ntk'", hint="for example want=('ntk',)")


def float_type(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 or float64, by name or as a type of numpy."""
    try:
        name = "None" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in TYPES:
        raise fail(f"there are kernels and networks in float32 and float64, not in {name}", hint="dtype='float32'")
    return np.dtype(name)


def byte_count(memory: str | int | None) -> int | None:
    """An amount of memory in bytes."""
    from tensorprog.store.plan import parse_size

    return None if memory is None else parse_size(memory)


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """Seeds, or the first so many: 3 is (0, 1, 2)."""
    hint = "seeds=8 for eight networks, or seeds=[0, 1, 2]"
    if isinstance(_plain(seeds), Real):
        return tuple(range(whole("the number of seeds", seeds)))
    return tuple(whole("a seed", seed, 0) for seed in _several("seeds", seeds, hint))


def parameters_of(wrt: Any) -> tuple[tuple[str, ...], dict[str, float]]:
    """Names of parameters, and the numbers that were given for them."""
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt) if isinstance(wrt, Iterable) else (wrt,)
    if not all(isinstance(name, str) for name in names):
        raise fail(f"wrt = {wrt!r} does not name parameters", hint="for example wrt='sw', or wrt={'sw': 1.3}")
    values = wrt if isinstance(wrt, Mapping) else {}
    return tuple(dict.fromkeys(names)), {name: finite(f"parameter '{name}'", v) for name, v in values.items()}


def weights_of(kernel: str, weights: Any, shape: tuple[int, ...]) -> Floats:
    """The weights of the entries of a kernel.  Raises TensorProgError where they do not have its shape."""
    found = reals(f"the weights of the {kernel.upper()}", weights)
    if found.shape != shape:
        raise fail(f"the weights of the {kernel.upper()} must have its shape {list(shape)}, not {list(found.shape)}")
    return found


def claimed(against: Any, rows: int) -> dict[str, tuple[Floats, Floats | float]]:
    """Arrays that the user takes for the limit, matrices over rows, with the standard error 0."""
    shapes = {"nngp": (rows, rows), "ntk": (rows, rows), "value": (rows,)}
    if not isinstance(against, Mapping) or not against or not set(against) <= set(shapes):
        raise fail("a limit to compare with is a network, or arrays by the names 'nngp', 'ntk' or 'value'")
    found = {kind: reals(f"the entries of '{kind}'", k) for kind, k in against.items()}
    for kind, k in found.items():
        if not np.isfinite(k).all():
            raise fail(f"'{kind}' has NaN or infinite entries")
        if k.size != math.prod(shapes[kind]):
            raise fail(f"'{kind}' must have the shape {list(shapes[kind])}, not {list(k.shape)}")
    return {kind: (k.reshape(shapes[kind]), 0.0) for kind, k in found.items()}


# ---------------------------------------------------------------- widths and weights


def widths_of(widths: Any) -> tuple[int, ...]:
    """The widths of a study, from the smallest."""
    hint = "for example widths=(64, 128, 256)"
    return tuple(sorted({whole("a width", w) for w in _several("widths", widths, hint)}))


def with_widths(program: Program, width: Width) -> Program:
    """The program with these widths as its defaults, so that others are in their ratios, and so is the limit.

    A number is the first width, and leaves the ratios as they are; None leaves everything.
    """
    if not isinstance(width, Mapping):
        return program
    names = [w.name for w in program.widths]
    if set(width) != set(names):
        raise fail(f"widths are given for {', '.join(map(str, width)) or 'nothing'}", program.span,
                   f"the widths of the program are {', '.join(names) or 'none'}")
    return replace(program, widths=tuple(
        replace(w, size=num(whole(f"width {w.name}", width[w.name]))) for w in program.widths))


def ratios(width: Any) -> Mapping[str, int] | None:
    """The ratios of widths in a study."""
    if width is None or isinstance(width, Mapping):
        return width
    raise fail(f"width = {width!r} gives no ratios of widths", hint="for example width={'n': 1, 'm': 2}; "
               "the widths of a study are widths=(64, 128)")


def first_width(program: Program, width: Width) -> int:
    """The first width: `width` where that is a number, else as the program says; 1 for one without widths."""
    if width is not None and not isinstance(width, Mapping):
        return whole("a width", width)
    return int(evaluate(with_widths(program, width).widths[0].size, {})) if program.widths else 1


def check_weights(program: Program, weights: Weights, sizes: Mapping[str, int]) -> Weights:
    """Raises TensorProgError for weights that are none of the program, or do not reach for data of these sizes."""
    from tensorprog.finite import Network

    if not isinstance(weights, Network):
        raise fail(f"these are no weights but {type(weights).__name__}", hint="draw them by net.weights(x)")
    if not _are_of(program, weights):
        raise fail("these are weights of another program", program.span, "draw them by net.weights(x)")
    fixed, reaching = parameter_sizes(program), {s for w in program.weights for a in w.axes for s in symbols(a.extent)}
    for name in sorted((fixed | reaching) & sizes.keys()):
        drawn, size = weights.sizes[name], sizes[name]
        if drawn < size or (drawn > size and name in fixed):
            raise fail(f"the weights were drawn for data with {name} = {drawn}, here it is {size}", program.span,
                       "draw them for this data: net.weights(x)")
    return weights


def _are_of(program: Program, weights: Weights) -> bool:
    """Whether the weights have the names and shapes of those of the program."""
    from tensorprog.finite.weights import shape_of

    names = {w.name for w in program.weights}, {w.name for w in program.widths}
    if names != (set(weights.values), set(weights.widths)) or not set(size_names(program)) <= set(weights.sizes):
        return False
    return all(weights.values[w.name].shape == shape_of(w, weights.env) for w in program.weights)
