"""Operations on one slot of several keys become one: what is computed at a pair of positions from what is there.

    S[g] = S[k] + c;  S[h], S[s] = expectations at S[g];  S[t] = S[s] * (S[k] + S[u])
        ->    S[h], S[t] = formulas of S[k], S[u] at the same place

An operation is pointwise where its slots are the same in all its keys and its coefficients one number.  Expressions of
pointwise keys are put in where they are used, and joined to the expectations that they read, so that only what other
operations read is written.  Terms of a sum that are not pointwise get a key of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog.backend.formula import ordered
from tensorprog.backend.grid_forward import SINGLE, needed, ordered_by_key
from tensorprog.backend.grid_ops import Expected, Op
from tensorprog.backend.trace import Recorder, Scalar, Traced
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.tape.blocks import Key

Sizes = Mapping[Key, tuple[int, int]]


@final
@dataclass(frozen=True, slots=True)
class Point:
    """What a pointwise operation computes: `outs` are expressions of the slots it reads, inputs k0, k1, ..., and of the
    values of its expectations, inputs v0, v1, ...; these are taken at the covariance `cross`, an expression of the
    former, and the second moments `inside` of both runs, or `second`, expressions as well."""

    expectations: tuple[Expectation, ...]
    inside: tuple[Key, Key] | None
    cross: Scalar
    outs: tuple[Scalar, ...]
    second: tuple[Scalar, ...] = ()


def pointwise(
    ops: Sequence[Op], expected: Sequence[Expected], sizes: dict[Key, tuple[int, int]], wanted: Collection[Key]
) -> tuple[tuple[Op, ...], tuple[Point, ...]]:
    """The same operations, those on one slot joined; `expected` belong to those of kind "expect"."""
    work = _Joining(_separated(ops, sizes), expected, sizes, wanted)
    found = ordered_by_key(work.found(), wanted)
    number = {op.number: n for n, op in enumerate(op for op in found if op.kind == "point")}
    renamed = (op if op.number < 0 else _numbered(op, number[op.number]) for op in found)
    return tuple(renamed), tuple(work.points[n] for n in number)


def _numbered(op: Op, number: int) -> Op:
    return Op(op.kind, op.outs, op.reads, op.tables, op.coefs, number)


# ---------------------------------------------------------------- which operations are pointwise


def is_pointwise(op: Op, sizes: Sizes) -> bool:
    """Whether every slot is computed from the same slots of other keys, with one coefficient."""
    if op.kind == "data" or any(sizes[k] != sizes[op.outs[0]] for k in (*op.outs, *op.reads)):
        return False
    if op.kind != "expect" and sizes[op.outs[0]] == SINGLE:  # not worth code of its own
        return False
    if op.kind != "expect" and any(np.any(c != c[:1]) for c in op.coefs):
        return False
    return all(_is_diagonal(t[:, : len(op.outs) + len(op.reads)], n) for t, n in zip(op.tables, sizes[op.outs[0]],
               strict=True))  # fmt: skip


def _is_diagonal(table: Ints, size: int) -> bool:
    return len(table) == size - 1 and bool(np.all(np.sort(table, axis=0) == np.arange(1, size)[:, None])) and bool(
        np.all(table == table[:, :1])
    )


def _separated(ops: Sequence[Op], sizes: dict[Key, tuple[int, int]]) -> tuple[Op, ...]:
    """Sums of both kinds of terms: those that are not pointwise come first, and add to a key of their own."""
    laws = needed(ops, {k for op in ops if op.kind == "expect" for k in op.reads})
    kinds: dict[Key, list[bool]] = {}
    for op in ops:
        kinds.setdefault(op.outs[0], []).append(is_pointwise(op, sizes))
    mixed = {
        k for k, found in kinds.items() if len(set(found)) == 2 and (k not in laws or found == sorted(found))
    }
    result = list[Op]()
    for key in dict.fromkeys(op.outs[0] for op in ops):
        own = [op for op in ops if op.outs[0] == key]
        if key in mixed:
            part = ("part", *key)
            sizes[part] = sizes[key]
            chosen = [is_pointwise(op, sizes) for op in own]
            result += [_to(op, part) for op, point in zip(own, chosen, strict=True) if not point]
            result.append(_copy(part, key, sizes[key]))
            own = [op for op, point in zip(own, chosen, strict=True) if point]
        result += own
    return tuple(result)


def _to(op: Op, key: Key) -> Op:
    return Op(op.kind, (key,), op.reads, op.tables, op.coefs, op.number)


def _copy(source: Key, out: Key, size: tuple[int, int]) -> Op:
    slots = [np.arange(1, n) for n in size]
    tables = np.column_stack([slots[0]] * 2), np.column_stack([slots[1]] * 2)
    return Op("mix", (out,), (source,), tables, (np.ones(len(slots[0])), np.ones(len(slots[1]))))


# ---------------------------------------------------------------- joining them


@final
class _Joining:
    def __init__(self, ops: Sequence[Op], given: Sequence[Expected], sizes: Sizes, wanted: Collection[Key]) -> None:
        self.ops, self.given, self.sizes = ops, given, sizes
        self.of: dict[Key, list[Op]] = {}
        for op in ops:
            for k in op.outs:
                self.of.setdefault(k, []).append(op)
        self.point = {k for k, found in self.of.items() if all(is_pointwise(op, sizes) for op in found)}
        self.expected = {k: op for op in ops if op.kind == "expect" for k in op.outs}
        self.recorder = Recorder()
        self.name = {k: str(n) for n, k in enumerate(self.of)}
        self.key = {n: k for k, n in self.name.items()}
        self.expression: dict[Key, Scalar] = {}
        self.after = self._after()
        self.rest = [op for op in ops if op.kind != "expect" and op.outs[0] not in self.point]
        other = [op for op in ops if op.kind == "expect" and op.outs[0] not in self.point]
        self.stored = set(wanted) | {k for op in (*self.rest, *other) for k in op.reads}
        self.joined: dict[int, list[Key]] = {}
        self.alone: list[Key] = []
        self.points: dict[int, Point] = {}

    def found(self) -> tuple[Op, ...]:
        """The operations, new ones of kind "point" among them."""
        for op in self.ops:
            if op.kind == "expect":
                laws = map(self.value, op.reads) if op.outs[0] in self.point else ()
                self._settle_leaves([k for law in laws for k in self.leaves(law)], op)
        for key in [k for k in self.of if k in self.point and k not in self.expected and k in self.stored]:
            self._assign(key)
        made = [self._joined(op) for op in self.ops if op.kind == "expect" and self._is_used(op)]
        return (*self.rest, *made, *map(self._alone, self.alone))

    def _after(self) -> dict[Key, set[int]]:
        """The expectations that every key is computed from."""
        found: dict[Key, set[int]] = {}
        for op in self.ops:
            behind = set().union(*(found.get(k, set()) for k in op.reads))
            for k in op.outs:
                found[k] = found.get(k, set()) | behind | ({op.number} if op.kind == "expect" else set())
        return found

    def value(self, key: Key) -> Scalar:
        """A key as an expression of keys in memory and of expectations."""
        if key not in self.point or key in self.expected:
            return self.recorder.input(self.name[key])
        if key not in self.expression:
            total: Scalar = 0.0
            for op in self.of[key]:
                term: Scalar = 1.0
                for factor in (*map(self.value, op.reads), float(op.coefs[0][0]), float(op.coefs[1][0])):
                    term = self.recorder.record("mul", factor, term)
                total = self.recorder.record("add", total, term)
            self.expression[key] = total
        return self.expression[key]

    def leaves(self, value: Scalar) -> list[Key]:
        """The keys in an expression."""
        return [self.key[n.args[0]] for n in ordered([value]) if n.op == "input"]

    def _settle_leaves(self, leaves: Sequence[Key], own: Op | None) -> None:
        """Values of other expectations are read from memory."""
        self.stored.update(k for k in leaves if k in self.expected and (own is None or k not in own.outs))

    def _assign(self, key: Key) -> None:
        """A key that is written is computed with the last expectation that it reads, if nothing else waits for that."""
        leaves = self.leaves(self.value(key))
        ops = {self.expected[k].number: self.expected[k] for k in leaves if k in self.expected}
        for number, op in sorted(ops.items(), reverse=True):
            others = [k for k in leaves if k not in op.outs]
            if op.outs[0] in self.point and not any(number in self.after[k] for k in others):
                self.joined.setdefault(number, []).append(key)
                self._settle_leaves(leaves, op)
                return
        self.alone.append(key)
        self._settle_leaves(leaves, None)

    def _is_used(self, op: Op) -> bool:
        return op.number in self.joined or any(k in self.stored for k in op.outs)

    def _joined(self, op: Op) -> Op:
        """An operation with expectations, and what is computed with them."""
        expectations, inside = self.given[op.number].expectations, self.given[op.number].inside
        if op.outs[0] not in self.point:
            values = [Recorder().input(f"v{n}") for n in range(len(op.outs))]
            laws = [Recorder().input(f"k{n}") for n in range(len(op.reads))]
            self.points[op.number] = Point(expectations, inside, laws[0], tuple(values), tuple(laws[1:]))
            return Op("point", op.outs, op.reads, op.tables, op.coefs, op.number)
        order = sorted(range(len(op.outs)), key=lambda n: str(expectations[n].request))  # the same code for all layers
        outs = [op.outs[n] for n in order if op.outs[n] in self.stored] + self.joined.get(op.number, [])
        values = [self.value(k) for k in outs]
        read = {k for v in values for k in self.leaves(v)}
        used = [n for n in order if op.outs[n] in read]
        names = {self.name[op.outs[n]]: f"v{m}" for m, n in enumerate(used)}
        laws = [self.value(k) for k in op.reads]
        leaves = dict.fromkeys(k for v in (*laws, *values) for k in self.leaves(v))
        reads = [k for k in leaves if k not in op.outs]
        names |= {self.name[k]: f"k{n}" for n, k in enumerate(reads)}
        chosen = tuple(expectations[n] for n in used)
        found = renamed([*laws, *values], names)
        self.points[op.number] = Point(
            chosen, inside, found[0], tuple(found[len(laws) :]), tuple(found[1 : len(laws)])
        )
        return self._op(outs, reads, op.number, [t[np.argsort(t[:, 0]), -2:] for t in op.tables])

    def _alone(self, key: Key) -> Op:
        """An operation without expectations."""
        value = self.value(key)
        reads = self.leaves(value)
        number = len(self.given) + len(self.points)
        names = {self.name[k]: f"k{n}" for n, k in enumerate(reads)}
        self.points[number] = Point((), None, 0.0, tuple(renamed([value], names)))
        slots = [np.arange(1, n) for n in self.sizes[key]]
        return self._op([key], reads, number, [np.column_stack([s, s]) for s in slots])

    def _op(self, outs: Sequence[Key], reads: Sequence[Key], number: int, sides: Sequence[Ints]) -> Op:
        size = self.sizes[outs[0]]
        tables = [
            np.column_stack([np.tile(np.arange(1, n)[:, None], len(outs) + len(reads)), s])
            for n, s in zip(size, sides, strict=True)
        ]
        zeros = np.zeros(size[0] - 1), np.zeros(size[1] - 1)
        return Op("point", tuple(outs), tuple(reads), (tables[0], tables[1]), zeros, number)


def renamed(values: Sequence[Scalar], names: Mapping[str, str]) -> list[Scalar]:
    """The same expressions with other names of inputs, in a recorder of their own."""
    recorder = Recorder()
    return substituted(values, {old: recorder.input(new) for old, new in names.items()}, recorder)


def substituted(values: Sequence[Scalar], inputs: Mapping[str, Scalar], recorder: Recorder) -> list[Scalar]:
    """Expressions with values in the place of inputs."""
    new: dict[int, Any] = {}

    def of(value: Scalar) -> Scalar:
        return new[id(value)] if isinstance(value, Traced) else value

    for node in ordered(values):
        new[id(node)] = inputs[node.args[0]] if node.op == "input" else recorder.record(node.op, *map(of, node.args))
    return [of(v) for v in values]
