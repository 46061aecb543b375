"""Runs a product tape by arrays, without machine code: every key becomes an array [s1, s2, pairs of examples]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.moments import Moments
from tensorprog.tape.blocks import Constant, DataGram, GroupValue, Key, Mix, Product, Slot, SumOfProducts
from tensorprog.tape.execute import covariances
from tensorprog.tape.product import Pair, ProductTape

Floats = NDArray[np.float64]


@final
@dataclass
class ProductRun:
    """The values of a product tape for pairs of examples, or for the examples of one run.

    `data` are the families known from the inputs, [examples, elements, dim], `at` the examples of the pairs on both
    sides, `runs` the runs behind a cross tape.
    """

    tape: ProductTape
    data: tuple[Mapping[str, Floats], Mapping[str, Floats]]
    at: tuple[Ints, Ints]
    runs: tuple[ProductRun, ProductRun] | None = None
    values: dict[Key, Floats] = field(default_factory=dict)

    def execute(self, keep: tuple[Key, ...] | None = None) -> None:
        """Compute all keys; those not in `keep` (None: all) are freed after their last use."""
        last: dict[Key, int] = {}
        for n, (key, pairs) in enumerate(self.tape.steps):
            for k in (key, *(k for pair in pairs for k, _ in pair[0].reads(self.runs is None))):
                last[k] = n
        for n, (key, pairs) in enumerate(self.tape.steps):
            self.values[key] = np.zeros((*self.tape.shape(key), len(self.at[0])))
            for pair in pairs:
                self._add(self.values[key], pair)
            if keep is not None:
                for k in [k for k, m in last.items() if m == n and k not in keep]:
                    self.values.pop(k, None)

    def _add(self, target: Floats, pair: Pair) -> None:
        match pair[0]:
            case Mix(where=where, dep=dep):
                if dep == ("one",):
                    self._scatter(target, pair, _outer(pair[0].coef, pair[1].coef)[..., None])
                    return
                self._mix(target, pair, where, dep)
            case Product():
                self._product(target, pair)
            case DataGram():
                self._gram(target, pair)
            case Constant():
                self._scatter(target, pair, _outer(pair[0].value, pair[1].value)[..., None])
            case SumOfProducts(scale=scale):
                a, b = (self.own(tuple(getattr(p, n) for p in pair)) for n in ("a", "b"))
                self._scatter(target, pair, scale * pair[1].scale * a * b)

    def _mix(self, target: Floats, pair: Pair, where: str, dep: Key) -> None:
        if all(len(np.unique(b.out)) == len(b.out) for b in pair):  # one term each
            values = self.own(((dep, pair[0].slots), (dep, pair[1].slots)), where)
            values = pair[0].coef[:, None, None] * values
            self._scatter(target, pair, values if np.all(pair[1].coef == 1) else pair[1].coef[:, None] * values)
            return
        sizes = [(target.shape[g], self._size(where, dep, g)) for g in (0, 1)]
        first, second = (_matrix(b.out, b.slots, b.coef, *s) for b, s in zip(pair, sizes, strict=True))
        target += apply(first, second, self._whole(where, dep))

    # ------------------------------------------------------------ reading

    def _size(self, where: str, dep: Key, g: int) -> int:
        run = self if self.runs is None or where == "own" else self.runs[int(where == "right")]
        return run.tape.shape(dep)[g]

    def _whole(self, where: str, key: Key) -> Floats:
        """[n1, n2, P] of a key."""
        if self.runs is None or where == "own":
            return self.values[key] if key in self.values else np.zeros((*self.tape.shape(key), 1))
        s = int(where == "right")
        run = self.runs[s]
        found = run.values[key] if key in run.values else np.zeros((*run.tape.shape(key), len(run.at[0])))
        return found[:, :, self.at[s]]

    def own(self, slots: tuple[Slot, Slot], where: str = "own") -> Floats:
        """[E1, E2, P] of slots."""
        (key, i), (_, j) = slots
        if key == ("one",):
            return np.ones((1, 1, 1))
        if key == ("zero",):
            return np.zeros((len(i), len(j), 1))
        return _chosen(_chosen(self._whole(where, key), i, 0), j, 1)

    # ------------------------------------------------------------ blocks

    def _scatter(self, target: Floats, pair: Pair, values: Floats) -> None:
        o1, o2 = (b.out for b in pair)
        values = np.broadcast_to(values, (len(o1), len(o2), target.shape[2]))
        if _is_run(o1) and _is_run(o2):
            target[o1[0] : o1[0] + len(o1), o2[0] : o2[0] + len(o2)] += values
            return
        if len(np.unique(o1)) == len(o1) and len(np.unique(o2)) == len(o2):
            target[np.ix_(o1, o2)] += values
            return
        ones = [_matrix(o, np.arange(len(o)), np.ones(len(o)), target.shape[g], len(o)) for g, o in enumerate((o1, o2))]
        target += apply(ones[0], ones[1], values)

    def _gram(self, target: Floats, pair: Pair) -> None:
        """Sums over the dimension in its order, as in machine code."""
        block = pair[0]
        left, right = self.tape.elements(block.left, 0), self.tape.elements(block.right, 1)
        i = left[0][pair[0].li][:, None] + left[1][pair[1].li]
        j = right[0][pair[0].rj][:, None] + right[1][pair[1].rj]
        x, y = self.data[0][block.left], self.data[1][block.right]
        total = np.zeros((*i.shape, len(self.at[0])))
        for c in range(x.shape[2]):
            total += x[:, :, c].T[i][:, :, self.at[0]] * y[:, :, c].T[j][:, :, self.at[1]]
        target[np.ix_(pair[0].out, pair[1].out)] = total

    def _product(self, target: Floats, pair: Pair) -> None:
        first, second = pair
        constant = 1.0
        for f in first.factors:
            constant *= float(np.max(np.asarray(ex.evaluate(f.fn, f.numbers))))
        values: Any = constant
        for a, b in zip(first.groups, second.groups, strict=True):
            values = values * self._group(a, b, (len(first.out), len(second.out)))
        self._scatter(target, pair, np.asarray(values))

    def _group(self, a: GroupValue, b: GroupValue, entries: tuple[int, int]) -> Floats:
        if a.moment is not None and b.moment is not None:
            return self.own((a.moment, b.moment))
        if a.mean is not None and b.mean is not None:
            return self.own(((a.mean[1], a.mean[2]), (b.mean[1], b.mean[2])), a.mean[0])
        assert a.expectation is not None
        return np.asarray(a.expectation.evaluate(self._moments(a, b, entries), {})[0])

    def _moments(self, a: GroupValue, b: GroupValue, entries: tuple[int, int]) -> Moments:
        sides = ("left", "right")
        means = [
            [self.own((m, n), sides[s]) for m, n in zip(a.means[s], b.means[s], strict=True)] for s in (0, 1)
        ]
        inside = [
            [
                [self.own(x, sides[s]) for x in zip(*line, strict=True)]
                for line in zip(a.inside[s], b.inside[s], strict=True)
            ]
            for s in (0, 1)
        ]
        across = [
            [self.own(x) for x in zip(*line, strict=True)] for line in zip(a.across, b.across, strict=True)
        ]
        return covariances(means, inside, across, (*entries, len(self.at[0])))


def _chosen(values: Floats, at: Ints, axis: int) -> Floats:
    """Slots of an axis; neighbours as a view."""
    chosen: Ints | slice = slice(at[0], at[0] + len(at)) if _is_run(at) else at
    return np.asarray(values[chosen] if axis == 0 else values[:, chosen])


def _is_run(at: Ints) -> bool:
    return len(at) > 0 and np.array_equal(at, np.arange(at[0], at[0] + len(at)))


def _matrix(out: Ints, slots: Ints, coef: Floats, rows: int, cols: int) -> csr_matrix:
    return csr_matrix((coef, (out, slots)), shape=(rows, cols))


def apply(first: csr_matrix, second: csr_matrix, x: Floats) -> Floats:
    """The Kronecker product of two matrices on the first two axes of an array."""
    n2, p = x.shape[1:]
    half = (first @ x.reshape(x.shape[0], -1)).reshape(-1, n2, p).transpose(1, 0, 2)
    whole = (second @ half.reshape(n2, -1)).reshape(second.shape[0], -1, p)
    return np.asarray(whole.transpose(1, 0, 2))


def _outer(a: Floats, b: Floats) -> Floats:
    return np.multiply.outer(a, b)
