"""The canonical text of a .tp file: `format_source`.

Works on the words of the file, not on its tree, so that comments and the author's line breaks inside
brackets stay.  Canonical: four spaces per level, spaces as in spacing.py, at most one empty line in a
row, two spaces before a comment, and the `~` of neighbouring weights aligned when that costs little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from lark import Token

from tensorprog.errors import Source
from tensorprog.lang.layout import Line, read_lines
from tensorprog.lang.lexing import end
from tensorprog.lang.parser import parse_lines
from tensorprog.lang.spacing import follow, join

MAX_ALIGNMENT = 8
_INDENT = "    "


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result; `weight` marks a weight declaration that stands on one row."""

    text: str
    comment: str = ""
    weight: bool = False

    def render(self) -> str:
        gap = "  " if self.text.strip() and self.comment else ""
        return (self.text + gap + self.comment).rstrip()


def format_source(source: Source) -> str:
    """The canonical text of `source`: the same tree, the same comments; formatting it again changes nothing.

    Raises TensorProgError when `source` does not parse.
    """
    lines = read_lines(source)
    parse_lines(source, lines)
    rows = _Rows(source, lines).all()
    return "\n".join(row.render() for row in _align(_squeeze(rows))) + "\n"


class _Rows:
    """The rows of a file, in order: words line by line, comments where they stood."""

    def __init__(self, source: Source, lines: list[Line]) -> None:
        self.texts = [text.rstrip("\r").lstrip("\ufeff") for text in source.text.split("\n")]
        self.words: dict[int, list[Token]] = {}
        self.owner: dict[int, Line] = {}
        for line in lines:
            for token in line.tokens:
                self.words.setdefault(_row(token), []).append(token)
            for number in range(_row(line.tokens[0]), _row(line.tokens[-1]) + 1):
                self.owner[number] = line
        self.comments = self._comments(source)
        self.below = self._below()

    def _comments(self, source: Source) -> dict[int, str]:
        """Row number -> its comment: what follows the last word of the row, if anything does."""
        comments = {}
        row_start = 0
        for number, text in enumerate(source.text.split("\n"), 1):
            words = self.words.get(number)
            rest = source.text[end(words[-1]) : row_start + len(text)] if words else text.lstrip("\ufeff")
            if rest.strip():
                comments[number] = rest.strip()
            row_start += len(text) + 1
        return comments

    def _below(self) -> dict[int, Line]:
        """Row number -> the first line that begins on a later row."""
        below: dict[int, Line] = {}
        following: Line | None = None
        for number in range(len(self.texts), 0, -1):
            if following is not None:
                below[number] = following
            following = self.owner.get(number, following)
        return below

    def all(self) -> list[Row]:
        rows: list[Row] = []
        number = 1
        open_lines: list[Line] = []
        while number <= len(self.texts):
            line = self.owner.get(number)
            if line is not None:
                open_lines = [*(above for above in open_lines if above.level < line.level), line]
                rows.extend(self._line(line))
                number = _row(line.tokens[-1])
            else:
                rows.append(self._between(number, open_lines))
            number += 1
        return rows

    def _line(self, line: Line) -> list[Row]:
        """The rows of one logical line: its own breaks, four spaces per open bracket (eight in a header)."""
        first, last = _row(line.tokens[0]), _row(line.tokens[-1])
        step = _INDENT * 2 if line.tokens[-1] == ":" else _INDENT
        brackets: list[str] = []
        before: str | None = None
        rows = []
        for number in range(first, last + 1):
            words = [str(token) for token in self.words.get(number, [])]
            if not words and number not in self.comments:
                continue
            depth = len(brackets) - (words[:1] in ([")"], ["]"], ["}"]))
            text = _INDENT * line.level + step * depth + join(words, brackets, before)
            weight = first == last and line.tokens[0].type == "WEIGHT"
            rows.append(Row(text, self.comments.get(number, ""), weight))
            for word in words:
                follow(brackets, word)
                before = word
        return rows

    def _between(self, number: int, open_lines: list[Line]) -> Row:
        """An empty row, or a comment on its own: with the line below, or with the block above if it is deeper."""
        if number not in self.comments:
            return Row("")
        column = len(self.texts[number - 1]) - len(self.texts[number - 1].lstrip())
        following = self.below.get(number)
        level = following.level if following else 0
        deeper = [line.level for line in open_lines if line.level > level and line.column <= column]
        return Row(_INDENT * max(deeper, default=level), self.comments[number])


def _row(token: Token) -> int:
    assert token.line is not None
    return token.line


def _squeeze(rows: list[Row]) -> list[Row]:
    """No empty row at the ends, at most one in a row elsewhere."""
    kept: list[Row] = []
    for row in rows:
        if row.render() or (kept and kept[-1].render()):
            kept.append(row)
    while not kept[-1].render():
        kept.pop()
    return kept


def _align(rows: list[Row]) -> list[Row]:
    """Aligns `~` in runs of neighbouring weights of one block."""
    aligned: list[Row] = []
    run: list[Row] = []
    for row in rows:
        if run and not (row.weight and _indent(row) == _indent(run[0])):
            aligned += _aligned_run(run)
            run = []
        if row.weight:
            run.append(row)
        else:
            aligned.append(row)
    return aligned + _aligned_run(run)


def _indent(row: Row) -> int:
    return len(row.text) - len(row.text.lstrip())


def _aligned_run(run: list[Row]) -> list[Row]:
    """The `~` under each other, unless that moves one of them by more than MAX_ALIGNMENT."""
    places = [row.text.index("~") for row in run]
    if not run or max(places) - min(places) > MAX_ALIGNMENT:
        return run
    goal = max(places)
    return [
        replace(row, text=row.text[:place] + " " * (goal - place) + row.text[place:])
        for row, place in zip(run, places, strict=True)
    ]
