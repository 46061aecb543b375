"""Sums inside of expectations as products of matrices.

    out[b, i, j]  =  coef * sum_k  left[b, i, k] right[b, j, k]

Behind a normalization over a batch, factors are sums over an axis: gradients of a batch of n have n^4 moments, sums of
n^2 products of two groups each.  A group depends on some axes of both runs: k are those that are summed over, b those
that both groups depend on, i and j those of the first and of the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints, shape
from tensorprog.limit.forms import QuadraticForms
from tensorprog.limit.moments import MomentOf, Side, Unservable
from tensorprog.limit.moments import Product as ProductEquation
from tensorprog.tape.blocks import Contraction, Key, Matrices, Slot
from tensorprog.tape.form_rules import FormRules, reads_of

MOST_ENTRIES = 1 << 25
"""The products of a sum, or the entries of a matrix, that are looked up at once."""
WASTE = 2
"""So many entries may be computed for each one that is asked for."""
Sides = tuple[Side, Side]
Group = MomentOf | QuadraticForms
Axis = tuple[int, str]
"""A side and an index of it."""


class Contracting(FormRules):
    """Finds such sums beside quadratic forms, whose tapes are run by arrays."""

    def _contraction(self, key: Key, own: Ints, product: ProductEquation, li: Ints, rj: Ints) -> Contraction | None:
        """All entries of a product of groups; None where nothing is summed, or where the sum is of another kind."""
        coef, slots = self._fixed(product), self.slots[key]
        groups = [g for g in product.groups if isinstance(g, Group)]
        if coef is None or len(groups) != 2 or len(product.groups) != 2 or not any(map(_is_forms, groups)):
            return None
        axes = self._extents((product.left, product.right))
        kept = [*_leading(axes, 0, slots.rows), *_leading(axes, 1, slots.cols)]
        summed = [a for a in axes if a not in kept]
        if not summed or math.prod(axes[a] for a in kept) > WASTE * len(own):
            return None
        first, second = ([a for a in kept if a in _used(g)] for g in groups)
        both = [a for a in first if a in second]
        parts = [a for a in first if a not in both], [a for a in kept if a not in first]
        left, right = (
            self._matrix(g, product, axes, (both, part, summed)) for g, part in zip(groups, parts, strict=True)
        )
        index = {**_indices(kept, axes, 0, li), **_indices(kept, axes, 1, rj)}
        place = _flat({a: axes[a] for a in (*both, *parts[0], *parts[1])}, index)
        return Contraction(key, own, place, coef, Matrices(left, right))

    def _extents(self, sides: Sides) -> dict[Axis, int]:
        extents: dict[Axis, int] = {}
        for s, side in enumerate(sides):
            names = ((s, a.index) for a in side.axes)
            extents.update(zip(names, shape(side.axes, self.sizes[s]), strict=True))
        return extents

    def _fixed(self, product: ProductEquation) -> float | None:
        """The numerical factor of a product, where it is one number for all entries."""
        value = 1.0
        for s, side in enumerate((product.left, product.right)):
            if not ex.symbols(side.fn) <= self.sizes[s].keys() - self.parameters:
                return None
            value *= float(ex.evaluate(side.fn, self.sizes[s]))
        return value

    def _matrix(
        self, group: Group, product: ProductEquation, axes: Mapping[Axis, int], parts: Sequence[Sequence[Axis]]
    ) -> Slot:
        """The slots of a group at all indices of some axes, which are joined to an axis for each part."""
        lengths = [math.prod(axes[a] for a in part) for part in parts]
        if math.prod(lengths) > MOST_ENTRIES:
            raise Unservable(f"sums inside of an expectation have {math.prod(lengths)} terms")
        whole = [a for part in parts for a in part]
        grid = np.indices([axes[a] for a in whole]).reshape(len(whole), -1)
        index = dict(zip(whole, grid, strict=True))
        none = np.zeros(math.prod(lengths), dtype=np.int64)
        at = [none + _flat({a: n for a, n in axes.items() if a[0] == s}, index) for s in (0, 1)]
        key, slots = self._slots_of(group, (product.left, product.right), (at[0], at[1]))
        return key, slots.reshape(lengths)

    def _slots_of(self, group: Group, sides: Sides, at: tuple[Ints, Ints]) -> Slot:
        """The slots of a group for elements `at` of the axes of both sides."""
        if isinstance(group, QuadraticForms):
            return self._forms_slots(group, at)
        i, j = self._elements(group.left, sides[0], at[0], 0), self._elements(group.right, sides[1], at[1], 1)
        return self.moment(group.left.var, group.right.var, i, j)


def _is_forms(group: Group) -> bool:
    return isinstance(group, QuadraticForms)


def _used(group: Group) -> frozenset[Axis]:
    """The names that the elements of a group depend on."""
    if isinstance(group, QuadraticForms):
        reads = reads_of(group.left), reads_of(group.right)
    else:
        reads = (group.left,), (group.right,)
    return frozenset((s, name) for s in (0, 1) for r in reads[s] for e in r.index for name in ex.symbols(e))


def _leading(axes: Mapping[Axis, int], side: int, size: int) -> list[Axis]:
    """The first axes of a side, which have so many elements."""
    own = [a for a in axes if a[0] == side]
    return next(own[:k] for k in range(len(own) + 1) if math.prod(axes[a] for a in own[:k]) == size)


def _indices(kept: Sequence[Axis], axes: Mapping[Axis, int], side: int, at: Ints) -> dict[Axis, Ints]:
    """The index of every axis of a side at the elements `at` of all of them."""
    own = [a for a in kept if a[0] == side]
    return dict(zip(own, np.unravel_index(at, [axes[a] for a in own]), strict=True)) if own else {}


def _flat(axes: Mapping[Axis, int], index: Mapping[Axis, Ints]) -> Ints:
    """The number of an element; 0 in axes that have no index."""
    flat = np.zeros((), dtype=np.int64)
    for a, n in axes.items():
        flat = flat * n + index.get(a, 0)
    return flat
