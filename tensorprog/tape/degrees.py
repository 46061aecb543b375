"""Positive homogeneity: how the slots of a tape scale with the data of each run.

    x -> a x, x' -> a' x'   takes a slot of degrees (p, p') to a^p a'^p' of its value,   a, a' > 0

Expectations of functions that are homogeneous of degree q in Gaussian arguments of degree p are of degree p q.  On the
tape of one run both degrees are of the same data and add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.tables import Ints
from tensorprog.tape.blocks import (
    Block,
    Constant,
    Contraction,
    DataGram,
    GroupValue,
    Key,
    Mix,
    Placed,
    Product,
    Slot,
    SumOfProducts,
)

Degree = tuple[Fraction, Fraction]
NONE: Degree = (Fraction(0), Fraction(0))


class Inhomogeneous(Exception):
    """A value that does not scale by a power."""


def degrees(
    blocks: Sequence[Block], inputs: frozenset[str], runs: tuple[Mapping[Key, Degree], ...] = ()
) -> dict[Key, Degree]:
    """The degrees of the slots of a tape, all slots of a key having the same.

    `inputs` are the families that the user gives; `runs` the degrees on the tapes of both runs, none for the tape of
    one run, whose degrees are (p, 0).  Raises Inhomogeneous where a slot has none.
    """
    walk = _Walk(inputs, runs)
    for block in blocks:
        walk.add(block)
    return walk.known


class _Walk:
    def __init__(self, inputs: frozenset[str], runs: tuple[Mapping[Key, Degree], ...]) -> None:
        self.inputs, self.runs = inputs, runs
        self.known: dict[Key, Degree] = {}

    def add(self, block: Block) -> None:
        """The degrees of what a block adds to its key, which must be those that are known."""
        found = self._joined(self._of(block))
        if found is not None and self.known.setdefault(block.key, found) != found:
            raise Inhomogeneous

    def _joined(self, degree: Degree | None) -> Degree | None:
        if degree is None or self.runs:
            return degree
        return degree[0] + degree[1], Fraction(0)

    def _of(self, block: Block) -> Degree | None:
        """None: zero, which is of every degree."""
        match block:
            case Constant():
                return NONE if np.any(block.value) else None
            case DataGram() if block.right != "" and {block.left, block.right} <= self.inputs:
                return Fraction(1), Fraction(1)
            case Mix():
                read = ((block.where, block.dep, block.slots), *block.scalars)
                return _sum([self.placed(*p) for p in read])
            case SumOfProducts():
                return _sum([self.slot(block.a), self.slot(block.b)])
            case Contraction():
                return _sum([self.slot(block.matrices.left), self.slot(block.matrices.right)])
            case Product():
                for factor in block.factors:
                    self._constant(factor.scalars.values())
                return _sum([self._group(g) for g in block.groups])
        raise Inhomogeneous

    def slot(self, slot: Slot) -> Degree | None:
        """The degrees of slots of the tape itself."""
        key, at = slot
        if key == ("one",):
            return NONE
        return self.known.get(key) if np.any(at) else None

    def placed(self, where: str, key: Key, at: Ints) -> Degree | None:
        """The degrees of slots of this tape or of that of a run."""
        if not self.runs or where == "own" or key == ("one",):
            return self.slot((key, at))
        found = self.runs[where == "right"].get(key) if np.any(at) else None
        if found is None:
            return None
        return (Fraction(0), found[0]) if where == "right" else (found[0], Fraction(0))

    def _constant(self, placed: Iterable[Placed]) -> None:
        if any(self.placed(*p) not in (None, NONE) for p in placed):
            raise Inhomogeneous

    def _group(self, group: GroupValue) -> Degree | None:
        if group.moment is not None:
            return self.slot(group.moment)
        if group.mean is not None:
            return self.placed(*group.mean)
        assert group.expectation is not None
        self._constant(group.scalars.values())
        request = group.expectation.request
        sides = [self._argument(group, s) for s in (0, 1)]
        for line in group.across:
            for slot in line:
                _agree(self.slot(slot), self._joined(_sum([sides[0], sides[1]])))
        total = []
        functions = (request.left, request.left_args), (request.right, request.right_args)
        for (e, args), side in zip(functions, sides, strict=True):
            power = homogeneous(e, frozenset(args))
            if power is None:
                return None
            total.append((power * side[0], power * side[1]))
        return self._joined(_sum(total))

    def _argument(self, group: GroupValue, s: int) -> Degree:
        """The common degrees of the arguments of a side, from their second moments."""
        where = ("left", "right")[s]
        seconds = [self.placed(where, *slot) for line in group.inside[s] for slot in line]
        known = {d for d in seconds if d is not None}
        if len(known) > 1 or (not known and group.inside[s]):
            raise Inhomogeneous
        second = known.pop() if known else NONE
        half = second[0] / 2, second[1] / 2
        for mean in group.means[s]:
            _agree(self.placed(where, *mean), half)
        return half


def _agree(found: Degree | None, wanted: Degree | None) -> None:
    if found is not None and found != wanted:
        raise Inhomogeneous


def _sum(parts: Sequence[Degree | None]) -> Degree | None:
    total = NONE
    for p in parts:
        if p is None:
            return None
        total = total[0] + p[0], total[1] + p[1]
    return total


# ---------------------------------------------------------------- functions


def homogeneous(e: Expr, args: frozenset[str]) -> Fraction | None:
    """The q with f(a u) = a^q f(u) for a > 0; None for zero.  Raises Inhomogeneous where there is none."""
    if isinstance(e, Num):
        return None if e.value == 0 else Fraction(0)
    if isinstance(e, Sym):
        return Fraction(int(e.name in args))
    if not ex.symbols(e) & args:
        return Fraction(0)
    if e.fn == "pow":
        return _power(e.args, args)
    parts = [homogeneous(a, args) for a in e.args]
    if e.fn in _RULES:
        return _RULES[e.fn](parts)
    if any(p not in (None, 0) for p in parts):
        raise Inhomogeneous
    return Fraction(0)


def _power(operands: tuple[Expr, ...], args: frozenset[str]) -> Fraction | None:
    base, exponent = homogeneous(operands[0], args), operands[1]
    if not isinstance(exponent, Num) or not isinstance(exponent.value, Fraction) or base is None:
        raise Inhomogeneous
    return base * exponent.value


def _same(parts: Sequence[Fraction | None], times: int = 1) -> Fraction | None:
    """`times` the degree that all parts have."""
    known = {p for p in parts if p is not None}
    if len(known) > 1:
        raise Inhomogeneous
    return times * known.pop() if known else None


def _product(parts: Sequence[Fraction | None]) -> Fraction | None:
    return None if None in parts else sum((p for p in parts if p is not None), Fraction(0))


def _sign(parts: Sequence[Fraction | None]) -> Fraction | None:
    _same(parts)
    return Fraction(0)


_RULES: dict[str, Callable[[Sequence[Fraction | None]], Fraction | None]] = {
    **dict.fromkeys(("add", "max", "min", "abs", "stop"), _same),
    **dict.fromkeys(("step", "sign", *ex.COMPARE), _sign),
    "mul": _product,
    "dirac": partial(_same, times=-1),
}
