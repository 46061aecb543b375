"""The built-in calls that are not coordinatewise functions: inner products, averages, sizes, stacking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.values import (
    Element,
    Family,
    FamilyStack,
    MatRead,
    Nonlin,
    Number,
    Stacked,
    Sum,
    SumTerm,
    Value,
    WeightValue,
    element_dim,
    used_symbols,
)
from tensorprog.errors import Span, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Dim, Inner, Read

Builtin = Callable[[Operators, list[Value], Span], Value]


def dot(ops: Operators, args: list[Value], span: Span) -> Value:
    """dot(u, v): the sum over coordinates of u * v, a scalar."""
    u, v = (_vector(ops, a, span, "dot") for a in args)
    total: Value = Number(ex.ZERO)
    for a, b in ops.blocks(u, v, span):
        total = ops.add(total, _inner(ops, a, b, span), span)
    return total


def avg(ops: Operators, args: list[Value], span: Span) -> Value:
    """avg(h): the average over coordinates, a scalar."""
    h = _vector(ops, args[0], span, "avg")
    total: Value = Number(ex.ZERO)
    for block in h.blocks if isinstance(h, Stacked) else (h,):
        total = ops.add(total, _inner(ops, block, None, span), span)
    return ops.multiply(total, Number(ex.power(_dim(h).size, ex.MINUS_ONE)), span)


def _inner(ops: Operators, a: Sum | Nonlin, b: Sum | Nonlin | None, span: Span) -> Sum:
    left, coef = _coefficient(a)
    u = ops.builder.read(left, span)
    v: Read | None = None
    if b is not None:
        right, factor = _coefficient(b)
        coef = ex.mul(coef, factor)
        v = ops.builder.read(right, span)
    value = Nonlin(ex.ONE, (u,) if v is None else (u, v), None)
    axes = ops.builder.axes_of(used_symbols(value))
    read = ops.builder.emit("dot" if v else "total", axes, None, Inner(u, v), span)
    return ops.builder.element(read, None).scaled(coef)


def _coefficient(a: Sum | Nonlin) -> tuple[Sum | Nonlin, ex.Expr]:
    """A number in front of a single term comes before the inner product."""
    if isinstance(a, Sum) and len(a.terms) == 1 and not a.terms[0].over:
        return Sum((replace(a.terms[0], coef=ex.ONE),), a.dim), a.terms[0].coef
    return a, ex.ONE


def _vector(ops: Operators, value: Value, span: Span, name: str) -> Element:
    element = ops.element(value, span)
    if isinstance(element, Number) or element_dim(element) is None:
        raise fail(f"{name} needs vectors, got a {'number' if isinstance(element, Number) else 'scalar'}", span)
    return element


def _dim(h: Element) -> Dim:
    dim = element_dim(h)
    assert dim is not None
    return dim


def dim(ops: Operators, args: list[Value], span: Span) -> Value:
    """dim(h): the dimension of a vector, as a number."""
    value = args[0]
    if isinstance(value, FamilyStack):
        return Number(ex.add(*(b.dim.size for b in value.blocks if b.dim is not None)))
    if isinstance(value, Family):
        if value.dim is None:
            raise fail("dim needs a vector, got scalars", span)
        return Number(value.dim.size)
    if isinstance(value, WeightValue):
        weight = ops.weight_of(value)
        if weight.rows is None or weight.cols is not None:
            raise fail("dim needs a vector", span)
        return Number(weight.rows.size)
    return Number(_dim(_vector(ops, value, span, "dim")).size)


def axis(ops: Operators, args: list[Value], span: Span) -> Value:
    """axis(h, k): the extent of the k-th index axis of a family (k counts from 0)."""
    value, k = args[0], ops.number(args[1], span, "the number of an axis")
    if isinstance(value, FamilyStack):
        value = value.blocks[0]
    if not isinstance(value, Family) or not value.axes:
        raise fail("axis needs a family with index axes", span)
    if not (isinstance(k, ex.Num) and k.value in range(len(value.axes))):
        count = len(value.axes)
        raise fail(f"the family has {count} {'axis' if count == 1 else 'axes'}, numbered from 0", span)
    return Number(value.axes[int(k.value)].extent)


def zeros(ops: Operators, args: list[Value], span: Span) -> Value:
    """zeros(n): the zero vector."""
    return Sum((), ops_dim(ops, args[0], span))


def ones(ops: Operators, args: list[Value], span: Span) -> Value:
    """ones(n): the vector of ones."""
    return Sum((SumTerm(None),), ops_dim(ops, args[0], span))


def ops_dim(ops: Operators, value: Value, span: Span) -> Dim:
    """A compile-time number as a dimension, wide if a width stands in it."""
    size = ops.number(value, span, "a dimension")
    if isinstance(size, ex.Num) and (size.value < 1 or size.value != int(size.value)):
        raise fail(f"a dimension must be a whole number of at least 1, not {ex.show(size)}", span)
    return Dim(size, bool(ex.symbols(size) & ops.builder.wide_names()))


def concat(ops: Operators, args: list[Value], span: Span) -> Value:
    """concat(h, g, ...): vectors on top of each other."""
    blocks: list[Sum | Nonlin] = []
    for a in args:
        h = _vector(ops, a, span, "concat")
        blocks.extend(h.blocks if isinstance(h, Stacked) else (_whole(ops, h, span),))
    if len({_dim(b).wide for b in blocks}) > 1:
        raise fail("concat cannot stack a vector of finite dimension on one whose dimension is a width", span,
                   "multiply the finite one with a weight matrix first")
    return blocks[0] if len(blocks) == 1 else Stacked(tuple(blocks))


def _whole(ops: Operators, h: Sum | Nonlin, span: Span) -> Sum:
    """The block as one element of a family (weight vectors stay weights)."""
    if isinstance(h, Sum) and len(h.terms) == 1 and isinstance(h.terms[0].factor, MatRead):
        return h
    return ops.builder.element(ops.builder.read(h, span), h.dim)


def wrap(ops: Operators, args: list[Value], span: Span) -> Value:
    """wrap(i, n): i modulo n, for circular axes."""
    return ops.integer_op("mod", args[0], args[1], span)


def hermite(ops: Operators, args: list[Value], span: Span) -> Value:
    """hermite(u, k): the probabilists' polynomial He_k(u) / sqrt(k!), so that E h_k(Z)^2 = 1."""
    k = ops.number(args[1], span, "the degree of a Hermite polynomial")
    if not (isinstance(k, ex.Num) and k.value in range(41)):
        raise fail("the degree of a Hermite polynomial must be a whole number from 0 to 40", span)
    degree, factorial = int(k.value), 1
    coefficients: list[dict[int, Fraction]] = [{0: Fraction(1)}, {1: Fraction(1)}]
    for m in range(1, degree):
        up = {p + 1: c for p, c in coefficients[m].items()}
        for p, c in coefficients[m - 1].items():
            up[p] = up.get(p, Fraction(0)) - m * c
        coefficients.append(up)
    for m in range(2, degree + 1):
        factorial *= m
    total: Value = Number(ex.ZERO)
    for p, c in sorted(coefficients[degree].items()):
        total = ops.add(total, ops.multiply(Number(ex.num(c)), ops.power(args[0], Number(ex.num(p)), span), span), span)
    return ops.multiply(Number(ex.power(ex.num(factorial), ex.num(Fraction(-1, 2)))), total, span)


def extremum(kind: str) -> Builtin:
    """max(u, v, ...) or min(u, v, ...), coordinatewise."""

    def apply(ops: Operators, args: list[Value], span: Span) -> Value:
        value = args[0]
        for other in args[1:]:
            value = ops.apply(kind, [value, other], span)
        return value

    return apply


# name: (function, least and greatest number of arguments)
BUILTINS: dict[str, tuple[Builtin, int, int]] = {
    "dot": (dot, 2, 2),
    "avg": (avg, 1, 1),
    "dim": (dim, 1, 1),
    "axis": (axis, 2, 2),
    "zeros": (zeros, 1, 1),
    "ones": (ones, 1, 1),
    "concat": (concat, 1, 64),
    "wrap": (wrap, 2, 2),
    "hermite": (hermite, 2, 2),
    "max": (extremum("max"), 2, 16),
    "min": (extremum("min"), 2, 16),
}
