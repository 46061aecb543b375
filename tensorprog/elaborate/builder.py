"""Emits instructions: elements become families over the index axes that they depend on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tensorprog.elaborate.values import (
    MatRead,
    Nonlin,
    Sum,
    SumTerm,
    factor_symbols,
    read_element,
    used_symbols,
)
from tensorprog.errors import Diagnostic, Span, fail
from tensorprog.ir.expr import ONE, Expr, Sym, substitute
from tensorprog.ir.program import (
    Axis,
    Dim,
    Inner,
    Instr,
    Iteration,
    Linear,
    Map,
    MatMul,
    Operation,
    Pointwise,
    Read,
    Term,
    Var,
    Weight,
    identity,
)

MAX_INSTRUCTIONS = 20_000


@dataclass
class Builder:
    """The program under construction.

    `context` holds the index axes in force, outermost first: loops, then the axes of an assignment, then
    reductions; `loops` those of the loops alone; `iterations` the passes of unrolled loops in force; `sizes` the
    names of widths and data sizes; `named` the families for which a name of the source stands; `place` is the
    statement being expanded and `target` the name it assigns, after which intermediate results are called.
    Index names are unique here (`t#3`) and become short again when an instruction is emitted.
    """

    instrs: list[Instr] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    known: dict[tuple[tuple[Axis, ...], Dim | None, Operation], str] = field(default_factory=dict)
    context: list[Axis] = field(default_factory=list)
    loops: list[Axis] = field(default_factory=list)
    iterations: tuple[Iteration, ...] = ()
    notes: list[Diagnostic] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    sizes: set[str] = field(default_factory=set)
    widths: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    counter: int = 0
    place: Span | None = None
    target: str = "output"

    def fresh_name(self, name: str, kind: str = "") -> str:
        """`h`, then `h.2`, `h.3`, ...; weights are counted apart from variables (kind "weight")."""
        count = self.taken[kind + name] = self.taken.get(kind + name, 0) + 1
        return name if count == 1 else f"{name}.{count}"

    def fresh_index(self, name: str) -> str:
        """A unique internal index name that prints as `name`."""
        self.counter += 1
        return f"{name}#{self.counter}"

    def axes_of(self, used: frozenset[str], always: tuple[Axis, ...] = ()) -> tuple[Axis, ...]:
        """The context axes in `used`, and those that are `always` kept, in context order."""
        keep = used | {a.index for a in always}
        return tuple(a for a in self.context if a.index in keep)

    def emit(self, name: str, axes: tuple[Axis, ...], dim: Dim | None, op: Operation, span: Span | None) -> Read:
        """The element, at the context's own indices, of a family defined by `op`: a new one, or an equal old one."""
        if len(self.instrs) >= MAX_INSTRUCTIONS:
            raise fail(f"the program expands to more than {MAX_INSTRUCTIONS} instructions", span,
                       "loop over an axis of the data instead of a range of numbers, or lower the depth")
        short = tidy(Instr(Var("", axes, dim, span, self.iterations), op), self.sizes)
        key = (short.var.axes, dim, short.op)
        if key not in self.known:
            self.known[key] = self.fresh_name(f"{self.target}_in" if name == "_" else name)
            self.instrs.append(replace(short, var=replace(short.var, name=self.known[key])))
        return Read(self.known[key], identity(axes))

    def define(
        self,
        name: str,
        axes: tuple[Axis, ...],
        dim: Dim | None,
        op: Operation,
        span: Span | None,
        origin: tuple[Iteration, ...] | None = None,
    ) -> None:
        """Define the family of a name that was reserved before, in the iterations in force or those of `origin`."""
        var = Var(name, axes, dim, span, self.iterations if origin is None else origin)
        self.instrs.append(tidy(Instr(var, op), self.sizes))

    # ------------------------------------------------------------ elements to families

    def read(self, value: Sum | Nonlin, span: Span | None, name: str = "_") -> Read:
        """An element as one element of a family; nothing is emitted when it is one already."""
        if isinstance(value, Sum) and len(value.terms) == 1 and value.terms[0].is_plain:
            factor = value.terms[0].factor
            assert isinstance(factor, Read)
            return factor
        return self.materialize(value, span, name)

    def materialize(self, value: Sum | Nonlin, span: Span | None, name: str, always: tuple[Axis, ...] = ()) -> Read:
        """Define a family over the axes that the element uses (and `always`)."""
        return self.family(value, self.axes_of(used_symbols(value), always), span, name)

    def _split_product(self, term: SumTerm, dim: Dim | None, span: Span | None, name: str) -> SumTerm:
        """A matrix product inside a longer sum becomes a family of its own."""
        if not isinstance(term.factor, MatRead):
            return term
        bare = replace(term, scalars=(), coef=ONE, over=()) if term.scalars else term
        inner = frozenset(a.index for a in term.over) if term.scalars else frozenset[str]()
        axes = self.axes_of(factor_symbols(term.factor))
        axes += tuple(a for a in term.over if a.index in inner and a.index in factor_symbols(term.factor))
        if not term.scalars:
            axes = self.axes_of(used_symbols(Sum((bare,), dim)))
        read = self._matmul(bare, dim, axes, span, "_")
        return SumTerm(read, term.coef, term.scalars, term.over) if term.scalars else SumTerm(read)

    def _matmul(self, term: SumTerm, dim: Dim | None, axes: tuple[Axis, ...], span: Span | None, name: str) -> Read:
        factor = term.factor
        assert isinstance(factor, MatRead)
        operand, source = (None, ()) if factor.operand is None else (factor.operand.var, factor.operand.index)
        if name == "_":
            name = factor.weight.split(".")[0] + ("" if operand is None else "_" + operand.split(".")[0])
        map_ = Map(axes + term.over, identity(axes), source)
        op = MatMul(factor.weight, factor.windex, operand, map_, factor.transposed, term.coef)
        return self.emit(name, axes, dim, op, span)

    def _linear_term(self, term: SumTerm, axes: tuple[Axis, ...]) -> Term:
        assert not isinstance(term.factor, MatRead)
        operand, source = (None, identity(axes)) if term.factor is None else (term.factor.var, term.factor.index)
        return Term(operand, Map(axes + term.over, identity(axes), source), term.coef, term.scalars)

    def family(self, value: Sum | Nonlin, axes: tuple[Axis, ...], span: Span | None, name: str) -> Read:
        """Define a family over exactly these axes, in this order."""
        if isinstance(value, Nonlin):
            return self.emit(name, axes, value.dim, Pointwise(value.fn, value.args), span)
        if len(value.terms) == 1 and isinstance(value.terms[0].factor, MatRead) and not value.terms[0].scalars:
            return self._matmul(value.terms[0], value.dim, axes, span, name)
        terms = tuple(self._linear_term(self._split_product(t, value.dim, span, name), axes) for t in value.terms)
        return self.emit(name, axes, value.dim, Linear(terms), span)

    def wide_names(self) -> frozenset[str]:
        """The names of the widths."""
        return frozenset(self.widths)

    def element(self, read: Read, dim: Dim | None) -> Sum:
        """The element that a read denotes."""
        return read_element(read.var, read.index, dim)


