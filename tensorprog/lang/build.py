"""lark tree -> `syntax.Module`: one method per rule of the grammar, and the checks that a grammar cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from lark import Token, Tree, v_args
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from tensorprog.errors import Diagnostic, Source, Span, TensorProgError, fail
from tensorprog.lang import syntax as s
from tensorprog.lang.lexing import span_of

MAX_DEPTH = 150
MAX_EXPONENT = 400
MAX_DIGITS = 400
MAX_ALTERNATIVES = 40
_OPERATIONS = frozenset({"binary", "unary", "call", "index", "transpose", "reduction", "range"})
REDUCTIONS = ("sum", "mean", "max", "min", "softmax")


def build(source: Source, tree: Tree[Token]) -> s.Module:
    """The syntax tree of `source`.

    Raises TensorProgError when expressions are nested too deep for the later stages, and with all
    mistakes that the grammar lets pass (`~ M(0, 1)`, a binder in a call, `a, b = c, d, e`, ...).
    """
    _check_depth(source, tree)
    builder = _Builder(source)
    module: s.Module = builder.transform(tree)
    if builder.errors:
        raise TensorProgError(sorted(builder.errors, key=lambda error: error.span.start if error.span else 0))
    return module


def _check_depth(source: Source, tree: Tree[Token]) -> None:
    """Later stages walk the tree recursively, so its depth is bounded here, without recursion."""
    depths: dict[int, int] = {}
    for node in tree.iter_subtrees():
        below = max((depths[id(child)] for child in node.children if isinstance(child, Tree)), default=0)
        depth = 0 if node.data == "suite" else below + (node.data in _OPERATIONS)
        depths[id(node)] = depth
        if depth > MAX_DEPTH:
            raise fail(
                f"this expression is more than {MAX_DEPTH} operations deep",
                Span(source, node.meta.start_pos, node.meta.end_pos),
                "give parts of it names, or write a loop",
            )


@v_args(meta=True)
class _Builder(Transformer_NonRecursive[Token, Any]):
    """Each method makes the node of the rule that it is named after; `c` are the children, already made."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.errors: list[Diagnostic] = []

    # ------------------------------------------------------------ places and complaints

    def span(self, meta: Meta) -> Span:
        return Span(self.source, meta.start_pos, meta.end_pos)

    def until(self, meta: Meta, last: Sequence[s.Stmt]) -> Span:
        """The span of a compound statement: to the end of its last statement, line end and dedent left out."""
        return Span(self.source, meta.start_pos, last[-1].span.end)

    def complain(self, message: str, span: Span, hint: str | None = None) -> None:
        self.errors.append(Diagnostic(message, span, hint))

    def plain(self, token: Token, what: str) -> str:
        """The text of a name that must not be a family `W_{g}`."""
        if "{" in token:
            self.complain(f"{what} cannot be a family of names", span_of(self.source, token))
        return str(token)

    # ------------------------------------------------------------ declarations

    def module(self, meta: Meta, c: list[s.Decl]) -> s.Module:
        return s.Module(Span(self.source, 0, len(self.source.text)), tuple(c))

    def use(self, meta: Meta, c: list[Any]) -> s.Use:
        path = str(c[0])[1:-1]
        if not path:
            self.complain("`use` needs the path of a file", span_of(self.source, c[0]), 'as in use "blocks.tp" (cell)')
        return s.Use(self.span(meta), path, c[1] or ())

    def names(self, meta: Meta, c: list[Token]) -> tuple[str, ...]:
        return tuple(self.plain(token, "a name in a list") for token in c)

    def function(self, meta: Meta, c: list[Any]) -> s.Def:
        return s.Def(self.span(meta), self.plain(c[0], "a function"), c[1], c[2])

    def block(self, meta: Meta, c: list[Any]) -> s.Block:
        return s.Block(self.until(meta, c[2]), self.plain(c[0], "a block"), c[1], c[2])

    def program(self, meta: Meta, c: list[Any]) -> s.Program:
        return s.Program(self.until(meta, c[2]), self.plain(c[0], "a program"), c[1] or (), c[2])

    def params(self, meta: Meta, c: list[s.Param | None]) -> tuple[s.Param, ...]:
        params = tuple(param for param in c if param is not None)
        seen: set[str] = set()
        for param in params:
            if param.name in seen:
                self.complain(f"the parameter `{param.name}` is given twice", param.span)
            seen.add(param.name)
        return params

    def param(self, meta: Meta, c: list[Any]) -> s.Param:
        return s.Param(self.span(meta), self.plain(c[0], "a parameter"), c[1])

    # ------------------------------------------------------------ statements

    def suite(self, meta: Meta, c: list[s.Stmt]) -> tuple[s.Stmt, ...]:
        return tuple(c)

    def width(self, meta: Meta, c: list[Any]) -> s.WidthDecl:
        return s.WidthDecl(self.span(meta), str(c[0]), c[1])

    def input(self, meta: Meta, c: list[Any]) -> s.InputDecl:
        return s.InputDecl(self.span(meta), self.plain(c[0], "an input"), c[1] or (), c[2])

    def axes(self, meta: Meta, c: list[s.Expr]) -> tuple[s.Expr, ...]:
        return tuple(c)

    def weight(self, meta: Meta, c: list[Any]) -> s.WeightDecl:
        name, axes, shape, (mean, variance), lr = c
        return s.WeightDecl(self.span(meta), str(name), axes or (), shape, mean, variance, lr)

    def draw(self, meta: Meta, c: list[Any]) -> tuple[s.Expr, s.Expr]:
        """The mean and the variance of `N(mean, variance)`."""
        name, *args = c
        if name != "N":
            self.complain(f"`{name}` is not a distribution", span_of(self.source, name), "write ~ N(mean, variance)")
        elif len(args) != 2:
            hint = "write N(0, variance)" if len(args) == 1 else None
            message = f"N takes a mean and a variance, it has {_count(len(args), 'argument')} here"
            self.complain(message, self.span(meta), hint)
        return args[0], args[-1]

    def assign(self, meta: Meta, c: list[Any]) -> s.Assign:
        targets, value = c
        given = len(value.items) if isinstance(value, s.Tuple) else 1
        if given != len(targets) and (given > 1 or not isinstance(value, s.Call)):
            message = f"{_count(len(targets), 'name')} on the left, {_count(given, 'value')} on the right"
            self.complain(message, value.span)
        return s.Assign(self.span(meta), targets, value)

    def targets(self, meta: Meta, c: list[s.Target]) -> tuple[s.Target, ...]:
        return tuple(c)

    def values(self, meta: Meta, c: list[s.Expr]) -> s.Expr:
        return c[0] if len(c) == 1 else s.Tuple(self.span(meta), tuple(c))

    def target(self, meta: Meta, c: list[Any]) -> s.Target:
        return s.Target(self.span(meta), str(c[0]), c[1] or ())

    def output(self, meta: Meta, c: list[Any]) -> s.Output:
        return s.Output(self.span(meta), None, (), c[0])

    def named_output(self, meta: Meta, c: list[Any]) -> s.Output:
        target, value = c
        binders = tuple(item for item in target.indices if isinstance(item, s.Binder))
        if len(binders) != len(target.indices):
            self.complain("the indices of an output are bound in place", target.span, "output f[i in B] = ...")
        return s.Output(self.span(meta), target.name, binders, value)

    def result(self, meta: Meta, c: list[Any]) -> s.Return:
        return s.Return(self.span(meta), c[0])

    def loop(self, meta: Meta, c: list[Any]) -> s.For:
        self._check_domain(c[1])
        return s.For(self.until(meta, c[2]), self.plain(c[0], "a loop variable"), c[1], c[2])

    def branch(self, meta: Meta, c: list[Any]) -> s.If:
        """`if`, then any number of `elif` as nested `If`, the innermost with the `else`."""
        *cases, otherwise = c
        if len(cases) > 2 * MAX_ALTERNATIVES:
            self.complain(f"more than {MAX_ALTERNATIVES} alternatives in one `if`", cases[0].span)
        conditions, bodies = cases[::2], cases[1::2]
        orelse: tuple[s.Stmt, ...] = otherwise or ()
        end = self.until(meta, otherwise or bodies[-1])
        for condition, body in reversed(list(zip(conditions[1:], bodies[1:], strict=True))):
            orelse = (s.If(condition.span.to(end), condition, body, orelse),)
        return s.If(end, conditions[0], bodies[0], orelse)

    # ------------------------------------------------------------ expressions

    def number(self, meta: Meta, c: list[Token]) -> s.Number:
        text = str(c[0])
        digits, _, exponent = text.lower().partition("e")
        if len(digits) > MAX_DIGITS or len(exponent) > 9 or abs(int(exponent or 0)) > MAX_EXPONENT:
            span = self.span(meta)
            self.complain("this number is out of range", span, f"at most {MAX_DIGITS} digits, exponent {MAX_EXPONENT}")
            return s.Number(span, Fraction(0), text)
        return s.Number(self.span(meta), Fraction(text), text)

    def name(self, meta: Meta, c: list[Token]) -> s.Name:
        return s.Name(self.span(meta), str(c[0]))

    def index(self, meta: Meta, c: list[Any]) -> s.Index:
        for item in c[1]:
            if isinstance(item, s.Binder):
                hint = "`i in H` binds an index on the left of `=`, or in a reduction such as sum(i in H)"
                self.complain("an index is bound where it should be used", item.span, hint)
        return s.Index(self.span(meta), s.Name(span_of(self.source, c[0]), str(c[0])), c[1])

    def items(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        return tuple(c)

    def args(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        return tuple(c)

    def keyword(self, meta: Meta, c: list[Any]) -> s.Keyword:
        return s.Keyword(self.span(meta), self.plain(c[0], "a parameter"), c[1])

    def binder(self, meta: Meta, c: list[Any]) -> s.Binder:
        self._check_domain(c[1])
        return s.Binder(self.span(meta), self.plain(c[0], "an index"), c[1])

    def _check_domain(self, domain: s.Expr) -> None:
        if isinstance(domain, s.Call) and domain.function.id == "range":
            self.complain("there is no `range(...)`", domain.span, "write a..b, both included: 0..2 is 0, 1, 2")

    def range(self, meta: Meta, c: list[Any]) -> s.Range:
        return s.Range(self.span(meta), c[0], c[1])

    def braces(self, meta: Meta, c: list[Any]) -> s.Braces:
        return s.Braces(self.span(meta), c[0])

    def call(self, meta: Meta, c: list[Any]) -> s.Call:
        args = c[1] or ()
        for item in args:
            if isinstance(item, s.Binder):
                self.complain(*_stray_binder(str(c[0]), item))
        values = tuple(item for item in args if not isinstance(item, s.Keyword))
        keywords = tuple(item for item in args if isinstance(item, s.Keyword))
        for item in args[: len(args) - len(keywords)]:
            if isinstance(item, s.Keyword):
                self.complain("arguments given by name come last", item.span)
        return s.Call(self.span(meta), s.Name(span_of(self.source, c[0]), str(c[0])), values, keywords)

    def reduction(self, meta: Meta, c: list[Any]) -> s.Expr:
        kind, items, body = c
        if kind not in REDUCTIONS:
            message = f"an operator is missing after `{kind}(...)`"
            hint = f"only {', '.join(REDUCTIONS)} take what follows without an operator"
            self.complain(message, body.span, hint)
        return s.Reduction(self.span(meta), str(kind), tuple(self._as_binder(item) for item in items), body)

    def _as_binder(self, item: Any) -> s.Binder:
        """`i in H` as it is; a bare name `s` is an axis bound elsewhere."""
        if isinstance(item, s.Binder):
            return item
        if not isinstance(item, s.Name):
            self.complain("a reduction runs over indices", item.span, "write sum(i in H) ... or softmax(s) ...")
        return s.Binder(item.span, item.id if isinstance(item, s.Name) else "?")

    def transpose(self, meta: Meta, c: list[Any]) -> s.Transpose:
        return s.Transpose(self.span(meta), c[0])

    def unary(self, meta: Meta, c: list[Any]) -> s.Unary:
        return s.Unary(self.span(meta), str(c[0]), c[1])

    def binary(self, meta: Meta, c: list[Any]) -> s.Binary:
        left, op, right = c
        if op == "@" and isinstance(left, s.Binary) and left.op == "^" and left.right == s.Name(left.span, "T"):
            self.complain("`^T` is not the transpose", left.span, "write W.T @ y")
        return s.Binary(self.span(meta), str(op), left, right)


def _stray_binder(function: str, item: s.Binder) -> tuple[str, Span, str]:
    if function in REDUCTIONS:
        message = f"`{function}({item.name} in ...)` has nothing to work on"
        hint = f"a product follows, {function}({item.name} in ...) h[{item.name}]; with a sign it needs parentheses"
        return message, item.span, hint
    return "an index is bound in a call", item.span, f"only {', '.join(REDUCTIONS)} bind indices"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
