"""The syntax tree of a .tp file: what the parser makes and the formatter and elaborator read.

    module  = (use | def | block | program)*
    def     = "def" name "(" param* ")" "=" expr
    block   = "block" name "(" param* ")" ":" stmt*        program = "program" name ["(" param* ")"] ":" stmt*
    stmt    = width | input | weight | output | assign | for | if | return
    expr    = number | name | string | index | call | unary | binary | transpose | reduction | range | braces

Every node is frozen and carries the span of the text it came from; spans do not take part in
comparison, so that two trees are equal when they mean the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Union, final

from tensorprog.errors import Span

# ---------------------------------------------------------------- expressions


@final
@dataclass(frozen=True, slots=True)
class Number:
    """`3`, `0.1`, `1e-12`: an exact rational, and the text it was written as."""

    span: Span = field(compare=False, repr=False)
    value: Fraction
    text: str = field(compare=False)


@final
@dataclass(frozen=True, slots=True)
class Name:
    """`h`, or a family of names `W_{g}`: `id` keeps the braces, to be filled by the elaborator."""

    span: Span = field(compare=False, repr=False)
    id: str


@final
@dataclass(frozen=True, slots=True)
class Braces:
    """`{z, r, c}`: names to loop over."""

    span: Span = field(compare=False, repr=False)
    names: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Index:
    """`x[t]`, `h[2*i + p, j + q]`."""

    span: Span = field(compare=False, repr=False)
    base: Name
    indices: tuple[Expr, ...]


@final
@dataclass(frozen=True, slots=True)
class Keyword:
    """`sw = 1.4` among the arguments of a call."""

    span: Span = field(compare=False, repr=False)
    name: str
    value: Expr


@final
@dataclass(frozen=True, slots=True)
class Call:
    """`phi(h)`, `dense(h, n, sw = sw)`, `dot(v, h)`, `zeros(n)`."""

    span: Span = field(compare=False, repr=False)
    function: Name
    args: tuple[Expr, ...]
    keywords: tuple[Keyword, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Unary:
    """`-h`, `+h`, `not c`; `op` is "-", "+" or "not"."""

    span: Span = field(compare=False, repr=False)
    op: str
    operand: Expr


@final
@dataclass(frozen=True, slots=True)
class Binary:
    """`op` is one of + - * / // % ^ @ == != < <= > >= and or."""

    span: Span = field(compare=False, repr=False)
    op: str
    left: Expr
    right: Expr


@final
@dataclass(frozen=True, slots=True)
class Transpose:
    """`W.T`, `K[i, j].T`."""

    span: Span = field(compare=False, repr=False)
    operand: Expr


@final
@dataclass(frozen=True, slots=True)
class Range:
    """`a..b`, the integers from a to b, both included."""

    span: Span = field(compare=False, repr=False)
    low: Expr
    high: Expr


@final
@dataclass(frozen=True, slots=True)
class Binder:
    """`i in H`, `p in -1..1`, or a bare `s` that names an axis already bound (domain None)."""

    span: Span = field(compare=False, repr=False)
    name: str
    domain: Expr | None = None


@final
@dataclass(frozen=True, slots=True)
class Reduction:
    """`sum(p in -1..1) body`; `kind` is sum, mean, max, min or softmax; takes the product that follows."""

    span: Span = field(compare=False, repr=False)
    kind: str
    binders: tuple[Binder, ...]
    body: Expr


@final
@dataclass(frozen=True, slots=True)
class Tuple:
    """`h, c`: only after `return` and on the right of an assignment to several names."""

    span: Span = field(compare=False, repr=False)
    items: tuple[Expr, ...]


Expr = Union[Number, Name, Braces, Index, Call, Unary, Binary, Transpose, Range, Reduction, Tuple]


# ---------------------------------------------------------------- statements


