"""What commands print: text or JSON on standard output, warnings and progress on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from fractions import Fraction
from typing import Any, final

from tensorprog.errors import Diagnostic

Progress = Callable[[str, float], None]


@final
@dataclass(frozen=True, slots=True)
class Console:
    """How a command speaks: `quiet` leaves out all but results and errors, `json` prints one object."""

    quiet: bool
    json: bool

    def say(self, text: str) -> None:
        """A result, or a part of one."""
        if not self.json:
            print(text, flush=True)

    def remark(self, text: str) -> None:
        """What a quiet user does not want."""
        if not (self.json or self.quiet):
            print(text, flush=True)

    def notes(self, notes: Iterable[Diagnostic]) -> None:
        """Warnings and notes on the program."""
        for note in () if self.quiet or self.json else notes:
            print(shown(note), file=sys.stderr)

    def result(self, data: Mapping[str, Any]) -> None:
        """The result as one JSON object, if that was asked for."""
        if self.json:
            print(json.dumps(plain({"ok": True, **data})))

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A callback that moves a bar on a terminal."""
        if self.quiet or self.json or not sys.stderr.isatty():
            yield lambda message, fraction: None
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Terminal(stderr=True), transient=True) as bars:
            task = bars.add_task("", total=1.0)
            yield lambda message, fraction: bars.update(task, description=message, completed=fraction)


def shown(d: Diagnostic) -> str:
    """The text of a diagnostic; control characters of the file must not reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in d.render())


def diagnostic_data(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic for an editor: 1-based line and column."""
    place = {} if d.span is None else {
        "file": d.span.source.name, "line": d.span.line, "column": d.span.column, "length": d.span.end - d.span.start
    }
    return {"severity": d.severity, "message": d.message, "hint": d.hint, **place}


def plain(value: Any) -> Any:
    """Results as JSON values; numbers that JSON does not have become null."""
    if isinstance(value, Diagnostic):
        return diagnostic_data(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float | Fraction):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value
