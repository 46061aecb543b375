"""Syntax tree -> text: `print_expr`, `print_module`.

The text of a tree parses to an equal tree.  Parentheses stand only where the grammar needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum

from tensorprog.lang import syntax as s
from tensorprog.lang.spacing import join

Words = list[str]


class Level(IntEnum):
    """How strongly an expression holds together, as in the grammar."""

    OR = 0
    AND = 1
    NOT = 2
    COMPARISON = 3
    LINEAR = 4
    PRODUCT = 5
    SIGNED = 6
    POWER = 7
    PRIMARY = 8


_BINARY = {
    "or": Level.OR,
    "and": Level.AND,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), Level.COMPARISON),
    **dict.fromkeys(("+", "-"), Level.LINEAR),
    **dict.fromkeys(("*", "/", "//", "%", "@"), Level.PRODUCT),
    "^": Level.POWER,
}


def print_expr(expr: s.Expr) -> str:
    """The text of `expr` on one line, with as few parentheses as possible: `parse(print_expr(e)) == e`."""
    return join(_expr(expr))


def print_module(module: s.Module) -> str:
    """The text of a tree: four spaces per level, an empty line between declarations."""
    return "\n\n".join("\n".join(_decl(decl)) for decl in module.decls) + "\n"


# ---------------------------------------------------------------- expressions


def _expr(expr: s.Expr, level: Level = Level.OR, followed: bool = False) -> Words:
    """The words of `expr` where the grammar wants at least `level`.

    `followed`: a `*`, `/`, ... comes next, which a reduction at the right end would swallow.
    """
    match expr:
        case s.Number():
            return [expr.text]
        case s.Name():
            return [expr.id]
        case s.Braces():
            return ["{", *_listed([name] for name in expr.names), "}"]
        case s.Range():
            return [*_expr(expr.low, Level.LINEAR), "..", *_expr(expr.high, Level.LINEAR)]
        case s.Tuple():
            return _listed(_expr(item) for item in expr.items)
        case s.Index():
            return [expr.base.id, "[", *_listed(map(_expr, expr.indices)), "]"]
        case s.Call():
            args = [_expr(arg) for arg in expr.args] + [[k.name, "=", *_expr(k.value)] for k in expr.keywords]
            return [expr.function.id, "(", *_listed(args), ")"]
        case s.Transpose():
            return [*_expr(expr.operand, Level.PRIMARY), ".T"]
        case s.Unary():
            return _unary(expr, level, followed)
        case s.Binary():
            return _binary(expr, level, followed)
        case s.Reduction():
            return _reduction(expr, level, followed)


def _unary(expr: s.Unary, level: Level, followed: bool) -> Words:
    own = Level.NOT if expr.op == "not" else Level.SIGNED
    inside = own < level
    return _wrapped([expr.op, *_expr(expr.operand, own, followed and not inside)], inside)


def _binary(expr: s.Binary, level: Level, followed: bool) -> Words:
    """Chains lean to the left, except `^`; comparisons do not chain."""
    own = _BINARY[expr.op]
    inside = own < level
    left, right = own, Level(own + 1)
    if expr.op == "^":
        left, right = Level.PRIMARY, Level.SIGNED
    if own == Level.COMPARISON:
        left = Level.LINEAR
    before = _expr(expr.left, left, followed=own == Level.PRODUCT)
    after = _expr(expr.right, right, followed=expr.op == "^" or (followed and not inside))
    return _wrapped([*before, expr.op, *after], inside)


def _reduction(expr: s.Reduction, level: Level, followed: bool) -> Words:
    """A product on its own, or the last factor of one; its body begins without a sign."""
    body = _expr(expr.body, Level.PRODUCT)
    body = _wrapped(body, body[0] in {"+", "-"})
    words = [expr.kind, "(", *_listed(map(_binder, expr.binders)), ")", *body]
    return _wrapped(words, followed or level > Level.SIGNED)


def _binder(binder: s.Binder) -> Words:
    return [binder.name] if binder.domain is None else [binder.name, "in", *_expr(binder.domain, Level.LINEAR)]


def _wrapped(words: Words, needed: bool) -> Words:
    return ["(", *words, ")"] if needed else words


def _listed(items: Iterable[Words]) -> Words:
    """The items with commas between them."""
    words: Words = []
    for item in items:
        words += [",", *item] if words else item
    return words


# ---------------------------------------------------------------- statements


def _decl(decl: s.Decl) -> Iterator[str]:
    match decl:
        case s.Use():
            names = ["(", *_listed([name] for name in decl.names), ")"] if decl.names else []
            yield join(["use", f'"{decl.path}"', *names])
        case s.Def():
            yield join(["def", decl.name, *_params(decl.params), "=", *_expr(decl.body)])
        case s.Block():
            yield join(["block", decl.name, *_params(decl.params), ":"])
            yield from _suite(decl.body)
        case s.Program():
            yield join(["program", decl.name, *(_params(decl.params) if decl.params else []), ":"])
            yield from _suite(decl.body)


def _params(params: Sequence[s.Param]) -> Words:
    words = ([p.name] if p.default is None else [p.name, "=", *_expr(p.default)] for p in params)
    return ["(", *_listed(words), ")"]


def _suite(body: Sequence[s.Stmt]) -> Iterator[str]:
    """The lines of `body`, one level deeper."""
    for stmt in body:
        for line in _stmt(stmt):
            yield "    " + line


def _stmt(stmt: s.Stmt) -> Iterator[str]:
    match stmt:
        case s.For():
            yield join(["for", stmt.var, "in", *_expr(stmt.domain, Level.LINEAR), ":"])
            yield from _suite(stmt.body)
        case s.If():
            yield from _branch(stmt, "if")
        case _:
            yield join(_simple(stmt))


def _branch(stmt: s.If, word: str) -> Iterator[str]:
    """An `if` alone in the `else` of another is printed as `elif`."""
    yield join([word, *_expr(stmt.condition), ":"])
    yield from _suite(stmt.body)
    if len(stmt.orelse) == 1 and isinstance(stmt.orelse[0], s.If):
        yield from _branch(stmt.orelse[0], "elif")
    elif stmt.orelse:
        yield "else:"
        yield from _suite(stmt.orelse)


def _simple(stmt: s.Assign | s.WidthDecl | s.InputDecl | s.WeightDecl | s.Output | s.Return) -> Words:
    match stmt:
        case s.Assign():
            return [*_listed(map(_target, stmt.targets)), "=", *_expr(stmt.value)]
        case s.WidthDecl():
            return ["width", stmt.name, "=", *_expr(stmt.value)]
        case s.InputDecl():
            return ["input", *_typed(stmt)]
        case s.WeightDecl():
            draw = ["~", "N", "(", *_expr(stmt.mean), ",", *_expr(stmt.variance), ")"]
            return ["weight", *_typed(stmt), *draw, *(["lr", *_expr(stmt.lr)] if stmt.lr is not None else [])]
        case s.Output():
            named = [] if stmt.name is None else [stmt.name, *_bracketed(map(_binder, stmt.binders)), "="]
            return ["output", *named, *_expr(stmt.value)]
        case s.Return():
            return ["return", *_expr(stmt.value)]


def _target(target: s.Target) -> Words:
    items = (_binder(item) if isinstance(item, s.Binder) else _expr(item) for item in target.indices)
    return [target.name, *_bracketed(items)]


def _typed(stmt: s.InputDecl | s.WeightDecl) -> Words:
    """`K[3, 3]: [n, c]`."""
    shape = [] if stmt.shape is None else [":", *_bracketed(map(_expr, stmt.shape))]
    return [stmt.name, *_bracketed(map(_expr, stmt.axes)), *shape]


def _bracketed(items: Iterable[Words]) -> Words:
    words = _listed(items)
    return ["[", *words, "]"] if words else []
