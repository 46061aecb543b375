"""What an expression of a .tp file denotes while it is being elaborated.

    Value   = Number | Function | Label | WeightValue | Family | FamilyStack | Element
    Element = Sum | Nonlin | Stacked            one vector or scalar, at indices of the context

An element is kept symbolic as long as it can be: sums stay sums of terms, nonlinearities stay trees, so
that `sum(p in -1..1) K[p] @ h[i + p] + b` becomes one matrix product and one sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Union, final

from tensorprog.errors import Span
from tensorprog.ir.expr import ONE, Expr, mul, substitute, symbols
from tensorprog.ir.program import Axis, Dim, Read
from tensorprog.lang import syntax


@final
@dataclass(frozen=True, slots=True)
class Number:
    """A compile-time number: a constant, a size, a width, or arithmetic of indices."""

    expr: Expr


@final
@dataclass(frozen=True, slots=True)
class Function:
    """A function or block by name; `definition` None is a primitive or a built-in."""

    name: str
    definition: syntax.Def | syntax.Block | None = None


@final
@dataclass(frozen=True, slots=True)
class Label:
    """A name that a loop over braces runs through."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class WeightValue:
    """A weight family; `prefix` are the indices of the loops it was declared in, `index` its own (None: not given)."""

    name: str
    prefix: tuple[Expr, ...] = ()
    index: tuple[Expr, ...] | None = None
    transposed: bool = False


@final
@dataclass(frozen=True, slots=True)
class Family:
    """A variable with index axes of its own; `prefix` are the indices of the loops around its definition."""

    var: str
    prefix: tuple[Expr, ...]
    axes: tuple[Axis, ...]
    dim: Dim | None


@final
@dataclass(frozen=True, slots=True)
class FamilyStack:
    """Families over the same axes whose vectors are stacked (concat)."""

    blocks: tuple[Family, ...]


@final
@dataclass(frozen=True, slots=True)
class MatRead:
    """weight[windex] @ operand (or W.T); operand None is the number 1."""

    weight: str
    windex: tuple[Expr, ...]
    transposed: bool
    operand: Read | None


@final
@dataclass(frozen=True, slots=True)
class SumTerm:
    """coef * scalars * factor, summed over the axes `over`; factor None is ones."""

    factor: Read | MatRead | None
    coef: Expr = ONE
    scalars: tuple[Read, ...] = ()
    over: tuple[Axis, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the term is nothing but one element of a family."""
        return isinstance(self.factor, Read) and self.coef == ONE and not self.scalars and not self.over


@final
@dataclass(frozen=True, slots=True)
class Sum:
    """A linear combination; `dim` None is a scalar."""

    terms: tuple[SumTerm, ...]
    dim: Dim | None

    def scaled(self, factor: Expr) -> Sum:
        """The combination times a compile-time number."""
        return Sum(tuple(replace(t, coef=mul(factor, t.coef)) for t in self.terms), self.dim)


@final
@dataclass(frozen=True, slots=True)
class Nonlin:
    """fn(a0, a1, ...) coordinate by coordinate, with ak the element args[k]."""

    fn: Expr
    args: tuple[Read, ...]
    dim: Dim | None


@final
@dataclass(frozen=True, slots=True)
class Stacked:
    """Vectors on top of each other (concat)."""

    blocks: tuple[Sum | Nonlin, ...]


Element = Union[Sum, Nonlin, Stacked]
Value = Union[Number, Function, Label, WeightValue, Family, FamilyStack, Sum, Nonlin, Stacked]


@final
@dataclass(frozen=True, slots=True)
class Binding:
    """A name in scope: its value, where it was made, and whether the user may be told that it is unused."""

    value: Value
    span: Span | None = field(default=None, compare=False)


def read_element(var: str, index: tuple[Expr, ...], dim: Dim | None) -> Sum:
    """The element of a family as a sum of one term."""
    return Sum((SumTerm(Read(var, index)),), dim)


def element_dim(value: Sum | Nonlin | Stacked) -> Dim | None:
    """The dimension of an element; of stacked vectors their added dimension."""
    if not isinstance(value, Stacked):
        return value.dim
    from tensorprog.ir.expr import add

    dims = [b.dim for b in value.blocks if b.dim is not None]
    return Dim(add(*(d.size for d in dims)), any(d.wide for d in dims))


def used_symbols(value: Sum | Nonlin) -> frozenset[str]:
    """The index names that the element depends on."""
    if isinstance(value, Nonlin):
        return symbols(value.fn).union(*(_read_symbols(a) for a in value.args), frozenset())
    return frozenset().union(*(_term_symbols(t) for t in value.terms))


def _read_symbols(read: Read) -> frozenset[str]:
    return frozenset().union(*(symbols(e) for e in read.index))


def factor_symbols(factor: Read | MatRead | None) -> frozenset[str]:
    """The index names in the factor of a term."""
    if factor is None:
        return frozenset()
    if isinstance(factor, Read):
        return _read_symbols(factor)
    own = frozenset().union(*(symbols(e) for e in factor.windex))
    return own | factor_symbols(factor.operand)


def _term_symbols(term: SumTerm) -> frozenset[str]:
    inside = factor_symbols(term.factor) | symbols(term.coef)
    inside = inside.union(*(_read_symbols(s) for s in term.scalars), *(symbols(a.extent) for a in term.over))
    return inside - {a.index for a in term.over}


def replace_indices(value: Value, names: dict[str, Expr]) -> Value:
    """The value with index names replaced (an element at another index of the context)."""
    match value:
        case Number(expr=e):
            return Number(substitute(e, names))
        case Sum(terms=terms, dim=dim):
            return Sum(tuple(_replace_term(t, names) for t in terms), dim)
        case Nonlin(fn=fn, args=args, dim=dim):
            return Nonlin(substitute(fn, names), tuple(_replace_read(a, names) for a in args), dim)
        case Stacked(blocks=blocks):
            return Stacked(tuple(replace_indices(b, names) for b in blocks))  # type: ignore[misc]
        case FamilyStack(blocks=families):
            return FamilyStack(tuple(replace_indices(f, names) for f in families))  # type: ignore[misc]
        case Family() | WeightValue():
            return replace(value, prefix=tuple(substitute(e, names) for e in value.prefix))
        case _:
            return value


def _replace_read(read: Read, names: dict[str, Expr]) -> Read:
    return Read(read.var, tuple(substitute(e, names) for e in read.index))


def _replace_factor(factor: Read | MatRead | None, names: dict[str, Expr]) -> Read | MatRead | None:
    if factor is None:
        return None
    if isinstance(factor, Read):
        return _replace_read(factor, names)
    operand = None if factor.operand is None else _replace_read(factor.operand, names)
    return replace(factor, windex=tuple(substitute(e, names) for e in factor.windex), operand=operand)


def _replace_term(term: SumTerm, names: dict[str, Expr]) -> SumTerm:
    return SumTerm(
        _replace_factor(term.factor, names),
        substitute(term.coef, names),
        tuple(_replace_read(s, names) for s in term.scalars),
        tuple(Axis(a.index, substitute(a.extent, names)) for a in term.over),
    )