@final
@dataclass(frozen=True, slots=True)
class Target:
    """The left side of an assignment: `h`, `h[0]`, `h[t + 1]`, `g[i in H, j in W]`."""

    span: Span = field(compare=False, repr=False)
    name: str
    indices: tuple[Binder | Expr, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value`, or `h, c = lstm(...)` with several targets."""

    span: Span = field(compare=False, repr=False)
    targets: tuple[Target, ...]
    value: Expr


@final
@dataclass(frozen=True, slots=True)
class WidthDecl:
    """`width n = 512`, `width m = n / 2`."""

    span: Span = field(compare=False, repr=False)
    name: str
    value: Expr


@final
@dataclass(frozen=True, slots=True)
class InputDecl:
    """`input x[T]: [d]`, `input A[V, V]` (shape None: a number per index), `input x: [d]`."""

    span: Span = field(compare=False, repr=False)
    name: str
    axes: tuple[Expr, ...]
    shape: tuple[Expr, ...] | None


@final
@dataclass(frozen=True, slots=True)
class WeightDecl:
    """`weight K[3, 3]: [n, c] ~ N(mean, variance) lr rate`; shape None is a scalar weight."""

    span: Span = field(compare=False, repr=False)
    name: str
    axes: tuple[Expr, ...]
    shape: tuple[Expr, ...] | None
    mean: Expr
    variance: Expr
    lr: Expr | None


@final
@dataclass(frozen=True, slots=True)
class For:
    """`for l in 2..depth:`, `for t in T:`, `for g in {z, r, c}:`."""

    span: Span = field(compare=False, repr=False)
    var: str
    domain: Expr
    body: tuple[Stmt, ...]


@final
@dataclass(frozen=True, slots=True)
class If:
    """`if c:` ... `else:` on compile-time values; `elif` nests in `orelse`."""

    span: Span = field(compare=False, repr=False)
    condition: Expr
    body: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...]


@final
@dataclass(frozen=True, slots=True)
class Output:
    """`output dot(v, h)`, `output f[i in B] = ...`, `output f = ...`; an unnamed output has name None."""

    span: Span = field(compare=False, repr=False)
    name: str | None
    binders: tuple[Binder, ...]
    value: Expr


@final
@dataclass(frozen=True, slots=True)
class Return:
    """`return e` or `return h, c` at the end of a block."""

    span: Span = field(compare=False, repr=False)
    value: Expr


Stmt = Union[Assign, WidthDecl, InputDecl, WeightDecl, For, If, Output, Return]


# ---------------------------------------------------------------- declarations


@final
@dataclass(frozen=True, slots=True)
class Param:
    """`depth = 3`; default None means that the caller must give it."""

    span: Span = field(compare=False, repr=False)
    name: str
    default: Expr | None = None


@final
@dataclass(frozen=True, slots=True)
class Def:
    """`def phi(u, a = 1) = expr`."""

    span: Span = field(compare=False, repr=False)
    name: str
    params: tuple[Param, ...]
    body: Expr


@final
@dataclass(frozen=True, slots=True)
class Block:
    """`block dense(h, n, sw = 1): ...` with a `return`."""

    span: Span = field(compare=False, repr=False)
    name: str
    params: tuple[Param, ...]
    body: tuple[Stmt, ...]


@final
@dataclass(frozen=True, slots=True)
class Program:
    """`program mlp(depth = 3): ...`."""

    span: Span = field(compare=False, repr=False)
    name: str
    params: tuple[Param, ...]
    body: tuple[Stmt, ...]


@final
@dataclass(frozen=True, slots=True)
class Use:
    """`use "blocks.tp" (cell, head)`; no names means all of them."""

    span: Span = field(compare=False, repr=False)
    path: str
    names: tuple[str, ...] = ()


Decl = Union[Use, Def, Block, Program]


@final
@dataclass(frozen=True, slots=True)
class Module:
    """A whole file."""

    span: Span = field(compare=False, repr=False)
    decls: tuple[Decl, ...]
