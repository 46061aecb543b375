"""The one place that knows where spaces stand: the words of a line -> its text.

    h [ 2 * i + p ] = - sw ^ 2 / n        ->        h[2*i + p] = -sw^2 / n

Binary operators are spaced, except `^` and `..` everywhere and `*`, `/` directly inside square brackets.
"""

from __future__ import annotations

from collections.abc import Sequence

_OPENERS = frozenset("([{")
_CLOSERS = frozenset(")]}")
_TIGHT = frozenset({"^", "..", ".T"})
_TIGHT_IN_INDEX = frozenset({"*", "/"})
_WORDS = frozenset({"in", "if", "elif", "and", "or", "not", "lr", "return", "output"})
_OPERATORS = frozenset({"=", "~", "+", "-", "*", "/", "//", "%", "@", "^", "..", "==", "!=", "<", "<=", ">", ">="})
_BEFORE_SIGN = _OPERATORS | _OPENERS | _WORDS | {",", ":"}


def join(words: Sequence[str], opened: Sequence[str] = (), before: str | None = None) -> str:
    """The text of `words`, which stand inside the brackets `opened` and after the word `before`."""
    brackets = list(opened)
    text = ""
    left, left_is_sign = before, False
    for word in words:
        sign = word in {"+", "-"} and (left is None or left in _BEFORE_SIGN)
        if text and not left_is_sign and _spaced(left or "", word, brackets):
            text += " "
        text += word
        follow(brackets, word)
        left, left_is_sign = word, sign
    return text


def follow(brackets: list[str], word: str) -> None:
    """Updates the stack of open brackets by one word."""
    if word in _OPENERS:
        brackets.append(word)
    elif word in _CLOSERS:
        brackets.pop()


def _spaced(left: str, right: str, brackets: list[str]) -> bool:
    """Whether a space stands between two neighbours, signs apart."""
    if left in _OPENERS or right in _CLOSERS or right in {",", ":"}:
        return False
    tight = _TIGHT | _TIGHT_IN_INDEX if brackets[-1:] == ["["] else _TIGHT
    if left in tight - {".T"} or right in tight:
        return False
    return not (right in {"(", "["} and _is_name(left))


def _is_name(word: str) -> bool:
    """Whether a bracket after `word` belongs to it: `f(`, `x[`."""
    return (word[0].isalpha() or word[0] == "_") and word not in _WORDS
