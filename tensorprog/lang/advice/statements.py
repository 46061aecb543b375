"""Mistakes of declarations and assignments."""

from __future__ import annotations

from lark import Token

from tensorprog.errors import Diagnostic
from tensorprog.lang.grammar import keywords
from tensorprog.lang.layout import STATEMENT_WORDS
from tensorprog.lang.mistakes import Mistake, shown

_NAMED_THINGS = frozenset({"PROGRAM", "BLOCK", "DEF", "WIDTH", "INPUT", "WEIGHT", "FOR"})
_DRAW = "as in weight W: [n, n] ~ N(0, sw^2 / n)"


def keyword_as_name(m: Mistake) -> Diagnostic | None:
    """`weight in: [n]`, `h = width + 1`."""
    if str(m.token) not in keywords() or not m.expects("NAME") or m.position == 0:
        return None
    return m.says(f"`{m.token}` is a keyword and cannot be a name", "choose another name")


def several_statements(m: Mistake) -> Diagnostic | None:
    """`width n = 512 input x: [d]`."""
    if m.position == 0 or not m.expects("_NEWLINE") or m.token.type not in STATEMENT_WORDS - {"IF", "ELSE", "FOR"}:
        return None
    return m.says(f"`{m.token}` begins a line of its own", "one statement per line")


def missing_name(m: Mistake) -> Diagnostic | None:
    """`width = 512`."""
    if m.position != 1 or m.first.type not in _NAMED_THINGS:
        return None
    if m.token.type == "EQUAL":
        return m.says(f"`{m.first}` is a keyword and cannot be a name", "choose another name", at=m.first)
    return m.says(f"expected a name after `{m.first}`, not {shown(m.token)}")


def missing_parameters(m: Mistake) -> Diagnostic | None:
    """`block cell:`, `def f = 3`."""
    if m.position != 2 or m.first.type not in {"BLOCK", "DEF"}:
        return None
    return m.says(f"a `{m.first}` has a list of parameters", f"as in {m.first} {m.line[1]}(h)")


def several_names(m: Mistake) -> Diagnostic | None:
    """`weight W, U: [n, n]`, `width n = 512, m = 256`."""
    if m.token != "," or m.first.type not in {"WIDTH", "INPUT", "WEIGHT"}:
        return None
    return m.says(f"one `{m.first}` declaration per line")


def weight_equals(m: Mistake) -> Diagnostic | None:
    """`weight W: [n, n] = N(0, 1)`."""
    if m.first.type != "WEIGHT" or m.token.type != "EQUAL":
        return None
    return m.says("a weight is drawn with `~`, not assigned", _DRAW)


def weight_without_draw(m: Mistake) -> Diagnostic | None:
    """`weight W: [n, n]`, `weight W: [n, n] ~`, `weight W: [n, n] ~ 1`, `weight W: [n, n] lr 1`."""
    if m.first.type != "WEIGHT":
        return None
    begun = m.before is not None and (m.before == "~" or m.before.type == "NAME" and m.accepts == {"LPAR"})
    if begun or (m.token.type in {"_NEWLINE", "LR"} and m.expects("TILDE")):
        return m.says("the distribution `~ N(mean, variance)` is missing", _DRAW)
    return m.says(f"expected `~`, not {shown(m.token)}", _DRAW) if m.accepts == {"TILDE"} else None


def shape_without_brackets(m: Mistake) -> Diagnostic | None:
    """`weight W: n`, `input x: d`, `weight W(n, n)`, `input x[T] [d]`."""
    if m.first.type not in {"WEIGHT", "INPUT"}:
        return None
    example = "weight W: [n, n] ~ ..." if m.first.type == "WEIGHT" else "input x[T]: [d]"
    if m.before == ":" and m.accepts == {"LSQB"}:
        return m.says("the shape stands in brackets", f"as in {example}")
    if m.expects("COLON") and m.token in {"(", "["}:
        return m.says("expected `:` before the shape", f"as in {example}")
    return None


