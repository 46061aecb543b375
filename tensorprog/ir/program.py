"""The straight-line IR: families of vectors and scalars, defined by equations over index axes.

    program  = widths, inputs, weights, (var := op)*, outputs
    var      = name[axis, ...] : dim             dim = a width | a finite dimension | scalar
    op       = Data(input)
             | MatMul(W[k], operand)             g[target] += coef W[k] @ h[source]        (or W.T)
             | Linear(term*)                     y[target] += coef * s[..] * .. * h[source]
             | Pointwise(fn, read*)              y[i] = fn(h1[f1(i)], ..., hk[fk(i)])
             | MaxOver(operand, k)               y[i] = max over the last k axes of the operand
             | Inner(read, read | None)          s[i] = coef <u[f(i)], v[g(i)]>   (None: the vector of ones)

Each variable is a *family*: one vector (or scalar) for every index of its axes; a loop is a family that
reads itself at a shifted index, an equation and not a list of statements, so that the program is as long
for a hundred time steps as for one.  Index arithmetic lives in `Map`s, linear relations between two
index sets; reading the relation from right to left is its adjoint, which is all that reverse-mode
differentiation asks of it.  Reading outside the range of a family gives zero.

Definitions may refer to families defined later (the loops do); `schedule.py` orders the elements.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Union, final

from tensorprog.errors import Span
from tensorprog.ir.expr import ONE, Expr


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """An index that runs over 0, ..., extent - 1."""

    index: str
    extent: Expr


@final
@dataclass(frozen=True, slots=True)
class Dim:
    """The dimension of a vector: `size` as an expression in widths and data sizes; `wide` if it grows."""

    size: Expr
    wide: bool


@final
@dataclass(frozen=True, slots=True)
class Iteration:
    """One pass of an unrolled loop: `for index in ...` at `span`, with the index at `value`."""

    index: str
    value: int
    span: Span | None = field(default=None, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Var:
    """A family of vectors (`dim`) or of scalars (`dim` None) over `axes`.

    For printing: `origin` are the iterations of unrolled loops in which it was defined, outermost first; `named`
    tells whether a name of the source stands for it.  An adjoint has both from its variable.
    """

    name: str
    axes: tuple[Axis, ...] = ()
    dim: Dim | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
    origin: tuple[Iteration, ...] = field(default=(), compare=False, repr=False)
    named: bool = field(default=False, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Map:
    """A relation between index sets: for all indices in `domain`, `target(indices) <- source(indices)`.

    Pairs of which either side lies outside its family contribute nothing.
    """

    domain: tuple[Axis, ...]
    target: tuple[Expr, ...]
    source: tuple[Expr, ...]

    def adjoint(self) -> Map:
        """The same relation read the other way."""
        return Map(self.domain, self.source, self.target)


@final
@dataclass(frozen=True, slots=True)
class Read:
    """One element of a family, at index expressions in the indices of the reader."""

    var: str
    index: tuple[Expr, ...] = ()


# ---------------------------------------------------------------- operations


@final
@dataclass(frozen=True, slots=True)
class Data:
    """The value of an input: known numbers."""

    input: str


@final
@dataclass(frozen=True, slots=True)
class MatMul:
    """result[target] = sum over map.domain of coef * W[windex] @ operand[source].

    `operand` None stands for the number 1: the weight is a vector (a bias, a readout) or a scalar.
    """

    weight: str
    windex: tuple[Expr, ...]
    operand: str | None
    map: Map
    transposed: bool = False
    coef: Expr = ONE


@final
@dataclass(frozen=True, slots=True)
class Term:
    """coef * product of scalar elements * operand[source], added at result[target].

    `coef` is an expression in the indices of `map.domain`, sizes and widths; `scalars` are read at index
    expressions over `map.domain`.  `operand` None stands for ones (the number 1 for a scalar result).
    """

    operand: str | None
    map: Map
    coef: Expr = ONE
    scalars: tuple[Read, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Linear:
    """The sum of its terms; no terms is zero.

    `assigned` marks a family that the user fills element by element: reading an element that no term
    reaches is an error there, and so is reaching one twice.
    """

    terms: tuple[Term, ...]
    assigned: bool = False


@final
@dataclass(frozen=True, slots=True)
class Pointwise:
    """result[i] = fn(a0, a1, ...) coordinate by coordinate, with ak = args[k] read at its index.

    `fn` is an expression in a0, a1, ..., in the indices of the result's axes and in sizes.
    """

    fn: Expr
    args: tuple[Read, ...]


@final
@dataclass(frozen=True, slots=True)
class MaxOver:
    """result[i] = max over r of operand[i, r], r the last `over` axes of the operand."""

    operand: str
    over: int


@final
@dataclass(frozen=True, slots=True)
class Inner:
    """result[i] = coef * sum over coordinates of left[..] * right[..]; right None is the vector of ones."""

    left: Read
    right: Read | None
    coef: Expr = ONE


Operation = Union[Data, MatMul, Linear, Pointwise, MaxOver, Inner]


@final
@dataclass(frozen=True, slots=True)
class Instr:
    """var := op"""

    var: Var
    op: Operation


# ---------------------------------------------------------------- program


@final
@dataclass(frozen=True, slots=True)
class Width:
    """A dimension that goes to infinity; `size` is the default of finite runs and fixes the ratios."""

    name: str
    size: Expr
    span: Span | None = field(default=None, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Input:
    """A family of vectors of finite dimension `dim`, or of numbers (None), given with each example."""

    name: str
    axes: tuple[Axis, ...]
    dim: Expr | None
    span: Span | None = field(default=None, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Weight:
    """A family over `axes` of independent matrices (rows x cols), vectors (cols None) or scalars (both None).

    Entries are independent N(mean, variance) and trained by gradient flow at the rate `lr`.
    """

    name: str
    axes: tuple[Axis, ...]
    rows: Dim | None
    cols: Dim | None
    mean: Expr
    variance: Expr
    lr: Expr
    span: Span | None = field(default=None, compare=False, repr=False)
    origin: tuple[Iteration, ...] = field(default=(), compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Output:
    """A quantity that the user asks for under `name`: the family `var`."""

    name: str
    var: str
    span: Span | None = field(default=None, compare=False, repr=False)


@final
@dataclass(frozen=True)
class Program:
    """A whole straight-line program; see the grammar above.

    `params` are the compile-time values that were chosen, for printing.
    """

    name: str
    params: tuple[tuple[str, str], ...]
    widths: tuple[Width, ...]
    inputs: tuple[Input, ...]
    weights: tuple[Weight, ...]
    instrs: tuple[Instr, ...]
    outputs: tuple[Output, ...]
    span: Span | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_vars", {i.var.name: i for i in self.instrs})
        object.__setattr__(self, "_weights", {w.name: w for w in self.weights})

    def instr(self, name: str) -> Instr:
        """The definition of a variable."""
        return self._vars[name]  # type: ignore[attr-defined,no-any-return]

    def var(self, name: str) -> Var:
        """The variable of that name."""
        return self.instr(name).var

    def weight(self, name: str) -> Weight:
        """The weight of that name."""
        return self._weights[name]  # type: ignore[attr-defined,no-any-return]

    def input(self, name: str) -> Input:
        """The input of that name."""
        return next(i for i in self.inputs if i.name == name)

    def output(self, name: str) -> Output:
        """The output of that name."""
        return next(o for o in self.outputs if o.name == name)

    def extended(self, instrs: tuple[Instr, ...]) -> Program:
        """The program with more definitions after its own."""
        return replace(self, instrs=self.instrs + instrs)


@final
@dataclass(frozen=True, slots=True)
class Use:
    """One use of a weight: d output[out] / d W[windex] += coef * row[row_index] (x) col[col_index].

    For g = W @ h the row is dg and the column h; for g = W.T @ y the row is y and the column dg; for a
    vector weight the column is None (the number 1); for a scalar weight `row` is a scalar family.
    """

    weight: str
    windex: tuple[Expr, ...]
    domain: tuple[Axis, ...]
    out: tuple[Expr, ...]
    row: str
    row_index: tuple[Expr, ...]
    col: str | None
    col_index: tuple[Expr, ...]
    coef: Expr = ONE


@final
@dataclass(frozen=True, slots=True)
class Differentiated:
    """A program extended by the adjoints of one output, and the uses from which its NTK is summed.

    NTK[o, o'] = sum over weights W of lr(W) * sum over pairs of uses of W with equal windex, out = o and
    out' = o', of coef coef' <row, row'> <col, col'>.
    """

    program: Program
    output: str
    uses: tuple[Use, ...]


# ---------------------------------------------------------------- small readings


def operands(op: Operation) -> tuple[str, ...]:
    """The families that an operation reads, with repetition."""
    match op:
        case Data():
            return ()
        case MatMul(operand=h):
            return () if h is None else (h,)
        case Linear(terms=terms):
            scalars = [s.var for t in terms for s in t.scalars]
            return tuple([t.operand for t in terms if t.operand is not None] + scalars)
        case Pointwise(args=args):
            return tuple(a.var for a in args)
        case MaxOver(operand=h):
            return (h,)
        case Inner(left=u, right=v):
            return (u.var,) if v is None else (u.var, v.var)


def formulas(op: Operation) -> tuple[Expr, ...]:
    """The expressions that an operation computes with, other than indices."""
    if isinstance(op, Linear):
        return tuple(t.coef for t in op.terms)
    if isinstance(op, Pointwise):
        return (op.fn,)
    return (op.coef,) if isinstance(op, MatMul | Inner) else ()


def identity(axes: tuple[Axis, ...]) -> tuple[Expr, ...]:
    """The index expressions that read a family at the reader's own indices."""
    from tensorprog.ir.expr import Sym

    return tuple(Sym(a.index) for a in axes)


def is_zero(op: Operation) -> bool:
    """Whether the operation is the empty sum."""
    return isinstance(op, Linear) and not op.terms
