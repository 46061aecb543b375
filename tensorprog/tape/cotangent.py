"""Tangents read backwards: blocks that carry cotangents from the kernels to the inner products of the data.

Every block of a tangent is linear in the tangents that it reads, with coefficients that are slots of the tape:

    T[out] += c * T[in]            becomes            G[in] += c * G[out]

so that cotangents are further slots too, and sum C dK = sum G d<x, x'> for numbers C of every pair (`Seed`).  This is
reverse mode (Griewank and Walther, Evaluating Derivatives, 2008, chapter 3): one pass for all inputs.  A cross tape
collects the cotangents of its inner products and of the slots of its left run; those of the run, summed over the right
examples, go backwards through its own tape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Sym
from tensorprog.ir.tables import Ints
from tensorprog.tape.arguments import at_place
from tensorprog.tape.asking import Slots
from tensorprog.tape.blocks import (
    Block,
    Contraction,
    DataGram,
    Factor,
    GroupValue,
    Key,
    Mix,
    Placed,
    Product,
    Seed,
    SumOfProducts,
    part,
)
from tensorprog.tape.tangent import INPUTS, tangent
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
COLLECTED: Key = ("collected",)
MOVING = tangent(INPUTS, ())


def cotangent(key: Key, where: str = "own") -> Key:
    """The key of the cotangents of the slots of a key, on this tape or on that of a run."""
    return ("cotangent", where, *key)


def primal(key: Key) -> Key:
    """The key of whose slots these are the tangents."""
    return key[len(MOVING) :]


@final
@dataclass(frozen=True, slots=True)
class Reversed:
    """A tape that carries cotangents.

    `grams` are the tangents of inner products of its data; on a cross tape the slots of `COLLECTED` are the cotangents
    of each of their entries, one block after another, and then those of the slots `run[key]` of the left run.
    """

    tape: Tape
    grams: tuple[DataGram, ...]
    run: Mapping[Key, Ints]


def reverse_single(tape: Tape) -> Reversed:
    """Replace the tangents of the tape of one run by cotangents."""
    grams, _ = _reverse(tape)
    return Reversed(tape, grams, {})


def reverse_cross(tape: Tape, kernels: Mapping[str, Key]) -> Reversed:
    """Replace the tangents of a cross tape by cotangents, which start from seeds with the names of the kernels."""
    grams, found = _reverse(tape)
    for name, key in kernels.items():
        if cotangent(key) in tape.slots:
            _seed(tape, name, key)
    run = {key: np.unique(np.concatenate(outs)) for key, outs in found.items()}
    sources = [(cotangent(primal(g.key)), g.out) for g in grams]
    sources += [(cotangent(key, "left"), slots) for key, slots in run.items()]
    _collect(tape, sources)
    return Reversed(tape, grams, run)


def _seed(tape: Tape, name: str, key: Key) -> None:
    """A kernel starts with the numbers of its entries."""
    slots = tape.slots[key]
    entries = np.flatnonzero(slots.at)
    source: Key = ("seed", name)
    tape.slots[source] = _twin(slots)
    tape.blocks.append(Seed(source, slots.at[entries], name, entries))
    tape.blocks.append(_copy(cotangent(key), slots.at[entries], source, slots.at[entries]))


def _collect(tape: Tape, sources: Sequence[tuple[Key, Ints]]) -> None:
    """One slot of `COLLECTED` for every entry."""
    total = sum(len(slots) for _, slots in sources)
    collected = Slots(total, 1)
    collected.at, collected.size = np.arange(1, total + 1), total + 1
    tape.slots[COLLECTED] = collected
    start = 1
    for key, slots in sources:
        tape.blocks.append(_copy(COLLECTED, start + np.arange(len(slots)), key, slots))
        start += len(slots)


def _copy(key: Key, out: Ints, source: Key, slots: Ints) -> Mix:
    return Mix(key, out, "own", source, slots, np.ones(len(out)), ())


def _reverse(tape: Tape) -> tuple[tuple[DataGram, ...], dict[Key, list[Ints]]]:
    """Turn all tangents around: the inner products among them, and the slots of the left run that are reached."""
    tangents = [b for b in tape.blocks if _is_tangent(b.key)]
    tape.blocks = [b for b in tape.blocks if not _is_tangent(b.key)]
    for key in [k for k in tape.slots if _is_tangent(k)]:
        tape.slots[cotangent(primal(key))] = tape.slots.pop(key)
    reached: dict[Key, list[Ints]] = {}
    for block in tangents:
        for turned in () if isinstance(block, DataGram) else _transposed(block, tape.single):
            living = part(turned, np.flatnonzero(turned.out > 0))
            tape.blocks.append(living)
            if living.key[1] == "left":
                reached.setdefault(living.key[2:], []).append(living.out)
    for key in reached:
        tape.slots[cotangent(key, "left")] = _twin(tape.selves[0].slots[tangent(INPUTS, key)])
    return tuple(b for b in tangents if isinstance(b, DataGram)), reached


def _twin(slots: Slots) -> Slots:
    twin = Slots(slots.rows, slots.cols)
    twin.at, twin.size = slots.at, slots.size
    return twin


def _is_tangent(key: Key) -> bool:
    return key[: len(MOVING)] == MOVING


# ---------------------------------------------------------------- blocks


def _transposed(block: Block, single: bool) -> Iterator[Mix | Product | SumOfProducts]:
    """The blocks that carry the cotangents of a tangent to the tangents that it reads."""
    own = cotangent(primal(block.key))
    match block:
        case Mix():
            yield from _mix(block, own, single)
        case SumOfProducts():
            for a, b in ((block.a, block.b), (block.b, block.a)):
                if _is_tangent(a[0]):
                    yield SumOfProducts(cotangent(primal(a[0])), a[1], b, (own, block.out), block.scale)
        case Contraction():
            for a, b in block.terms():
                yield from _transposed(SumOfProducts(block.key, block.out, a, b, block.coef), single)
        case Product():
            yield from _product(block, own, single)


def _mix(block: Mix, own: Key, single: bool) -> Iterator[Mix | Product]:
    if _is_tangent(block.dep):
        key = _target((block.where, block.dep, block.slots), single)
        yield Mix(key, block.slots, "own", own, block.out, block.coef, block.scalars)
        return
    at, placed = next((k, s) for k, s in enumerate(block.scalars) if _is_tangent(s[1]))
    others = (*block.scalars[:at], *block.scalars[at + 1 :])
    factors = (Factor(Sym("c"), {}, {"c": block.coef}), *(Factor(Sym("t"), {"t": s}, {}) for s in others))
    groups = [GroupValue(None, moment=(own, block.out))]
    if block.dep != ("one",):
        groups.append(at_place((block.where, block.dep, block.slots)))
    yield Product(_target(placed, single), placed[2], factors, tuple(groups))


def _product(block: Product, own: Key, single: bool) -> Iterator[Product]:
    """The factor or the group with tangents gives way to the cotangent."""
    result = GroupValue(None, moment=(own, block.out))
    for k, f in enumerate(block.factors):
        for name, placed in f.scalars.items():
            if _is_tangent(placed[1]):
                factors = (*block.factors[:k], *_slope(f, name), *block.factors[k + 1 :])
                yield Product(_target(placed, single), placed[2], factors, (*block.groups, result))
    for k, g in enumerate(block.groups):
        read = g.mean if g.mean is not None else ("own", *g.moment) if g.moment is not None else None
        if read is not None and _is_tangent(read[1]):
            groups = (*block.groups[:k], *block.groups[k + 1 :], result)
            yield Product(_target(read, single), read[2], block.factors, groups)


def _slope(factor: Factor, name: str) -> tuple[Factor, ...]:
    """What a factor, linear in its tangents, multiplies one of them by."""
    fn = ex.differentiate(factor.fn, name)
    used = ex.symbols(fn)
    if fn == ex.ONE:
        return ()
    scalars = {n: x for n, x in factor.scalars.items() if n in used}
    return (replace(factor, fn=fn, scalars=scalars),)


def _target(placed: Placed, single: bool) -> Key:
    where, key, _ = placed
    return cotangent(primal(key), "own" if single else where)

