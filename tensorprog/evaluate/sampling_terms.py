"""Values that are drawn only in part: sums of sampled coefficients times functions of integrated Gaussians.

    Z[i] = sum over k of coef[k] * product over classes of fn(u[node[k]]),        coef [terms, examples, M]

A *class* is a set of matrices whose Gaussian families meet in one nonlinearity; different classes are independent.  A
class is either drawn, and then part of the coefficients, or integrated: its Gaussian variables u, the *nodes*, are
never drawn, and expectations of functions of them are taken by formula or quadrature (Rao-Blackwell).  Sums, products
of functions of independent classes and functions of one node keep this form; what does not raises `NotIntegrable`, and
the classes it names are drawn instead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np

from tensorprog.evaluate.sampling_factor import Floats, Growing, Ints
from tensorprog.evaluate.sampling_record import DIRECT, Direct, Recorded
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym

U = Sym("u")
"""The variable of the functions of nodes."""

Matrix = tuple[str, bool]
"""A weight, and whether it is transposed."""

Class = frozenset[Matrix]
Shape = tuple[tuple[Class, Expr], ...]
"""The functions of a product, one of each class, in the order of `rank`."""


class NotIntegrable(Exception):  # noqa: N818  (a way back, not an error)
    """These matrices have to be drawn."""

    def __init__(self, classes: Iterable[Class]) -> None:
        super().__init__()
        self.matrices = frozenset[Matrix]().union(*classes)


class Joined(Exception):  # noqa: N818
    """These classes are one."""

    def __init__(self, classes: Iterable[Class]) -> None:
        super().__init__()
        self.matrices = frozenset[Matrix]().union(*classes)


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Terms of one shape: term k belongs to element `elem[k]` and is `coef[k]` times the functions at `nodes[k]`.

    coef [terms, examples or 1, M or 1]; nodes [terms, classes].
    """

    shape: Shape
    elem: Ints
    nodes: Ints
    coef: Floats

    @property
    def classes(self) -> tuple[Class, ...]:
        """The classes of the nodes."""
        return tuple(c for c, _ in self.shape)

    def picked(self, which: Ints, elem: Ints) -> Block:
        """Some of the terms, at other elements."""
        return Block(self.shape, elem, taken(self.nodes, which), taken(self.coef, which))

    def scaled(self, factor: Floats) -> Block:
        """Times [terms, examples or 1]."""
        if (factor == 1).all() and factor.shape[1] <= self.coef.shape[1]:
            return self
        return Block(self.shape, self.elem, self.nodes, self.coef * factor[:, :, None])


Terms = tuple[Block, ...]
Array = TypeVar("Array", Floats, Ints)


def taken(values: Array, which: Ints) -> Array:
    """`values[which]`, without a copy where these are all."""
    every = len(which) == len(values) and (which == np.arange(len(values))).all()
    return values if every else values[which]


def rank(entry: tuple[Class, Expr]) -> list[Matrix]:
    """Orders the classes of a shape."""
    return sorted(entry[0])


def sampled(values: Floats) -> Terms:
    """Values that are drawn throughout, [elements, examples or 1, M or 1]."""
    return (Block((), np.arange(len(values)), np.zeros((len(values), 0), dtype=np.int64), values),)


def nonzero(terms: Terms) -> Terms:
    """Without the terms whose coefficients vanish."""
    return tuple(b for b in map(_nonzero, terms) if len(b.elem))


def _nonzero(block: Block) -> Block:
    if isinstance(block.coef, Recorded):  # any number
        return block
    which = np.flatnonzero(block.coef.any(axis=(1, 2)))
    return block.picked(which, block.elem[which])


def classes_of(terms: Terms) -> frozenset[Class]:
    """The classes of all nodes."""
    return frozenset(c for block in terms for c in block.classes)


def read(terms: Iterable[Block], source: Ints) -> Terms:
    """The terms of the elements `source` (-1: zero), numbered by their position in it."""
    found = []
    for block in terms:
        position, term = matches(source, block.elem)
        if len(position):
            found.append(block.picked(term, position))
    return collected(found)


def matches(wanted: Ints, given: Ints) -> tuple[Ints, Ints]:
    """All pairs (k, j) with wanted[k] = given[j] >= 0."""
    if len(wanted) == 1:
        found = np.flatnonzero(given == wanted[0])
        return np.zeros(len(found), dtype=np.int64), found
    order = np.argsort(given, kind="stable")
    sorted_ = given[order]
    first, last = np.searchsorted(sorted_, wanted, "left"), np.searchsorted(sorted_, wanted, "right")
    counts = np.where(wanted >= 0, last - first, 0)
    k = np.repeat(np.arange(len(wanted)), counts)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    return k, order[np.repeat(first, counts) + np.arange(len(k)) - start]


def collected(blocks: Sequence[Block]) -> Terms:
    """One block of every shape, equal products added up."""
    alike: dict[Shape, list[Block]] = {}
    for block in blocks:
        alike.setdefault(block.shape, []).append(block)
    return tuple(_joined(members) for members in alike.values())


