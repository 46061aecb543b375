"""What the terms of a tangent kernel are called: by their weights, told apart by the iterations that declare them.

    (W, b for l = 2..3)     or, where the index of the loop is part of the name,     (W_2, W_3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tensorprog.derivation.folding import Term
from tensorprog.derivation.levels import base
from tensorprog.ir.program import Iteration
from tensorprog.limit.analyse import Limit

Origins = Mapping[str, tuple[Iteration, ...]]
MOST = 3
"""Numbered weights of a term that are listed one by one."""


def labels(terms: Sequence[Term], limit: Limit) -> list[str]:
    """A label for every term."""
    origins = {w.name: w.origin for w in limit.source.weights}
    rows = [list(dict.fromkeys(map(base, weights))) for weights, _ in terms]
    several = {n for k, row in enumerate(rows) for n in row if any(n in other for other in rows[:k] + rows[k + 1 :])}
    found = []
    for (weights, _), names in zip(terms, rows, strict=True):
        where = {n: _where(n, weights, origins) if n in several else "" for n in names}
        groups: dict[str, list[str]] = {}
        for n in names:
            groups.setdefault(where[n], []).append(n)
        found.append(", ".join(_shortened(g) + (f" for {at}" if at else "") for at, g in groups.items()))
    return found


def _where(name: str, weights: Iterable[str], origins: Origins) -> str:
    """l = 2..3, k = 1: the iterations of the weights called `name`, for the loops in which all so called differ."""
    everywhere = _values(o for w, o in origins.items() if base(w) == name)
    here = _values(origins[w] for w in weights if base(w) == name)
    shown = [(index, sorted(v)) for index, v in here.items() if len(everywhere[index]) > 1]
    return ", ".join(f"{index} = {_range(v)}" for index, v in shown)


def _values(origins: Iterable[tuple[Iteration, ...]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for at in (at for origin in origins for at in origin):
        found.setdefault(at.index, set()).add(at.value)
    return found


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]}..{values[-1]}"


def _shortened(names: Sequence[str]) -> str:
    """W_2, ..., W_9 for many weights that differ in a number only."""
    stems = {"_".join(p for p in n.split("_") if not p.isdigit()) for n in names}
    if len(stems) == 1 and len(names) > MOST:
        return f"{names[0]}, ..., {names[-1]}"
    return ", ".join(names)
