"""The instructions of a tape: each adds to the slots `out` of one key, all entries at once.

    Mix            out += coef * scalars * dep
    Product        out += factors * groups               (expectations of independent groups)
    DataGram       out += <x[i], x'[j]>, or a number known from the data
    Seed           out  = numbers that come with every pair of examples
    Constant       out += value
    SumOfProducts  out += scale * a * b
    Contraction    out += coef * sums of left * right     (products of matrices, see `contracting`)
    Forms          out  = expectations with powers of quadratic forms, all elements at once

All arrays of a block have one entry per contribution.  `slopes` are the derivatives of its coefficient with respect to
the parameters that stayed symbols in it (`coefficients`).  `where` is "own" for slots of the tape itself,
"left" and "right" for those of the two single runs behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Union, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.expr import Expr, Num, Op, Sym
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation, Request
from tensorprog.symbolic.forms import Mixture
from tensorprog.symbolic.tilted import Form

Key = tuple[str, ...]
Slot = tuple[Key, Ints]
Placed = tuple[str, Key, Ints]
Floats = NDArray[np.float64]


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
    slopes: Mapping[str, Floats] = field(default_factory=dict)

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        if single or self.where == "own":
            yield self.dep, self.slots
        yield from (s[1:] for s in self.scalars if single)

    def factors_of(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape without which an entry is zero."""
        return self.reads(single)


@final
@dataclass(frozen=True, slots=True)
class Factor:
    """An expression in scalars of the runs and numbers of the indices."""

    fn: Expr
    scalars: Mapping[str, Placed]
    numbers: Mapping[str, Floats]


