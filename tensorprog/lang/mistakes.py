"""A token that the parser refused, and the line around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lark import Token

from tensorprog.errors import Diagnostic, Source, Span
from tensorprog.lang.layout import Line
from tensorprog.lang.lexing import end, span_of, start

HEADERS = frozenset({"PROGRAM", "BLOCK", "FOR", "IF", "ELIF", "ELSE"})
OPERAND_ENDS = frozenset({"NAME", "NUMBER", "RPAR", "RSQB", "RBRACE", "TRANSPOSE", "STRING"})
OPERAND_STARTS = frozenset({"NAME", "NUMBER", "LPAR", "LSQB", "LBRACE", "STRING", "NOT"})


@final
@dataclass(frozen=True, slots=True)
class Mistake:
    """The parser refused `token` of line `lines[number]`; it would have accepted the terminals `accepts`."""

    source: Source
    lines: list[Line]
    number: int
    token: Token
    accepts: frozenset[str]

    @property
    def line(self) -> tuple[Token, ...]:
        """The tokens of the line, without layout."""
        return self.lines[self.number].tokens

    @property
    def first(self) -> Token:
        """The token that the line begins with."""
        return self.line[0]

    @property
    def position(self) -> int:
        """Which token of the line was refused; the length of the line when it was its end."""
        for position, token in enumerate(self.line):
            if token is self.token:
                return position
        return 0 if self.token.type in {"_INDENT", "_DEDENT"} else len(self.line)

    @property
    def before(self) -> Token | None:
        """The token on the left of the refused one, in the same line."""
        return self.line[self.position - 1] if self.position > 0 else None

    @property
    def after(self) -> Token | None:
        """The token on the right of the refused one, in the same line."""
        return self.line[self.position + 1] if self.position + 1 < len(self.line) else None

    @property
    def header(self) -> Line:
        """The line whose body was expected here."""
        return self.lines[self.number if self.token.type == "$END" else self.number - 1]

    def expects(self, *terminals: str) -> bool:
        """Whether the parser would have accepted any of `terminals`."""
        return not self.accepts.isdisjoint(terminals)

    def expects_operand(self) -> bool:
        """Whether an expression may begin here."""
        return {"NAME", "NUMBER", "LPAR"} <= self.accepts

    def touches(self) -> bool:
        """Whether no space stands on the left of the refused token."""
        return self.before is not None and end(self.before) == start(self.token)

    def is_final(self) -> bool:
        """Whether the lines that follow can no longer be judged."""
        outside = self.position == 0 and self.lines[self.number].level == 0
        return outside or self.first.type in {"IF", "ELIF", "ELSE"} or self.token.type in {"_INDENT", "_DEDENT", "$END"}

    def says(self, message: str, hint: str | None = None, at: Token | None = None) -> Diagnostic:
        """A message that points at the refused token, or at another one."""
        return Diagnostic(message, span_of(self.source, at or self.token), hint)

    def says_from(self, begin: Token, message: str, hint: str | None = None) -> Diagnostic:
        """A message that points at everything from `begin` to the refused token."""
        return Diagnostic(message, Span(self.source, start(begin), end(self.token)), hint)


def shown(token: Token) -> str:
    """How a token is called in a message."""
    if token.type in {"_NEWLINE", "$END"}:
        return "the end of the " + ("line" if token.type == "_NEWLINE" else "file")
    text = str(token)
    return f"`{text}`" if len(text) <= 40 else f"`{text[:37]}...`"