def _joined(blocks: Sequence[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    elem, nodes = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("elem", "nodes"))
    shape = np.broadcast_shapes(*(b.coef.shape[1:] for b in blocks))
    coef = np.concatenate([np.broadcast_to(b.coef, (len(b.elem), *shape)) for b in blocks])
    return Block(blocks[0].shape, elem, nodes, coef)


Stacked = tuple[Hashable, ...]


class Stacks:
    """Coefficients in growing arrays: those that were recorded are there once, however many piles have the same.

    The vectors of a network often differ in the functions of integrated nodes alone.
    """

    def __init__(self, arrays: Direct) -> None:
        self.arrays = arrays
        self.known: dict[Stacked, tuple[Growing, Floats]] = {}

    def push(self, below: Stacked, coef: Floats) -> Stacked:
        """The name of `coef` on top of what has the name `below`."""
        name = (*below, coef.number if isinstance(coef, Recorded) else object())
        if name not in self.known:
            array = self._array(below, coef.shape[1:])
            array.append(coef)
            self.known[name] = array, array.values
        return name

    def values(self, name: Stacked) -> Floats:
        """All coefficients of a stack."""
        return self.known[name][1]

    def _array(self, below: Stacked, shape: tuple[int, ...]) -> Growing:
        """An array that holds what is below, and no more."""
        if not below:
            return Growing(shape, self.arrays)
        array, values = self.known[below]
        shape = np.broadcast_shapes(values.shape[1:], shape)
        if len(values) == len(array) and shape == values.shape[1:]:
            return array
        copy = Growing(shape, self.arrays)
        copy.append(values)
        return copy


class Pile:
    """Terms that grow a few at a time, in place: what was there before is seldom copied."""

    def __init__(self, terms: Terms, stacks: Stacks) -> None:
        self.stacks = stacks
        self.blocks: dict[Shape, tuple[Ints, Ints, Stacked]] = {}
        self.add(terms)

    @property
    def terms(self) -> Terms:
        """All terms so far."""
        return tuple(
            Block(shape, elem, nodes, self.stacks.values(name)) for shape, (elem, nodes, name) in self.blocks.items()
        )

    def add(self, terms: Terms) -> None:
        """These come last."""
        for b in terms:
            elem, nodes, below = self.blocks.get(b.shape, (b.elem[:0], b.nodes[:0], ()))
            name = self.stacks.push(below, b.coef)
            self.blocks[b.shape] = np.append(elem, b.elem), np.concatenate([nodes, b.nodes]), name


def merged(terms: Terms) -> Terms:
    """Terms with the same element and the same nodes become one."""
    return tuple(_merged(block) for block in terms)


def _merged(block: Block) -> Block:
    code = block.elem
    for column in block.nodes.T:
        code = code * (int(column.max(initial=0)) + 1) + column
    unique, first, place = np.unique(code, return_index=True, return_inverse=True)
    if len(unique) == len(code):
        return block
    arrays = block.coef.recorder if isinstance(block.coef, Recorded) else DIRECT
    coef = arrays.call(_added_up, block.coef, place, len(unique))
    return Block(block.shape, block.elem[first], block.nodes[first], coef)


def _added_up(values: Floats, place: Ints, size: int) -> Floats:
    total = np.zeros((size, *values.shape[1:]))
    np.add.at(total, place, values)
    return total


def product(left: Terms, right: Terms) -> Terms:
    """Element by element.  Raises NotIntegrable where different nodes of one class are multiplied."""
    return merged(collected([_times(a, b) for a in left for b in right]))


def _times(a: Block, b: Block) -> Block:
    i, j = matches(a.elem, b.elem)
    fns, nodes = dict(a.shape), {c: a.nodes[i, k] for k, c in enumerate(a.classes)}
    for k, (c, fn) in enumerate(b.shape):
        node = b.nodes[j, k]
        if c in fns and not np.array_equal(nodes[c], node):
            raise NotIntegrable([c])
        fns[c], nodes[c] = ex.mul(fns[c], fn) if c in fns else fn, node
    shape = tuple(sorted(fns.items(), key=rank))
    columns = [nodes[c] for c, _ in shape]
    stacked = np.stack(columns, axis=1) if columns else np.zeros((len(i), 0), dtype=np.int64)
    return Block(shape, a.elem[i], stacked, _multiplied(_repeated(a.coef, i), _repeated(b.coef, j)))


def _multiplied(a: Floats, b: Floats) -> Floats:
    """a * b, the same array where the other one is 1."""
    for one, other in ((a, b), (b, a)):
        if one.shape[1:] == (1, 1) and len(one) <= len(other) and not isinstance(one, Recorded) and (one == 1).all():
            return other
    return a * b


def _repeated(values: Floats, which: Ints) -> Floats:
    """`values[which]`, or what broadcasts to it where these are all the same."""
    return values[which[:1]] if len(which) > 1 and (which == which[0]).all() else taken(values, which)


def function(fn: Expr, node: Terms) -> Terms:
    """fn(u) of a Gaussian family, whose elements are one node each."""
    (block,) = node
    return (Block(((block.classes[0], fn),), block.elem, block.nodes, block.coef),)


def is_node(terms: Terms) -> bool:
    """Whether every element is one node, or zero."""
    if len(terms) != 1 or len(terms[0].shape) != 1 or terms[0].shape[0][1] != U:
        return False
    if isinstance(terms[0].coef, Recorded):
        return False
    return bool((terms[0].coef == 1).all()) and len(np.unique(terms[0].elem)) == len(terms[0].elem)


def is_gaussian(terms: Terms) -> bool:
    """Whether it is a sum of numbers and multiples of nodes."""
    linear = all(len(b.shape) == 0 or (len(b.shape) == 1 and b.shape[0][1] == U) for b in terms)
    return linear and any(b.shape for b in terms) and all(b.coef.shape[2] == 1 for b in terms)
