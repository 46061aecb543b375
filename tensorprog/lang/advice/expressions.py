"""Mistakes inside expressions."""

from __future__ import annotations

from tensorprog.errors import Diagnostic
from tensorprog.lang.build import REDUCTIONS
from tensorprog.lang.mistakes import OPERAND_ENDS, OPERAND_STARTS, Mistake, shown


def double_star(m: Mistake) -> Diagnostic | None:
    """`x ** 2`."""
    if m.before is None or not (m.before == m.token == "*" and m.touches()):
        return None
    return m.says_from(m.before, "the power is written `^`", "as in sw^2")


def three_dots(m: Mistake) -> Diagnostic | None:
    """`1..3..5`, `h[0..2]`, `sum(1..3)`: a range out of place."""
    if m.token.type != "RANGE":
        return None
    return m.says("a range a..b stands only after `in`", "as in for l in 1..depth, sum(p in -1..1)")


def quoted_text(m: Mistake) -> Diagnostic | None:
    if m.token.type != "STRING":
        return None
    return m.says("text in quotes stands only after `use`", "names of functions are written without quotes: phi = relu")


def use_without_quotes(m: Mistake) -> Diagnostic | None:
    """`use blocks.tp`."""
    if m.accepts != {"STRING"}:
        return None
    return m.says("the path after `use` stands in quotes", 'as in use "blocks.tp" (cell, head)')


def conditional(m: Mistake) -> Diagnostic | None:
    """`a if c else b`."""
    if m.token.type not in {"IF", "FOR"} or m.before is None or m.before.type not in OPERAND_ENDS:
        return None
    if m.token.type == "FOR":
        return m.says("there is no `for` inside an expression", "as in sum(i in T) h[i], or g[i in T] = ...")
    return m.says("there is no `if` inside an expression", "write if c: ... else: ... on lines of their own")


def chained_comparison(m: Mistake) -> Diagnostic | None:
    if m.token.type != "COMPARE" or not any(token.type == "COMPARE" for token in m.line[: m.position]):
        return None
    return m.says("comparisons do not chain", "write a < b and b < c")


def call_of_transpose(m: Mistake) -> Diagnostic | None:
    """`W.T()`, `W.T[i]`."""
    if m.before is None or m.before.type != "TRANSPOSE" or m.token not in {"(", "["}:
        return None
    hint = "write W[i].T" if m.token == "[" else "W.T alone is the transpose"
    return m.says(f"`.T` is not followed by `{m.token}`", hint)


def index_of_expression(m: Mistake) -> Diagnostic | None:
    """`x[t][s]`, `f(x)[t]`, `(a + b)[t]`."""
    if m.token != "[" or m.before is None or m.before.type not in {"RSQB", "RPAR", "NUMBER"}:
        return None
    hint = "write x[t, s]" if m.before == "]" else "give it a name with an index first: g[i in T] = ..."
    return m.says("only a name can be indexed", hint)


def bracket_value(m: Mistake) -> Diagnostic | None:
    """`h = [a, b]`, `h = {a, b}`."""
    if m.token not in {"[", "{"} or not m.expects_operand():
        return None
    if m.token == "{":
        return m.says("braces list the names of a loop", "as in for g in {z, r, c}:")
    hint = "vectors are stacked by concat(h, g), families are written g[i in T] = ..."
    return m.says("a value cannot begin with `[`", hint)


def family_brace(m: Mistake) -> Diagnostic | None:
    """`W{g}`."""
    if m.token != "{" or m.before is None or m.before.type != "NAME":
        return None
    return m.says("unexpected `{`", "a family of names is written with an underscore: W_{g}")


def reduction_in_power(m: Mistake) -> Diagnostic | None:
    """`2^sum(i in T) a[i]`."""
    if m.token.type not in OPERAND_STARTS or m.before != ")":
        return None
    name = _called(m)
    if name not in REDUCTIONS:
        return None
    return m.says(f"`{name}(...)` after `^` needs parentheses around all of it", f"as in 2^({name}(i in T) a[i])")


def _called(m: Mistake) -> str | None:
    """The function whose closing parenthesis stands before the refused token."""
    depth = 0
    for position in range(m.position - 1, 0, -1):
        depth += (m.line[position] == ")") - (m.line[position] == "(")
        if depth == 0:
            return str(m.line[position - 1])
    return None


def missing_operator(m: Mistake) -> Diagnostic | None:
    """`2x`, `a b`, `f(a b)`."""
    if m.before is None or m.before.type not in OPERAND_ENDS or m.token.type not in OPERAND_STARTS:
        return None
    if not m.expects("SIGN", "TIMES"):
        return None
    left, right = str(m.before), str(m.token)
    if m.before.type == "NUMBER" and m.token.type == "NAME":
        message = f"an operator is missing between `{left}` and `{right}`"
        return m.says_from(m.before, message, f"write {left} * {right}")
    what = "an operator or a comma" if m.expects("RPAR", "RSQB") else "an operator"
    hint = "matrices are multiplied by @, numbers and coordinates by *"
    return m.says(f"{what} is missing between `{left}` and `{right}`", hint)


def missing_operand(m: Mistake) -> Diagnostic | None:
    """`h = a +`, `f(, b)`, `[]`."""
    if not m.expects_operand() or m.before is None:
        return None
    if m.before in {"[", "{"} and m.token in {"]", "}"}:
        return m.says_from(m.before, "these brackets are empty")
    return m.says(f"expected an expression after `{m.before}`, not {shown(m.token)}")


RULES = (
    double_star,
    three_dots,
    quoted_text,
    use_without_quotes,
    conditional,
    chained_comparison,
    call_of_transpose,
    index_of_expression,
    bracket_value,
    family_brace,
    reduction_in_power,
    missing_operator,
    missing_operand,
)
