"""Finds `grammar/tp.lark` and makes the parser of it, once per process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lark import Lark

_PACKAGE = Path(__file__).resolve().parent.parent


def grammar_text() -> str:
    """The grammar: inside the package when installed from a wheel, beside it in a checkout."""
    places = [_PACKAGE / "grammar" / "tp.lark", _PACKAGE.parent / "grammar" / "tp.lark"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError("the installation of tensorprog is incomplete: grammar/tp.lark is missing")
    return found.read_text(encoding="utf-8")


@cache
def grammar() -> Lark:
    """The LALR(1) parser of .tp.  Lexing is separate (`basic`), so that lines are known before parsing."""
    return Lark(
        grammar_text(), start="module", parser="lalr", lexer="basic", propagate_positions=True, maybe_placeholders=True
    )


@cache
def keywords() -> frozenset[str]:
    """The words that cannot be names: `program`, `for`, `lr`, ..."""
    words = (terminal.pattern.value for terminal in grammar().terminals if terminal.pattern.type == "str")
    return frozenset(word for word in words if word.isalpha())
