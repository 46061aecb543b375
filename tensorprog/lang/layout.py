"""Tokens -> logical lines with their indentation, and back to tokens with _NEWLINE, _INDENT, _DEDENT.

    for t in T:             Line(level 0)   FOR NAME IN NAME COLON _NEWLINE
        s = f(s,            Line(level 1)   _INDENT NAME EQUAL NAME LPAR NAME COMMA NAME RPAR _NEWLINE
              t)                            _DEDENT

Inside brackets a line continues.  Brackets and indentation are checked here, before the parser runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

from lark import Token

from tensorprog.errors import Source, Span, fail
from tensorprog.lang.lexing import end, span_of, start, tokenize

MAX_BRACKETS = 100
MAX_LEVELS = 40

_CLOSING = {"(": ")", "[": "]", "{": "}"}
STATEMENT_WORDS = frozenset(
    {"PROGRAM", "BLOCK", "DEF", "USE", "WIDTH", "INPUT", "WEIGHT", "OUTPUT", "FOR", "IF", "ELIF", "ELSE", "RETURN"}
)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """A logical line: its tokens without the line end, the column it begins at (from 0), its level."""

    tokens: tuple[Token, ...]
    column: int
    level: int


def read_lines(source: Source) -> list[Line]:
    """The logical lines of `source`; lines that are blank or only a comment are left out.

    Raises TensorProgError for a wrong character, an unbalanced bracket or a wrong indentation.
    """
    groups = list(_logical(source, tokenize(source)))
    columns = [_column(source, group[0]) for group in groups]
    levels = _levels(source, groups, columns)
    return [Line(tuple(group), column, level) for group, column, level in zip(groups, columns, levels, strict=True)]


def with_layout(line: Line, previous: Line | None) -> Iterator[Token]:
    """The tokens of `line` with the change of level before it and _NEWLINE after it."""
    level = previous.level if previous else 0
    first, last = line.tokens[0], line.tokens[-1]
    yield from _level_change(level, line.level, first)
    yield from line.tokens
    yield _mark("_NEWLINE", end(last), last)


def end_of_file(last: Line) -> Iterator[Token]:
    """What follows the last line: back to level 0, then the end."""
    yield from _level_change(last.level, 0, last.tokens[-1])
    yield _mark("$END", end(last.tokens[-1]), last.tokens[-1])


def _level_change(before: int, after: int, at: Token) -> Iterator[Token]:
    """One _INDENT, or as many _DEDENT as needed, placed where `at` begins."""
    if after > before:
        yield _mark("_INDENT", start(at), at)
    for _ in range(after, before):
        yield _mark("_DEDENT", start(at), at)


def _mark(kind: str, place: int, near: Token) -> Token:
    return Token(kind, "", place, near.line, near.column, near.end_line, near.end_column, place)


# ---------------------------------------------------------------- brackets


def _logical(source: Source, tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """Tokens by logical line: a line end counts only outside brackets."""
    line: list[Token] = []
    opened: list[Token] = []
    fresh = True
    for token in tokens:
        if token.type == "_NEWLINE":
            fresh = True
            if line and not opened:
                yield line
                line = []
            continue
        if opened and fresh and token.type in STATEMENT_WORDS:
            break
        _follow_brackets(source, token, opened)
        line.append(token)
        fresh = False
    if opened:
        raise _unclosed(source, opened[-1])
    if line:
        yield line


def _follow_brackets(source: Source, token: Token, opened: list[Token]) -> None:
    """Pushes or pops the brackets that are open after `token`."""
    if token in _CLOSING and token.type != "STRING":
        opened.append(token)
        if len(opened) > MAX_BRACKETS:
            raise fail(f"brackets are nested more than {MAX_BRACKETS} deep", span_of(source, token), "name the parts")
    elif token in _CLOSING.values():
        if not opened:
            raise fail(f"`{token}` closes a bracket that was never opened", span_of(source, token))
        opener = opened.pop()
        if _CLOSING[opener] != token:
            place = span_of(source, token)
            message = f"`{opener}` is closed by `{token}` (line {place.line}, column {place.column})"
            raise fail(message, span_of(source, opener), f"close it with `{_CLOSING[opener]}`")


def _unclosed(source: Source, opener: Token) -> Exception:
    return fail(f"`{opener}` is never closed", span_of(source, opener), f"add `{_CLOSING[opener]}`")


# ---------------------------------------------------------------- indentation


def _column(source: Source, first: Token) -> int:
    """How many spaces stand before the first token of a line."""
    line_start = source.text.rfind("\n", 0, start(first)) + 1
    return len(source.text[line_start : start(first)].lstrip("\ufeff"))


def _levels(source: Source, groups: list[list[Token]], columns: list[int]) -> list[int]:
    """The level of every line: deeper than the line before is one more, else it returns to an open column."""
    open_columns = [0]
    levels = []
    for group, column in zip(groups, columns, strict=True):
        if column > open_columns[-1]:
            open_columns.append(column)
        while column < open_columns[-1]:
            closed = open_columns.pop()
            if column > open_columns[-1]:
                raise _wrong_dedent(source, group[0], column, [*open_columns, closed])
        if len(open_columns) > MAX_LEVELS:
            raise fail(f"blocks are nested more than {MAX_LEVELS} deep", span_of(source, group[0]))
        levels.append(len(open_columns) - 1)
    return levels


def _wrong_dedent(source: Source, first: Token, column: int, known: list[int]) -> Exception:
    place = start(first)
    choices = ", ".join(str(k) for k in known[:-1]) + f" or {known[-1]}"
    return fail(
        f"this line is indented by {column} spaces, which fits no line above",
        Span(source, place - column, place),
        f"indent it by {choices} spaces",
    )
