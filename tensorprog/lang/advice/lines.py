"""Mistakes of blocks: colons, indentation, what may stand where."""

from __future__ import annotations

from difflib import get_close_matches

from tensorprog.errors import Diagnostic
from tensorprog.lang.grammar import keywords
from tensorprog.lang.mistakes import HEADERS, Mistake, shown

_DECLARATIONS = frozenset({"PROGRAM", "BLOCK", "DEF", "USE"})
_STATEMENTS = frozenset({"WIDTH", "INPUT", "WEIGHT", "OUTPUT", "FOR", "IF", "RETURN"})
_FOREIGN = {
    "import": 'blocks and functions of another file: use "blocks.tp" (cell, head)',
    "from": 'blocks and functions of another file: use "blocks.tp" (cell, head)',
    "include": 'blocks and functions of another file: use "blocks.tp" (cell, head)',
    "while": "loops run over ranges and axes: for l in 1..depth:",
    "let": "assign directly: h = ...",
    "var": "assign directly: h = ...",
    "const": "parameters stand in the header: program name(depth = 3):",
    "param": "parameters stand in the header: program name(depth = 3):",
    "pass": "leave the block out",
    "break": "a program is straight-line: loops run to their end",
    "continue": "a program is straight-line: loops run to their end",
    "class": "a program is declared by `program name(...):`, a part of it by `block name(...):`",
    "function": "a function is declared by def name(u) = ..., a block by block name(h): ...",
    "lambda": "a function is declared by def name(u) = ...",
    "layer": "a reusable part is declared by block name(h): ...",
    "model": "a program is declared by `program name(...):`",
    "network": "a program is declared by `program name(...):`",
    "print": "what the program gives is declared by `output`",
    "elseif": "write elif",
    "elsif": "write elif",
    "switch": "write if / elif / else",
    "match": "write if / elif / else",
    "assert": "write if / else",
    "bias": "write weight b: [n] ~ N(0, sb^2)",
    "parameter": "write weight W: [n, n] ~ N(0, sw^2 / n)",
    "dim": "write width n = 512",
}


def missing_body(m: Mistake) -> Diagnostic | None:
    """`for t in T:` and then no deeper line."""
    if m.accepts != {"_INDENT"}:
        return None
    word = m.header.tokens[0]
    hint = "indent the lines of the body by four spaces"
    return m.says(f"`{word}` has no body", hint, at=m.header.tokens[-1])


def unexpected_indent(m: Mistake) -> Diagnostic | None:
    if m.token.type != "_INDENT":
        return None
    if m.number == 0:
        return m.says("the first line is indented", "declarations begin at the left margin", at=m.first)
    hint = "only lines after a `:` at the end of a line are indented more"
    return m.says("this line is indented more than the line above", hint, at=m.first)


def else_if(m: Mistake) -> Diagnostic | None:
    if m.before is None or m.before.type != "ELSE" or m.token.type != "IF":
        return None
    return m.says_from(m.before, "`else if` is written `elif`")


def missing_colon(m: Mistake) -> Diagnostic | None:
    """`for t in T` at the end of a line, or `else` alone."""
    if not (m.first.type in HEADERS and m.token.type == "_NEWLINE" and m.expects("COLON")):
        return None
    return m.says(f"`:` is missing at the end of this `{m.first}` line")


def body_on_header(m: Mistake) -> Diagnostic | None:
    """`for t in T: h = 1`."""
    if not (m.first.type in HEADERS and m.accepts == {"_NEWLINE"} and m.before == ":"):
        return None
    return m.says(f"the body of `{m.first}` begins on the next line", "indent it by four spaces")


def function_with_colon(m: Mistake) -> Diagnostic | None:
    """`def f(u): return u`."""
    if m.first.type != "DEF" or m.token != ":":
        return None
    return m.says("a function is one expression", "write def f(u) = ..., or block f(h): with statements and a `return`")


def foreign_word(m: Mistake) -> Diagnostic | None:
    """A line that begins with a word of another language, or a misspelled keyword."""
    if m.position > 1 or m.first.type != "NAME" or m.token.type == "EQUAL":
        return None
    word = str(m.first)
    if word in _FOREIGN:
        return m.says(f"there is no `{word}` here", _FOREIGN[word], at=m.first)
    close = get_close_matches(word.lower(), sorted(keywords()), n=1, cutoff=0.75)
    if close and m.line[1:] and (m.position == 0 or m.token.type in {"NAME", "STRING", "NUMBER", "COLON"}):
        return m.says(f"unknown word `{word}`", f"did you mean `{close[0]}`?", at=m.first)
    return None


def outside_program(m: Mistake) -> Diagnostic | None:
    """A statement at the left margin."""
    if m.position > 0 or not m.expects("PROGRAM"):
        return None
    if m.first.type in {"ELIF", "ELSE"}:
        return m.says(f"`{m.first}` without an `if` above it")
    if m.first.type in _STATEMENTS or m.first.type == "NAME":
        return m.says("this statement stands outside a program", "begin with `program name(parameters):` and indent")
    return m.says(f"a declaration cannot begin with {shown(m.token)}", "it begins with program, block, def or use")


def inside_program(m: Mistake) -> Diagnostic | None:
    """A declaration among statements, or a line that begins no statement."""
    if m.position > 0 or not m.expects("WEIGHT"):
        return None
    if m.first.type in _DECLARATIONS:
        return m.says(f"`{m.first}` stands at the left margin, outside of programs and blocks")
    if m.first.type in {"ELIF", "ELSE"}:
        return m.says(f"`{m.first}` without an `if` above it", "it stands below the `if`, with the same indentation")
    return m.says(f"a statement cannot begin with {shown(m.token)}")


RULES = (
    missing_body,
    unexpected_indent,
    else_if,
    missing_colon,
    body_on_header,
    function_with_colon,
    foreign_word,
    outside_program,
    inside_program,
)
