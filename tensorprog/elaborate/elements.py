"""Values as elements: conversions, indexing, and the shapes that operands must have in common."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from tensorprog.elaborate.bounds import highest, lowest, outside
from tensorprog.elaborate.builder import Builder
from tensorprog.elaborate.values import (
    Element,
    Family,
    FamilyStack,
    Function,
    Label,
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
from tensorprog.errors import Span, TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Num, Op, show
from tensorprog.ir.program import Axis, Dim, Read, Weight, identity

Simple = Sum | Nonlin


class Elements:
    """What an operand is as a number or element; `implicit` collects the indices of whole families."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.implicit: list[Axis] | None = None
        self.splits: dict[str, tuple[tuple[Dim, ...], tuple[str, ...]]] = {}

    # ------------------------------------------------------------ conversions

    def element(self, value: Value, span: Span) -> Number | Element:
        """The value as a number or an element; names what it is otherwise."""
        match value:
            case Number() | Sum() | Nonlin() | Stacked():
                return value
            case WeightValue():
                return self.weight_vector(value, span)
            case Family(axes=axes) if axes and self.implicit is not None:
                return self.everywhere(value, span)
            case FamilyStack() if self.implicit is not None:
                return self.everywhere(value, span)
            case FamilyStack():
                raise fail("a family of stacked vectors needs its indices here", span)
            case Family(axes=axes, var=var) if axes:
                extents = ", ".join(show(a.extent) for a in axes)
                raise fail(f"'{plain(var)}' needs {len(axes)} {index_word(len(axes))} here", span,
                           f"write {plain(var)}[...] with one for each of its axes [{extents}]")
            case Family(var=var, prefix=prefix, dim=dim):
                return self.builder.element(Read(var, prefix), dim)
            case Function(name=name):
                raise fail(f"'{name}' is a function, not a vector or number", span, f"call it: {name}(...)")
            case Label(name=name):
                raise fail(f"'{name}' is a name of a loop over braces; use it inside a name, as in W_{{{name}}}", span)

    def everywhere(self, value: Family | FamilyStack, span: Span) -> Element:
        """A whole family in an expression: the element at implicit indices that the result will have, too."""
        assert self.implicit is not None
        axes = value.axes if isinstance(value, Family) else value.blocks[0].axes
        if not self.implicit:
            for a in axes:
                self.implicit.append(Axis(self.builder.fresh_index(a.index), a.extent))
            self.builder.context.extend(self.implicit)
        if [a.extent for a in axes] != [a.extent for a in self.implicit]:
            shapes = " and ".join(f"[{', '.join(show(a.extent) for a in x)}]" for x in (tuple(self.implicit), axes))
            raise fail(f"families over different axes in one expression: {shapes}", span, "write the indices")
        result = self.index(value, identity(tuple(self.implicit)), span, "family")
        assert isinstance(result, Sum | Stacked)
        return result

    def number(self, value: Value, span: Span, what: str) -> Expr:
        """The compile-time number that is needed for `what`."""
        if isinstance(value, Number):
            return value.expr
        raise fail(f"{what} must be a number known before the program runs", span,
                   "parameters, sizes, widths and loop indices are; vectors and their averages are not")

    def constant(self, e: Expr, span: Span) -> Number:
        """The compile-time number; what is not one, or beyond floating point, is an error."""
        parts = e.args if isinstance(e, Op) else (e,)
        failed = isinstance(e, Op) and all(isinstance(p, Num) for p in parts)  # it would have been folded
        if failed or any(isinstance(p, Num) and not _representable(p.value) for p in parts):
            raise fail("this number is too large or too small, or is not a real number", span)
        if isinstance(e, Num) and isinstance(e.value, Fraction) and e.value.denominator.bit_length() > 4096:
            return Number(Num(float(e.value)))
        return Number(e)

    def weight_of(self, value: WeightValue) -> Weight:
        """The declaration of a weight value."""
        return next(w for w in reversed(self.builder.weights) if w.name == value.name)

    def windex(self, value: WeightValue, span: Span) -> tuple[Expr, ...]:
        """The complete indices of a weight element."""
        weight = self.weight_of(value)
        own = len(weight.axes) - len(value.prefix)
        given = () if value.index is None else value.index
        if len(given) != own:
            raise fail(f"weight '{plain(value.name)}' has {own} {index_word(own)}, {len(given)} given", span)
        for index, axis in zip(given, weight.axes[len(value.prefix):], strict=True):
            if outside(index, axis.extent, self.builder.context):
                low, high = (show(end(index, self.builder.context)) for end in (lowest, highest))
                values = low if low == high else f"{low}, ..., {high}"
                raise fail(f"index {values} of weight '{plain(value.name)}' is outside 0, ..., "
                           f"{show(ex.sub(axis.extent, ONE))}", span)
        return value.prefix + given

    def weight_vector(self, value: WeightValue, span: Span) -> Sum | Stacked:
        """A weight used as a vector or scalar: bias, readout."""
        weight = self.weight_of(value)
        if weight.cols is not None:
            raise fail(f"the matrix '{plain(value.name)}' {self.shape_text(value)} must be multiplied with a vector",
                       span, f"write {plain(value.name)} @ h; a sum of matrices is a sum of products")
        if value.transposed:
            raise fail(f"'{plain(value.name)}' is a vector; only matrices have .T", span, "use dot(v, h)")
        return Sum((SumTerm(MatRead(value.name, self.windex(value, span), False, None)),), weight.rows)

    def shape_text(self, value: Value) -> str:
        """The shape of a value for messages: `[n, d]`, `[n]`, `scalar`."""
        if isinstance(value, WeightValue):
            weight = self.weight_of(value)
            dims = [d for d in (weight.rows, weight.cols) if d is not None]
            dims = dims[::-1] if value.transposed else dims
            return f"[{', '.join(show(d.size) for d in dims)}]" if dims else "scalar"
        if isinstance(value, Sum | Nonlin | Stacked):
            dim = element_dim(value)
            return "scalar" if dim is None else f"[{show(dim.size)}]"
        return "number"

    # ------------------------------------------------------------ indexing

    def index(self, value: Value, indices: tuple[Expr, ...], span: Span, name: str) -> Value:
        """value[i, j]"""
        if isinstance(value, WeightValue):
            if value.index is not None:
                raise fail(f"'{name}' is indexed twice" if value.index else f"'{name}' has no index axes", span)
            picked = replace(value, index=indices)
            self.windex(picked, span)
            return picked
        if isinstance(value, FamilyStack):
            return Stacked(tuple(self.index(b, indices, span, name) for b in value.blocks))  # type: ignore[misc]
        if not isinstance(value, Family) or not value.axes:
            raise fail(f"'{name}' has no index axes", span,
                       "axes stand in brackets where a name is assigned: h[t in T] = ...")
        if len(indices) != len(value.axes):
            raise fail(f"'{name}' has {len(value.axes)} {index_word(len(value.axes))}, {len(indices)} given", span)
        return self.builder.element(Read(value.var, value.prefix + indices), value.dim)

    # ------------------------------------------------------------ shapes

    def common_dim(self, a: Number | Simple, b: Number | Simple) -> Dim | None:
        dims = [x.dim for x in (a, b) if isinstance(x, Sum | Nonlin) and x.dim is not None]
        return dims[0] if dims else None

    def aligned(
        self, a: Number | Element, b: Number | Element, span: Span, op: str
    ) -> tuple[Number | Element, Number | Element]:
        """Both operands with matching shapes; a weight vector is cut into the blocks of a stacked partner."""
        if isinstance(a, Number) or isinstance(b, Number) or element_dim(a) is None or element_dim(b) is None:
            return a, b
        if element_dim(a) != element_dim(b):
            raise self.mismatch(op, [a, b], span)
        if isinstance(a, Stacked) and not isinstance(b, Stacked):
            return a, self._cut(b, a, span)
        if isinstance(b, Stacked) and not isinstance(a, Stacked):
            return self._cut(a, b, span), b
        return a, b

    def _cut(self, x: Simple, like: Stacked, span: Span) -> Stacked:
        term = x.terms[0] if isinstance(x, Sum) and len(x.terms) == 1 else None
        if term is None or not isinstance(term.factor, MatRead) or term.factor.operand is not None:
            raise fail("a stacked vector can only be combined with vectors stacked in the same way", span,
                       "apply concat last, or keep the blocks apart")
        dims = tuple(b.dim for b in like.blocks if b.dim is not None)
        names = self.split(term.factor.weight, dims, rows=True, span=span)
        return Stacked(tuple(Sum((replace(term, factor=replace(term.factor, weight=n)),), d)
                             for n, d in zip(names, dims, strict=True)))

    def blocks(self, a: Element, b: Element, span: Span) -> list[tuple[Simple, Simple]]:
        """Matching blocks of two vectors, for inner products."""
        x, y = self.aligned(a, b, span, "dot")
        if isinstance(x, Stacked) and isinstance(y, Stacked):
            if [u.dim for u in x.blocks] != [v.dim for v in y.blocks]:
                raise self.mismatch("dot", [x, y], span)
            return list(zip(x.blocks, y.blocks, strict=True))
        assert isinstance(x, Sum | Nonlin) and isinstance(y, Sum | Nonlin)
        return [(x, y)]

    def blockwise(self, op, a: Number | Element, b: Number | Element) -> Stacked:  # type: ignore[no-untyped-def]
        count = len(a.blocks) if isinstance(a, Stacked) else len(b.blocks) if isinstance(b, Stacked) else 0
        left = a.blocks if isinstance(a, Stacked) else (a,) * count
        right = b.blocks if isinstance(b, Stacked) else (b,) * count
        return Stacked(tuple(op(x, y) for x, y in zip(left, right, strict=True)))

    def mismatch(self, op: str, values: list[Number | Element], span: Span) -> TensorProgError:
        shapes = [self.shape_text(v) for v in values]
        text = f"{op}({', '.join(shapes)})" if op.isalpha() else f" {op} ".join(shapes)
        return fail(f"shapes do not match: {text}", span,
                    "coordinatewise operations need vectors of the same dimension")

    def split(self, name: str, dims: tuple[Dim, ...], rows: bool, span: Span) -> tuple[str, ...]:
        """The blocks of a weight along its columns (or the rows of a vector), made at the first use."""
        if name not in self.splits:
            weight = next(w for w in self.builder.weights if w.name == name)
            names = tuple(f"{name}.{k + 1}" for k in range(len(dims)))
            for n, d in zip(names, dims, strict=True):
                block = replace(weight, name=n, rows=d) if rows else replace(weight, name=n, cols=d)
                self.builder.weights.append(block)
            self.splits[name] = (dims, names)
        if self.splits[name][0] != dims:
            raise fail(f"'{plain(name)}' acts on vectors stacked in two different ways", span)
        return self.splits[name][1]


def plain(name: str) -> str:
    """The name as the user wrote it."""
    return name.split(".")[0]


def _representable(value: Fraction | float) -> bool:
    """Whether a number is zero or well inside the range of floating point (nan is not)."""
    return value == 0 or 1e-300 < value < 1e300 or -1e300 < value < -1e-300


def index_word(count: int) -> str:
    return "index" if count == 1 else "indices"
