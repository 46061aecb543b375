"""Products of a family of weights with a family of vectors: result[target] += coef * W[element] @ operand[source].

Families are [elements, examples, dim] in memory.  Where an index map moves a run of elements as a whole (a row of
pixels under one tap of a filter) the run is one matrix product with all examples, read and added in place, and runs at
equal distances (all rows of an image) are one call; nothing is gathered.  Where it does not (strides, graphs), or where
several vectors meet the same weight, vectors are summed first, and as few as possible are multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.finite.weights import Array
from tensorprog.ir.tables import Ints

LEAST_ROWS = 8
"""Vectors in a run, on average over the runs, from which on it is multiplied by itself."""

LEAST_VECTORS = 32
"""Vectors in a run and its repeats, on average, from which on the call pays."""

HELD = 1 << 18
"""Numbers of products that are held at once, so that they are in the cache when they are added."""

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Run:
    """result[target + k] += coef * W[element] @ operand[source + k] for k < length; the same `count` times, each time
    with targets and sources that are `steps` further on."""

    target: int
    element: int
    source: int
    length: int
    coef: float
    count: int = 1
    steps: tuple[int, int] = 0, 0


@final
@dataclass(frozen=True, slots=True)
class Pairs:
    """What one weight element does: result[target[k]] += coef[k] * W[element] @ operand[source[k]], targets ascending.

    `runs` are these in runs; None where a target or a source occurs twice.
    """

    element: int
    target: Ints
    source: Ints
    coef: Floats
    runs: tuple[Run, ...] | None


def grouped(element: Ints, target: Ints, source: Ints, coef: Floats) -> tuple[Pairs, ...]:
    """The pairs of every weight element."""
    order = np.lexsort((target, element))
    cuts = np.flatnonzero(np.diff(element[order])) + 1
    return tuple(_pairs(int(element[p[0]]), target[p], source[p], coef[p]) for p in np.split(order, cuts) if len(p))


def _pairs(element: int, target: Ints, source: Ints, coef: Floats) -> Pairs:
    if not (np.diff(target) > 0).all() or len(np.unique(source)) < len(source):
        return Pairs(element, target, source, coef, None)
    goes_on = (np.diff(target) == 1) & (np.diff(source) == 1) & (np.diff(coef) == 0)
    starts = np.concatenate([[0], np.flatnonzero(~goes_on) + 1])
    lengths = np.diff([*starts, len(target)])
    runs = (Run(int(target[k]), element, int(source[k]), int(length), float(coef[k]))
            for k, length in zip(starts, lengths, strict=True))
    return Pairs(element, target, source, coef, tuple(repeated(runs)))


def repeated(runs: Iterable[Run]) -> Iterator[Run]:
    """Runs of one length and coefficient at equal distances, as one; in any order."""
    group: list[Run] = []
    for run in sorted(runs, key=lambda run: (run.length, run.coef, run.target)):
        if group and not _goes_on(group, run):
            yield replace(group[0], count=len(group), steps=_steps(group[0], group[-1], len(group) - 1))
            group = []
        group.append(run)
    yield replace(group[0], count=len(group), steps=_steps(group[0], group[-1], len(group) - 1))


def _goes_on(group: list[Run], run: Run) -> bool:
    like = (run.length, run.coef) == (group[0].length, group[0].coef)
    return like and (len(group) == 1 or _steps(group[0], group[1], 1) == _steps(group[-1], run, 1))


def _steps(first: Run, last: Run, count: int) -> tuple[int, int]:
    return (last.target - first.target) // max(1, count), (last.source - first.source) // max(1, count)


def products(size: int, pairs: tuple[Pairs, ...], operand: Array, matrices: Array) -> Array:
    """result[target] += coef * operand[source] @ matrices[element] from zero, for all pairs: [size, examples, dim]."""
    shape = size, operand.shape[1], matrices.shape[2]
    runs = [run for p in pairs if _runs_pay(p, shape[1]) for run in p.runs or ()]
    first = next((run for run in runs if run.length * run.count == size and run.coef == 1), None)
    if first is None:
        result = np.zeros(shape, dtype=matrices.dtype)
    else:
        result = np.empty(shape, dtype=matrices.dtype)
        np.matmul(_repeats(operand, first, 1), matrices[first.element], out=_repeats(result, first, 0))
    rest = [run for run in runs if run is not first]
    memory = np.empty(max((_held(run, result) for run in rest), default=0), dtype=result.dtype)
    for run in rest:
        _add_run(result, run, operand, matrices[run.element], memory)
    for p in pairs:
        if not _runs_pay(p, shape[1]):
            _add_mixed(result, p, operand, matrices[p.element])
    return result


def _runs_pay(pairs: Pairs, examples: int) -> bool:
    if pairs.runs is None:
        return False
    least = max(LEAST_ROWS * sum(run.count for run in pairs.runs), LEAST_VECTORS * len(pairs.runs))
    return len(pairs.target) * examples >= least


def _held(run: Run, result: Array) -> int:
    """The numbers of as many repeats of a run as are multiplied at once."""
    one = run.length * math.prod(result.shape[1:])
    return min(run.count, max(1, HELD // max(1, one))) * one


def _add_run(result: Array, run: Run, operand: Array, matrix: Array, memory: Array) -> None:
    """Adds the products of one run, a few repeats at a time."""
    targets, vectors = _repeats(result, run, 0), _repeats(operand, run, 1)
    size = max(1, len(memory) // max(1, math.prod(targets.shape[1:])))
    for a in range(0, run.count, size):
        target = targets[a : a + size]
        found = np.matmul(vectors[a : a + size], matrix, out=memory[: target.size].reshape(target.shape))
        if run.coef != 1:
            found *= found.dtype.type(run.coef)
        target += found


def _repeats(family: Array, run: Run, side: int) -> Array:
    """`repeats` of a family in order, the vectors of all examples in one matrix: [count, length * examples, dim]."""
    start, step = (run.target, run.source)[side], run.steps[side]
    one, vector, number = family.strides
    shape = run.count, run.length * family.shape[1], family.shape[2]
    return np.ndarray(shape, family.dtype, family, start * one, (step * one, vector, number))


def repeats(values: Array, run: Run, side: int) -> Array:
    """The targets (side 0) or the sources (side 1) of a run, along the first axis: a view, [count, length, ...]."""
    start, step = (run.target, run.source)[side], run.steps[side]
    strides = step * values.strides[0], *values.strides
    return as_strided(values[start:], (run.count, run.length, *values.shape[1:]), strides)


def _add_mixed(result: Array, pairs: Pairs, operand: Array, matrix: Array) -> None:
    """result[target] += coef * operand[source] @ matrix, multiplying as few vectors as possible."""
    targets, to = np.unique(pairs.target, return_inverse=True)
    sources, at = np.unique(pairs.source, return_inverse=True)
    if len(targets) < len(sources):
        product = _product(mix(to, pairs.source, pairs.coef, len(targets), operand), matrix)
    else:
        product = mix(to, at, pairs.coef, len(targets), _product(take(operand, sources), matrix))
    if len(targets) == len(result):
        result += product
    else:
        result[targets] += product


def _product(vectors: Array, matrix: Array) -> Array:
    product: Array = vectors.reshape(-1, vectors.shape[-1]) @ matrix
    return product.reshape(*vectors.shape[:-1], matrix.shape[-1])


# ---------------------------------------------------------------- index maps


def take(values: Array, source: Ints) -> Array:
    """`values[source]`, with zero where `source` is -1; a view where it can be, so not to be written to."""
    return taking(source)(values)


def taking(source: Ints) -> Callable[[Array], Array]:
    """`take` with what depends on the indices prepared."""
    if len(source) and source[0] >= 0:
        first, steps = int(source[0]), np.diff(source)
        if (steps == 1).all():
            return lambda values: values[first : first + len(source)]
        if (steps == 0).all():
            return lambda values: np.broadcast_to(values[first], (len(source), *values.shape[1:]))
    outside = np.flatnonzero(source < 0)
    return lambda values: _taken(values, source, outside)


def _taken(values: Array, source: Ints, outside: Ints) -> Array:
    if len(values) == 0:
        return np.zeros((len(source), *values.shape[1:]), dtype=values.dtype)
    taken: Array = values[source]
    if len(outside):
        taken[outside] = 0
    return taken


def mix(target: Ints, source: Ints, coef: Floats, size: int, operand: Array) -> Array:
    """y[target] += coef * operand[source] from zero, over the first axis: a sparse matrix product.

    A view of the operand where it can be, so not to be written to.
    """
    return mixing(target, source, coef.astype(operand.dtype), size, len(operand))(operand)


def mixing(target: Ints, source: Ints, coef: NDArray[Any], size: int, length: int) -> Callable[[Array], Array]:
    """`mix` of families of so many elements, and of the type of `coef`, with what depends on the indices prepared."""
    if len(target) == size and (target == np.arange(size)).all():
        taken = taking(source)
        return taken if (coef == 1).all() else lambda operand: _scaled(taken(operand), coef)
    whole = size == 1 and np.array_equal(source, np.arange(length))
    matrix = coef[None] if whole else csr_matrix((coef, (target, source)), shape=(size, length))

    def mixed(operand: Array) -> Array:
        product: Array = matrix @ operand.reshape(length, math.prod(operand.shape[1:]))
        return product.reshape(size, *operand.shape[1:])

    return mixed


def _scaled(taken: Array, scale: NDArray[Any]) -> Array:
    """scale[k] * taken[k]"""
    if (scale == 1).all():
        return taken
    if len(taken) and taken.strides[0] == 0 and (scale == scale[0]).all():
        return np.broadcast_to(taken[0] * scale[0], taken.shape)
    scaled: Array = taken * scale.reshape(-1, *[1] * (taken.ndim - 1))
    return scaled
