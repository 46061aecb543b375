"""Sums -> combinations: all that is added to a slot in one instruction, and as few slots as there need to be.

    S[o] = c1 * S[a];   S[p] += c2 * S[o] * S[b];   S[p] += c3         ->      S[p] = c1 c2 * S[a] * S[b] + c3

Scaled copies and constants are put in where they are used, what nobody reads is dropped, and terms of a slot are
joined, so that it is written a few times only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.lower import Operand, Sum
from tensorprog.ir.tables import Ints

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Form = tuple[str, ...]  # where the operands of a term are
WIDTHS = np.array([1, 2, 4, 12])
"""The numbers of terms for which there is code; between them terms are filled up with zeros.  What is left of more
terms than the largest is filled up to the largest, so that sums over many steps have one code."""


@final
@dataclass(frozen=True, slots=True)
class Combination:
    """S[out] (+)= sum over terms t of coef[:, t] * product of rows[t]; it sets the slot when it is the `first`.

    forms[t] says where the operands of term t are, rows[t] are their rows, an array each; out [N], coef [N, T].
    """

    out: Ints
    coef: Floats
    forms: tuple[Form, ...]
    rows: tuple[tuple[Ints, ...], ...]
    first: bool


@final
@dataclass(frozen=True, slots=True)
class _Terms:
    """Terms as a table: S[out] += coef * product of rows[:, :len(forms[form])]."""

    out: Ints
    coef: Floats
    form: Ints
    rows: Ints
    forms: tuple[Form, ...]

    def where(self, mask: Bools) -> _Terms:
        """Those that a mask chooses."""
        return replace(self, out=self.out[mask], coef=self.coef[mask], form=self.form[mask], rows=self.rows[mask])

    def own(self) -> Bools:
        """Which rows are slots, [terms, operands]."""
        width = self.rows.shape[1]
        table = np.array([[w == "own" for w in f] + [False] * (width - len(f)) for f in self.forms], dtype=bool)
        return table.reshape(len(self.forms), width)[self.form]


def combined(sums: Sequence[Sum], kept: Ints, size: int) -> list[Combination]:
    """The combinations that give the slots `kept`."""
    terms = _table(sums)
    terms = terms.where(~(terms.own() & (terms.rows == 0)).any(axis=1))
    terms = _propagated(terms, kept, size)
    terms = _used(terms, kept, size)
    return list(_joined(terms))


def _table(sums: Sequence[Sum]) -> _Terms:
    width = max((len(s.operands) for s in sums), default=0)
    forms = tuple(dict.fromkeys(tuple(o.where for o in _sorted(s)) for s in sums))
    blocks = []
    for s in sums:
        rows = np.zeros((len(s.out), width), dtype=np.int64)
        for k, o in enumerate(_sorted(s)):
            rows[:, k] = o.rows
        form = forms.index(tuple(o.where for o in _sorted(s)))
        blocks.append((s.out, s.coef, np.full(len(s.out), form), rows))
    out, coef, kind, rows = (np.concatenate(x) for x in zip(*blocks, strict=True))
    return _Terms(out, coef.astype(np.float64), kind, rows, forms)


def _sorted(s: Sum) -> list[Operand]:
    return sorted(s.operands, key=lambda o: o.where)


# ---------------------------------------------------------------- putting in


def _propagated(terms: _Terms, kept: Ints, size: int) -> _Terms:
    """Slots that are c * another slot, or c, replaced where they are read; kept ones stay beside."""
    while True:
        alone = np.bincount(terms.out, minlength=size)[terms.out] == 1
        source, factor = np.arange(size), np.ones(size)
        for form, known in ((("own",), True), ((), False)):
            if form in terms.forms:
                chosen = alone & (terms.form == terms.forms.index(form))
                source[terms.out[chosen]] = terms.rows[chosen, 0] if known else -1
                factor[terms.out[chosen]] = terms.coef[chosen]
        own = terms.own()
        hit = own & (source[terms.rows] != terms.rows)
        if not hit.any():
            return terms
        terms = _replaced(terms, hit, source, factor)


def _replaced(terms: _Terms, hit: Bools, source: Ints, factor: Floats) -> _Terms:
    """One round of replacement; an operand that is a number goes away."""
    coef = terms.coef * np.where(hit, factor[terms.rows], 1.0).prod(axis=1)
    rows = np.where(hit, source[terms.rows], terms.rows)
    forms = list(terms.forms)
    form = terms.form.copy()
    gone = hit & (rows == -1)
    for f in range(len(terms.forms)):
        members = np.flatnonzero((terms.form == f) & gone.any(axis=1))
        for pattern in np.unique(gone[members], axis=0):
            chosen = members[(gone[members] == pattern).all(axis=1)]
            left = tuple(w for w, g in zip(terms.forms[f], pattern, strict=False) if not g)
            if left not in forms:
                forms.append(left)
            form[chosen] = forms.index(left)
            stay = np.flatnonzero(~pattern[: len(terms.forms[f])])
            rows[chosen[:, None], np.arange(len(stay))] = rows[chosen[:, None], stay]
            rows[chosen, len(stay) :] = 0
    return _Terms(terms.out, coef, form, rows, tuple(forms))


def _used(terms: _Terms, kept: Ints, size: int) -> _Terms:
    """The terms that the slots `kept` depend on."""
    used = np.zeros(size, dtype=bool)
    used[kept] = True
    own = terms.own()
    while True:
        alive = used[terms.out]
        new = np.zeros(size, dtype=bool)
        new[terms.rows[alive][own[alive]]] = True
        if not (new & ~used).any():
            return terms.where(alive)
        used |= new


# ---------------------------------------------------------------- joining


def _joined(terms: _Terms) -> Iterator[Combination]:
    """Terms of equal slots and forms side by side, in combinations of some widths."""
    order = np.lexsort((terms.form, terms.out))
    out, form = terms.out[order], terms.form[order]
    slot = np.flatnonzero(np.diff(out, prepend=-1))
    first = np.isin(np.arange(len(out)), slot)
    run = np.flatnonzero(first | (np.diff(form, prepend=-1) != 0))
    rank = np.arange(len(out)) - np.repeat(run, np.diff([*run, len(out)]))
    starts = np.flatnonzero(rank % WIDTHS[-1] == 0)
    lengths = np.diff([*starts, len(out)])
    widths = np.where(rank[starts] > 0, WIDTHS[-1], WIDTHS[np.searchsorted(WIDTHS, lengths)])
    table = np.stack([form[starts], widths, first[starts]], axis=1)
    for pattern in np.unique(table, axis=0):
        chosen = (table == pattern).all(axis=1)
        at, length, width = starts[chosen], lengths[chosen], int(pattern[1])
        column = np.arange(width)
        entries = order[at[:, None] + np.minimum(column, length[:, None] - 1)]
        coef = np.where(column < length[:, None], terms.coef[entries], 0.0)
        operands = range(len(terms.forms[pattern[0]]))
        rows = tuple(tuple(terms.rows[entries[:, t], k] for k in operands) for t in range(width))
        yield Combination(out[at], coef, (terms.forms[pattern[0]],) * width, rows, bool(pattern[2]))
