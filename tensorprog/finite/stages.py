"""The stages of a simulation: what is computed, whose gradients are whole then, and what is held on.

    K_x, g, h, K_h, ..., d.g.2 | h again | Gram matrix of K.2 | d.h, d.g | Gram matrix of K

The families that make up the gradient of a weight are held from where they are computed to the Gram matrix of the
weight, not to the end: beside the values of the forward pass, those of one layer of the backward pass.  Of the values
of the forward pass, those that a few comparisons and products make of others that are held are made again (relu).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

from tensorprog.finite.forward import needed
from tensorprog.ir.expr import Expr, Op
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.ir.program import Instr, Pointwise, Program, Use, operands
from tensorprog.ir.schedule import components


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """Compute the families `computed`; take the gradients of `weights`, of the families `used`; hold only `held`."""

    computed: frozenset[str]
    weights: tuple[str, ...]
    used: frozenset[str]
    held: frozenset[str]


def kept(program: Program, uses: Sequence[Use]) -> frozenset[str]:
    """The outputs, and the families of which gradients are made."""
    return _joined([{o.var for o in program.outputs}, *map(_families, uses)])


@lru_cache(maxsize=8)
def stages(program: Program, uses: tuple[Use, ...]) -> tuple[Stage, ...]:
    """The stages of a run that keeps the outputs and takes the gradients of all weights that are used."""
    families = {w: _joined(_families(u) for u in uses if u.weight == w) for w in dict.fromkeys(u.weight for u in uses)}
    order = components(needed(program, kept(program, uses)).instrs)
    place = {instr.var.name: k for k, group in enumerate(order) for instr in group}
    ends = sorted({*(max(place[name] for name in names) for names in families.values()), len(order) - 1})
    parts = [order[a + 1 : b + 1] for a, b in zip([-1, *ends], ends, strict=False)]
    weights = [tuple(w for w, names in families.items() if max(place[name] for name in names) == b) for b in ends]
    used = [_joined(families[w] for w in names) for names in weights]
    reads = [mine.union(*(operands(i.op) for group in part for i in group))
             for part, mine in zip(parts, used, strict=True)]
    first = {i.var.name: k for k, part in enumerate(parts) for group in part for i in group}
    last = {name: k for k, names in enumerate(reads) for name in names}
    last |= {o.var: len(parts) for o in program.outputs}
    again = _again([group[0] for group in order if len(group) == 1], first, last, reads)
    return tuple(
        Stage(
            frozenset(name for name, at in first.items() if k in (at, again.get(name))), weights[k], used[k],
            frozenset(name for name, at in first.items()
                      if at <= k < last.get(name, at) and not at <= k < again.get(name, at)),
        )
        for k in range(len(parts))
    )


def _again(
    instrs: Iterable[Instr], first: Mapping[str, int], last: Mapping[str, int], reads: Sequence[Collection[str]]
) -> dict[str, int]:
    """The families that are forgotten after the stage in which they are computed, and when they are made again."""
    found: dict[str, int] = {}
    for instr in instrs:
        name = instr.var.name
        later = [k for k in range(first[name] + 1, len(reads)) if name in reads[k]]
        if not later or not isinstance(instr.op, Pointwise) or not _cheap(instr.op.fn):
            continue
        if all(last[r.var] >= later[0] and r.var not in found and r.var != name for r in instr.op.args):
            found[name] = later[0]
    return found


def _cheap(fn: Expr) -> bool:
    """Whether a function is made of sums, products and functions with kinks, which are comparisons."""
    if not isinstance(fn, Op):
        return True
    if fn.fn in FUNCTIONS:
        return bool(FUNCTIONS[fn.fn].kinks) and all(map(_cheap, fn.args))
    return fn.fn in ("add", "mul") and all(map(_cheap, fn.args))


def _families(use: Use) -> set[str]:
    return {use.row} if use.col is None else {use.row, use.col}


def _joined(sets: Iterable[Collection[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)
