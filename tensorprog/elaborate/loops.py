"""Loops.  Over names and ranges of numbers they are unrolled; over axes of the data they are kept:

    for t in T: s = f(s, x[t])      s_prev[0] = the value before the loop;  s_prev[t + 1] = s[t];
                                    s[t] = f(s_prev[t], x[t]);  after the loop s stands for s[T - 1].

A name that an iteration may read before it assigns it thus becomes a family that reads itself one step earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from tensorprog.elaborate.assigned import Growing
from tensorprog.elaborate.bounds import larger
from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.reductions import Reductions
from tensorprog.elaborate.scope import Budget, Scope
from tensorprog.elaborate.values import (
    Binding,
    Family,
    FamilyStack,
    Label,
    Nonlin,
    Number,
    Stacked,
    Sum,
    Value,
    WeightValue,
    replace_indices,
)
from tensorprog.errors import Span, TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym, show
from tensorprog.ir.program import Axis, Dim, Iteration, Linear, Map, MatMul, Read, Term, identity, operands
from tensorprog.lang import syntax

MAX_ITERATIONS = 10_000


@final
@dataclass(frozen=True, slots=True)
class State:
    """A name that a loop changes: its value before the loop, before and after an iteration; `read`: whether
    an iteration reads it; `outer`: the axes around the loop."""

    name: str
    before: Value
    previous: Value
    after: Value
    outer: tuple[Axis, ...]
    axis: Axis
    read: bool
    span: Span | None


class Loops(Reductions):
    """Runs loops; the statements in them are left to the subclass."""

    def __init__(self, ops: Operators, budget: Budget) -> None:
        super().__init__(ops, budget)
        self.growing: dict[str, Growing] = {}

    def run(self, body: Iterable[syntax.Stmt], scope: Scope) -> None:
        """Execute statements in order."""
        raise NotImplementedError

    def check_read(self, value: Value, index: tuple[Expr, ...], e: syntax.Index) -> None:
        """Elements at fixed indices of a family that is filled at fixed indices must be there already."""
        growing = self.growing.get(value.var) if isinstance(value, Family) else None
        if growing is not None and len(index) == len(growing.pieces[0][1]) and growing.lacks(index):
            raise fail(f"{e.base.id}[{', '.join(map(show, index))}] was not assigned yet", e.span,
                       "a state must be assigned before it is read")

    def loop(self, stmt: syntax.For, scope: Scope) -> None:
        """`for` over names, over a range of numbers (unrolled), or over an axis (kept as a loop)."""
        hidden = scope.names.get(stmt.var)
        if isinstance(stmt.domain, syntax.Braces):
            self.unrolled(stmt, [Label(label) for label in stmt.domain.names], scope)
        else:
            low, extent = self.axis_of(stmt.domain, scope, "the range of a loop")
            if isinstance(low, Num) and isinstance(extent, Num):
                self.unrolled(stmt, self.numbers(stmt, low, extent), scope)
            else:
                self.recurrence(stmt, low, extent, scope)
        if hidden is None:
            scope.names.pop(stmt.var, None)
        else:
            scope.names[stmt.var] = hidden

    def numbers(self, stmt: syntax.For, low: Num, extent: Num) -> list[Number]:
        """The values of the index of an unrolled loop."""
        if low.value != int(low.value):
            raise fail(f"a loop starts at {show(low)}: the number must be whole", stmt.domain.span)
        if extent.value > MAX_ITERATIONS:
            raise fail(f"a loop of {show(extent)} iterations", stmt.domain.span,
                       f"at most {MAX_ITERATIONS} are expanded; a loop over an axis of the data is not")
        return [Number(ex.num(k)) for k in range(int(low.value), int(low.value) + int(extent.value))]

    def unrolled(self, stmt: syntax.For, values: Iterable[Value], scope: Scope) -> None:
        """Run the body once for every value."""
        around = self.builder.iterations
        for value in values:
            scope.bind(stmt.var, value, stmt.span)
            if isinstance(value, Number) and isinstance(value.expr, Num):
                self.builder.iterations = (*around, Iteration(stmt.var, int(value.expr.value), stmt.span))
            self.run(stmt.body, scope)
        self.builder.iterations = around

    # ------------------------------------------------------------ loops over axes

    def recurrence(self, stmt: syntax.For, low: Expr, extent: Expr, scope: Scope) -> None:
        """Run the body once, for an index that stands for every iteration."""
        axis, outer = Axis(self.builder.fresh_index(stmt.var), extent), tuple(self.builder.context)
        before = {n: scope.names[n] for n in self.assigned(stmt.body, scope) if self._is_state(scope.names.get(n))}
        self.builder.context.append(axis)
        self.builder.loops.append(axis)
        previous = {n: Binding(self.previous(n, b.value), b.span) for n, b in before.items()}
        scope.names.update(previous)
        scope.bind(stmt.var, Number(ex.add(Sym(axis.index), low)), stmt.span)
        entry, start = dict(scope.names), len(self.builder.instrs)
        self.run(stmt.body, scope)
        self._check_rebound(stmt, entry, previous, start, scope)
        after = {n: self.settled(b, n) for n, b in scope.names.items() if n in previous or entry.get(n) is not b}
        self.builder.loops.pop()
        self.builder.context.pop()
        used = self._used(start).union(*(vars_of(v) for v in after.values()))
        for n, value in after.items():
            if n not in previous:
                scope.names[n] = Binding(replace_indices(value, _last(axis)), scope.names[n].span)
                continue
            read = not vars_of(previous[n].value).isdisjoint(used)
            state = State(n, before[n].value, previous[n].value, value, outer, axis, read, scope.names[n].span)
            result = before[n].value if scope.names[n] is previous[n] else None
            scope.names[n] = Binding(self.carry(state, stmt, result), scope.names[n].span)

    def _used(self, start: int) -> set[str]:
        """The families that definitions since `start`, and pieces of families, read."""
        used = {name for i in self.builder.instrs[start:] for name in operands(i.op)}
        return used | {r.var for g in self.growing.values() for _, _, r in g.pieces if r is not None}

    def assigned(self, body: Iterable[syntax.Stmt], scope: Scope) -> list[str]:
        """The names that statements assign or declare, in order, as far as they are known before the loop runs."""
        found: dict[str, None] = {}
        for name in self._names(body, scope):
            known = all(scope.find(b) for b in re.findall(r"\{(\w+)\}", name))
            found[self.full_name(name, scope, next(iter(body)).span) if known else name] = None
        return list(found)

    def _names(self, body: Iterable[syntax.Stmt], scope: Scope) -> Iterator[str]:
        for stmt in body:
            match stmt:
                case syntax.Assign(targets=targets):
                    yield from (t.name for t in targets)
                case syntax.WeightDecl(name=name):
                    yield name
                case syntax.For(var=var, body=inner):
                    labels = self._labels(stmt, scope)
                    for name in self._names(inner, scope):
                        yield from (name.replace(f"{{{var}}}", x) for x in labels) if f"{{{var}}}" in name else [name]
                case syntax.If(body=yes, orelse=no):
                    yield from self._names((*yes, *no), scope)

    def _labels(self, stmt: syntax.For, scope: Scope) -> list[str]:
        """What stands for the index of a loop in names."""
        if isinstance(stmt.domain, syntax.Braces):
            return list(stmt.domain.names)
        try:
            low, extent = self.axis_of(stmt.domain, scope, "the range of a loop")
        except TensorProgError:  # it depends on what the loop assigns
            return []
        known = isinstance(low, Num) and isinstance(extent, Num)
        return [show(v.expr) for v in self.numbers(stmt, low, extent)] if known else []  # type: ignore[arg-type]

    def _is_state(self, binding: Binding | None) -> bool:
        """Whether a name can be a state: a vector, scalar, number, or a whole family that is complete."""
        if binding is None or isinstance(binding.value, Family):
            return binding is not None and vars_of(binding.value).isdisjoint(self.growing)
        return isinstance(binding.value, Sum | Nonlin | Number | Stacked | FamilyStack)

    def _check_rebound(
        self, stmt: syntax.For, entry: dict[str, Binding], previous: dict[str, Binding], start: int, scope: Scope
    ) -> None:
        """What the body made anew and did not carry must not have been read there before."""
        weights = {i.op.weight for i in self.builder.instrs[start:] if isinstance(i.op, MatMul)}
        for name, old in entry.items():
            new = scope.names.get(name, old)
            if new is old or name in previous:
                continue
            if self._is_state(old):
                raise fail(f"'{name}' changes in this loop under a name that is only known inside it", stmt.span,
                           "write the names out, or use a family with an index")
            read = isinstance(old.value, WeightValue) and old.value.name in weights
            grown = isinstance(old.value, Family) and vars_of(old.value) != vars_of(new.value)
            if read or (grown and not vars_of(old.value).isdisjoint(self._used(start))):
                raise fail(f"'{name}' is read in this loop before it is made anew there", new.span,
                           "give the new one another name, or make it before it is read")

    # ------------------------------------------------------------ states

    def previous(self, name: str, value: Value) -> Value:
        """The name's value at the start of an iteration, to be defined after the body."""
        here = identity(tuple(self.builder.context))
        if isinstance(value, Stacked | FamilyStack):
            blocks = tuple(self.previous(f"{name}{k + 1}", b) for k, b in enumerate(value.blocks))
            return type(value)(blocks)  # type: ignore[arg-type]
        var = self.builder.fresh_name(f"{name}_prev")
        if isinstance(value, Family):
            return Family(var, here, value.axes, value.dim)
        return self.builder.element(Read(var, here), _dim_of(value))

    def settled(self, binding: Binding, name: str) -> Value:
        """The value at the end of an iteration, as elements of families."""
        value = binding.value
        if isinstance(value, Sum | Nonlin) and not _is_zero(value):
            return self.builder.element(self.builder.read(value, binding.span, name), value.dim)
        return value

    def carry(self, state: State, stmt: syntax.For, result: Value | None) -> Value:
        """Define the state before each iteration; its value after the loop (`result` if the body left it alone)."""
        complaint = _complaint(state)
        at_least_once = _at_least_once(state.axis.extent)
        if state.read and complaint:
            raise fail(complaint, state.span, f"give it its shape before the loop, for example {state.name} = zeros(n)")
        to_the_end = result is None and not at_least_once and not complaint
        if state.read or to_the_end:
            extent = ex.add(state.axis.extent, ex.ONE) if to_the_end else state.axis.extent
            for part in zip(_parts(state.previous), _parts(state.before), _parts(state.after), strict=True):
                self._define(state, part, extent, stmt)
        if result is not None:
            return result
        if to_the_end:
            return replace_indices(state.previous, {state.axis.index: state.axis.extent})
        return replace_indices(state.after, _last(state.axis))

    def _define(self, state: State, part: tuple[Value, Value, Value], extent: Expr, stmt: syntax.For) -> None:
        """previous[0] = before, previous[t + 1] = after[t]."""
        previous, before, after = part
        own = previous.axes if isinstance(previous, Family) else ()
        index = (*identity(state.outer), ex.add(Sym(state.axis.index), ex.ONE))
        cases = ((after, (*state.outer, state.axis), index), (before, state.outer, (*identity(state.outer), ex.ZERO)))
        terms = [self._term(v, own, domain, at) for v, domain, at in cases if not _is_zero(v)]
        (var,) = vars_of(previous)
        axes = (*state.outer, Axis(state.axis.index, extent), *own)
        self.builder.define(var, axes, _dim_of(previous), Linear(tuple(terms)), stmt.span)

    def _term(self, value: Value, own: tuple[Axis, ...], domain: tuple[Axis, ...], at: tuple[Expr, ...]) -> Term:
        inner = tuple(Axis(self.builder.fresh_index("k"), a.extent) for a in own)
        target = at + identity(inner)
        if isinstance(value, Number):
            return Term(None, Map(domain + inner, target, target), value.expr)
        if isinstance(value, Family):
            return Term(value.var, Map(domain + inner, target, value.prefix + identity(inner)))
        assert isinstance(value, Sum | Nonlin)
        read = self.builder.read(value, self.builder.place, "init")
        return Term(read.var, Map(domain + inner, target, read.index))


