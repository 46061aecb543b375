"""What an equation defines, and to what its right side refers."""

from __future__ import annotations

from collections.abc import Iterator

from tensorprog.derivation.algebra import children
from tensorprog.derivation.notation import Element, Mean, Moment, Node

Key = tuple[str, ...]
"""("moment", u, v), ("mean", u) or ("scalar", s)."""


def key_of(node: Node) -> Key | None:
    """What equation defines a node."""
    match node:
        case Moment(left=u, right=v):
            return ("moment", u.name, v.name)
        case Mean(element=u):
            return ("mean", u.name)
        case Element(name=name):
            return ("scalar", name)
    return None


def references(node: Node) -> Iterator[Key]:
    """What a node refers to, the moments of Gaussian arguments not counted; repeated."""
    key = key_of(node)
    if key is not None:
        yield key
        return
    for child in children(node):
        yield from references(child)