def input_equals(m: Mistake) -> Diagnostic | None:
    if m.first.type != "INPUT" or m.token not in {"=", "~"}:
        return None
    return m.says("an input has no value in the program: it comes with the data", "as in input x[T]: [d]")


def width_value(m: Mistake) -> Diagnostic | None:
    """`width n`, `width n: 512`."""
    if m.first.type != "WIDTH" or not m.expects("EQUAL"):
        return None
    return m.says("a width has a default size", "as in width n = 512")


def loop_without_in(m: Mistake) -> Diagnostic | None:
    """`for l = 1..3:`, `for i, j in T:`."""
    if m.first.type != "FOR" or m.accepts != {"IN"}:
        return None
    if m.token == ",":
        return m.says("a loop has one variable", "write one `for` inside the other")
    return m.says("expected `in` after the loop variable", "as in for l in 1..depth:")


def _ends_target(m: Mistake) -> bool:
    """Whether the refused token follows the left side of an assignment."""
    return m.first.type == "NAME" and m.expects("EQUAL") and all(token != "=" for token in m.line[: m.position])


def walrus(m: Mistake) -> Diagnostic | None:
    """`h := 3`."""
    if m.token != ":" or m.after != "=" or not _ends_target(m):
        return None
    return m.says("`:=` is written `=`")


def annotation(m: Mistake) -> Diagnostic | None:
    """`h: [n] = ...`: shapes are found, not written."""
    if m.token != ":" or not _ends_target(m):
        return None
    return m.says("only weights and inputs are given a shape", "write h = ..., the shape follows")


def comparison_for_assignment(m: Mistake) -> Diagnostic | None:
    """`h == 3` as a statement."""
    if m.token != "==" or not _ends_target(m):
        return None
    return m.says("assignment is written `=`; `==` compares")


def assignment_for_comparison(m: Mistake) -> Diagnostic | None:
    """`if phi = relu:`."""
    if m.token.type != "EQUAL" or m.first.type not in {"IF", "ELIF"}:
        return None
    return m.says("comparison is written `==`")


def combined_assignment(m: Mistake) -> Diagnostic | None:
    """`h += x`."""
    if m.first.type != "NAME" or m.after != "=" or m.token.type not in {"SIGN", "TIMES", "POWER"}:
        return None
    name = str(m.first)
    return m.says(f"there is no `{m.token}=`", f"write {name} = {name} {m.token} ...")


def second_equals(m: Mistake) -> Diagnostic | None:
    """`a = b = c`, `output f = g = h`."""
    if m.token.type != "EQUAL" or m.line[: m.position].count(m.token) == 0 or m.expects("RPAR"):
        return None
    return m.says("only one `=` per assignment", "a comparison is written ==")


def expression_as_statement(m: Mistake) -> Diagnostic | None:
    """`dense(h, n)`, `h + 1 = 2`, `(a) = 3`."""
    if not _ends_target(m):
        return None
    rest = m.line[m.position :]
    if any(token.type == "EQUAL" for token in _outermost(rest)):
        return m.says("only a name can be assigned to", "as in h = ..., h[t] = ... or h, c = ...")
    return m.says("this value is not used", "assign it, h = ..., or make it the `output` or `return`")


def _outermost(tokens: tuple[Token, ...]) -> list[Token]:
    """The tokens outside of brackets."""
    depth = 0
    found = []
    for token in tokens:
        depth += (token in {"(", "[", "{"}) - (token in {")", "]", "}"})
        if depth == 0:
            found.append(token)
    return found


RULES = (
    keyword_as_name,
    several_statements,
    missing_name,
    missing_parameters,
    several_names,
    weight_equals,
    weight_without_draw,
    shape_without_brackets,
    input_equals,
    width_value,
    loop_without_in,
    walrus,
    annotation,
    comparison_for_assignment,
    assignment_for_comparison,
    combined_assignment,
    second_equals,
    expression_as_statement,
)
