"""A derivation as a page: headings, sentences and displays, whatever they are printed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union, final

from tensorprog.derivation.notation import Node


@final
@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: str


@final
@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words, and formulas among them."""

    parts: tuple[str | Node, ...]


@final
@dataclass(frozen=True, slots=True)
class Line:
    """left = right, or one more term of the line before (`left` None); `inside` a recursion; a remark in words."""

    left: Node | None
    right: Node
    inside: bool = False
    remark: str = ""


@final
@dataclass(frozen=True, slots=True)
class Loop:
    """for index = first, ..., last: what the lines inside hold for."""

    index: str
    first: int
    last: int


@final
@dataclass(frozen=True, slots=True)
class Display:
    """Lines under each other, aligned at their equality signs."""

    lines: tuple[Line | Loop, ...]


Part = Union[Heading, Paragraph, Display]


@final
@dataclass(frozen=True, slots=True)
class Page:
    """The whole page."""

    title: str
    parts: tuple[Part, ...]
