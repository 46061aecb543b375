"""Runs the statements of a program: loops, blocks and declarations become definitions of families.

Loops over ranges of numbers are unrolled; loops over axes of the data are not: a name that an iteration
reads before it assigns it becomes a family that reads itself one step earlier,

    for t in T: s = f(s, x[t])      s_prev[t] = s[t - 1], and the initial value at 0;   s[t] = f(s_prev[t], x[t]).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tensorprog.elaborate.assigned import Growing
from tensorprog.elaborate.calls import make_dim
from tensorprog.elaborate.expressions import Evaluator
from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.scope import Budget, Scope
from tensorprog.elaborate.values import (
    Binding,
    Family,
    Label,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    WeightValue,
    element_dim,
    replace_indices,
)
from tensorprog.errors import Diagnostic, Span, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym, show
from tensorprog.ir.program import Axis, Dim, Input, Instr, Linear, Map, Output, Read, Term, Var, Weight, Width, identity, operands
from tensorprog.ir.program import Data
from tensorprog.lang import syntax

MAX_ITERATIONS = 10_000


class Expander(Evaluator):
    """Elaborates one program into the builder; `homes` gives the scope of the file of each definition."""

    def __init__(self, ops: Operators, budget: Budget, homes: dict[int, Scope]) -> None:
        super().__init__(ops, budget)
        self.homes = homes
        self.growing: dict[str, Growing] = {}
        self.widths: list[Width] = []
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.returned: list[list[Value]] = []

    def home(self, d: syntax.Def | syntax.Block) -> Scope:
        return self.homes[id(d)]

    def run(self, body: Iterable[syntax.Stmt], scope: Scope) -> None:
        """Execute statements in order."""
        for stmt in body:
            self.budget.spend(stmt.span)
            self.builder.place = stmt.span
            if isinstance(stmt, syntax.Assign):
                self.builder.target = stmt.targets[0].name
            self.statement(stmt, scope)

    def statement(self, stmt: syntax.Stmt, scope: Scope) -> None:
        """Execute one statement."""
        match stmt:
            case syntax.Assign():
                self.assign(stmt, scope)
            case syntax.WeightDecl():
                self.weight(stmt, scope)
            case syntax.For():
                self.loop(stmt, scope)
            case syntax.If(condition=condition, body=body, orelse=orelse):
                self.run(body if self.truth(condition, scope) else orelse, scope)
            case syntax.Return(value=value):
                self.return_(value, scope)
            case _:
                self.outer_only(stmt, scope)

    def outer_only(self, stmt: syntax.Stmt, scope: Scope) -> None:
        """Statements that stand in a program outside loops and blocks."""
        if self.builder.context or self.returned:
            raise fail("widths, inputs and outputs stand in the program itself, outside loops over axes and blocks", stmt.span)
        match stmt:
            case syntax.WidthDecl():
                self.width(stmt, scope)
            case syntax.InputDecl():
                self.input(stmt, scope)
            case syntax.Output():
                self.output(stmt, scope)

    # ------------------------------------------------------------ declarations

    def width(self, stmt: syntax.WidthDecl, scope: Scope) -> None:
        """`width n = 512`"""
        if any(w.name == stmt.name for w in self.widths):
            raise fail(f"width '{stmt.name}' is declared twice", stmt.span)
        size = self.ops.number(self.eval(stmt.value, scope), stmt.value.span, "a width")
        default = ex.substitute(size, {w.name: w.size for w in self.widths})
        if not (isinstance(default, Num) and default.value >= 1 and default.value == int(default.value)):
            raise fail(f"a width must be a whole number of at least 1, not {show(default)}", stmt.value.span)
        self.widths.append(Width(stmt.name, default, stmt.span))
        self.builder.widths.add(stmt.name)
        self.builder.sizes.add(stmt.name)
        scope.bind(stmt.name, Number(Sym(stmt.name)), stmt.span)

    def input(self, stmt: syntax.InputDecl, scope: Scope) -> None:
        """`input x[T]: [d]`: the value of a family is given; new names in it are sizes bound by the data."""
        if any(i.name == stmt.name for i in self.inputs):
            raise fail(f"input '{stmt.name}' is declared twice", stmt.span)
        axes = tuple(Axis(f"k{k}", self.size(a, scope)) for k, a in enumerate(stmt.axes))
        if stmt.shape is not None and len(stmt.shape) != 1:
            raise fail("an input is a vector per index: one dimension after the colon", stmt.span,
                       f"input {stmt.name}[A, B]: [d], or input {stmt.name}[A, B] for numbers")
        dim = None if stmt.shape is None else self.size(stmt.shape[0], scope)
        if dim is not None and ex.symbols(dim) & self.builder.widths:
            raise fail("the dimension of an input is finite, not a width", stmt.span)
        self.inputs.append(Input(stmt.name, axes, dim, stmt.span))
        vector = None if dim is None else Dim(dim, False)
        name = self.builder.fresh_name(stmt.name)
        self.builder.instrs.append(Instr(Var(name, axes, vector, stmt.span), Data(stmt.name)))
        scope.bind(stmt.name, Family(name, (), axes, vector), stmt.span)

    def size(self, e: syntax.Expr, scope: Scope) -> Expr:
        """The extent of an axis of the data; an unknown name becomes a size of that name."""
        if isinstance(e, syntax.Name) and scope.find(e.id) is None:
            self.builder.sizes.add(e.id)
            scope.bind(e.id, Number(Sym(e.id)), e.span)
        return self.whole(self.ops.number(self.eval(e, scope), e.span, "the size of an input"), e.span)

    def weight(self, stmt: syntax.WeightDecl, scope: Scope) -> None:
        """`weight W[3]: [n, d] ~ N(0, 1 / d) lr 1`: fresh in every iteration of the loops around it."""
        name = self.full_name(stmt.name, scope, stmt.span)
        own = tuple(Axis(f"k{k}", self.whole(self.index(a, scope), a.span)) for k, a in enumerate(stmt.axes))
        dims = [self.weight_dim(d, scope) for d in stmt.shape or ()]
        if len(dims) > 2:
            raise fail("a weight is a matrix, a vector or a scalar: at most two dimensions after the colon", stmt.span,
                       "index axes stand in brackets after the name: weight K[3, 3]: [n, c]")
        if dims and not dims[0].wide:
            raise fail(f"the rows of weight '{name}' have the finite dimension {show(dims[0].size)}", stmt.span,
                       f"use a family of vectors instead: weight {name}[{show(dims[0].size)}]: [n], and one output for each")
        mean, variance = self.law(stmt.mean, scope), self.law(stmt.variance, scope)
        if isinstance(variance, Num) and variance.value < 0:
            raise fail(f"the variance {show(variance)} is negative", stmt.variance.span)
        if isinstance(mean, Num) and mean.value != 0 and len(dims) == 2:
            raise fail("a matrix must have mean 0: with another mean its products diverge with the width", stmt.mean.span)
        rate = variance if stmt.lr is None else self.law(stmt.lr, scope)
        unique = self.builder.fresh_name(name, "weight ")
        rows, cols = (dims + [None, None])[:2]
        loops = tuple(Axis(f"l{k}", a.extent) for k, a in enumerate(self.builder.loops))
        self.builder.weights.append(Weight(unique, loops + own, rows, cols, mean, variance, rate, stmt.span))
        scope.bind(name, WeightValue(unique, identity(tuple(self.builder.loops)), None if own else ()), stmt.span)

    def weight_dim(self, e: syntax.Expr, scope: Scope) -> Dim:
        """A dimension of a weight."""
        size = self.ops.number(self.eval(e, scope), e.span, "a dimension")
        if isinstance(size, Num) and (size.value < 1 or size.value != int(size.value)):
            raise fail(f"a dimension must be a whole number of at least 1, not {show(size)}", e.span)
        return make_dim(size, self.builder.wide_names())

    def law(self, e: syntax.Expr, scope: Scope) -> Expr:
        """A mean, variance or learning rate."""
        value = self.ops.number(self.eval(e, scope), e.span, "the mean, variance or learning rate of a weight")
        if any("#" in s for s in ex.symbols(value)):
            raise fail("the law of a weight cannot depend on the index of a loop over an axis", e.span)
        return value

    # ------------------------------------------------------------ assignment

    def assign(self, stmt: syntax.Assign, scope: Scope) -> None:
        """`h = e`, `h[i in H] = e`, `h[t + 1] = e`, `h, c = block(...)`."""
        if len(stmt.targets) > 1:
            self.assign_many(stmt, scope)
            return
        target = stmt.targets[0]
        name = self.full_name(target.name, scope, target.span)
        if not target.indices:
            value = self.single(self.whole_value(stmt.value, scope, name), stmt.value.span)
            self.bind_value(name, value, target.span, stmt.value.span, scope)
        else:
            self.assign_indexed(name, target, stmt.value, scope)

    def assign_many(self, stmt: syntax.Assign, scope: Scope) -> None:
        """Several names from a block that returns as many values."""
        if any(t.indices for t in stmt.targets):
            raise fail("several names on the left cannot have indices", stmt.span)
        values: tuple[Value, ...] | Value
        if isinstance(stmt.value, syntax.Tuple):
            values = tuple(self.single(self.whole_value(v, scope, "item"), v.span) for v in stmt.value.items)
        else:
            values = self.whole_value(stmt.value, scope, "item")
        if not isinstance(values, tuple) or len(values) != len(stmt.targets):
            count = len(values) if isinstance(values, tuple) else 1
            raise fail(f"{len(stmt.targets)} names on the left, {count} value{'' if count == 1 else 's'} on the right", stmt.span)
        for target, value in zip(stmt.targets, values, strict=True):
            name = self.full_name(target.name, scope, target.span)
            self.bind_value(name, value, target.span, stmt.value.span, scope)

    def bind_value(self, name: str, value: Value, span: Span, where: Span, scope: Scope) -> None:
        """Bind a name; an element becomes a family over the index axes that it uses."""
        if isinstance(value, WeightValue) and self.ops.weight_of(value).cols is None and value.index is not None:
            value = self.ops.weight_vector(value, where)
        if isinstance(value, Sum | Nonlin):
            value = self.named(value, name, where)
        elif isinstance(value, Stacked):
            blocks = tuple(self.named(b, f"{name}{k + 1}", where) for k, b in enumerate(value.blocks))
            value = Stacked(blocks)
        scope.bind(name, value, span)

    def named(self, value: Sum | Nonlin, name: str, span: Span) -> Sum:
        """The element as an element of a family; zero stays zero."""
        if isinstance(value, Sum) and not value.terms:
            return value
        return self.builder.element(self.builder.read(value, span, name), value.dim)

    def assign_indexed(self, name: str, target: syntax.Target, body: syntax.Expr, scope: Scope) -> None:
        """A family over the axes on the left, or a piece of one."""
        binders = [b for b in target.indices if isinstance(b, syntax.Binder)]
        if len({b.name for b in binders}) != len(binders):
            raise fail("an index name stands twice on the left", target.span)
        made = self.binders(tuple(binders), scope)
        whole = len(binders) == len(target.indices) and all(low == ex.ZERO for _, low, _ in made)
        axes = tuple(axis for _, _, axis in made)
        with self.bound(made, scope):
            value = self.element(body, scope)
            if whole:
                result: Value = self.family_over(value, axes, body.span, name)
            else:
                if isinstance(value, Number):
                    value = Sum((SumTerm(None, value.expr),), None)
                if isinstance(value, Stacked):
                    raise fail("stacked vectors cannot be assigned element by element", body.span,
                               "assign the blocks to families of their own and concat where they are used")
                index = iter(ex.add(Sym(axis.index), low) for _, low, axis in made)
                where = tuple(next(index) if isinstance(t, syntax.Binder) else self.index(t, scope) for t in target.indices)
                result = self.piece(name, where, value, target, scope)
        scope.bind(name, result, target.span)

    def piece(self, name: str, where: tuple[Expr, ...], value: Sum | Nonlin, target: syntax.Target, scope: Scope) -> Family:
        """One more piece of a family that is filled element by element."""
        growing = self.growing_family(name, where, value, target, scope)
        if growing.dim != value.dim and growing.pieces and not (isinstance(value, Sum) and not value.terms):
            raise fail(f"'{name}' holds {self.ops.shape_text(Sum((), growing.dim))} elements, this one is "
                       f"{self.ops.shape_text(value)}", target.span)
        read = None
        if not (isinstance(value, Sum) and not value.terms):
            read = self.builder.read(value, target.span, name)
        growing.pieces.append((tuple(self.builder.context), where, read))
        return Family(growing.var, identity(growing.outer), growing.axes(), growing.dim)

    def growing_family(self, name: str, where: tuple[Expr, ...], value: Sum | Nonlin, target: syntax.Target, scope: Scope) -> Growing:
        """The family being filled under that name, or a new one."""
        binding = scope.names.get(name)
        if binding is not None and isinstance(binding.value, Family) and binding.value.var in self.growing:
            old = self.growing[binding.value.var]
            if len(old.pieces[0][1]) == len(where) and not old.covers(where):
                return old
        var = self.builder.fresh_name(name)
        self.growing[var] = Growing(var, tuple(self.builder.loops) if not self._in_inner_loop(where) else (), value.dim, target.span)
        return self.growing[var]

    def _in_inner_loop(self, where: tuple[Expr, ...]) -> bool:
        """Whether the first piece already runs along a loop: then the family lives outside the loops."""
        return any("#" in s for e in where for s in ex.symbols(e))

    def finish(self) -> None:
        """Define the families that were filled element by element."""
        for growing in self.growing.values():
            growing.define(self.builder)

    # ------------------------------------------------------------ loops

    def loop(self, stmt: syntax.For, scope: Scope) -> None:
        """`for` over names, over a range of numbers (unrolled), or over an axis (kept as a loop)."""
        if isinstance(stmt.domain, syntax.Braces):
            for label in stmt.domain.names:
                scope.bind(stmt.var, Label(label), stmt.span)
                self.run(stmt.body, scope)
            return
        low, extent = self.axis_of(stmt.domain, scope, "the range of a loop")
        if isinstance(low, Num) and isinstance(extent, Num):
            self.unrolled(stmt, int(low.value), int(extent.value), scope)
        else:
            self.recurrence(stmt, low, extent, scope)

    def unrolled(self, stmt: syntax.For, low: int, count: int, scope: Scope) -> None:
        """Run the body once for every number of the range."""
        if count > MAX_ITERATIONS:
            raise fail(f"a loop of {count} iterations", stmt.domain.span, f"at most {MAX_ITERATIONS} are expanded")
        for k in range(low, low + count):
            scope.bind(stmt.var, Number(ex.num(k)), stmt.span)
            self.run(stmt.body, scope)

    def recurrence(self, stmt: syntax.For, low: Expr, extent: Expr, scope: Scope) -> None:
        """Run the body once, for an index that stands for every iteration."""
        axis = Axis(self.builder.fresh_index(stmt.var), extent)
        names = [self.full_name(n, scope, stmt.span) if self._fillable(n, scope) else n for n in assigned_names(stmt.body)]
        before = {n: scope.names[n] for n in names if n in scope.names and self._carried(scope.names[n].value)}
        outer, hidden = tuple(self.builder.loops), scope.names.get(stmt.var)
        self.builder.context.append(axis)
        self.builder.loops.append(axis)
        previous = {n: self.previous(n, b.value) for n, b in before.items()}
        for n, value in previous.items():
            scope.bind(n, value, before[n].span)
        scope.bind(stmt.var, Number(ex.add(Sym(axis.index), low)), stmt.span)
        start = len(self.builder.instrs)
        self.run(stmt.body, scope)
        used = {name for i in self.builder.instrs[start:] for name in operands(i.op)}
        used |= {r.var for g in self.growing.values() for _, _, r in g.pieces if r is not None}
        after = {n: self.settled(scope.names[n], n) for n in names if n in scope.names}
        self.builder.loops.pop()
        self.builder.context.pop()
        for n, value in previous.items():
            if _var_of(value) in used | {_var_of(v) for v in after.values()}:
                self.carry(n, value, before[n].value, after[n], (outer, axis), stmt)
        last: dict[str, Expr] = {axis.index: ex.add(extent, ex.MINUS_ONE)}
        for n, value in after.items():
            scope.bind(n, replace_indices(value, last), scope.names[n].span)
        if hidden is None:
            scope.names.pop(stmt.var, None)
        else:
            scope.names[stmt.var] = hidden

    def _fillable(self, name: str, scope: Scope) -> bool:
        """Whether the braces in a name are known outside the loop."""
        return all(scope.find(b) for b in re.findall(r"\{(\w+)\}", name))

    def _carried(self, value: Value) -> bool:
        """Whether a name can be a state: a vector, scalar, number, or a whole family that is complete."""
        if isinstance(value, Family):
            return value.var not in self.growing
        return isinstance(value, Sum | Nonlin | Number | Stacked)

    def previous(self, name: str, value: Value) -> Value:
        """The name's value at the start of an iteration, to be defined after the body."""
        loops = tuple(self.builder.loops)
        if isinstance(value, Stacked):
            return Stacked(tuple(self.previous(f"{name}{k + 1}", b) for k, b in enumerate(value.blocks)))  # type: ignore[misc]
        var = self.builder.fresh_name(f"{name}_prev")
        if isinstance(value, Family):
            return Family(var, identity(loops), value.axes, value.dim)
        dim = None if isinstance(value, Number) else element_dim(value)  # type: ignore[arg-type]
        return self.builder.element(Read(var, identity(loops)), dim)

    def settled(self, binding: Binding, name: str) -> Value:
        """The value at the end of an iteration, as elements of families."""
        value = binding.value
        if isinstance(value, Sum | Nonlin) and not (isinstance(value, Sum) and not value.terms):
            return self.builder.element(self.builder.read(value, binding.span, name), value.dim)
        return value

    def carry(self, name: str, prev: Value, init: Value, new: Value, where: tuple[tuple[Axis, ...], Axis], stmt: syntax.For) -> None:
        """prev[0] = init, prev[t + 1] = new[t]."""
        if isinstance(prev, Stacked):
            if not isinstance(new, Stacked) or not isinstance(init, Stacked) or len(new.blocks) != len(prev.blocks):
                raise fail(f"the stacked state '{name}' changes its blocks in the loop", stmt.span)
            for p, i, v in zip(prev.blocks, init.blocks, new.blocks, strict=True):
                self.carry(name, p, i, v, where, stmt)
            return
        outer, axis = where
        own = prev.axes if isinstance(prev, Family) else ()
        self._same_shape(name, prev, new, stmt)
        terms = [self._carry_term(v, outer, own, domain, at) for v, domain, at in (
            (new, (*outer, axis), ex.add(Sym(axis.index), ex.ONE)),
            (init, outer, ex.ZERO),
        ) if not (isinstance(v, Sum) and not v.terms)]
        var = _var_of(prev)
        assert var is not None
        dim = prev.dim if isinstance(prev, Family | Sum) else None
        self.builder.define(var, (*outer, axis, *own), dim, Linear(tuple(terms)), stmt.span)

    def _carry_term(self, value: Value, outer: tuple[Axis, ...], own: tuple[Axis, ...], domain: tuple[Axis, ...], at: Expr) -> Term:
        inner = tuple(Axis(self.builder.fresh_index("k"), a.extent) for a in own)
        target = (*identity(outer), at, *identity(inner))
        if isinstance(value, Number):
            return Term(None, Map(domain + inner, target, target), value.expr)
        if isinstance(value, Family):
            return Term(value.var, Map(domain + inner, target, value.prefix + identity(inner)))
        assert isinstance(value, Sum | Nonlin)
        read = self.builder.read(value, self.builder.place, "init")
        return Term(read.var, Map(domain + inner, target, read.index))

    def _same_shape(self, name: str, prev: Value, new: Value, stmt: syntax.For) -> None:
        families = isinstance(prev, Family), isinstance(new, Family)
        old_dim, new_dim = (_dim_of(v) for v in (prev, new))
        zero = isinstance(new, Sum) and not new.terms
        if families[0] != families[1] or (old_dim != new_dim and not zero):
            raise fail(f"the state '{name}' starts as {_shape(old_dim)} and becomes {_shape(new_dim)} in the loop",
                       stmt.span, f"give it its shape before the loop, for example {name} = zeros(n)")
        if isinstance(prev, Family) and isinstance(new, Family) and len(prev.axes) != len(new.axes):
            raise fail(f"the state '{name}' changes its axes in the loop", stmt.span)

    # ------------------------------------------------------------ blocks and outputs

    def call_block(self, block: syntax.Block, scope: Scope, span: Span) -> Value | tuple[Value, ...]:
        self.returned.append([])
        outer, self.ops.implicit = self.ops.implicit, None
        self.run(block.body, scope)
        self.ops.implicit = outer
        values = self.returned.pop()
        if not values:
            raise fail(f"block '{block.name}' returns nothing", span, "end it with: return ...")
        return values[0] if len(values) == 1 else tuple(values)

    def return_(self, value: syntax.Expr, scope: Scope) -> None:
        """`return e` or `return h, c`"""
        if not self.returned:
            raise fail("return outside a block", value.span, "a program ends with: output ...")
        if self.returned[-1]:
            raise fail("a block returns once", value.span)
        items = value.items if isinstance(value, syntax.Tuple) else (value,)
        self.returned[-1].extend(self.single(self.whole_value(i, scope, self.builder.target), i.span) for i in items)

    def output(self, stmt: syntax.Output, scope: Scope) -> None:
        """`output e`, `output f = e`, `output f[i in B] = e`"""
        name = self.full_name(stmt.name or "output", scope, stmt.span)
        if any(o.name == name for o in self.outputs):
            raise fail(f"output '{name}' is declared twice", stmt.span, "give outputs different names: output g = ...")
        binders = self.binders(stmt.binders, scope)
        with self.bound(binders, scope):
            value = self.single(self.whole_value(stmt.value, scope, name), stmt.value.span)
            if isinstance(value, Family) and value.axes:
                var = value.var
            else:
                element = self.ops.element(value, stmt.value.span)
                if isinstance(element, Number | Stacked):
                    raise fail("an output must be a scalar or one vector that the program computes", stmt.value.span)
                var = self.builder.family(element, tuple(a for _, _, a in binders), stmt.value.span, name).var
        self.outputs.append(Output(name, var, stmt.span))


