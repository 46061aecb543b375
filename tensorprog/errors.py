"""Sources, spans and the one way a user's mistake is told.

Every user error is a `Diagnostic`: what, where (line and caret), why, what to do.  Stages collect
diagnostics where they can and raise them together as one `TensorProgError`.  A traceback is never
shown for a user's mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A text and the name under which errors speak of it (a path, or `<string>`)."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """The text of the 1-based line `number` without its line end."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 1 <= number <= len(lines) else ""


@final
@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` (included) to `end` (excluded) of a source."""

    source: Source = field(repr=False, compare=False)
    start: int
    end: int

    @property
    def line(self) -> int:
        """1-based line of the first character."""
        return self.source.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """1-based column of the first character."""
        return self.start - (self.source.text.rfind("\n", 0, self.start) + 1) + 1

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.source, self.start, other.end)


@final
@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message: `severity` is "error", "warning" or "note"."""

    message: str
    span: Span | None = None
    hint: str | None = None
    severity: str = "error"

    def render(self) -> str:
        """`file:line:column: error: message`, the line, carets under the place, the hint."""
        parts = []
        message = _shortened(self.message)
        if self.span is None:
            parts.append(f"{self.severity}: {message}")
        else:
            parts.append(f"{self._place()}: {self.severity}: {message}")
            parts.extend(self._picture())
        if self.hint:
            parts.append(f"  hint: {_shortened(self.hint)}")
        return "\n".join(parts)

    def _place(self) -> str:
        assert self.span is not None
        return f"{self.span.source.name}:{self.span.line}:{self.span.column}"

    def _picture(self) -> list[str]:
        assert self.span is not None
        text = self.span.source.line(self.span.line)
        column = self.span.column
        width = max(1, min(self.span.end - self.span.start, len(text) - column + 1))
        shown, offset = _clip(text, column)
        carets = " " * (column - 1 - offset) + "^" * min(width, 100)
        return [f"  | {shown}", f"  | {carets}"]


def _shortened(text: str, limit: int = 1000) -> str:
    """The beginning and the end of a long text: names in messages may be as long as the file."""
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"


def _clip(text: str, column: int, limit: int = 160) -> tuple[str, int]:
    """A window of at most `limit` characters of `text` around `column`, and its offset."""
    if len(text) <= limit:
        return text, 0
    offset = max(0, column - 1 - limit // 4)
    return text[offset : offset + limit], offset


class TensorProgError(Exception):
    """A user's mistake.  `diagnostics` holds every message; the command line exits with 2."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.render() for d in self.diagnostics))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return (type(self), (self.diagnostics,))


def fail(message: str, span: Span | None = None, hint: str | None = None) -> TensorProgError:
    """A `TensorProgError` of one message, to be raised by the caller."""
    return TensorProgError([Diagnostic(message, span, hint)])


def spoken(size: float) -> str:
    """An amount of memory in words, to three digits."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= u), (1.0, "bytes"))
    return f"{float(f'{size / unit:.3g}'):g} {name}"
