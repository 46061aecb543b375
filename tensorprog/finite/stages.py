"""The stages of a simulation: what is computed, whose gradients are whole then, and what is forgotten.

    K_x, g, h, ..., d.g.2 | Gram matrix of W.2 | free h, d.g.2 | d.h, d.g | Gram matrix of W | free d.g

The families that make up the gradient of a weight are held from where they are computed to the Gram matrix of the
weight, not to the end: beside the values of the forward pass, those of one layer of the backward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from tensorprog.finite.forward import needed
from tensorprog.ir.program import Program, Use, operands
from tensorprog.ir.schedule import components


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """Compute the families `computed`; then take the gradients of `weights`; then forget the families `freed`."""

    computed: frozenset[str]
    weights: tuple[str, ...]
    freed: frozenset[str]


def kept(program: Program, uses: Sequence[Use]) -> frozenset[str]:
    """The outputs, and the families of which gradients are made."""
    return _joined([{o.var for o in program.outputs}, *map(_families, uses)])


@lru_cache(maxsize=8)
def stages(program: Program, uses: tuple[Use, ...]) -> tuple[Stage, ...]:
    """The stages of a run that keeps the outputs and takes the gradients of all weights that are used."""
    families = {w: _joined(_families(u) for u in uses if u.weight == w) for w in dict.fromkeys(u.weight for u in uses)}
    order = components(needed(program, kept(program, uses)).instrs)
    place = {instr.var.name: k for k, group in enumerate(order) for instr in group}
    whole = {weight: max(place[name] for name in names) for weight, names in families.items()}
    ends = sorted({*whole.values(), len(order) - 1})
    found: list[Stage] = []
    held = _joined(families.values()) - {o.var for o in program.outputs}
    for a, b in zip([-1, *ends], ends, strict=False):
        weights = tuple(w for w in families if whole[w] == b)
        awaited = _joined([*(families[w] for w in families if whole[w] > b),
                           *({*operands(instr.op)} for group in order[b + 1 :] for instr in group)])
        computed = frozenset(name for name, at in place.items() if a < at <= b)
        freed = frozenset(name for name in held - awaited if place[name] <= b)
        held -= freed
        found.append(Stage(computed, weights, freed))
    return tuple(found)


def _families(use: Use) -> set[str]:
    return {use.row} if use.col is None else {use.row, use.col}


def _joined(sets: Iterable[Collection[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)
