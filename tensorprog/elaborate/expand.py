"""Runs the statements of a program: declarations, assignments, blocks and outputs become definitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile

from tensorprog.elaborate.assigned import Growing
from tensorprog.elaborate.calls import ops_dim
from tensorprog.elaborate.elements import plain
from tensorprog.elaborate.loops import Loops, vars_of
from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.scope import Budget, Scope
from tensorprog.elaborate.values import (
    Family,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    WeightValue,
)
from tensorprog.errors import Diagnostic, Span, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym, show
from tensorprog.ir.program import (
    Axis,
    Data,
    Dim,
    Input,
    Instr,
    MatMul,
    Output,
    Var,
    Weight,
    Width,
    identity,
)
from tensorprog.lang import syntax


@dataclass
class Returned:
    """What the block that is running returned; `depth` is the number of axes in force around it."""

    depth: int
    values: list[Value] = field(default_factory=list)


class Expander(Loops):
    """Elaborates one program into the builder; `homes` gives the scope of the file of each definition."""

    def __init__(self, ops: Operators, budget: Budget, homes: dict[int, Scope]) -> None:
        super().__init__(ops, budget)
        self.homes = homes
        self.widths: list[Width] = []
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.returned: list[Returned] = []

    def home(self, d: syntax.Def | syntax.Block) -> Scope:
        return self.homes[id(d)]

    def run(self, body: Iterable[syntax.Stmt], scope: Scope) -> None:
        """Execute statements in order."""
        for stmt in body:
            self.budget.spend(stmt.span)
            self.builder.place = stmt.span
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
            case syntax.Return():
                self.return_(stmt, scope)
            case _:
                self.outer_only(stmt, scope)

    def outer_only(self, stmt: syntax.Stmt, scope: Scope) -> None:
        """Statements that stand in a program outside loops and blocks."""
        if self.builder.context or self.returned:
            raise fail("widths, inputs and outputs stand in the program itself, outside loops over axes and blocks",
                       stmt.span)
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
        doubled = ex.substitute(size, {w.name: ex.mul(ex.num(2), w.size) for w in self.widths})
        if ex.symbols(size) and doubled != ex.mul(ex.num(2), default):
            raise fail(f"{show(size)} does not stay in a fixed ratio to the other widths", stmt.value.span,
                       "widths grow together: write a number, or a multiple of a width such as n / 2")
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
            size = show(dims[0].size)
            raise fail(f"the rows of weight '{name}' have the finite dimension {size}", stmt.span,
                       f"use a family of vectors instead: weight {name}[{size}]: [n], and one output for each")
        mean, variance = self.law(stmt.mean, scope), self.law(stmt.variance, scope)
        if isinstance(variance, Num) and variance.value < 0:
            raise fail(f"the variance {show(variance)} is negative", stmt.variance.span)
        if isinstance(mean, Num) and mean.value != 0 and len(dims) == 2:
            raise fail("a matrix must have mean 0: with another mean its products diverge with the width",
                       stmt.mean.span)
        rate = variance if stmt.lr is None else self.law(stmt.lr, scope)
        unique = self.builder.fresh_name(name, "weight ")
        rows, cols = (dims + [None, None])[:2]
        loops = tuple(Axis(f"l{k}", a.extent) for k, a in enumerate(self.builder.loops))
        origin = self.builder.iterations
        self.builder.weights.append(Weight(unique, loops + own, rows, cols, mean, variance, rate, stmt.span, origin))
        scope.bind(name, WeightValue(unique, identity(tuple(self.builder.loops)), None if own else ()), stmt.span)

    def weight_dim(self, e: syntax.Expr, scope: Scope) -> Dim:
        """A dimension of a weight."""
        return ops_dim(self.ops, self.eval(e, scope), e.span)

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
        name = self.builder.target = self.full_name(target.name, scope, target.span)
        if not target.indices:
            value = self.single(self.whole_value(stmt.value, scope, name), stmt.value.span)
            self.bind_value(name, value, target.span, stmt.value.span, scope)
        else:
            self.assign_indexed(name, target, stmt.value, scope)

    def assign_many(self, stmt: syntax.Assign, scope: Scope) -> None:
        """Several names from a block that returns as many values."""
        if any(t.indices for t in stmt.targets):
            raise fail("several names on the left cannot have indices", stmt.span)
        self.builder.target = self.full_name(stmt.targets[0].name, scope, stmt.targets[0].span)
        values: tuple[Value, ...] | Value
        if isinstance(stmt.value, syntax.Tuple):
            values = tuple(self.single(self.whole_value(v, scope, "item"), v.span) for v in stmt.value.items)
        else:
            values = self.whole_value(stmt.value, scope, "item")
        if not isinstance(values, tuple) or len(values) != len(stmt.targets):
            count = f"{len(values)} values" if isinstance(values, tuple) else "1 value"
            raise fail(f"{len(stmt.targets)} names on the left, {count} on the right", stmt.span)
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
        self.builder.named |= vars_of(value)
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
                where = tuple(
                    next(index) if isinstance(t, syntax.Binder) else self.index(t, scope) for t in target.indices
                )
                result = self.piece(name, where, value, target, scope)
        self.builder.named |= vars_of(result)
        scope.bind(name, result, target.span)

    def piece(
        self, name: str, where: tuple[Expr, ...], value: Sum | Nonlin, target: syntax.Target, scope: Scope
    ) -> Family:
        """One more piece of a family that is filled element by element."""
        growing = self.growing_family(name, where, value, target, scope)
        zero = isinstance(value, Sum) and not value.terms
        if growing.dim != value.dim and not zero:
            raise fail(f"'{name}' holds elements {self.ops.shape_text(Sum((), growing.dim))}, this one is "
                       f"{self.ops.shape_text(value)}", target.span)
        for loop in self.builder.loops:
            if loop not in growing.outer and not any(loop.index in ex.symbols(e) for e in where):
                index = loop.index.split("#")[0]
                raise fail(f"every iteration of the loop over '{index}' assigns the same element of '{name}'",
                           target.span, f"start '{name}' anew inside that loop, or give it one more index")
        read = None if zero else self.builder.read(value, target.span, name)
        growing.pieces.append((tuple(self.builder.context), where, read))
        return Family(growing.var, identity(growing.outer), growing.axes(), growing.dim)

    def growing_family(
        self, name: str, where: tuple[Expr, ...], value: Sum | Nonlin, target: syntax.Target, scope: Scope
    ) -> Growing:
        """The family being filled under that name, or a new one."""
        binding = scope.names.get(name)
        if binding is not None and isinstance(binding.value, Family) and binding.value.var in self.growing:
            old = self.growing[binding.value.var]
            if len(old.pieces[0][1]) == len(where) and not old.covers(tuple(self.builder.context), where):
                return old
        var = self.builder.fresh_name(name)
        self.growing[var] = Growing(var, self._around(where), value.dim, target.span, self.builder.iterations)
        return self.growing[var]

    def _around(self, where: tuple[Expr, ...]) -> tuple[Axis, ...]:
        """The axes around the loops and indices along which a family is filled."""
        used = frozenset[str]().union(*(ex.symbols(e) for e in where))
        return tuple(takewhile(lambda a: a.index not in used, self.builder.context))

    def finish(self) -> None:
        """Define the families that were filled element by element; check that weights cut for concat stay cut."""
        for growing in self.growing.values():
            growing.define(self.builder)
        for instr in self.builder.instrs:
            if isinstance(instr.op, MatMul) and instr.op.weight in self.ops.splits:
                raise fail(f"'{plain(instr.op.weight)}' acts on stacked vectors and on whole ones", instr.var.span,
                           "declare one weight for each of them")

    # ------------------------------------------------------------ blocks and outputs

    def call_block(self, block: syntax.Block, scope: Scope, span: Span) -> Value | tuple[Value, ...]:
        """Run the body; indices of the whole families around the call are not in force inside."""
        context, implicit = self.builder.context, self.ops.implicit
        target, place = self.builder.target, self.builder.place
        self.builder.context = [a for a in context if a not in (implicit or ())]
        self.ops.implicit = None
        self.returned.append(Returned(len(self.builder.context)))
        try:
            self.run(block.body, scope)
        finally:
            self.builder.context, self.ops.implicit = context, implicit
        self.builder.target, self.builder.place = target, place
        values = self.returned.pop().values
        if not values:
            raise fail(f"block '{block.name}' returns nothing", span, "end it with: return ...")
        return values[0] if len(values) == 1 else tuple(values)

    def return_(self, stmt: syntax.Return, scope: Scope) -> None:
        """`return e` or `return h, c`"""
        if not self.returned:
            raise fail("return outside a block", stmt.span, "a program ends with: output ...")
        returned = self.returned[-1]
        if returned.values:
            raise fail("a block returns once", stmt.span)
        if len(self.builder.context) > returned.depth:
            raise fail("return inside a loop over an axis", stmt.span, "return after the loop")
        items = stmt.value.items if isinstance(stmt.value, syntax.Tuple) else (stmt.value,)
        returned.values.extend(self.single(self.whole_value(i, scope, self.builder.target), i.span) for i in items)

    def output(self, stmt: syntax.Output, scope: Scope) -> None:
        """`output e`, `output f = e`, `output f[i in B] = e`"""
        own = stmt.value.id if isinstance(stmt.value, syntax.Name) else "output"
        name = self.builder.target = self.full_name(stmt.name or own, scope, stmt.span)
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


def unused(diagnostics: list[Diagnostic], what: str, name: str, span: Span | None) -> None:
    """Add the warning that something declared is not used."""
    diagnostics.append(Diagnostic(f"{what} '{name}' is not used", span, severity="warning"))
