"""Arithmetic on values: what + - * / ^ @ .T and indexing mean for numbers, vectors and scalars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tensorprog.elaborate.builder import Builder
from tensorprog.elaborate.elements import Elements, Simple, plain
from tensorprog.elaborate.values import (
    Element,
    MatRead,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    WeightValue,
    element_dim,
)
from tensorprog.errors import Span, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import MINUS_ONE, ONE, Expr, Op, show
from tensorprog.ir.program import Axis, Dim, Read

MAX_NODES = 5_000
MAX_DEPTH = 100


class Operators(Elements):
    """The operations on values; everything emitted goes to the builder."""

    # ------------------------------------------------------------ sums

    def add(self, a: Value, b: Value, span: Span) -> Value:
        """a + b; a scalar or number is added to every coordinate."""
        a, b = self.aligned(self.element(a, span), self.element(b, span), span, "+")
        if isinstance(a, Number) and isinstance(b, Number):
            return self.constant(ex.add(a.expr, b.expr), span)
        if isinstance(a, Stacked) or isinstance(b, Stacked):
            return self.blockwise(lambda x, y: self.add(x, y, span), a, b)
        dim = self.common_dim(a, b)
        together = self._pointwise_sum(a, b, dim, span)
        if together is not None:
            return together
        return Sum(self._as_terms(a, dim, span) + self._as_terms(b, dim, span), dim)

    def _pointwise_sum(self, a: Number | Simple, b: Number | Simple, dim: Dim | None, span: Span) -> Nonlin | None:
        """One nonlinearity of the same arguments where that is what the sum is, as in u + sin(u)."""
        if not (isinstance(a, Nonlin) or isinstance(b, Nonlin)):
            return None
        for x in (a, b):
            if isinstance(x, Sum) and self._affine(x) is None:
                return None
        (f, us), (g, vs) = self.pointwise(a, span), self.pointwise(b, span)
        if not (set(us) <= set(vs) or set(vs) <= set(us)):
            return None
        return self.combine(ex.add, [(f, us), (g, vs)], dim)

    def _as_terms(self, x: Number | Simple, dim: Dim | None, span: Span) -> tuple[SumTerm, ...]:
        if isinstance(x, Number):
            return () if x.expr == ex.ZERO else (SumTerm(None, x.expr),)
        if dim is not None and x.dim is None:
            coef, reads = self.scalar_factor(x, span)
            return (SumTerm(None, coef, reads),)
        return x.terms if isinstance(x, Sum) else (SumTerm(self.builder.read(x, span)),)

    def negate(self, a: Value, span: Span) -> Value:
        """-a"""
        return self.multiply(Number(MINUS_ONE), a, span)

    # ------------------------------------------------------------ products

    def multiply(self, a: Value, b: Value, span: Span) -> Value:
        """a * b: scaling by numbers and scalars is linear, vector times vector is coordinatewise."""
        a, b = self.aligned(self.element(a, span), self.element(b, span), span, "*")
        if isinstance(a, Number) and isinstance(b, Number):
            return self.constant(ex.mul(a.expr, b.expr), span)
        if isinstance(a, Stacked) or isinstance(b, Stacked):
            return self.blockwise(lambda x, y: self.multiply(x, y, span), a, b)
        if isinstance(b, Number):
            a, b = b, a
        if isinstance(a, Number):
            return self._scale(a.expr, b)
        assert not isinstance(b, Number)
        if a.dim is None and b.dim is not None:
            return self._scalar_times_vector(a, b, span)
        if b.dim is None and a.dim is not None:
            return self._scalar_times_vector(b, a, span)
        return self.combine(ex.mul, [self.pointwise(a, span), self.pointwise(b, span)], a.dim)

    def _scale(self, factor: Expr, x: Number | Simple) -> Value:
        if isinstance(x, Sum):
            return x.scaled(factor) if factor != ex.ZERO else Sum((), x.dim)
        assert isinstance(x, Nonlin)
        return Nonlin(ex.mul(factor, x.fn), x.args, x.dim)

    def _scalar_times_vector(self, scalar: Simple, vector: Simple, span: Span) -> Sum:
        coef, reads = self.scalar_factor(scalar, span)
        terms = vector.terms if isinstance(vector, Sum) else (SumTerm(self.builder.read(vector, span)),)
        return Sum(tuple(replace(t, coef=ex.mul(coef, t.coef), scalars=t.scalars + reads) for t in terms), vector.dim)

    def scalar_factor(self, scalar: Simple, span: Span) -> tuple[Expr, tuple[Read, ...]]:
        """A scalar as a number times scalar elements."""
        if isinstance(scalar, Sum) and len(scalar.terms) == 1 and not scalar.terms[0].over:
            term = scalar.terms[0]
            if term.factor is None or isinstance(term.factor, Read):
                return term.coef, term.scalars + (() if term.factor is None else (term.factor,))
        return ONE, (self.builder.read(scalar, span),)

    def divide(self, a: Value, b: Value, span: Span) -> Value:
        """a / b"""
        return self.multiply(a, self.power(b, Number(MINUS_ONE), span), span)

    def power(self, a: Value, b: Value, span: Span) -> Value:
        """a ^ b with a compile-time exponent."""
        exponent = self.number(b, span, "the exponent of a power")
        a = self.element(a, span)
        if isinstance(a, Number):
            if a.expr == ex.ZERO and isinstance(exponent, ex.Num) and exponent.value < 0:
                raise fail("division by zero", span)
            return self.constant(ex.power(a.expr, exponent), span)
        if isinstance(a, Stacked):
            return Stacked(tuple(self.power(x, b, span) for x in a.blocks))  # type: ignore[misc]
        return self.combine(lambda e: ex.power(e, exponent), [self.pointwise(a, span)], a.dim)

    def integer_op(self, fn: str, a: Value, b: Value, span: Span) -> Number:
        """`//`, `%` and wrap on compile-time numbers."""
        left, right = (self.number(x, span, "an operand of integer division") for x in (a, b))
        if right == ex.ZERO:
            raise fail("division by zero", span)
        return self.constant(ex.call(fn, left, right), span)

    # ------------------------------------------------------------ nonlinearities

    def apply(self, fn: str, args: list[Value], span: Span) -> Value:
        """A primitive function of numbers, scalars or vectors."""
        elements = [self.element(a, span) for a in args]
        if all(isinstance(a, Number) for a in elements):
            with np.errstate(all="ignore"):
                return self.constant(ex.call(fn, *(a.expr for a in elements if isinstance(a, Number))), span)
        if any(isinstance(a, Stacked) for a in elements):
            return self._apply_stacked(fn, elements, span)
        dim: Dim | None = None
        for a in elements:
            if isinstance(a, Sum | Nonlin) and a.dim is not None:
                if dim is not None and a.dim != dim:
                    raise self.mismatch(fn, elements, span)
                dim = a.dim
        return self.combine(lambda *es: ex.call(fn, *es), [self.pointwise(a, span) for a in elements], dim)  # type: ignore[arg-type]

    def _apply_stacked(self, fn: str, elements: list[Number | Element], span: Span) -> Value:
        shapes = {tuple(b.dim for b in e.blocks) for e in elements if isinstance(e, Stacked)}
        if len(shapes) != 1 or any(isinstance(e, Sum | Nonlin) and e.dim is not None for e in elements):
            raise self.mismatch(fn, elements, span)
        count = len(next(iter(shapes)))
        rows = [[e.blocks[k] if isinstance(e, Stacked) else e for e in elements] for k in range(count)]
        return Stacked(tuple(self.apply(fn, list(row), span) for row in rows))  # type: ignore[misc]

    def pointwise(self, x: Number | Simple, span: Span) -> tuple[Expr, tuple[Read, ...]]:
        """The element as a function of family elements: trees stay trees, sums become one argument."""
        if isinstance(x, Number):
            return x.expr, ()
        if isinstance(x, Nonlin):
            return x.fn, x.args
        affine = self._affine(x)
        if affine is not None:
            return affine
        return ex.Sym("a0"), (self.builder.read(x, span),)

    def _affine(self, x: Sum) -> tuple[Expr, tuple[Read, ...]] | None:
        """c * u + c0 of a single family element, as a function of it."""
        reads = {t.factor for t in x.terms if t.factor is not None}
        if len(reads) != 1 or any(t.over or t.scalars for t in x.terms):
            return None
        read = next(iter(reads))
        if not isinstance(read, Read):
            return None
        parts = [ex.mul(t.coef, ONE if t.factor is None else ex.Sym("a0")) for t in x.terms]
        return ex.add(*parts), (read,)

    def combine(self, build, parts: list[tuple[Expr, tuple[Read, ...]]], dim: Dim | None) -> Nonlin:  # type: ignore[no-untyped-def]
        """build(f1, f2, ...) as one nonlinearity of the joined arguments."""
        args: list[Read] = []
        exprs = []
        for fn, reads in parts:
            names: dict[str, Expr] = {}
            for k, r in enumerate(reads):
                if r not in args:
                    args.append(r)
                names[f"a{k}"] = ex.Sym(f"a{args.index(r)}")
            exprs.append(ex.substitute(fn, names))
        fn = build(*exprs)
        if _too_large(fn):
            raise fail(f"this expression grows beyond {MAX_NODES} operations, {MAX_DEPTH} deep", self.builder.place,
                       "assign an intermediate result to a name")
        return Nonlin(fn, tuple(args), dim)

    # ------------------------------------------------------------ matrices

    def matmul(self, a: Value, b: Value, span: Span) -> Value:
        """W @ h, W.T @ h"""
        if not isinstance(a, WeightValue):
            raise fail("the left side of @ must be a weight matrix", span, "for two vectors write dot(u, v)")
        weight = self.weight_of(a)
        if weight.cols is None or weight.rows is None:
            raise fail(f"'{plain(a.name)}' is a {'vector' if weight.rows else 'scalar'}, not a matrix", span,
                       f"write dot({plain(a.name)}, ...) for an inner product")
        windex = self.windex(a, span)
        inner = weight.rows if a.transposed else weight.cols
        if isinstance(b, WeightValue) and self.weight_of(b).cols is not None:
            raise fail("a product of two matrices", span,
                       f"products are read from the left: write {plain(a.name)} @ ({plain(b.name)} @ h)")
        b = self.element(b, span)
        if isinstance(b, Number):
            raise fail(f"{plain(a.name)} {self.shape_text(a)} must be multiplied with a vector, not a number", span)
        if element_dim(b) != inner:
            raise fail(f"shapes do not match: {plain(a.name)}{'.T' if a.transposed else ''} {self.shape_text(a)} "
                       f"@ {self.shape_text(b)}", span, f"the vector must have dimension {show(inner.size)}")
        if isinstance(b, Stacked):
            return self._matmul_stacked(a, b, windex, span)
        return self._product(a.name, windex, a.transposed, b, span)

    def _product(self, name: str, windex: tuple[Expr, ...], transposed: bool, h: Simple, span: Span) -> Sum:
        weight = next(w for w in self.builder.weights if w.name == name)
        coef: Expr = ONE
        if isinstance(h, Sum) and len(h.terms) == 1 and not h.terms[0].over and not h.terms[0].scalars:
            term = h.terms[0]
            if isinstance(term.factor, Read):
                coef, h = term.coef, Sum((replace(term, coef=ONE),), h.dim)
        factor = MatRead(name, windex, transposed, self.builder.read(h, span))
        return Sum((SumTerm(factor, coef),), weight.cols if transposed else weight.rows)

    def _matmul_stacked(self, a: WeightValue, b: Stacked, windex: tuple[Expr, ...], span: Span) -> Value:
        """W @ concat(h, g) = W_1 @ h + W_2 @ g with independent column blocks of W."""
        if a.transposed:
            raise fail("the transpose of a weight cannot act on stacked vectors", span,
                       "declare one weight for each block")
        names = self.split(a.name, tuple(x.dim for x in b.blocks if x.dim is not None), rows=False, span=span)
        value: Value = Number(ex.ZERO)
        for name, block in zip(names, b.blocks, strict=True):
            value = self.add(value, self._product(name, windex, False, block, span), span)
        return value

    def transpose(self, value: Value, span: Span) -> WeightValue:
        """W.T"""
        if not isinstance(value, WeightValue) or self.weight_of(value).cols is None:
            raise fail("only weight matrices have .T", span)
        return replace(value, transposed=not value.transposed)

def _too_large(fn: Expr) -> bool:
    """Whether an expression has more nodes (shared parts count each time) or is deeper than later stages take."""
    stack, count = [(fn, 1)], 0
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            return True
        if isinstance(node, Op):
            stack.extend((a, depth + 1) for a in node.args)
    return False


def over_axis(value: Sum | Nonlin, axis: Axis, builder: Builder, span: Span, factor: Expr = ONE) -> Sum:
    """The sum of an element over a reduction axis, times a number."""
    if isinstance(value, Nonlin):
        value = builder.element(builder.read(value, span), value.dim)
    return Sum(tuple(replace(t, coef=ex.mul(factor, t.coef), over=(*t.over, axis)) for t in value.terms), value.dim)
