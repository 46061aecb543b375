"""Tapes on which the inputs of the left run move: with tangents (`forwards`), or with cotangents (`backwards`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, final

from tensorprog.dataset import Group
from tensorprog.evaluate import analytic
from tensorprog.evaluate.pairs import machine_code
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments
from tensorprog.tape.blocks import Block, DataGram, Key
from tensorprog.tape.cotangent import COLLECTED, Reversed, reverse_cross, reverse_single
from tensorprog.tape.ranges import Variances, variances_of
from tensorprog.tape.tangent import INPUTS, add_input_tangents, tangent
from tensorprog.tape.tape import Tape

if TYPE_CHECKING:
    from tensorprog.backend.machine import Machine


@final
@dataclass(frozen=True)
class Moving:
    """What computes the kernels between two groups, and what becomes of them as the left one moves.

    `keys` are the slots of the kernels, of their derivatives (`analytic.derivative`) or the collected cotangents.  The
    left run takes `left` before the cross tape, and `back` of its blocks after it.
    """

    cross: Tape
    blocks: Sequence[Block]
    left: Sequence[Block]
    right: Sequence[Block]
    keys: Mapping[str, Key]
    back: Sequence[Block] = ()
    collected: Reversed | None = None
    grams: tuple[DataGram, ...] = ()

    @cached_property
    def variances(self) -> Variances:
        """What `check_runs` looks at."""
        return variances_of(self.blocks)

    @cached_property
    def machine(self) -> Machine | None:
        """Its machine code; None where a formula has none."""
        return machine_code(self.cross, tuple(self.keys.values()))


def forwards(limit: Limit, moments: Moments, left: Group, right: Group, want: Sequence[str]) -> Moving:
    """The tapes of a pair of groups with tangents.  Raises Unservable where a moment needs sampling."""
    cross, singles, keys = analytic.tapes(limit, moments, (left.sizes, right.sizes), want)
    plain = _keys(singles[1])
    add_input_tangents(cross, moments)
    keys |= {analytic.derivative(k, INPUTS): tangent(INPUTS, key) for k, key in keys.items()}
    keys = {name: key for name, key in keys.items() if key in cross.slots}
    sides = (singles[0].ordered, reaching(singles[1].ordered, plain))
    return Moving(cross, reaching(cross.ordered, keys.values()), *sides, keys)


def backwards(limit: Limit, moments: Moments, left: Group, right: Group, want: Sequence[str]) -> Moving:
    """The tapes of a pair of groups with cotangents.  Raises Unservable where a moment needs sampling."""
    cross, singles, keys = analytic.tapes(limit, moments, (left.sizes, right.sizes), want)
    plain = _keys(singles[1])
    add_input_tangents(cross, moments)
    collected, single = reverse_cross(cross, keys), reverse_single(singles[0])
    keys = {name: key for name, key in keys.items() if key in cross.slots} | {"collected": COLLECTED}
    ordered = singles[0].ordered
    back = [b for b in ordered if b.key[0] == "cotangent"]
    forth = [b for b in ordered if b.key[0] != "cotangent"]
    second = reaching(forth if singles[0] is singles[1] else singles[1].ordered, plain)
    return Moving(
        cross, reaching(cross.ordered, keys.values()), forth, second, keys, back, collected, single.grams
    )


def _keys(tape: Tape) -> frozenset[Key]:
    return frozenset(tape.slots)


def reaching(blocks: Sequence[Block], keys: Collection[Key]) -> list[Block]:
    """The blocks without which slots of these keys would be others."""
    reads: dict[Key, set[Key]] = {}
    for b in blocks:
        reads.setdefault(b.key, set()).update(key for key, _ in b.reads(True))
    found, waiting = set(keys), list(keys)
    while waiting:
        new = reads.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return [b for b in blocks if b.key in found]
