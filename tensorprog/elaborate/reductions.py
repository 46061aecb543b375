"""Index ranges and what is reduced over them: sum, mean, max, min, softmax."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tensorprog.elaborate.expressions import Evaluator
from tensorprog.elaborate.operators import over_axis
from tensorprog.elaborate.scope import Scope
from tensorprog.elaborate.values import (
    Binding,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    used_symbols,
)
from tensorprog.errors import Span, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.program import Axis, Linear, Map, MaxOver, Pointwise, Term, identity
from tensorprog.lang import syntax

MAX_EXTENT = 10_000_000


class Reductions(Evaluator):
    """Evaluates reductions, and binds the indices of assignments."""

    def axis_of(self, domain: syntax.Expr, scope: Scope, what: str) -> tuple[Expr, Expr]:
        """(first value, number of values) of a domain: a range a..b or an extent."""
        if isinstance(domain, syntax.Range):
            ends = (domain.low, domain.high)
            low, high = (self.ops.number(self.eval(x, scope), x.span, f"an end of {what}") for x in ends)
            return low, self.whole(ex.add(high, ex.neg(low), ex.ONE), domain.span)
        return ex.ZERO, self.whole(self.ops.number(self.eval(domain, scope), domain.span, what), domain.span)

    def whole(self, extent: Expr, span: Span) -> Expr:
        """An extent that is a whole number as far as can be seen; negative ones are empty."""
        if isinstance(extent, Num):
            if extent.value != int(extent.value):
                raise fail(f"a range of {ex.show(extent)} values: the number must be whole", span)
            if extent.value > MAX_EXTENT:
                raise fail(f"a range of {ex.show(extent)} values", span,
                           f"axes and ranges have at most {MAX_EXTENT} values")
            return extent if extent.value >= 0 else ex.ZERO
        return extent

    @contextmanager
    def bound(self, binders: list[tuple[str, Expr, Axis]], scope: Scope) -> Iterator[None]:
        """Index names in force while the body is evaluated."""
        before = {name: scope.names.get(name) for name, _, _ in binders}
        for name, low, axis in binders:
            scope.bind(name, Number(ex.add(Sym(axis.index), low)))
            self.builder.context.append(axis)
        try:
            yield
        finally:
            for name, _, axis in binders:
                self.builder.context.remove(axis)
                old = before[name]
                if old is None:
                    scope.names.pop(name, None)
                else:
                    scope.names[name] = old

    def binders(self, binders: tuple[syntax.Binder, ...], scope: Scope) -> list[tuple[str, Expr, Axis]]:
        """(name, first value, axis) of `p in a..b, q in H`."""
        made = []
        for b in binders:
            if b.domain is None:
                raise fail(f"'{b.name}' needs a range", b.span, f"{b.name} in 0..k, or {b.name} in AXIS")
            low, extent = self.axis_of(b.domain, scope, f"the range of '{b.name}'")
            made.append((b.name, low, Axis(self.builder.fresh_index(b.name), extent)))
        return made

    def reduction(self, e: syntax.Reduction, scope: Scope) -> Value:
        """sum, mean, max, min over index ranges; softmax along an axis in force."""
        if e.kind == "softmax":
            return self.softmax(e, scope)
        binders = self.binders(e.binders, scope)
        axes = tuple(axis for _, _, axis in binders)
        with self.bound(binders, scope):
            value = self.element(e.body, scope)
            if isinstance(value, Number):
                value = Sum((SumTerm(None, value.expr),), None)
            if e.kind in {"max", "min"}:
                return self.maximum(value, axes, e)
            return self.summed(value, axes, e)

    def summed(self, value: Sum | Nonlin | Stacked, axes: tuple[Axis, ...], e: syntax.Reduction) -> Value:
        """The sum or mean of an element over axes."""
        if isinstance(value, Stacked):
            return Stacked(tuple(self.summed(b, axes, e) for b in value.blocks))  # type: ignore[misc]
        for axis in axes:
            if axis.extent == ex.ZERO and e.kind == "mean":
                raise fail("the mean over an empty range", e.span)
            if axis.extent == ex.ZERO:
                return Sum((), value.dim)
            factor = ex.power(axis.extent, ex.MINUS_ONE) if e.kind == "mean" else ex.ONE
            value = over_axis(value, axis, self.builder, e.span, factor)
        return value

    def maximum(self, value: Sum | Nonlin | Stacked, axes: tuple[Axis, ...], e: syntax.Reduction) -> Value:
        """The coordinatewise maximum (or minimum) over axes."""
        if isinstance(value, Stacked):
            return Stacked(tuple(self.maximum(b, axes, e) for b in value.blocks))  # type: ignore[misc]
        if e.kind == "min":
            positive = self.ops.negate(value, e.span)
            assert isinstance(positive, Sum | Nonlin)
            value = positive
        if any(a.extent == ex.ZERO for a in axes):
            raise fail(f"the {e.kind} over an empty range", e.span)
        others = tuple(a for a in self.builder.axes_of(used_symbols(value)) if a not in axes)
        window = self.builder.family(value, others + axes, e.span, "window")
        read = self.builder.emit(e.kind, others, value.dim, MaxOver(window.var, len(axes)), e.span)
        result = self.builder.element(read, value.dim)
        return self.ops.negate(result, e.span) if e.kind == "min" else result

    def softmax(self, e: syntax.Reduction, scope: Scope) -> Value:
        """exp(u_s) / sum_s exp(u_s) along the axes of the named indices, shifted by the maximum (which cancels)."""
        axes = tuple(self.axis_in_force(b, scope) for b in e.binders)
        value = self.element(e.body, scope)
        if isinstance(value, Number | Stacked):
            raise fail("softmax needs scalars or vectors that depend on its index", e.span)
        used = self.builder.axes_of(used_symbols(value))
        others, build = tuple(a for a in used if a not in axes), self.builder
        logits = build.family(value, others + axes, e.span, "logits")
        top = build.emit("top", others, value.dim, MaxOver(logits.var, len(axes)), e.span)
        shifted = ex.add(Sym("a0"), ex.neg(ex.call("stop", Sym("a1"))))
        weight = build.emit("expo", others + axes, value.dim, Pointwise(ex.call("exp", shifted), (logits, top)), e.span)
        total_map = Map(others + axes, identity(others), weight.index)
        total = build.emit("norm", others, value.dim, Linear((Term(weight.var, total_map),)), e.span)
        return Nonlin(ex.div(Sym("a0"), Sym("a1")), (weight, total), value.dim)

    def axis_in_force(self, binder: syntax.Binder, scope: Scope) -> Axis:
        """The axis of the context that an index name stands for."""
        if binder.domain is not None:
            raise fail("softmax names an index of the left side, without a range", binder.span,
                       f"a[t in T, {binder.name} in T] = softmax({binder.name}) ...")
        binding: Binding | None = scope.find(binder.name)
        if binding is not None and isinstance(binding.value, Number):
            for axis in self.builder.context:
                if axis.index in ex.symbols(binding.value.expr):
                    return axis
        raise fail(f"'{binder.name}' is not an index in force here", binder.span,
                   f"it must stand among the indices on the left: a[t in T, {binder.name} in T] = ...")
