"""Runs a tape on data: every slot becomes a number for every example, or for every pair of examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.limit.moments import Unservable
from tensorprog.symbolic.expectation import Expected, Moments
from tensorprog.tape.blocks import (
    Block,
    Constant,
    Contraction,
    DataGram,
    Factor,
    Forms,
    GroupValue,
    Key,
    Mix,
    Placed,
    Product,
    Seed,
    Slot,
    SumOfProducts,
    part,
)
from tensorprog.tape.ensembles import integrated, laws_of
from tensorprog.tape.gram import gram, row_products
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
CHUNK = 1 << 21
UNCERTAIN = 0.05
"""The error of an expectation, relative to its largest value, from which it counts as not computed."""


@dataclass
class Run:
    """The values of a tape: `values[key]` is [slots, examples] or [slots, examples, examples'], or [slots, pairs] when
    the runs behind a cross tape have one example for every pair.

    `data` are the families known from the inputs, [examples, elements, dim] or [examples, elements], of the
    left and the right run.  `seeds[name]` [numbers, examples...] are those of `Seed` blocks.  `errors` collects the
    largest error estimate of every expectation.
    """

    tape: Tape
    data: tuple[Mapping[str, Floats], Mapping[str, Floats]]
    examples: tuple[int, ...]
    runs: tuple[Run, Run] | None = None
    errors: dict[int, tuple[Expected, float]] = field(default_factory=dict)
    seeds: Mapping[str, Floats] = field(default_factory=dict)
    values: dict[Key, Floats] = field(default_factory=dict)

    def execute(self, blocks: Sequence[Block], keep: Sequence[Key] | None = None) -> None:
        """Compute all slots; those of keys not in `keep` (None: all) are freed after their last use."""
        last = self._last_reads(blocks) if keep is not None else {}
        laws = laws_of(blocks)
        for n, block in enumerate(blocks):
            if isinstance(block, Forms):
                if block.ensemble.law in laws:
                    self._law(laws.pop(block.ensemble.law))
            else:
                self._make(block.key)
                self._add(block)
            for key in last.get(n, ()):
                if keep is not None and key not in keep:
                    self.values.pop(key, None)

    def _last_reads(self, blocks: Sequence[Block]) -> dict[int, list[Key]]:
        last: dict[Key, int] = {}
        for n, block in enumerate(blocks):
            for key in {block.key, *(k for k, _ in block.reads(self.tape.single))}:
                last[key] = n
        found: dict[int, list[Key]] = {}
        for key, n in last.items():
            found.setdefault(n, []).append(key)
        return found

    def _make(self, key: Key) -> None:
        if key not in self.values:
            self.values[key] = np.zeros((self.tape.slots[key].size, *self.examples))

    def _add(self, block: Block) -> None:
        match block:
            case Mix():
                self._mix(block)
            case Product():
                for rows in self._chunks(len(block.out)):
                    piece = part(block, rows)
                    self._accumulate(piece.key, piece.out, self._product(piece))
            case Contraction():
                self._accumulate(block.key, block.out, self._contraction(block))
            case DataGram():
                self.values[block.key][block.out] += self._gram(block)
            case Seed():
                self.values[block.key][block.out] = self.seeds[block.name][block.rows]
            case Constant():
                self._accumulate(block.key, block.out, self._column(block.value) * np.ones(self.examples))
            case SumOfProducts():
                for rows in self._chunks(len(block.out)):
                    a, b = (self.own(s[0], s[1][rows]) for s in (block.a, block.b))
                    self._accumulate(block.key, block.out[rows], block.scale * a * b)

    def _chunks(self, entries: int) -> list[slice]:
        step = max(1, CHUNK // max(1, int(np.prod(self.examples))))
        return [slice(k, k + step) for k in range(0, entries, step)]

    def _column(self, values: Floats) -> Floats:
        return values.reshape(-1, *(1,) * len(self.examples))

    # ------------------------------------------------------------ reading slots

    def own(self, key: Key, slots: Ints) -> Floats:
        """[entries, examples...] of slots of this tape; ("one",) is the constant 1."""
        if key not in self.values:  # a constant, or slots to which nothing was added
            return np.full((*slots.shape, *(1,) * len(self.examples)), float(key == ("one",)))
        return self.values[key][slots]

    def placed(self, where: str, key: Key, slots: Ints) -> Floats:
        """[entries, ...] of slots of this tape or of the run on one side, ready to broadcast."""
        if self.runs is None or where == "own":
            return self.own(key, slots)
        run = self.runs[0 if where == "left" else 1]
        values = run.own(key, slots)
        if len(self.examples) == 1:
            return values
        return values[:, :, None] if where == "left" else values[:, None, :]

    # ------------------------------------------------------------ blocks

    def _accumulate(self, key: Key, out: Ints, values: Floats) -> None:
        target = self.values[key]
        if len(out) == 1:  # a step of a recurrence
            target[out[0]] += values[0]
            return
        values = np.broadcast_to(values, (len(out), *self.examples))
        if len(out) and (np.diff(out) > 0).all():
            target[out] += values
            return
        if self._counts(out, target):
            target += _counted(out, values.ravel(), target.shape)
            return
        unique, place = np.unique(out, return_inverse=True)
        summing = csr_matrix((np.ones(len(out)), (place, np.arange(len(out)))), shape=(len(unique), len(out)))
        target[unique] += (summing @ values.reshape(len(out), -1)).reshape(len(unique), *self.examples)

    def _law(self, blocks: Sequence[Forms]) -> None:
        """All blocks of one law."""
        for block in blocks:
            self._make(block.key)
        for found in integrated(blocks, self.placed, self.examples):
            values: Any = self.values[found.block.key]
            values[(found.out, *found.where)] = found.values
            self._check(found.block.ensemble.expectation, found.error, found.size)

    def _counts(self, out: Ints, target: Floats) -> bool:
        """Whether sums for the slots `out` are those of a histogram: of one pair of examples, and most slots."""
        return int(np.prod(self.examples)) == 1 and len(target) <= 8 * len(out)

    def _mix(self, block: Mix) -> None:
        if block.scalars or block.where != "own" or block.dep not in self.values:
            for rows in self._chunks(len(block.out)):
                piece = part(block, rows)
                values = self._column(piece.coef) * self.placed(piece.where, piece.dep, piece.slots)
                for s in piece.scalars:
                    values = values * self.placed(*s)
                self._accumulate(piece.key, piece.out, values)
            return
        source, target = self.values[block.dep], self.values[block.key]
        if len(block.out) == 1:
            target[block.out[0]] += block.coef[0] * source[block.slots[0]]
            return
        if (np.diff(block.out) > 0).all():  # one contribution each: no sums
            target[block.out] += self._column(block.coef) * source[block.slots]
            return
        if self._counts(block.out, target):
            target += _counted(block.out, block.coef * source[block.slots].ravel(), target.shape)
            return
        unique, place = np.unique(block.out, return_inverse=True)
        mixing = csr_matrix((block.coef, (place, block.slots)), shape=(len(unique), len(source)))
        target[unique] += (mixing @ source.reshape(len(source), -1)).reshape(len(unique), *self.examples)

    def _contraction(self, block: Contraction) -> Floats:
        left, right = (
            np.moveaxis(self.own(key, slots), (0, 1, 2), (-3, -2, -1))
            for key, slots in (block.matrices.left, block.matrices.right)
        )
        products = block.coef * (left @ right.swapaxes(-1, -2))
        return np.moveaxis(products.reshape(*products.shape[:-3], -1)[..., block.place], -1, 0)

    def _gram(self, block: DataGram) -> Floats:
        left = self.data[0][block.left]
        result: Floats = np.empty((len(block.out), *self.examples))
        if block.right == "":
            result[:] = left[:, block.li].T
            return result
        right = self.data[1][block.right]
        if self.examples == (1, 1):
            step = max(1, CHUNK // left.shape[-1])
            for few in (slice(k, k + step) for k in range(0, len(block.out), step)):
                result[few, 0, 0] = row_products(left[0, block.li[few]], right[0, block.rj[few]])
            return result
        if len(self.examples) == 1:
            for k, (i, j) in enumerate(zip(block.li, block.rj, strict=True)):
                result[k] = row_products(left[:, i], right[:, j])
            return result
        for k, (i, j) in enumerate(zip(block.li, block.rj, strict=True)):
            x = left[:, i]
            result[k] = gram(x, x if right is left and i == j else right[:, j])
        return result

    def _product(self, block: Product) -> Floats:
        values: Floats = np.ones((1,) * (1 + len(self.examples)))
        for f in block.factors:
            values = values * self._factor(f)
        for g in block.groups:
            values = values * self._group(g, len(block.out))
        return values

    def _factor(self, factor: Factor) -> Floats:
        env = {k: self.placed(*s) for k, s in factor.scalars.items()}
        env |= {k: self._column(n[:1] if (n == n[:1]).all() else n) for k, n in factor.numbers.items()}
        return np.asarray(ex.evaluate(factor.fn, env), dtype=np.float64)

    def _group(self, group: GroupValue, entries: int) -> Floats:
        if group.moment is not None:
            return self.own(*group.moment)
        if group.mean is not None:
            return self.placed(*group.mean)
        assert group.expectation is not None
        params = {k: self.placed(*s) for k, s in group.scalars.items()}
        params |= {k: self._column(n) for k, (_, n) in group.numbers.items()}
        value, error = group.expectation.evaluate(self._moments(group, entries), params)
        self._check(
            group.expectation, float(np.max(error, initial=0.0)), float(np.max(np.abs(value), initial=0.0))
        )
        return np.asarray(value, dtype=np.float64)

    def _check(self, expectation: Expected, worst: float, size: float) -> None:
        """Keep the largest error of an expectation.  Raises Unservable when it says nothing about the value."""
        if worst > UNCERTAIN * size:
            text = ex.show(ex.mul(expectation.request.left, expectation.request.right))
            raise Unservable(f"the error of E[{text}] is estimated as {worst:.1e} for values up to {size:.1e}")
        known = self.errors.get(id(expectation), (expectation, 0.0))[1]
        self.errors[id(expectation)] = (expectation, max(known, worst))

    def _moments(self, group: GroupValue, entries: int) -> Moments:
        """Means and covariances of the arguments, from their moments."""
        sides = ("left", "right")
        means = [[self.placed(sides[s], *m) for m in group.means[s]] for s in (0, 1)]
        inside = [[[self.placed(sides[s], *slot) for slot in line] for line in group.inside[s]] for s in (0, 1)]
        across = [[self.own(*slot) for slot in line] for line in group.across]
        return covariances(means, inside, across, (entries, *self.examples))


def _counted(out: Ints, values: Floats, shape: tuple[int, ...]) -> Floats:
    """Values added up by slots."""
    return np.bincount(out, values, shape[0]).astype(np.float64, copy=False).reshape(shape)


Square = Sequence[Sequence[Floats]]


def covariances(
    means: Sequence[Sequence[Floats]], inside: Sequence[Square], across: Square, shape: tuple[int, ...]
) -> Moments:
    """Means and covariances of arguments from the means and second moments of both sides, and those between them."""
    own = [
        [x - means[s][i] * means[s][j] for i, line in enumerate(inside[s]) for j, x in enumerate(line)] for s in (0, 1)
    ]
    between = [x - means[0][i] * means[1][j] for i, line in enumerate(across) for j, x in enumerate(line)]
    k, m = len(means[0]), len(means[1])
    return Moments(
        _stack(means[0], (k,), shape),
        _stack(own[0], (k, k), shape),
        _stack(means[1], (m,), shape),
        _stack(own[1], (m, m), shape),
        _stack(between, (k, m), shape),
    )


def _stack(arrays: Sequence[Floats], front: tuple[int, ...], shape: tuple[int, ...]) -> Floats:
    """Arrays of one broadcast shape under new first axes; marginals stay as small as they are."""
    if not arrays:
        return np.zeros(front + (1,) * len(shape))
    if len(arrays) == 1:
        return arrays[0].reshape(front + arrays[0].shape)
    common = np.broadcast_shapes(*(a.shape for a in arrays))
    return np.stack([np.broadcast_to(a, common) for a in arrays]).reshape(front + common)


__all__ = ["Placed", "Run", "Slot"]
