"""Supports of moments in loops: the least sets of index pairs that contain what leads into them.

    support(k) = union over terms t of k of  { target(x, y) :  source_g(x, y) in support(g) for all groups g of t }

A term is an expansion of one side, a pair of products with the same weight (x and y meet in an element of it), or a
product of moments; x and y run over its entries on both sides.  Pairs are followed from where they come in: a
recurrence of T steps reaches a line of pairs, whose T x T surroundings are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.tables import Ints, distinct

Moment = tuple[str, str]
Mask = NDArray[np.bool_]
LINES = 16
"""So many lines of pairs may come in at once; where there are more, every pair counts."""


@final
@dataclass(frozen=True)
class Entries:
    """The entries of a term on one side: `target` of every entry, `element` of a weight (None: all meet)."""

    target: Ints
    element: Ints | None = None


@final
@dataclass(frozen=True, slots=True)
class Source:
    """A moment that a term reads, at elements left[x], right[y] (-1: at none)."""

    moment: Moment
    left: Ints
    right: Ints


@final
@dataclass(frozen=True, slots=True)
class Term:
    """What contributes to a moment."""

    left: Entries
    right: Entries
    sources: tuple[Source, ...]

    def pairs(self) -> tuple[Ints, Ints]:
        """All pairs of entries that meet."""
        x, y = (a.ravel() for a in np.indices((len(self.left.target), len(self.right.target))))
        return self.meeting(x, y)

    def meeting(self, x: Ints, y: Ints) -> tuple[Ints, Ints]:
        """The pairs that meet."""
        if self.left.element is None or self.right.element is None:
            return x, y
        a = self.left.element[x]
        met = (a == self.right.element[y]) & (a >= 0)
        return x[met], y[met]


@final
@dataclass(frozen=True, slots=True)
class Readers:
    """The entries that read each element of a source: entries[start[k]:start[k + 1]]."""

    start: Ints
    entries: Ints

    def of(self, elements: Ints) -> tuple[Ints, Ints]:
        """(position in `elements`, entry) of every reading."""
        counts = self.start[elements + 1] - self.start[elements]
        position = np.repeat(np.arange(len(elements)), counts)
        within = np.arange(len(position)) - np.repeat(np.cumsum(counts) - counts, counts)
        return position, self.entries[self.start[elements][position] + within]


def readers(source: Ints, size: int) -> Readers:
    """The readers of elements 0 to size - 1 by entries of which source[x] is the element that is read."""
    order = np.argsort(source, kind="stable")
    return Readers(np.searchsorted(source[order], np.arange(size + 1)), order)


@dataclass
class Reach:
    """The supports of moments that lead to each other: `terms` of each, its `shape`, and those `known` before.

    The support None is every pair.
    """

    terms: Mapping[Moment, Sequence[Term]]
    shape: Callable[[Moment], tuple[int, int]]
    known: Callable[[Moment], Mask | None]
    found: dict[Moment, Mask | None] = field(default_factory=dict)

    def settle(self) -> dict[Moment, Mask | None]:
        """The supports."""
        self.found = {m: np.zeros(self.shape(m), dtype=bool) for m in self.terms}
        while any(self._opened(m) for m, mask in self.found.items() if mask is not None):
            pass
        self._follow()
        return {m: None if mask is None or mask.all() else mask for m, mask in self.found.items()}

    def _mask(self, moment: Moment) -> Mask | None:
        return self.found[moment] if moment in self.found else self.known(moment)

    def _opened(self, moment: Moment) -> bool:
        """Whether a term brings in every pair, or too many to follow."""
        rows, cols = self.shape(moment)
        for term in self.terms[moment]:
            if all(self._mask(s.moment) is None for s in term.sources):
                free = term.left.element is None and len(term.left.target) * len(term.right.target) >= rows * cols
                if free or len(term.left.target) * len(term.right.target) > LINES * (rows + cols):
                    self.found[moment] = None
                    return True
        return False

    def _follow(self) -> None:
        """From the pairs that come in to those that they lead to."""
        reading: dict[Moment, list[tuple[Moment, Term, Readers, Readers]]] = {}
        waiting: list[tuple[Moment, Ints]] = []
        for m, mask in self.found.items():
            for term in self.terms[m] if mask is not None else ():
                sources = [s for s in term.sources if self._mask(s.moment) is not None]
                if all(s.moment not in self.found for s in sources):  # nothing of it is still to be found
                    waiting.append((m, self._new(m, term, *term.pairs())))
                for s in sources:
                    if s.moment in self.found:
                        rows, cols = self.shape(s.moment)
                        sides = readers(s.left, rows), readers(s.right, cols)
                        reading.setdefault(s.moment, []).append((m, term, *sides))
        while waiting:
            moment, codes = waiting.pop()
            i, j = np.divmod(codes, self.shape(moment)[1])
            for m, term, left, right in reading.get(moment, ()) if len(codes) else ():
                position, x = left.of(i)
                second, y = right.of(j[position])
                waiting.append((m, self._new(m, term, *term.meeting(x[second], y))))

    def _new(self, moment: Moment, term: Term, x: Ints, y: Ints) -> Ints:
        """The pairs (as numbers) to which these entries lead for the first time; they are marked."""
        for s in term.sources:
            mask = self._mask(s.moment)
            if mask is not None:
                i, j = s.left[x], s.right[y]
                alive = mask[i, j] & (i >= 0) & (j >= 0)
                x, y = x[alive], y[alive]
        mask = self.found[moment]
        assert mask is not None
        codes = distinct(term.left.target[x] * mask.shape[1] + term.right.target[y], mask.size)
        new = codes[~mask.ravel()[codes]]
        mask.ravel()[new] = True
        return new
