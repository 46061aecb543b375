"""Product tape -> operations on whole keys, for every pair of examples.

    data        S[out]  = <x[i], x'[j]>
    mix         S[out] += coef * S[dep]
    constant    S[out] += coef
    times       S[out] += coef * S[a] * S[b]
    expect      S[outs[e]] = E_e of one argument on each side, with the covariance S[cross]; of a single run with the
                second moments S[left], S[right]
    point       expectations, and what is computed from them and others at the same place (`grid_points`)

All entries of an operation are products: of an entry in a table of the rows and one in a table of the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.trace import NotTraceable
from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.tape.blocks import Constant, DataGram, GroupValue, Key, Mix, Product, SumOfProducts
from tensorprog.tape.product import Pair, ProductTape

Floats = NDArray[np.float64]
Placed = tuple[Key, Ints, Ints]


@final
@dataclass(frozen=True, slots=True)
class Op:
    """An operation; `tables` [entries, columns] of both projections have columns for outs, reads, and `sides`.

    `sides` are the slots in the runs, or elements of the data, of left and right; `number` is that of the expectations.
    """

    kind: str
    outs: tuple[Key, ...]
    reads: tuple[Key, ...]
    tables: tuple[Ints, Ints]
    coefs: tuple[Floats, Floats]
    number: int = -1


@final
@dataclass(frozen=True, slots=True)
class Expected:
    """The expectations of an operation, and the keys of the second moments inside of both runs; None of a single run,
    whose operation reads them."""

    expectations: tuple[Expectation, ...]
    inside: tuple[Key, Key] | None


@final
@dataclass(frozen=True, slots=True)
class Operations:
    """All operations in an order in which everything is there when it is read, and the numbers of slots of all keys."""

    ops: tuple[Op, ...]
    expected: tuple[Expected, ...]
    names: tuple[str, str]
    sizes: Mapping[Key, tuple[int, int]]


@dataclass
class _Expecting:
    cross: Key
    inside: tuple[Key, Key]
    tables: tuple[Ints, Ints]
    position: int
    expectations: list[Expectation] = field(default_factory=list)
    outs: list[Placed] = field(default_factory=list)


def operations(tape: ProductTape) -> Operations:
    """The operations of a tape.  NotTraceable when one has no code."""
    lowering = _Lowering(tape)
    for key, pairs in tape.steps:
        lowering.key(key, pairs)
    return lowering.done()


@final
class _Lowering:
    def __init__(self, tape: ProductTape) -> None:
        self.tape, self.single = tape, tape.tapes[0].single
        self.known = {key for key, _ in tape.steps}
        self.ops: list[Op | _Expecting] = []
        self.expecting: dict[Any, _Expecting] = {}
        self.sizes: dict[Key, tuple[int, int]] = {key: tape.shape(key) for key, _ in tape.steps}
        self.names: tuple[str, str] = ("", "")

    def done(self) -> Operations:
        """The result."""
        if self.names == ("", ""):
            raise NotTraceable("no data")
        ops, expected = list[Op](), list[Expected]()
        for op in self.ops:
            if isinstance(op, Op):
                ops.append(op)
                continue
            tables = [np.column_stack([*(o[1 + g] for o in op.outs), op.tables[g]]) for g in (0, 1)]
            none = tuple(np.zeros(len(t)) for t in tables)
            outs, reads = tuple(o[0] for o in op.outs), (op.cross, *(op.inside if self.single else ()))
            ops.append(Op("expect", outs, reads, (tables[0], tables[1]), (none[0], none[1]), len(expected)))
            expected.append(Expected(tuple(op.expectations), None if self.single else op.inside))
        return Operations(tuple(ops), tuple(expected), self.names, self.sizes)

    def key(self, key: Key, pairs: tuple[Pair, ...]) -> None:
        """The operations that give a key, behind the expectations that they read."""
        own: list[Op] = []
        for pair in pairs:
            match pair[0]:
                case Mix(where=where, dep=dep):
                    if (where != "own" and not self.single) or dep == ("one",):
                        raise NotTraceable("a mean between two runs")
                    if dep in self.known:
                        own.append(_op("mix", key, [(dep, pair[0].slots, pair[1].slots)], pair, _coefs(pair)))
                case Constant():
                    own.append(_op("constant", key, [], pair, (pair[0].value, pair[1].value)))
                case SumOfProducts():
                    reads = [(p[0][0], p[0][1], p[1][1]) for p in ((pair[0].a, pair[1].a), (pair[0].b, pair[1].b))]
                    own += self._times(key, reads, pair, pair[0].scale * pair[1].scale)
                case DataGram():
                    own.append(self._data(key, pair))
                case Product():
                    own += self._product(key, pair, len(pairs) == 1)
        self.ops += own

    def _data(self, key: Key, pair: Pair) -> Op:
        names = (pair[0].left, pair[0].right)
        if self.names not in (("", ""), names):
            raise NotTraceable("several families of data")
        self.names = names
        left, right = self.tape.elements(pair[0].left, 0), self.tape.elements(pair[0].right, 1)
        tables = [np.column_stack([b.out, left[g][b.li], right[g][b.rj]]) for g, b in enumerate(pair)]
        return Op("data", (key,), (), (tables[0], tables[1]), _ones(pair))

    def _product(self, key: Key, pair: Pair, alone: bool) -> list[Op]:
        constant = 1.0
        for f in pair[0].factors:
            constant *= float(np.max(np.asarray(ex.evaluate(f.fn, f.numbers))))
        groups = list(zip(pair[0].groups, pair[1].groups, strict=True))
        direct = (key, pair[0].out, pair[1].out) if alone and len(groups) == 1 and constant == 1 else None
        reads = [self._read(a, b, direct) for a, b in groups]
        return [] if reads == [None] else self._times(key, [r for r in reads if r is not None], pair, constant)

    def _times(self, key: Key, reads: list[Placed], pair: Pair, constant: float) -> list[Op]:
        reads = [r for r in reads if r[0] != ("one",)]
        if any(r[0] not in self.sizes for r in reads):
            return []
        if len(reads) > 2:
            raise NotTraceable("a product of three moments")
        ones = _ones(pair)
        coefs = (constant * ones[0], ones[1])
        kind = ("constant", "mix", "times")[len(reads)]
        return [_op(kind, key, reads, pair, coefs)]

    def _read(self, a: GroupValue, b: GroupValue, direct: Placed | None) -> Placed | None:
        """The slots of a group; None where its expectation is the key itself."""
        if a.moment is not None and b.moment is not None:
            return a.moment[0], a.moment[1], b.moment[1]
        if a.mean is not None or a.scalars or a.numbers or (len(a.means[0]), len(a.means[1])) != (1, 1):
            raise NotTraceable("an expectation of several arguments")
        if any(np.any(side[0][1]) for x in (a, b) for side in x.means):
            raise NotTraceable("arguments with means")
        assert a.expectation is not None
        parts = [np.column_stack([x.across[0][0][1], x.inside[0][0][0][1], x.inside[1][0][0][1]]) for x in (a, b)]
        tables, places = zip(*(np.unique(p, axis=0, return_inverse=True) for p in parts), strict=True)
        group = self._group(a, (tables[0], tables[1]))
        place = [p.reshape(-1) for p in places]
        once = all(len(t) == len(p) for t, p in zip(tables, place, strict=True))
        for e, out in zip(group.expectations, group.outs, strict=True):
            if e is a.expectation:
                return out[0], out[1][place[0]], out[2][place[1]]
        group.expectations.append(a.expectation)
        if direct is not None and once:
            group.outs.append((direct[0], direct[1][np.argsort(place[0])], direct[2][np.argsort(place[1])]))
            return None
        key = ("expect", str(len(self.sizes)))
        self.sizes[key] = (len(tables[0]) + 1, len(tables[1]) + 1)
        group.outs.append((key, 1 + np.arange(len(tables[0])), 1 + np.arange(len(tables[1]))))
        return key, 1 + place[0], 1 + place[1]

    def _group(self, a: GroupValue, tables: tuple[Ints, Ints]) -> _Expecting:
        cross, inside = a.across[0][0][0], (a.inside[0][0][0][0], a.inside[1][0][0][0])
        if any(k not in self.sizes for k in (cross, *(inside if self.single else ()))):
            raise NotTraceable("independent arguments")
        known = (cross, inside, tables[0].tobytes(), tables[1].tobytes())
        if known not in self.expecting:
            self.expecting[known] = _Expecting(cross, inside, tables, len(self.ops))
            self.ops.append(self.expecting[known])
        return self.expecting[known]


def _op(kind: str, key: Key, reads: list[Placed], pair: Pair, coefs: tuple[Floats, Floats]) -> Op:
    """Without entries that read slot 0, which is zero."""
    tables = [np.column_stack([pair[g].out, *(r[1 + g] for r in reads)]) for g in (0, 1)]
    used = [(t > 0).all(axis=1) for t in tables]
    chosen = [(t[u], c[u]) for t, c, u in zip(tables, coefs, used, strict=True)]
    (first, a), (second, b) = chosen
    return Op(kind, (key,), tuple(r[0] for r in reads), (first, second), (a, b))


def _coefs(pair: Pair) -> tuple[Floats, Floats]:
    return pair[0].coef, pair[1].coef


def _ones(pair: Pair) -> tuple[Floats, Floats]:
    return np.ones(len(pair[0].out)), np.ones(len(pair[1].out))