@final
@dataclass(frozen=True, slots=True)
class GroupValue:
    """The expectation of one independent group: a moment, a mean, or a Gaussian expectation.

    Of a Gaussian expectation `means` are those of the arguments of each side, `inside` their second moments
    on one run, `across` those between the runs; `scalars` and `numbers` are its parameters.  `parametric` is its
    request with the program's parameters as symbols, where there are such in it.
    """

    expectation: Expectation | None
    moment: Slot | None = None
    mean: Placed | None = None
    means: tuple[tuple[Slot, ...], tuple[Slot, ...]] = ((), ())
    inside: tuple[tuple[tuple[Slot, ...], ...], tuple[tuple[Slot, ...], ...]] = ((), ())
    across: tuple[tuple[Slot, ...], ...] = ()
    scalars: Mapping[str, Placed] = field(default_factory=dict)
    numbers: Mapping[str, tuple[str, Floats]] = field(default_factory=dict)
    parametric: Request | None = None

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

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        for g in self.groups:
            yield from g.reads(single)
        if single:
            for f in self.factors:
                yield from (s[1:] for s in f.scalars.values())

    def factors_of(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape without which an entry is zero."""
        yield from (g.moment for g in self.groups if g.moment is not None)
        yield from (g.mean[1:] for g in self.groups if g.mean is not None and single)


@final
@dataclass(frozen=True, slots=True)
class DataGram:
    """out += <left[li], right[rj]> of families known from the data; right "" is the number left[li] itself."""

    key: Key
    out: Ints
    left: str
    right: str
    li: Ints
    rj: Ints

    def reads(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())

    factors_of = reads


@final
@dataclass(frozen=True, slots=True)
class Seed:
    """out = the numbers `rows` of those that come with every pair of examples under `name`."""

    key: Key
    out: Ints
    name: str
    rows: Ints

    def reads(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())

    factors_of = reads


@final
@dataclass(frozen=True, slots=True)
class Constant:
    """out += value"""

    key: Key
    out: Ints
    value: Floats
    slopes: Mapping[str, Floats] = field(default_factory=dict)

    def reads(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())

    factors_of = reads


@final
@dataclass(frozen=True, slots=True)
class SumOfProducts:
    """out += scale * a * b"""

    key: Key
    out: Ints
    a: Slot
    b: Slot
    scale: float
    slopes: Mapping[str, float] = field(default_factory=dict)

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        yield self.a
        yield self.b

    factors_of = reads


@final
@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """Slots [b, i, k] and [b, j, k]."""

    left: Slot
    right: Slot


@final
@dataclass(frozen=True, slots=True)
class Contraction:
    """out += coef * sum over k of left[b, i, k] * right[b, j, k], where `place` is the number of (b, i, j)."""

    key: Key
    out: Ints
    place: Ints
    coef: float
    matrices: Matrices

    def reads(self, single: bool) -> Iterator[Slot]:
        """The keys of slots of the same tape that must be there before; `terms` has the slots."""
        zero = np.zeros_like(self.out)
        yield self.matrices.left[0], zero
        yield self.matrices.right[0], zero

    def factors_of(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())

    def terms(self) -> Iterator[tuple[Slot, Slot]]:
        """Both factors of one term of every sum."""
        (left, a), (right, b) = self.matrices.left, self.matrices.right
        n, i, j = np.unravel_index(self.place, (*a.shape[:2], b.shape[1]))
        for k in range(a.shape[2]):
            yield (left, a[n, i, k]), (right, b[n, j, k])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """What the entries of a `Forms` block have in common.

    `blocks[u][v]` are the second moments [elements of u, elements of v] of the families of both runs, flat;
    `sizes` the numbers of elements of the families; `expectation` is of arguments with elements `places`, in the order
    of its own; `shapes` the elements of form and arguments that a number of a row or a column consists of.
    Ensembles of the same `law` have the same moments, and forms that differ in powers alone.
    """

    expectation: Mixture
    sizes: tuple[int, ...]
    blocks: tuple[tuple[Placed, ...], ...]
    places: tuple[Ints, ...]
    order: tuple[int, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    forms: tuple[tuple[Form, ...], tuple[Form, ...]]
    law: int


@final
@dataclass(frozen=True, slots=True)
class Forms:
    """out = the expectation at the elements that `rows` and `cols` number.

    `ready` is a slot that is computed after the moments of all elements.
    """

    key: Key
    out: Ints
    rows: Ints
    cols: Ints
    ready: Slot
    ensemble: Ensemble

    def reads(self, single: bool) -> Iterator[Slot]:
        """Slots of the same tape that must be there before."""
        yield self.ready
        zero = np.zeros_like(self.out)
        for line in self.ensemble.blocks:
            yield from ((key, zero) for where, key, _ in line if single or where == "own")

    def factors_of(self, single: bool) -> Iterator[Slot]:
        """Nothing."""
        return iter(())


Block = Union[Mix, Product, DataGram, Seed, Constant, SumOfProducts, Contraction, Forms]


# ---------------------------------------------------------------- cutting and joining


def part(block: Any, rows: Ints | slice) -> Any:
    """The entries `rows` of a block."""
    kind = type(block)
    if kind is np.ndarray:
        return block[rows]
    if kind is tuple:
        return tuple([part(x, rows) for x in block])
    if kind is dict:
        return {k: part(x, rows) for k, x in block.items()}
    if kind in RECORDS:
        return kind(*[part(getattr(block, a), rows) for a in RECORDS[kind]])
    return block


def merged(blocks: Sequence[Block]) -> list[Block]:
    """Blocks that do the same with other slots become one."""
    alike: dict[Hashable, list[Block]] = {}
    for block in blocks:
        alike.setdefault(_signature(block), []).append(block)
    return [joined(group) for group in alike.values()]


def joined(blocks: Sequence[Any]) -> Any:
    """Blocks that do the same with other slots, as one."""
    return _over_arrays(np.concatenate, *blocks) if len(blocks) > 1 else blocks[0]


RECORDS: dict[type, tuple[str, ...]] = {
    kind: tuple(f.name for f in fields(kind))
    for kind in (Mix, Factor, GroupValue, Product, DataGram, Seed, Constant, SumOfProducts, Contraction, Forms)
}
"""What is cut and joined field by field, with the names of the fields."""


def _over_arrays(f: Callable[[list[Any]], Any], *xs: Any) -> Any:
    """`f` applied to the corresponding arrays of equally built values; the rest is that of the first."""
    first = xs[0]
    if isinstance(first, np.ndarray):
        return f(list(xs))
    if isinstance(first, tuple):
        return tuple(_over_arrays(f, *items) for items in zip(*xs, strict=True))
    if isinstance(first, dict):
        return {k: _over_arrays(f, *(x[k] for x in xs)) for k in first}
    if type(first) in RECORDS:
        return type(first)(*(_over_arrays(f, *(getattr(x, a) for x in xs)) for a in RECORDS[type(first)]))
    return first


def _signature(x: Any) -> Hashable:
    """What a block does, without its arrays."""
    if isinstance(x, np.ndarray):
        return None
    if isinstance(x, tuple):
        return tuple(map(_signature, x))
    if isinstance(x, dict):
        return tuple((k, _signature(v)) for k, v in sorted(x.items()))
    if type(x) in RECORDS:
        return (type(x).__name__, *(_signature(getattr(x, a)) for a in RECORDS[type(x)]))
    if isinstance(x, str | float | Num | Sym | Op) or x is None:
        return x
    assert is_dataclass(x)
    return id(x)
