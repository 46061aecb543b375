"""Tape -> tape with tangents: beside the slots of a key those of its derivative with respect to a parameter, in blocks.

    sums and products     the product rule; coefficients have `slopes`
    E F(u_1, u_2, ...)    sum_i (E[F_i] m_i' + E[(u_i - m_i) F_i] r_i) + E[F']
                          + sum_{i<j} E[F_ij] (C_ij' - C_ij (r_i + r_j))

for Gaussian u of mean m and covariance C, r_i = C_ii' / (2 C_ii); indices are derivatives by an argument, primes by the
parameter.  This is Price's theorem (IRE Trans. Inf. Theory 4, 1958) in deviations and correlations instead of
covariances: diagonal terms take one derivative of F instead of two, so that a kink costs nothing and a jump no more
than a point mass.  The last factor is the change of a correlation.  It vanishes where that is 1 or -1, which cannot be
exceeded; there an E[F_ij] that is infinite (two jumps at one place) counts as 0 (`Bounded`).

Expectations E[F_i ..] are computed once, whatever the number of parameters, and equal ones are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from tensorprog.errors import fail
from tensorprog.ir import expr as ex
from tensorprog.limit.moments import Moments
from tensorprog.symbolic.bounded import bounded, resolved
from tensorprog.symbolic.expectation import Closed, Expectation, Request
from tensorprog.symbolic.points import has_dirac
from tensorprog.tape.arguments import Argument, at_place, derived, minus, multiplied, number
from tensorprog.tape.asking import Slots
from tensorprog.tape.blocks import (
    Block,
    Constant,
    Contraction,
    DataGram,
    Factor,
    Forms,
    GroupValue,
    Key,
    Matrices,
    Mix,
    Placed,
    Product,
    Seed,
    Slot,
    SumOfProducts,
)
from tensorprog.tape.tape import Tape

NOTHING: Key = ("zero",)
INPUTS = "(inputs)"
"""Stands among parameters for the inputs of the left run, which move along the families of `along`."""
SIDES = ("left", "right")


def tangent(parameter: str, key: Key) -> Key:
    """The key of the derivative of the slots of a key."""
    return ("tangent", parameter, *key)


def add_tangents(cross: Tape, moments: Moments, parameters: Sequence[str]) -> None:
    """Tangents of a cross tape and of the tapes of its runs, which must have been built."""
    shared: dict[object, Expectation] = {}
    done: dict[int, Tangents] = {}
    for tape in (*cross.selves, cross):
        if id(tape) not in done:
            assert isinstance(tape, Tape)
            sides = tuple(done[id(t)] for t in tape.selves) if tape is cross else ()
            done[id(tape)] = Tangents(tape, moments, shared, sides)
            done[id(tape)].add(parameters)


def along(family: str) -> str:
    """The name of the tangent of a family that is known from the data."""
    return f"{family}'"


def resting(family: str) -> str:
    """The family with this tangent."""
    return family.removesuffix("'")


def add_input_tangents(cross: Tape, moments: Moments) -> None:
    """Tangents of a cross tape and of the tape of its left run along its data; the right run stays."""
    shared: dict[object, Expectation] = {}
    left = cross.selves[0]
    assert isinstance(left, Tape)
    single = Tangents(left, moments, shared, ())
    single.add((INPUTS,))
    Tangents(cross, moments, shared, (single, None)).add((INPUTS,))


@final
@dataclass
class Tangents:
    """The tangents of one tape in the making.

    `sides` are those of the tapes of both runs (None: of a run that stays), none on the tape of one run.
    `expectations` are known by what they compute, `places` are the slots of expectations at given arguments, `moving`
    the keys that depend on a parameter.
    """

    tape: Tape
    moments: Moments
    expectations: dict[object, Expectation]
    sides: tuple[Tangents | None, ...]
    places: dict[object, Slot] = field(default_factory=dict)
    moving: set[tuple[str, Key]] = field(default_factory=set)

    def add(self, parameters: Sequence[str]) -> None:
        """Add the blocks of all parameters."""
        blocks, self.tape.blocks = self.tape.blocks, []
        blocks = [self._shared(b) if isinstance(b, Product) else b for b in blocks]
        for p in parameters:
            self._find_moving(p, blocks)
        for b in blocks:
            for p in parameters:
                if (p, b.key) in self.moving:
                    self._differentiate(p, b)
        plain = [replace(b, groups=tuple(map(_plain, b.groups))) if isinstance(b, Product) else b for b in blocks]
        self.tape.blocks = plain + self.tape.blocks

    # ------------------------------------------------------------ what depends on a parameter

    def _find_moving(self, p: str, blocks: Sequence[Block]) -> None:
        """The keys that depend on a parameter get tangents."""
        found: set[Key] = set()
        waiting = True
        while waiting:
            new = {b.key for b in blocks if b.key not in found and self._moves(p, b, found)}
            found |= new
            waiting = bool(new)
        for key in found:
            slots = self.tape.slots[key]
            twin = Slots(slots.rows, slots.cols)
            twin.at, twin.size = slots.at, slots.size
            self.tape.slots[tangent(p, key)] = twin
            self.moving.add((p, key))

    def _moves(self, p: str, block: Block, found: set[Key]) -> bool:
        own = any(p in s for s in _slopes_of(block)) or any(key in found for key, _ in block.reads(not self.sides))
        own |= p == INPUTS and isinstance(block, DataGram)
        return own or any(self._has(p, placed, found) for placed in _sided(block))

    def _has(self, p: str, placed: Placed, found: set[Key]) -> bool:
        where, key, _ = placed
        tangents = self._of(where)
        return tangents is not None and ((p, key) in tangents.moving or (tangents is self and key in found))

    def _of(self, where: str) -> Tangents | None:
        """The tangents of the tape that a slot is on."""
        return self if where == "own" or not self.sides else self.sides[where == "right"]

    def _tangent(self, p: str, placed: Placed) -> Placed | None:
        """The derivative of a placed slot, None where it is zero."""
        where, key, slots = placed
        tangents = self._of(where)
        if tangents is None or (p, key) not in tangents.moving or not slots.any():
            return None
        return where, tangent(p, key), slots

    # ------------------------------------------------------------ expectations have slots of their own

    def _shared(self, block: Product) -> Product:
        """The block with slots of their own for its expectations."""
        groups = tuple(self._kept(g, len(block.out)) for g in block.groups)
        return replace(block, groups=groups)

    def _kept(self, group: GroupValue, entries: int) -> GroupValue:
        if group.expectation is None:
            return group
        return replace(group, moment=self._value(group, self._known(group.expectation), entries))

    def _known(self, expectation: Expectation) -> Expectation:
        """The first expectation that computes the same."""
        return self.expectations.setdefault(_computes(expectation), expectation)

    def _value(self, group: GroupValue, expectation: Expectation, entries: int) -> Slot:
        """Slots of an expectation at the arguments of a group."""
        parts = (group.means, group.inside, group.across, group.scalars, group.numbers)
        signature = (id(expectation), *map(_frozen, parts))
        if signature not in self.places:
            key: Key = ("expectation", str(len(self.places)))
            slots = Slots(1, entries)
            slots.at, slots.size = np.arange(1, entries + 1), entries + 1
            self.tape.slots[key] = slots
            plain = replace(group, expectation=expectation, moment=None, parametric=None)
            self.tape.blocks.append(Product(key, slots.at, (), (plain,)))
            self.places[signature] = (key, slots.at)
        return self.places[signature]

    # ------------------------------------------------------------ blocks

    def _differentiate(self, p: str, block: Block) -> None:
        out = tangent(p, block.key), block.out
        add = self.tape.blocks.append
        match block:
            case Mix():
                self._mix(p, block)
            case Constant():
                if p in block.slopes:
                    add(Constant(*out, block.slopes[p]))
            case SumOfProducts():
                if p in block.slopes:
                    add(SumOfProducts(*out, block.a, block.b, block.slopes[p]))
                for a, b in ((block.a, block.b), (block.b, block.a)):
                    moved = self._tangent(p, ("own", *a))
                    if moved is not None:
                        add(SumOfProducts(*out, moved[1:], b, block.scale))
            case Product():
                for factors, groups in self._product_rule(p, block):
                    if all(g.moment is None or g.moment[0] != NOTHING for g in groups):
                        add(Product(*out, factors, groups))
            case Contraction():
                for matrices in self._matrices(p, block.matrices):
                    add(replace(block, key=out[0], matrices=matrices))
            case DataGram():
                add(replace(block, key=out[0], left=along(block.left)))
                if block.right and not self.sides:
                    add(replace(block, key=out[0], right=along(block.right)))
            case Forms() | Seed():
                raise fail("kernels with powers of quadratic forms (a normalization over an axis) have no gradient yet")

    def _mix(self, p: str, block: Mix) -> None:
        out = tangent(p, block.key), block.out
        if p in block.slopes:
            self.tape.blocks.append(replace(block, key=out[0], coef=block.slopes[p], slopes={}))
        dep = self._tangent(p, (block.where, block.dep, block.slots))
        if dep is not None:
            where, key, slots = dep
            self.tape.blocks.append(Mix(*out, where, key, slots, block.coef, block.scalars))
        for k, s in enumerate(block.scalars):
            moved = self._tangent(p, s)
            if moved is not None:
                scalars = (*block.scalars[:k], moved, *block.scalars[k + 1 :])
                self.tape.blocks.append(replace(block, key=out[0], scalars=scalars, slopes={}))

    def _product_rule(self, p: str, block: Product) -> Iterator[tuple[tuple[Factor, ...], tuple[GroupValue, ...]]]:
        """One factor after the other is differentiated."""
        plain = tuple(_plain(g) for g in block.groups)
        for k, f in enumerate(block.factors):
            for moved in self._factor(p, f):
                yield (*block.factors[:k], *moved, *block.factors[k + 1 :]), plain
        for k, g in enumerate(block.groups):
            for factors, groups in self._group(p, g, len(block.out)):
                yield (*block.factors, *factors), (*plain[:k], *groups, *plain[k + 1 :])

    def _matrices(self, p: str, m: Matrices) -> Iterator[Matrices]:
        for name, slot in (("left", m.left), ("right", m.right)):
            moved = self._tangent(p, ("own", *slot))
            if moved is not None:
                yield replace(m, **{name: moved[1:]})

    def _factor(self, p: str, f: Factor) -> Iterator[tuple[Factor, ...]]:
        if p in f.numbers and p in self.tape.parameters:
            yield (replace(f, fn=ex.differentiate(f.fn, p)),)
        for name, placed in f.scalars.items():
            moved = self._tangent(p, placed)
            if moved is not None:
                yield replace(f, fn=ex.differentiate(f.fn, name)), number(moved)

    def _group(
        self, p: str, g: GroupValue, entries: int
    ) -> Iterator[tuple[tuple[Factor, ...], tuple[GroupValue, ...]]]:
        if g.expectation is not None:
            yield from self._expectation(p, g, entries)
            return
        placed = g.mean if g.mean is not None else ("own", *g.moment) if g.moment is not None else None
        assert placed is not None
        moved = self._tangent(p, placed)
        if moved is not None:
            yield (), (at_place(moved),)

    # ------------------------------------------------------------ expectations

    def _expectation(
        self, p: str, g: GroupValue, entries: int
    ) -> Iterator[tuple[tuple[Factor, ...], tuple[GroupValue, ...]]]:
        """The terms of the derivative of an expectation: factors, and groups."""
        assert g.expectation is not None
        args = self._arguments(p, g)
        for i, a in enumerate(args):
            if a.mean_tangent is not None:
                yield (), (self._partial(g, (i,), False, entries), at_place(a.mean_tangent))
            stretch = a.stretch()
            if stretch is not None and len(args) == 1 and a.mean is None and has_dirac(g.expectation.request.left):
                yield (stretch, a.inverse), (self._squared(g, entries),)
                yield (replace(stretch, fn=ex.neg(stretch.fn)),), (_plain(g),)
            elif stretch is not None:
                yield (stretch,), (self._partial(g, (i,), True, entries),)
                if a.mean is not None:
                    yield (stretch, minus(a.mean)), (self._partial(g, (i,), False, entries),)
        for i, a in enumerate(args):
            for j in range(i + 1, len(args)):
                yield from self._turned(p, g, (i, j), (a, args[j]), entries)
        for name, placed in g.scalars.items():
            moved = self._tangent(p, placed)
            if moved is not None:
                yield from (((number(moved),), (d,)) for d in self._by_parameter(g, name, entries))
        if g.parametric is not None and p in ex.symbols(g.parametric.left) | ex.symbols(g.parametric.right):
            yield from (((), (d,)) for d in self._by_parameter(g, p, entries))

    def _turned(
        self, p: str, g: GroupValue, at: tuple[int, int], pair: tuple[Argument, Argument], entries: int
    ) -> Iterator[tuple[tuple[Factor, ...], tuple[GroupValue, ...]]]:
        """E[F_ij] times the change of a correlation, in terms of one factor a side."""
        second = self._second(g, *at)
        moved, (a, b) = self._tangent(p, second), pair
        if moved is None and a.stretch() is None and b.stretch() is None and not a.mean_tangent and not b.mean_tangent:
            return
        partial = self._partial(g, at, False, entries)
        if moved is not None:
            yield (), (partial, at_place(moved))
        for x, y in ((a, b), (b, a)):
            if x.mean_tangent is not None and y.mean is not None:
                yield (minus(y.mean),), (partial, at_place(x.mean_tangent))
            stretch = x.stretch()
            if stretch is not None:
                turned = replace(stretch, fn=ex.neg(stretch.fn))
                yield (turned,), (partial, at_place(second))
                if a.mean is not None and b.mean is not None:
                    yield (stretch, number(a.mean), number(b.mean)), (partial,)

    def _second(self, g: GroupValue, i: int, j: int) -> Placed:
        """The second moment of two arguments, i < j."""
        k = len(g.means[0])
        if j < k:
            return ("left", *g.inside[0][i][j])
        if i >= k:
            return ("right", *g.inside[1][i - k][j - k])
        return ("own", *g.across[i][j - k])

    def _arguments(self, p: str, g: GroupValue) -> list[Argument]:
        found = []
        for s, where in enumerate(SIDES):
            for i, slot in enumerate(g.means[s]):
                mean: Placed | None = (where, *slot) if slot[1].any() else None
                second = (where, *g.inside[s][i][i])
                moved = None if mean is None else self._tangent(p, mean)
                found.append(Argument(mean, moved, second, self._tangent(p, second)))
        return found

    def _partial(self, g: GroupValue, at: tuple[int, ...], times: bool, entries: int) -> GroupValue:
        """E[F_i], E[F_ij], or (`times`) E[u_i F_i]."""
        assert g.expectation is not None
        request = g.expectation.request
        for i in at:
            request = derived(request, i)
        if times:
            request = multiplied(request, at[0])
        return self._asked(g, request, entries)

    def _squared(self, g: GroupValue, entries: int) -> GroupValue:
        """E[u^2 F(u)], as E[u F'(u)] = E[u^2 F(u)] / C - E[F(u)] (Stein) does not differentiate point masses."""
        assert g.expectation is not None
        return self._asked(g, multiplied(multiplied(g.expectation.request, 0), 0), entries)

    def _by_parameter(self, g: GroupValue, p: str, entries: int) -> Iterator[GroupValue]:
        """E[dF / dp], a term for each side."""
        assert g.expectation is not None
        r = g.parametric or g.expectation.request
        yield self._asked(g, replace(r, left=ex.differentiate(r.left, p)), entries)
        yield self._asked(g, replace(r, right=ex.differentiate(r.right, p)), entries)

    def _asked(self, g: GroupValue, request: Request, entries: int) -> GroupValue:
        found = self.moments.settled(request, self.tape.sizes[0])
        if _computes(found) not in self.expectations:  # no kernel is to lose digits by what suffices here
            found = resolved(bounded(found))
        if ex.ZERO in (found.request.left, found.request.right):
            return GroupValue(None, moment=(NOTHING, np.zeros(entries, dtype=np.int64)))
        return GroupValue(None, moment=self._value(g, self._known(found), entries))


def _computes(expectation: Expectation) -> object:
    """What an expectation computes, and how: equal for closed forms of functions that are written differently."""
    if isinstance(expectation, Closed):
        return expectation.sums, expectation.backup is None
    return expectation


def _plain(group: GroupValue) -> GroupValue:
    """A group that is read from its slots."""
    return group if group.expectation is None else GroupValue(None, moment=group.moment)


def _slopes_of(block: Block) -> Iterator[Any]:
    """The parameters that a block depends on by itself."""
    if isinstance(block, Mix | Constant | SumOfProducts):
        yield block.slopes
    if isinstance(block, Product):
        yield from (f.numbers for f in block.factors)
        for g in block.groups:
            if g.parametric is not None:
                yield ex.symbols(g.parametric.left) | ex.symbols(g.parametric.right)


def _sided(block: Block) -> Iterator[Placed]:
    """The slots of the runs on both sides that a block reads."""
    if isinstance(block, Mix):
        yield from ((block.where, block.dep, block.slots), *block.scalars)
    if isinstance(block, Product):
        for f in block.factors:
            yield from f.scalars.values()
        for g in block.groups:
            yield from g.scalars.values()
            if g.mean is not None:
                yield g.mean
            for s, where in enumerate(SIDES):
                yield from ((where, *slot) for slot in g.means[s])
                yield from ((where, *slot) for line in g.inside[s] for slot in line)


def _frozen(x: Any) -> object:
    """A value that is equal for equal arrays."""
    if isinstance(x, np.ndarray):
        return x.tobytes()
    if isinstance(x, tuple):
        return tuple(map(_frozen, x))
    if isinstance(x, Mapping):
        return tuple((k, _frozen(v)) for k, v in sorted(x.items()))
    return x
