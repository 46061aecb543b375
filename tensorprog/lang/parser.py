"""Text -> syntax tree: `parse`.

The parser is fed line by line.  A line it refuses is explained (hints.py), replaced by BROKEN, and the
parse begins anew, so that one run tells the mistakes of several lines.
"""

from __future__ import annotations

from collections.abc import Iterator

from lark import Token, Tree
from lark.exceptions import UnexpectedToken

from tensorprog.errors import Diagnostic, Source, Span, TensorProgError
from tensorprog.lang.build import build
from tensorprog.lang.grammar import grammar
from tensorprog.lang.hints import explain
from tensorprog.lang.layout import Line, end_of_file, read_lines, with_layout
from tensorprog.lang.mistakes import Mistake
from tensorprog.lang.syntax import Module

MAX_REPORTED = 10
MAX_REPEATED = 5000  # tokens of a file that is parsed again to look for further mistakes


def parse(source: Source) -> Module:
    """The syntax tree of `source`; every node knows its place.

    Raises TensorProgError with every mistake of form that was found, at least the first one.
    """
    return parse_lines(source, read_lines(source))


def parse_lines(source: Source, lines: list[Line]) -> Module:
    """`parse` when the lines are known already."""
    if not lines:
        raise TensorProgError([_empty(source)])
    return build(source, _tree(source, lines))


def _empty(source: Source) -> Diagnostic:
    place = Span(source, 0, 0)
    return Diagnostic("the file declares nothing", place, "a program begins with `program name(parameters):`")


def _tree(source: Source, lines: list[Line]) -> Tree[Token]:
    """The lark tree of all lines, or all mistakes."""
    mistakes: dict[int, Mistake] = {}
    limit = MAX_REPORTED if sum(len(line.tokens) for line in lines) <= MAX_REPEATED else 1
    while True:
        result = _attempt(source, lines, frozenset(mistakes))
        if not isinstance(result, Mistake):
            break
        stuck = result.number in mistakes
        mistakes.setdefault(result.number, result)
        if stuck or result.is_final() or len(mistakes) == limit:
            break
    if mistakes:
        raise TensorProgError([explain(mistakes[number]) for number in sorted(mistakes)])
    assert isinstance(result, Tree)
    return result


def _attempt(source: Source, lines: list[Line], broken: frozenset[int]) -> Tree[Token] | Mistake:
    """One parse in which the lines numbered in `broken` are only held open; the first refused token, if any."""
    parser = grammar().parse_interactive()
    tree: Tree[Token] | None = None
    for number, token in _stream(lines, broken):
        try:
            tree = parser.feed_token(token)
        except UnexpectedToken:
            accepts = frozenset(parser.accepts())  # type: ignore[no-untyped-call]  # lark leaves it untyped
            return Mistake(source, lines, number, token, accepts)
    assert tree is not None
    return tree


def _stream(lines: list[Line], broken: frozenset[int]) -> Iterator[tuple[int, Token]]:
    """All tokens with the number of their line."""
    previous: Line | None = None
    for number, line in enumerate(lines):
        for token in with_layout(_stand_in(line) if number in broken else line, previous):
            yield number, token
        previous = line
    for token in end_of_file(lines[-1]):
        yield len(lines) - 1, token


def _stand_in(line: Line) -> Line:
    """`line` with all of its tokens replaced by one BROKEN."""
    first = line.tokens[0]
    return Line((Token.new_borrow_pos("BROKEN", str(first), first),), line.column, line.level)