# ---------------------------------------------------------------- short index names


def tidy(instr: Instr, sizes: set[str]) -> Instr:
    """The instruction with short index names (`t#3` becomes `t`, or `t1` where `t` is taken)."""
    names = {name: name for name in sizes}
    axes = tuple(_rename_axis(a, names) for a in instr.var.axes)
    return Instr(replace(instr.var, axes=axes), _tidy_op(instr.op, names))


def _short(index: str, names: dict[str, str]) -> str:
    if index not in names:
        base, k = index.split("#")[0], 0
        while (short := base if k == 0 else f"{base}{k}") in names.values():
            k += 1
        names[index] = short
    return names[index]


def _rename_axis(axis: Axis, names: dict[str, str]) -> Axis:
    return Axis(_short(axis.index, names), _rename(axis.extent, names))


def _rename(e: Expr, names: dict[str, str]) -> Expr:
    return substitute(e, {old: Sym(new) for old, new in names.items()})


def _rename_all(es: tuple[Expr, ...], names: dict[str, str]) -> tuple[Expr, ...]:
    return tuple(_rename(e, names) for e in es)


def _rename_map(m: Map, names: dict[str, str]) -> Map:
    domain = tuple(_rename_axis(a, names) for a in m.domain)
    return Map(domain, _rename_all(m.target, names), _rename_all(m.source, names))


def _rename_read(r: Read, names: dict[str, str]) -> Read:
    return Read(r.var, _rename_all(r.index, names))


def _tidy_op(op: Operation, names: dict[str, str]) -> Operation:
    match op:
        case MatMul():
            map_ = _rename_map(op.map, names)
            return replace(op, map=map_, windex=_rename_all(op.windex, names), coef=_rename(op.coef, names))
        case Linear(terms=terms):
            return replace(op, terms=tuple(_tidy_term(t, dict(names)) for t in terms))
        case Pointwise(fn=fn, args=args):
            return Pointwise(_rename(fn, names), tuple(_rename_read(a, names) for a in args))
        case Inner(left=left, right=right):
            other = None if right is None else _rename_read(right, names)
            return replace(op, left=_rename_read(left, names), right=other)
        case _:
            return op


def _tidy_term(term: Term, names: dict[str, str]) -> Term:
    map_ = _rename_map(term.map, names)
    scalars = tuple(_rename_read(s, names) for s in term.scalars)
    return Term(term.operand, map_, _rename(term.coef, names), scalars)
