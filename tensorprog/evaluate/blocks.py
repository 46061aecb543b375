"""The instructions of a tape: each adds to the slots `out` of one key, all entries at once.

    Mix            out += coef * scalars * dep
    Product        out += factors * groups               (expectations of independent groups)
    DataGram       out  = <x[i], x'[j]>, or a number known from the data
    Constant       out += value
    SumOfProducts  out += scale * a * b

All arrays of a block have one entry per contribution.  `where` is "own" for slots of the tape itself,
"left" and "right" for those of the two single runs behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Union, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.expr import Expr
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation

Key = tuple[str, ...]
Slot = tuple[Key, Ints]
Placed = tuple[str, Key, Ints]
Floats = NDArray[np.float64]


def _cut(slot: Slot, rows: Ints) -> Slot:
    return slot[0], slot[1][rows]


def _cut_placed(placed: Placed, rows: Ints) -> Placed:
    return placed[0], placed[1], placed[2][rows]


@final
@dataclass(frozen=True, slots=True)
class Mix:
    """out += coef * product of scalars * dep."""

    key: Key
    out: Ints
    where: str
    dep: Key
    slots: Ints
    coef: Floats
    scalars: tuple[Placed, ...]

    def part(self, rows: Ints) -> Mix:
        """The entries `rows`."""
        return replace(self, out=self.out[rows], slots=self.slots[rows], coef=self.coef[rows],
                       scalars=tuple(_cut_placed(s, rows) for s in self.scalars))

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        if single or self.where == "own":
            yield self.dep, self.slots
        yield from (s[1:] for s in self.scalars if single)


@final
@dataclass(frozen=True, slots=True)
class Factor:
    """An expression in scalars of the runs and numbers of the indices."""

    fn: Expr
    scalars: Mapping[str, Placed]
    numbers: Mapping[str, Floats]

    def part(self, rows: Ints) -> Factor:
        """The entries `rows`."""
        return Factor(self.fn, {k: _cut_placed(s, rows) for k, s in self.scalars.items()}, {k: n[rows] for k, n in self.numbers.items()})


@final
@dataclass(frozen=True, slots=True)
class GroupValue:
    """The expectation of one independent group: a moment, a mean, or a Gaussian expectation."""

    expectation: Expectation | None
    moment: Slot | None = None
    mean: Placed | None = None
    means: tuple[tuple[Slot, ...], tuple[Slot, ...]] = ((), ())
    inside: tuple[tuple[tuple[Slot, ...], ...], tuple[tuple[Slot, ...], ...]] = ((), ())
    across: tuple[tuple[Slot, ...], ...] = ()
    scalars: Mapping[str, Placed] = field(default_factory=dict)
    numbers: Mapping[str, tuple[str, Floats]] = field(default_factory=dict)

    def part(self, rows: Ints) -> GroupValue:
        """The entries `rows`."""
        return GroupValue(
            self.expectation,
            None if self.moment is None else _cut(self.moment, rows),
            None if self.mean is None else _cut_placed(self.mean, rows),
            tuple(tuple(_cut(s, rows) for s in side) for side in self.means),  # type: ignore[arg-type]
            tuple(tuple(tuple(_cut(s, rows) for s in line) for line in side) for side in self.inside),  # type: ignore[arg-type]
            tuple(tuple(_cut(s, rows) for s in line) for line in self.across),
            {k: _cut_placed(s, rows) for k, s in self.scalars.items()},
            {k: (w, n[rows]) for k, (w, n) in self.numbers.items()},
        )

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        if self.moment is not None:
            yield self.moment
        for line in self.across:
            yield from line
        if single:
            if self.mean is not None:
                yield self.mean[1:]
            for side in self.means:
                yield from side
            for block in self.inside:
                for line in block:
                    yield from line
            yield from (s[1:] for s in self.scalars.values())


@final
@dataclass(frozen=True, slots=True)
class Product:
    """out += product of factors and of the expectations of independent groups."""

    key: Key
    out: Ints
    factors: tuple[Factor, ...]
    groups: tuple[GroupValue, ...]

    def part(self, rows: Ints) -> Product:
        """The entries `rows`."""
        return Product(self.key, self.out[rows], tuple(f.part(rows) for f in self.factors), tuple(g.part(rows) for g in self.groups))

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        for g in self.groups:
            yield from g.reads(single)
        if single:
            for f in self.factors:
                yield from (s[1:] for s in f.scalars.values())


@final
@dataclass(frozen=True, slots=True)
class DataGram:
    """out = <left[li], right[rj]> of families known from the data; right "" is the number left[li] itself."""

    key: Key
    out: Ints
    left: str
    right: str
    li: Ints
    rj: Ints

    def part(self, rows: Ints) -> DataGram:
        """The entries `rows`."""
        return replace(self, out=self.out[rows], li=self.li[rows], rj=self.rj[rows])

    def reads(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())


@final
@dataclass(frozen=True, slots=True)
class Constant:
    """out += value"""

    key: Key
    out: Ints
    value: Floats

    def part(self, rows: Ints) -> Constant:
        """The entries `rows`."""
        return Constant(self.key, self.out[rows], self.value[rows])

    def reads(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())


@final
@dataclass(frozen=True, slots=True)
class SumOfProducts:
    """out += scale * a * b"""

    key: Key
    out: Ints
    a: Slot
    b: Slot
    scale: float

    def part(self, rows: Ints) -> SumOfProducts:
        """The entries `rows`."""
        return replace(self, out=self.out[rows], a=_cut(self.a, rows), b=_cut(self.b, rows))

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        yield self.a
        yield self.b


Block = Union[Mix, Product, DataGram, Constant, SumOfProducts]
