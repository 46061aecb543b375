"""Sums over adjoints, turned forward: what a kernel adds up from the output on is carried from the data on instead.

    d[x] += c a d[y],   result += c k d[x]        ->        t[x] += c k,   t[y] += c a t[x],   result += c s t[y]

The tangent kernel is linear in the adjoints' moments d, which begin with numbers s at the output.  The transposed sums
are the recursion of Jacot et al. (arXiv 1806.07572): what is needed of a layer is gone when the next one is computed,
while the sums over adjoints need all layers at the end.  Nothing is done where the result has several slots, or where
something else reads the adjoints.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import final

import numpy as np

from tensorprog.backend.grid_ops import Op
from tensorprog.tape.blocks import Key

SINGLE = (2, 2)
"""The size of a key with one slot."""


def forward(
    ops: Sequence[Op], sizes: dict[Key, tuple[int, int]], target: Key, wanted: Collection[Key]
) -> tuple[Op, ...]:
    """Equal operations, without sums over adjoints for `target`; the new keys get sizes."""
    if sizes.get(target) != SINGLE:
        return tuple(ops)
    work = _Transposing(ops, target, wanted)
    try:
        work.run()
    except _NotLinear:
        return tuple(ops)
    sizes |= {_tangent(key): sizes[key] for key in work.adjoint}
    return work.found


def needed(ops: Sequence[Op], wanted: Collection[Key]) -> set[Key]:
    """The keys that some keys are computed from, with these."""
    found = set(wanted)
    for op in reversed(ops):
        if any(k in found for k in op.outs):
            found.update(op.reads)
    return found


class _NotLinear(Exception):
    pass


def _tangent(key: Key) -> Key:
    return ("tangent", *key)


@final
class _Transposing:
    def __init__(self, ops: Sequence[Op], target: Key, wanted: Collection[Key]) -> None:
        self.ops, self.target = ops, target
        laws = {k for op in ops if op.kind == "expect" for k in op.reads}
        laws |= {k for op in ops if op.kind == "expect" for k in op.outs}
        self.fixed = needed(ops, laws | (set(wanted) - {target}))
        self.numbers = _numbers(ops)
        self.adjoint: dict[Key, None] = {}
        self.made: list[Op] = []
        self.found: tuple[Op, ...] = ()

    def run(self) -> None:
        """All sums that the target is made of.  Raises _NotLinear."""
        for op in reversed(self.ops):
            if op.outs[0] == self.target or op.outs[0] in self.adjoint:
                self._transpose(op)
        gone = {*self.adjoint, self.target}
        self.found = (*(op for op in self.ops if op.outs[0] not in gone), *self.made)
        if any(k in gone for op in self.found for k in op.reads):
            raise _NotLinear

    def _transpose(self, op: Op) -> None:
        through = self._through(op)
        if op.outs[0] == self.target:
            if through is None:
                self.made.append(op)
            else:
                others = [(k, 1 + c) for c, k in enumerate(op.reads) if c != through]
                self._add(op, _tangent(op.reads[through]), 1 + through, others)
            return
        tangent = (_tangent(op.outs[0]), 0)
        if through is not None:
            rest = [(op.reads[c], 1 + c) for c in range(len(op.reads)) if c != through]
            self._add(op, _tangent(op.reads[through]), 1 + through, [*rest, tangent])
        elif len(op.reads) < 2:
            self._add(op, self.target, None, [*((k, 1 + c) for c, k in enumerate(op.reads)), tangent])
        else:
            raise _NotLinear

    def _through(self, op: Op) -> int | None:
        """The operand that is an adjoint."""
        if op.kind == "expect":
            raise _NotLinear
        free = [c for c, k in enumerate(op.reads) if k not in self.fixed]
        if not free:
            return None
        chosen = next((c for c in free if op.reads[c] not in self.numbers), free[0])
        self.adjoint[op.reads[chosen]] = None
        return chosen

    def _add(self, op: Op, out: Key, column: int | None, reads: Sequence[tuple[Key, int]]) -> None:
        """The entries of an operation, with other columns; all in one slot where there is none for `out`."""
        columns = [np.ones(len(t), np.int64) if column is None else t[:, column] for t in op.tables]
        tables = [
            np.column_stack([o, *(t[:, c] for _, c in reads)]) for o, t in zip(columns, op.tables, strict=True)
        ]
        kind = ("constant", "mix", "times")[len(reads)]
        self.made.append(Op(kind, (out,), tuple(k for k, _ in reads), (tables[0], tables[1]), op.coefs))


def _numbers(ops: Sequence[Op]) -> set[Key]:
    """Keys that do not depend on the data."""
    found: set[Key] = set()
    for op in ops:
        if op.kind != "data" and all(k in found for k in op.reads):
            found.update(op.outs)
        else:
            found.difference_update(op.outs)
    return found


# ---------------------------------------------------------------- numbers, order


def folded(ops: Sequence[Op], sizes: Mapping[Key, tuple[int, int]], wanted: Collection[Key]) -> tuple[Op, ...]:
    """Keys that are one product of numbers become factors; what nobody reads is left out."""
    count: dict[Key, int] = {}
    for op in ops:
        for k in op.outs:
            count[k] = count.get(k, 0) + 1
    known: dict[Key, tuple[np.ndarray, np.ndarray]] = {}
    found: list[Op] = []
    for op in ops:
        new = _with_numbers(op, known, sizes)
        if new.kind == "constant" and count[new.outs[0]] == 1:
            known[new.outs[0]] = _vector(new, 0, sizes), _vector(new, 1, sizes)
        found.append(new)
    used = needed(found, wanted)
    return tuple(op for op in found if any(k in used for k in op.outs))


def _with_numbers(
    op: Op, known: Mapping[Key, tuple[np.ndarray, np.ndarray]], sizes: Mapping[Key, tuple[int, int]]
) -> Op:
    if op.kind not in ("mix", "times") or not any(k in known for k in op.reads):
        return op
    rest = [c for c, k in enumerate(op.reads) if k not in known]
    tables, coefs = [], []
    for g, (table, coef) in enumerate(zip(op.tables, op.coefs, strict=True)):
        value = coef.copy()
        for c, k in enumerate(op.reads):
            if k in known:
                value *= known[k][g][table[:, 1 + c]]
        at = np.flatnonzero(value)
        tables.append(table[at][:, [0, *(1 + c for c in rest)]])
        coefs.append(value[at])
    new = Op(("constant", "mix")[len(rest)], op.outs, tuple(op.reads[c] for c in rest), (tables[0], tables[1]),
             (coefs[0], coefs[1]))  # fmt: skip
    return new if rest else _summed(new, sizes)


def _vector(op: Op, g: int, sizes: Mapping[Key, tuple[int, int]]) -> np.ndarray:
    return np.bincount(op.tables[g][:, 0], op.coefs[g], sizes[op.outs[0]][g])


def _summed(op: Op, sizes: Mapping[Key, tuple[int, int]]) -> Op:
    """A constant with one entry for every slot."""
    values = [_vector(op, g, sizes) for g in (0, 1)]
    at = [np.flatnonzero(v) for v in values]
    return Op("constant", op.outs, (), (at[0][:, None], at[1][:, None]), (values[0][at[0]], values[1][at[1]]))


def ordered_by_key(ops: Sequence[Op], wanted: Collection[Key]) -> tuple[Op, ...]:
    """Operations of one key behind each other, and keys as late as can be: what is read soon stays in the cache."""
    of: dict[Key, list[Op]] = {}
    for op in ops:
        for k in op.outs:
            of.setdefault(k, []).append(op)
    done: dict[int, Op] = {}
    seen: set[Key] = set()
    waiting = [(k, False) for k in reversed(list(wanted))]
    while waiting:
        key, ready = waiting.pop()
        if ready:
            done |= {id(op): op for op in of.get(key, ())}
        elif key not in seen:
            seen.add(key)
            waiting.append((key, True))
            outs = [k for op in of.get(key, ()) for k in op.outs if k != key]
            waiting += [(k, False) for op in reversed(of.get(key, [])) for k in reversed(op.reads)]
            seen.update(outs)
    return tuple(done.values())
