"""Finds `grammar/tp.lark` and makes the parser of it, once for all processes where there is a cache folder."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from lark import Lark

from tensorprog.files import cache_folder

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
        grammar_text(),
        start="module",
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=True,
        cache=_kept() or False,
    )


def _kept() -> str:
    """The file of the parser, which lark writes anew when the grammar or its version changes; "" if there is none."""
    place = cache_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(place / "grammar") if os.access(place, os.W_OK) else ""


@cache
def keywords() -> frozenset[str]:
    """The words that cannot be names: `program`, `for`, `lr`, ..."""
    words = (terminal.pattern.value for terminal in grammar().terminals if terminal.pattern.type == "str")
    return frozenset(word for word in words if word.isalpha())