def _last(axis: Axis) -> dict[str, Expr]:
    return {axis.index: ex.add(axis.extent, ex.MINUS_ONE)}


def _at_least_once(extent: Expr) -> bool:
    """Whether a loop of that many iterations is never empty, as sizes are at least 1."""
    return larger(extent, ex.ONE) == extent


def _parts(value: Value) -> tuple[Value, ...]:
    return value.blocks if isinstance(value, Stacked | FamilyStack) else (value,)


def vars_of(value: Value) -> set[str]:
    """The families behind families and plain elements."""
    reads = [t.factor for p in _parts(value) if isinstance(p, Sum) and len(p.terms) == 1 for t in p.terms]
    return {p.var for p in _parts(value) if isinstance(p, Family)} | {r.var for r in reads if isinstance(r, Read)}


def _is_zero(value: Value) -> bool:
    return isinstance(value, Sum) and not value.terms


def _dim_of(value: Value) -> Dim | None:
    return value.dim if isinstance(value, Family | Sum | Nonlin) else None


def _complaint(state: State) -> str | None:
    """What is wrong with the shape of a state at the end of an iteration."""
    old, new = _parts(state.previous), _parts(state.after)
    if type(state.previous) is not type(state.after) and Stacked in {type(state.previous), type(state.after)}:
        return f"the state '{state.name}' is stacked only before or only in the loop"
    if len(old) != len(new):
        return f"the stacked state '{state.name}' changes its blocks in the loop"
    for p, v in zip(old, new, strict=True):
        if _shape(p) != _shape(v) and not (_is_zero(v) and not isinstance(p, Family)):
            return f"the state '{state.name}' starts as {_shape(p)} and becomes {_shape(v)} in the loop"
    return None


def _shape(value: Value) -> str:
    """The shape of a state for messages."""
    dim = _dim_of(value)
    if isinstance(value, Family) and value.axes:
        axes = ", ".join(show(a.extent) for a in value.axes)
        return f"a family [{axes}] of {'numbers' if dim is None else f'vectors [{show(dim.size)}]'}"
    return "a number" if dim is None else f"a vector [{show(dim.size)}]"
