"""Source -> tokens, and what to say about a character that begins no token."""

from __future__ import annotations

import unicodedata

from lark import Token
from lark.exceptions import UnexpectedCharacters

from tensorprog.errors import Source, Span, TensorProgError, fail
from tensorprog.lang.grammar import grammar


def tokenize(source: Source) -> list[Token]:
    """The tokens of `source`, line ends included, comments and spaces left out.

    Raises TensorProgError at the first character that begins no token.
    """
    try:
        return list(grammar().lex(source.text))
    except UnexpectedCharacters as error:
        assert error.pos_in_stream is not None
        raise _wrong_character(source, error.pos_in_stream) from None


def start(token: Token) -> int:
    """Where the token begins in the text."""
    assert token.start_pos is not None
    return token.start_pos


def end(token: Token) -> int:
    """Where the token ends in the text (excluded)."""
    assert token.end_pos is not None
    return token.end_pos


def span_of(source: Source, token: Token) -> Span:
    """The characters of the token."""
    return Span(source, start(token), end(token))


_HINTS = {
    "\t": "indent with spaces, four per level",
    "\r": "lines end with LF or CR LF",
    '"': 'a path ends on its line with a second quote: use "blocks.tp"',
    "!": "write `not`, or `!=` for comparison",
    "&": "write `and`",
    "|": "write `or`; the absolute value is abs(u)",
    ";": "one statement per line",
    "\\": "lines continue by themselves inside parentheses",
    "$": "names stand without $",
    "\u00a0": "replace the no-break space by a space",
    "\u2212": "write -",
    "\u2013": "write -",
    "\u00d7": "write * for numbers and coordinates, @ for matrices",
    "\u00b7": "write * for numbers and coordinates, @ for matrices",
    "\u00b2": "write ^2",
    "\u221a": "write sqrt(...)",
    "\u2211": "write sum(i in a..b)",
    "\u2264": "write <=",
    "\u2265": "write >=",
    "\u2260": "write !=",
    "\u201c": 'write straight quotes: "blocks.tp"',
    "\u201d": 'write straight quotes: "blocks.tp"',
}


def _wrong_character(source: Source, place: int) -> TensorProgError:
    character = source.text[place]
    span = Span(source, place, place + 1)
    if character == ".":
        return fail("a single `.` has no meaning here", span, _dot_hint(source.text, place))
    if character == "'":
        return fail("unexpected character `'`", span, _quote_hint(source.text, place))
    return fail(f"unexpected character {_shown(character)}", span, _HINTS.get(character) or _letter_hint(character))


def _quote_hint(text: str, place: int) -> str:
    left = text[:place][-1:]
    if left.isalnum() or left in {"_", "]", ")"}:
        return "the transpose of W is written W.T"
    return 'names of functions stand without quotes, paths in double quotes: use "blocks.tp"'


def _dot_hint(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 : place]
    if line.startswith("use "):
        return 'the path stands in quotes: use "blocks.tp" (cell, head)'
    if line.endswith(".."):
        return "a range has two dots: 1..3"
    if text[place + 1 : place + 2].isdigit():
        return "numbers begin with a digit: 0.5"
    if text[:place][-1:].isdigit():
        return "numbers end with a digit: 1.0; ranges are written a..b"
    return "W.T is the transpose of W, a..b a range; names have no other attributes"


def _shown(character: str) -> str:
    """The character with its Unicode name; characters that cannot be seen by name or code alone."""
    if character == "\t":
        return "TAB"
    name = unicodedata.name(character, "")
    code = f"U+{ord(character):04X}"
    if not character.isprintable() or character.isspace():
        return f"{code} {name}".rstrip()
    return f"`{character}`" if character.isascii() else f"`{character}` ({name or code})"


def _letter_hint(character: str) -> str | None:
    if not (character.isalpha() or unicodedata.combining(character)):
        return None
    words = unicodedata.name(character, "").split()
    rule = "names are made of the letters a-z and A-Z, digits and _"
    return f"{rule}: write {words[-1].lower()}" if words[:1] == ["GREEK"] else rule
