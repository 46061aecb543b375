"""Products of a family of weights with a family of vectors: result[target] += coef * W[element] @ operand[source].

Families are [elements, examples, dim] in memory.  Where an index map moves a run of elements as a whole (a row of
pixels under one tap of a filter) the run is one matrix product with all examples, read and added in place; nothing is
gathered.  Where it does not (strides, graphs), or where several vectors meet the same weight, vectors are summed
first, and as few as possible are multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.finite.weights import Array
from tensorprog.ir.tables import Ints

LEAST_ROWS = 32
"""Vectors in a run, on average over the runs, from which on it is multiplied by itself."""

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Run:
    """result[target + k] += coef * W[element] @ operand[source + k] for k < length."""

    target: int
    element: int
    source: int
    length: int
    coef: float


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
    return Pairs(element, target, source, coef, tuple(runs))


def add_products(result: Array, pairs: tuple[Pairs, ...], operand: Array, weight: Array, transposed: bool) -> None:
    """result[target] += coef * W[element] @ operand[source], or W[element].T, for all pairs."""
    runs: list[Run] = []
    for p in pairs:
        if p.runs is not None and len(p.target) * result.shape[1] >= LEAST_ROWS * len(p.runs):
            runs.extend(p.runs)
        else:
            _add_mixed(result, p, operand, weight[p.element] if transposed else weight[p.element].T)
    for run in sorted(runs, key=_place):  # so that what is added to stays in the cache
        _add_run(result, run, operand, weight, transposed)


def _place(run: Run) -> tuple[int, int]:
    return run.target, run.element


def _add_run(result: Array, run: Run, operand: Array, weight: Array, transposed: bool) -> None:
    """Adds the products of one run (with the weight's transpose when `transposed`)."""
    vectors = operand[run.source : run.source + run.length]
    target = result[run.target : run.target + run.length].reshape(-1, result.shape[-1])
    matrix = weight[run.element] if transposed else weight[run.element].T
    products = vectors.reshape(-1, vectors.shape[-1]) @ matrix
    target += products if run.coef == 1 else products * products.dtype.type(run.coef)


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
    if len(values) == 0:
        return np.zeros((len(source), *values.shape[1:]), dtype=values.dtype)
    if len(source) and source[0] >= 0:
        steps = np.diff(source)
        if (steps == 1).all():
            return values[source[0] : source[0] + len(source)]
        if (steps == 0).all():
            return np.broadcast_to(values[source[0]], (len(source), *values.shape[1:]))
    taken: Array = values[source]
    if (source < 0).any():
        taken[source < 0] = 0
    return taken


def mix(target: Ints, source: Ints, coef: Floats, size: int, operand: Array) -> Array:
    """y[target] += coef * operand[source] from zero, over the first axis: a sparse matrix product.

    A view of the operand where it can be, so not to be written to.
    """
    if len(target) == size and (target == np.arange(size)).all():
        return _scaled(take(operand, source), coef.astype(operand.dtype))
    matrix = csr_matrix((coef.astype(operand.dtype), (target, source)), shape=(size, len(operand)))
    mixed: Array = matrix @ operand.reshape(len(operand), math.prod(operand.shape[1:]))
    return mixed.reshape(size, *operand.shape[1:])


def _scaled(taken: Array, scale: NDArray[Any]) -> Array:
    """scale[k] * taken[k]"""
    if (scale == 1).all():
        return taken
    if len(taken) and taken.strides[0] == 0 and (scale == scale[0]).all():
        return np.broadcast_to(taken[0] * scale[0], taken.shape)
    scaled: Array = taken * scale.reshape(-1, *[1] * (taken.ndim - 1))
    return scaled
