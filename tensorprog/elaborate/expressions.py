"""Evaluates expressions of the syntax tree to values, in a scope and a context of index axes."""

from __future__ import annotations

import re

from tensorprog.elaborate.calls import BUILTINS
from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.scope import Budget, Scope
from tensorprog.elaborate.values import (
    Family,
    FamilyStack,
    Function,
    Label,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    WeightValue,
    used_symbols,
)
from tensorprog.errors import Span, TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.ir.program import Axis, identity
from tensorprog.lang import syntax
from tensorprog.lang.build import REDUCTIONS

COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class Evaluator:
    """Values of expressions; calls of blocks are left to the subclass that runs statements."""

    def __init__(self, ops: Operators, budget: Budget) -> None:
        self.ops = ops
        self.builder = ops.builder
        self.budget = budget

    def call_block(self, block: syntax.Block, scope: Scope, span: Span) -> Value | tuple[Value, ...]:
        """Run the body of a block in the scope that holds its arguments."""
        raise NotImplementedError

    def check_read(self, value: Value, index: tuple[Expr, ...], e: syntax.Index) -> None:
        """Raises TensorProgError when an element that is read was not assigned yet, as far as can be seen."""
        raise NotImplementedError

    def eval(self, e: syntax.Expr, scope: Scope) -> Value:
        """The value of an expression.  Raises TensorProgError with the place of what is wrong."""
        self.budget.spend(e.span)
        match e:
            case syntax.Number(value=value):
                return Number(ex.num(value))
            case syntax.Name():
                return self.name(e, scope)
            case syntax.Index(base=base, indices=indices):
                family = self.name(base, scope)
                picked = tuple(self.index(i, scope) for i in indices)
                self.check_read(family, picked, e)
                return self.ops.index(family, picked, e.span, base.id)
            case syntax.Call():
                return self.single(self.call(e, scope), e.span)
            case syntax.Unary():
                return self.unary(e, scope)
            case syntax.Binary():
                return self.binary(e, scope)
            case syntax.Transpose(operand=operand):
                return self.ops.transpose(self.eval(operand, scope), e.span)
            case syntax.Reduction():
                return self.reduction(e, scope)
            case syntax.Range() | syntax.Braces() | syntax.Tuple():
                raise fail("this is not a vector or a number", e.span, "ranges and names in braces stand after 'in'")
            case _:
                raise AssertionError(f"no meaning for {type(e).__name__}")

    def single(self, value: Value | tuple[Value, ...], span: Span) -> Value:
        """The value of a call that must have just one."""
        if isinstance(value, tuple):
            raise fail(f"this block returns {len(value)} values", span, "assign them to as many names: h, c = ...")
        return value

    # ------------------------------------------------------------ names and indices

    def full_name(self, name: str, scope: Scope, span: Span) -> str:
        """`W_{g}` with the names of the loops around it filled in."""

        def fill(match: re.Match[str]) -> str:
            value = self.lookup(match.group(1), scope, span)
            if isinstance(value, Label):
                return value.name
            if isinstance(value, Number) and isinstance(value.expr, Num) and value.expr.value == int(value.expr.value):
                return str(int(value.expr.value))
            raise fail(f"'{match.group(1)}' in braces must be a name of a loop over braces or a whole number", span)

        return re.sub(r"\{(\w+)\}", fill, name)

    def name(self, e: syntax.Name, scope: Scope) -> Value:
        """The value a name stands for."""
        return self.lookup(self.full_name(e.id, scope, e.span), scope, e.span)

    def lookup(self, name: str, scope: Scope, span: Span) -> Value:
        """Variables first, then functions and blocks, then what is built in."""
        binding = scope.find(name)
        if binding is not None:
            return binding.value
        if name == "pi":
            return Number(ex.PI)
        if name in FUNCTIONS or name in BUILTINS or name == "sqrt":
            return Function(name)
        if name in REDUCTIONS:
            raise fail(f"{name} needs the range of an index", span, "as in sum(i in T) h[i] or softmax(s) h[s]")
        raise scope.unknown(name, ("pi", "sqrt", *FUNCTIONS, *BUILTINS), span)

    def index(self, e: syntax.Expr, scope: Scope) -> Expr:
        """An index expression."""
        if isinstance(e, syntax.Name) and "{" not in e.id and scope.find(e.id) is None:
            raise fail(f"unknown index '{e.id}'", e.span,
                       f"bind it on the left, h[{e.id} in T] = ..., in sum({e.id} in T) ..., or by a loop")
        index = self.ops.number(self.eval(e, scope), e.span, "an index")
        for name in ("", *(a.index for a in self.builder.context)):
            step = ex.sub(*(ex.substitute(index, {name: ex.num(k)}) for k in (1, 0))) if name else index
            if isinstance(step, Num) and step.value != int(step.value):
                raise fail("an index must be a whole number", e.span, "a // b is the integer part of a / b")
        return index

    def whole_value(self, e: syntax.Expr, scope: Scope, name: str) -> Value | tuple[Value, ...]:
        """The value of a right side; families that stand in it without indices make it a family over their axes."""
        outer, self.ops.implicit = self.ops.implicit, []
        try:
            value = self.call(e, scope) if isinstance(e, syntax.Call) else self.eval(e, scope)
            axes = tuple(self.ops.implicit)
            return self.family_over(value, axes, e.span, name) if axes and not isinstance(value, tuple) else value
        finally:
            for axis in self.ops.implicit:
                self.builder.context.remove(axis)
            self.ops.implicit = outer

    def family_over(self, value: Value, axes: tuple[Axis, ...], span: Span, name: str) -> Family | FamilyStack:
        """Define a family over these axes, and over the indices in force around them that it uses."""
        element = self.ops.element(value, span)
        if isinstance(element, Stacked):
            blocks = (self.family_over(b, axes, span, f"{name}{k + 1}") for k, b in enumerate(element.blocks))
            return FamilyStack(tuple(b for b in blocks if isinstance(b, Family)))
        if isinstance(element, Number):
            element = Sum((SumTerm(None, element.expr),), None)
        around = self.builder.axes_of(used_symbols(element), tuple(self.builder.loops))
        outer = tuple(a for a in around if a not in axes)
        read = self.builder.family(element, outer + axes, span, name)
        own = tuple(Axis(a.index.split("#")[0], a.extent) for a in axes)
        return Family(read.var, identity(outer), own, element.dim)

    def element(self, e: syntax.Expr, scope: Scope) -> Number | Sum | Nonlin | Stacked:
        """A number, vector or scalar; a family without its indices is an error here."""
        return self.ops.element(self.eval(e, scope), e.span)

    # ------------------------------------------------------------ operators

    def unary(self, e: syntax.Unary, scope: Scope) -> Value:
        """-a, +a, not a"""
        if e.op == "not":
            return Number(ex.num(int(not self.truth(e.operand, scope))))
        value = self.element(e.operand, scope)
        return self.ops.negate(value, e.span) if e.op == "-" else value

    def binary(self, e: syntax.Binary, scope: Scope) -> Value:
        """a op b"""
        if e.op in {"and", "or"}:
            first = self.truth(e.left, scope)
            decided = first if e.op == "or" else not first
            return Number(ex.num(int(first if decided else self.truth(e.right, scope))))
        left, right = self.eval(e.left, scope), self.eval(e.right, scope)
        if e.op in COMPARISONS:
            return self.compare(e.op, left, right, e.span)
        self.check_operands(e, left, right)
        match e.op:
            case "+":
                return self.ops.add(left, right, e.span)
            case "-":
                return self.ops.add(left, self.ops.negate(right, e.right.span), e.span)
            case "*":
                return self.ops.multiply(left, right, e.span)
            case "/":
                return self.ops.divide(left, right, e.span)
            case "^":
                return self.ops.power(left, right, e.span)
            case "@":
                return self.ops.matmul(left, right, e.span)
            case _:
                return self.ops.integer_op({"//": "floordiv", "%": "mod"}[e.op], left, right, e.span)

    def check_operands(self, e: syntax.Binary, left: Value, right: Value) -> None:
        """Tell at the operand itself what can never stand in arithmetic."""
        for value, part in ((left, e.left), (right, e.right)):
            matrix = isinstance(value, WeightValue) and self.ops.weight_of(value).cols is not None and e.op != "@"
            whole = isinstance(value, Family | FamilyStack) and self.ops.implicit is None
            if matrix or whole or isinstance(value, Function | Label):
                self.ops.element(value, part.span)

    def compare(self, op: str, left: Value, right: Value, span: Span) -> Value:
        """A comparison: of compile-time values a truth value, of vectors an indicator function."""
        if isinstance(left, Function | Label) or isinstance(right, Function | Label):
            if op not in {"==", "!="}:
                raise fail("names can only be compared with == and !=", span)
            return Number(ex.num(int((_label(left) == _label(right)) == (op == "=="))))
        a, b = self.ops.element(left, span), self.ops.element(right, span)
        if isinstance(a, Number) and isinstance(b, Number):
            return Number(ex.call(COMPARISONS[op], a.expr, b.expr))
        if op in {"==", "!="}:
            raise fail("vectors cannot be compared for equality", span, "use <, <=, >, >= for an indicator function")
        self.ops.aligned(a, b, span, op)
        first, second = (a, b) if op in {">", ">="} else (b, a)
        return self.ops.apply("step", [self.ops.add(first, self.ops.negate(second, span), span)], span)

    def truth(self, e: syntax.Expr, scope: Scope) -> bool:
        """A condition known before the program runs."""
        value = self.eval(e, scope)
        if isinstance(value, Number) and isinstance(value.expr, Num):
            return value.expr.value != 0
        raise fail("a condition must be known before the program runs", e.span,
                   "parameters, names of functions and ranges of numbers are; data sizes and vectors are not")

    # ------------------------------------------------------------ calls

    def call(self, e: syntax.Call, scope: Scope) -> Value | tuple[Value, ...]:
        """A call of a function, a built-in or a block."""
        function = self.name(e.function, scope)
        if not isinstance(function, Function):
            raise fail(f"'{e.function.id}' is not a function", e.function.span, "for an index write brackets: h[t]")
        if isinstance(function.definition, syntax.Def | syntax.Block):
            return self.call_at(function.definition, e, scope)
        if e.keywords:
            raise fail(f"{function.name} takes no named arguments", e.keywords[0].span)
        if function.name in BUILTINS:
            build, least, most = BUILTINS[function.name]
            self.check_count(function.name, len(e.args), least, most, e.span)
            return build(self.ops, [self.eval(a, scope) for a in e.args], e.span)
        arity = 1 if function.name == "sqrt" else FUNCTIONS[function.name].arity
        self.check_count(function.name, len(e.args), arity, arity, e.span)
        return self.ops.apply(function.name, [self.eval(a, scope) for a in e.args], e.span)

    def check_count(self, name: str, given: int, least: int, most: int, span: Span) -> None:
        """Raises TensorProgError when a call has too few or too many arguments."""
        if not least <= given <= most:
            need = f"{least}" if least == most else f"{least} to {most}"
            raise fail(f"{name} takes {need} argument{'' if need == '1' else 's'}, {given} given", span)

    def call_at(self, d: syntax.Def | syntax.Block, e: syntax.Call, scope: Scope) -> Value | tuple[Value, ...]:
        """A call; what goes wrong inside a definition of another file is told at the place of the call."""
        try:
            return self.call_definition(d, e, scope)
        except TensorProgError as error:
            first = error.diagnostics[0]
            if first.span is None or first.span.source is e.span.source:
                raise
            raise fail(f"in {d.name}: {first.message}", e.span, first.hint) from None

    def call_definition(self, d: syntax.Def | syntax.Block, e: syntax.Call, scope: Scope) -> Value | tuple[Value, ...]:
        """Bind the arguments in a new scope and evaluate the body there."""
        self.budget.enter(d.name, e.span)
        inner = Scope(parent=self.home(d))
        self.bind_arguments(d, e, scope, inner)
        result = self.call_block(d, inner, e.span) if isinstance(d, syntax.Block) else self.eval(d.body, inner)
        self.budget.leave()
        return result

    def home(self, d: syntax.Def | syntax.Block) -> Scope:
        """The scope of the file in which a definition stands."""
        raise NotImplementedError

    def bind_arguments(self, d: syntax.Def | syntax.Block, e: syntax.Call, scope: Scope, inner: Scope) -> None:
        """Positional and named arguments, then defaults."""
        names = [p.name for p in d.params]
        if len(e.args) > len(names):
            count = f"{len(names)} argument{'' if len(names) == 1 else 's'}"
            raise fail(f"{d.name} takes {count}, {len(e.args)} given", e.span,
                       f"{d.name}({', '.join(names)})")
        for p, a in zip(d.params, e.args, strict=False):
            inner.bind(p.name, self.argument(p.name, a, scope), a.span)
        for k in e.keywords:
            if k.name not in names:
                raise fail(f"{d.name} has no argument '{k.name}'", k.span, f"{d.name}({', '.join(names)})")
            if k.name in inner.names:
                raise fail(f"argument '{k.name}' is given twice", k.span)
            inner.bind(k.name, self.argument(k.name, k.value, scope), k.span)
        for p in d.params:
            if p.name in inner.names:
                continue
            if p.default is None:
                raise fail(f"{d.name} needs the argument '{p.name}'", e.span, f"{d.name}({', '.join(names)})")
            inner.bind(p.name, self.argument(p.name, p.default, inner), p.span)

    def argument(self, name: str, e: syntax.Expr, scope: Scope) -> Value:
        """The value of an argument; an expression of whole families is a family, too."""
        value = self.single(self.whole_value(e, scope, name), e.span)
        if isinstance(value, Sum) and len(value.terms) > 1:  # it may be used several times
            return self.builder.element(self.builder.read(value, e.span), value.dim)
        return value

    def reduction(self, e: syntax.Reduction, scope: Scope) -> Value:
        """sum, mean, max, min over index ranges; softmax along an axis in force."""
        raise NotImplementedError


def _label(value: Value) -> str:
    """What names are compared by."""
    if isinstance(value, Function | Label | WeightValue):
        return value.name
    return value.var if isinstance(value, Family) else str(value)
