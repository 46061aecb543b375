"""The adjoint of every operation, one rule each.

Write u* for the adjoint of a family u: u*[o, i] = d f[o] / d u[i].  A rule takes the definition of y and
says what y adds to the adjoints of the families that y reads:

    y[t] += c W h[s]            h*[o, s] += c W.T y*[o, t]                       (and W.T gives W)
    y[t] += c r[q] h[s]         h*[o, s] += c r[q] y*[o, t]      r*[o, q] += c <y*[o, t], h[s]>
    y[i] = fn(u[p(i)], ...)     u*[o, p(i)] += y*[o, i] * d fn / d u
    m[i] = max over r h[i, r]   h*[o, i, r] += m*[o, i] * step(h[i, r] - m[i])
    s[i] = c <u[p], v[q]>       u*[o, p] += c s*[o, i] v[q]      v*[o, q] += c s*[o, i] u[p]

All index arithmetic is the relation of the forward pass read from right to left.  Nothing here knows
about widths: the adjoints are the true derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Union, final

from tensorprog.autodiff.diracs import without_vanishing_diracs
from tensorprog.errors import fail
from tensorprog.ir import expr
from tensorprog.ir.expr import ZERO, Expr, Sym, mul, substitute, symbols
from tensorprog.ir.program import (
    Axis,
    Data,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    MaxOver,
    Pointwise,
    Program,
    Read,
    Term,
    Var,
    identity,
)


@final
@dataclass(frozen=True, slots=True)
class Whole:
    """Adds a family of its own, over all axes of the adjoint of `target`, defined by `op`."""

    target: str
    reader: str
    op: MatMul | Pointwise


@final
@dataclass(frozen=True, slots=True)
class Scatter:
    """Adds `term` to the adjoint of `target`; the term may read the families that `helpers` define."""

    target: str
    term: Term
    helpers: tuple[Instr, ...] = ()


Contribution = Union[Whole, Scatter]


@final
@dataclass(frozen=True)
class Frame:
    """What the rules share: the axes of the differentiated output, and the names of the adjoints.

    `active` holds the families through which a trained weight reaches the output.
    """

    program: Program
    out: tuple[Axis, ...]
    adjoints: Mapping[str, str]
    active: frozenset[str]
    taken: set[str]

    @property
    def here(self) -> tuple[Expr, ...]:
        """The index of the output element."""
        return identity(self.out)

    def adjoint(self, name: str) -> Var:
        """The adjoint of a family: the output axes, then its own."""
        var = self.program.var(name)
        return replace(var, name=self.adjoints[name], axes=self.out + var.axes)

    def read(self, name: str, index: tuple[Expr, ...]) -> Read:
        """The adjoint of a family at one of its own indices, for the current output element."""
        return Read(self.adjoints[name], self.here + index)

    def extend(self, map_: Map, target: bool = True, source: bool = True) -> Map:
        """The same relation for every output element."""
        return Map(
            self.out + map_.domain,
            (self.here if target else ()) + map_.target,
            (self.here if source else ()) + map_.source,
        )

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        name, k = stem, 2
        while name in self.taken:
            name, k = f"{stem}.{k}", k + 1
        self.taken.add(name)
        return name


def contributions(instr: Instr, frame: Frame) -> list[Contribution]:
    """What the definition of `instr.var` adds to the adjoints of its active operands."""
    match instr.op:
        case Data():
            return []
        case MatMul():
            return list(_matmul(instr.var, instr.op, frame))
        case Linear():
            return list(_linear(instr.var, instr.op, frame))
        case Pointwise():
            return list(_pointwise(instr.var, instr.op, frame))
        case MaxOver():
            return list(_max_over(instr.var, instr.op, frame))
        case Inner():
            return list(_inner(instr.var, instr.op, frame))


# ---------------------------------------------------------------- linear operations


def _matmul(y: Var, op: MatMul, frame: Frame) -> Iterator[Contribution]:
    if op.operand is not None and op.operand in frame.active:
        back = frame.extend(op.map.adjoint())
        transposed = MatMul(op.weight, op.windex, frame.adjoints[y.name], back, not op.transposed, op.coef)
        yield Whole(op.operand, y.name, transposed)


def _linear(y: Var, op: Linear, frame: Frame) -> Iterator[Contribution]:
    for term in op.terms:
        if term.operand is not None and term.operand in frame.active:
            back = frame.extend(term.map.adjoint())
            yield Scatter(term.operand, Term(frame.adjoints[y.name], back, term.coef, term.scalars))
        for k, scalar in enumerate(term.scalars):
            if scalar.var in frame.active:
                yield _linear_scalar(y, term, k, frame)


def _linear_scalar(y: Var, term: Term, k: int, frame: Frame) -> Scatter:
    """r*[o, q] += c <y*[o, t], h[s]> * (the other scalars), summed over the domain of the term."""
    scalar = term.scalars[k]
    others = term.scalars[:k] + term.scalars[k + 1 :]
    operand = None if term.operand is None else Read(term.operand, term.map.source)
    if y.dim is None:
        factors = others if operand is None else (*others, operand)
        back = frame.extend(Map(term.map.domain, scalar.index, term.map.target))
        return Scatter(scalar.var, Term(frame.adjoints[y.name], back, term.coef, factors))
    product = _helper(frame, scalar.var, y.name, term.map.domain)
    helper = Instr(product, Inner(frame.read(y.name, term.map.target), operand))
    back = frame.extend(Map(term.map.domain, scalar.index, identity(term.map.domain)))
    return Scatter(scalar.var, Term(product.name, back, term.coef, others), (helper,))


def _inner(s: Var, op: Inner, frame: Frame) -> Iterator[Contribution]:
    sides = [(op.left, op.right)] if op.right is None else [(op.left, op.right), (op.right, op.left)]
    for side, other in sides:
        if side.var in frame.active:
            source = () if other is None else other.index
            back = frame.extend(Map(s.axes, side.index, source), source=False)
            scale = (frame.read(s.name, identity(s.axes)),)
            yield Scatter(side.var, Term(None if other is None else other.var, back, op.coef, scale))


# ---------------------------------------------------------------- nonlinear operations


def _pointwise(y: Var, op: Pointwise, frame: Frame) -> Iterator[Contribution]:
    for k, read in enumerate(op.args):
        if read.var in frame.active:
            slope = _slope(y, op, k)
            if slope != ZERO:
                yield _pointwise_argument(y, op, read, slope, frame)


def _slope(y: Var, op: Pointwise, k: int) -> Expr:
    try:
        return without_vanishing_diracs(expr.differentiate(op.fn, f"a{k}"))
    except ValueError as error:
        raise fail(f"cannot differentiate '{y.name}': {error}", y.span) from error


def _pointwise_argument(y: Var, op: Pointwise, read: Read, slope: Expr, frame: Frame) -> Contribution:
    pooled = y.dim is not None and frame.program.var(read.var).dim is None
    back = frame.extend(Map(y.axes, read.index, identity(y.axes)))
    constant = not any(f"a{k}" in symbols(slope) for k in range(len(op.args)))
    if constant and not pooled:
        return Scatter(read.var, Term(frame.adjoints[y.name], back, slope))
    if pooled:
        return _pooled_argument(y, op, read, None if constant else slope, slope if constant else expr.ONE, frame)
    product = _times_slope(y, op, slope, frame)
    axes = frame.program.var(read.var).axes
    if read.index == identity(y.axes) and [a.extent for a in axes] == [a.extent for a in y.axes]:
        return Whole(read.var, y.name, _renamed(product, y.axes, axes))
    helper = Instr(_helper(frame, read.var, y.name, y.axes, like=y), product)
    return Scatter(read.var, Term(helper.var.name, back), (helper,))


def _renamed(op: Pointwise, old: tuple[Axis, ...], new: tuple[Axis, ...]) -> Pointwise:
    """The same operation with its indices called by other names."""
    names: dict[str, Expr] = {a.index: Sym(b.index) for a, b in zip(old, new, strict=True)}
    args = tuple(Read(r.var, tuple(substitute(e, names) for e in r.index)) for r in op.args)
    return Pointwise(substitute(op.fn, names), args)


def _pooled_argument(
    y: Var, op: Pointwise, read: Read, slope: Expr | None, coef: Expr, frame: Frame
) -> Contribution:
    """A scalar argument of a vector: r*[o, p(i)] += coef <y*[o, i], slope[i]>, slope None being ones."""
    helpers: tuple[Instr, ...] = ()
    partial = None
    if slope is not None:
        fn, args = _renumber(slope, op.args, first=0)
        name = frame.fresh(f"{y.name}.by.{read.var}")
        helpers = (Instr(replace(y, name=name, named=False), Pointwise(fn, args)),)
        partial = Read(name, identity(y.axes))
    product = _helper(frame, read.var, y.name, y.axes)
    helpers += (Instr(product, Inner(frame.read(y.name, identity(y.axes)), partial)),)
    back = frame.extend(Map(y.axes, read.index, identity(y.axes)))
    return Scatter(read.var, Term(product.name, back, coef), helpers)


def _times_slope(y: Var, op: Pointwise, slope: Expr, frame: Frame) -> Pointwise:
    """y* times the partial derivative, reading only the arguments that the derivative needs."""
    fn, args = _renumber(slope, op.args, first=1)
    return Pointwise(mul(Sym("a0"), fn), (frame.read(y.name, identity(y.axes)), *args))


def _renumber(fn: Expr, args: tuple[Read, ...], first: int) -> tuple[Expr, tuple[Read, ...]]:
    """`fn` and the arguments that occur in it, numbered from `first`."""
    used = [k for k in range(len(args)) if f"a{k}" in symbols(fn)]
    names: dict[str, Expr] = {f"a{k}": Sym(f"a{first + j}") for j, k in enumerate(used)}
    return substitute(fn, names), tuple(args[k] for k in used)


def _max_over(m: Var, op: MaxOver, frame: Frame) -> Iterator[Contribution]:
    """Where several elements attain the maximum, each gets the whole gradient (an event of probability 0)."""
    if op.operand in frame.active:
        axes = frame.program.var(op.operand).axes
        outer = identity(axes[: -op.over])
        gate = mul(Sym("a0"), expr.call("step", expr.sub(Sym("a1"), Sym("a2"))))
        args = (frame.read(m.name, outer), Read(op.operand, identity(axes)), Read(m.name, outer))
        yield Whole(op.operand, m.name, Pointwise(gate, args))


def _helper(frame: Frame, target: str, reader: str, axes: tuple[Axis, ...], like: Var | None = None) -> Var:
    """A helper family over the output axes and `axes`, with the dimension of `like` (None: scalars)."""
    name = frame.fresh(f"{frame.adjoints[target]}.{reader}")
    place = frame.program.var(reader)
    return Var(name, frame.out + axes, None if like is None else like.dim, place.span, place.origin)
