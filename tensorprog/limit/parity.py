"""Sign symmetries: which expectations vanish because a Gaussian family may be replaced by its negative.

Every matrix, every transpose and every Gaussian vector is a group of variables whose joint law does not
change when the whole group changes sign.  Under sign changes of the groups a variable is a sum of parts,
each multiplied by a character (a set of groups, the parts odd in them).  The characters of a variable are
kept as an affine space `offset + span(basis)` over the field of two elements; E[Z] = 0 whenever the empty
character is not among them.  This is gradient independence at work: everything in a backward pass is odd in
the readout or in some transposed matrix (Tensor Programs II, Condition 1, and its "BP-like" generalisation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from tensorprog.ir.expr import Expr, Num, Sym

ODD = {"sin", "tanh", "erf", "atan", "sinh", "sign", "dsinc", "stop"}
EVEN = {"cos", "cosh", "abs", "sinc", "normpdf", "dirac"}


@final
@dataclass(frozen=True, slots=True)
class Characters:
    """offset + span(basis): sets of groups as bit masks; `basis` is in reduced echelon form."""

    offset: int
    basis: tuple[int, ...] = ()

    @property
    def has_mean(self) -> bool:
        """Whether the expectation can be different from zero."""
        return reduce_by(self.offset, self.basis) == 0

    def times(self, other: Characters) -> Characters:
        """The characters of a product."""
        return make(self.offset ^ other.offset, self.basis + other.basis)

    def plus(self, other: Characters) -> Characters:
        """A space that holds the characters of a sum."""
        return make(self.offset, (*self.basis, *other.basis, self.offset ^ other.offset))

    def even(self) -> Characters:
        """The characters of an even function."""
        return Characters(0, self.basis)

    def any(self) -> Characters:
        """The characters of a function without symmetry."""
        return make(0, (*self.basis, self.offset))


CONSTANT = Characters(0)


def reduce_by(mask: int, basis: tuple[int, ...]) -> int:
    """The mask modulo the span; 0 when it lies in it."""
    for b in basis:
        mask = min(mask, mask ^ b)
    return mask


def make(offset: int, generators: tuple[int, ...]) -> Characters:
    """offset + span(generators) in the form in which equal spaces are equal data."""
    basis: list[int] = []
    for g in generators:
        g = reduce_by(g, tuple(basis))
        if g:
            top = 1 << (g.bit_length() - 1)
            basis = sorted([b ^ g if b & top else b for b in basis] + [g], reverse=True)
    return Characters(reduce_by(offset, tuple(basis)), tuple(basis))


def function_characters(fn: Expr, args: Mapping[str, Characters]) -> Characters:
    """The characters of fn(arguments)."""
    if isinstance(fn, Sym):
        return args.get(fn.name, CONSTANT)
    if isinstance(fn, Num):
        return CONSTANT
    if fn.fn == "pow":
        return _power_characters(function_characters(fn.args[0], args), fn.args[1])
    parts = [function_characters(a, args) for a in fn.args]
    result = parts[0]
    if fn.fn in {"add", "mul"}:
        for p in parts[1:]:
            result = result.plus(p) if fn.fn == "add" else result.times(p)
        return result
    if fn.fn in ODD:
        return result
    if fn.fn in EVEN:
        return result.even()
    for p in parts[1:]:
        result = result.plus(p)
    return result.any()


def _power_characters(base: Characters, exponent: Expr) -> Characters:
    if isinstance(exponent, Num) and isinstance(exponent.value, Fraction) and exponent.value.denominator == 1:
        return base if exponent.value % 2 else base.even()
    return base.any()