def assigned_names(body: Iterable[syntax.Stmt]) -> list[str]:
    """The names that statements assign, in order, without those in braces loops (their names vary)."""
    names: dict[str, None] = {}
    for stmt in body:
        match stmt:
            case syntax.Assign(targets=targets):
                names.update((t.name, None) for t in targets)
            case syntax.WeightDecl(name=name):
                names[name] = None
            case syntax.For(body=inner):
                names.update((n, None) for n in assigned_names(inner))
            case syntax.If(body=yes, orelse=no):
                names.update((n, None) for n in [*assigned_names(yes), *assigned_names(no)])
    return list(names)


def _var_of(value: Value) -> str | None:
    """The family behind a family or plain element."""
    if isinstance(value, Family):
        return value.var
    if isinstance(value, Sum) and len(value.terms) == 1 and isinstance(value.terms[0].factor, Read):
        return value.terms[0].factor.var
    return None


def _dim_of(value: Value) -> Dim | None:
    if isinstance(value, Family):
        return value.dim
    return element_dim(value) if isinstance(value, Sum | Nonlin | Stacked) else None


def _shape(dim: Dim | None) -> str:
    return "a number" if dim is None else f"a vector [{show(dim.size)}]"


def unused(diagnostics: list[Diagnostic], what: str, name: str, span: Span | None) -> None:
    """Add the warning that something declared is not used."""
    diagnostics.append(Diagnostic(f"{what} '{name}' is not used", span, severity="warning"))
