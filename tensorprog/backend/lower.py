"""Tape -> instructions: what the blocks of a cross tape do to the numbers of one pair of examples.

    Given    S[out]   = inner product of data
    SeedOf   S[out]   = a number that comes with the pair
    Expect   S[outs]  = E_1, ..., E_n at the same arguments, or a function of rows
    Mehler   S[out]   = a Hermite series of both sides (`series`)
    Sum      S[out]  += coef * product of operands

S holds the slots of the pair, L and R what is known of the left and of the right example (`rows`).  Expectations get
slots of their own, all those of the same arguments in one instruction.  Every instruction is an array of entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.formula import Arguments, frontier
from tensorprog.backend.judged import judged
from tensorprog.backend.rows import Rows
from tensorprog.backend.series import Marginal, marginals_of, params_of
from tensorprog.backend.trace import NotTraceable, Recorder, Scalar, Traced
from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.expectation import Expectation
from tensorprog.tape.blocks import (
    Block,
    Constant,
    Contraction,
    DataGram,
    Factor,
    Forms,
    GroupValue,
    Key,
    Mix,
    Placed,
    Product,
    Seed,
    SumOfProducts,
    merged,
)
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]
ONE: Key = ("one",)
VIRTUAL = 1 << 40
"""Slots from here on stand for expectations whose slots are not known yet."""


@final
@dataclass(frozen=True, slots=True)
class Operand:
    """Rows of S ("own"), L ("left") or R ("right"), one for every entry."""

    where: str
    rows: Ints


@final
@dataclass(frozen=True, slots=True)
class Sum:
    """S[out] += coef * product of operands."""

    out: Ints
    coef: Floats
    operands: tuple[Operand, ...]


@final
@dataclass(frozen=True, slots=True)
class Given:
    """S[out] = <left[elements[0]], right'[elements[1]]> of two families known from data; right "" is the number 1."""

    out: int
    names: tuple[str, str]
    elements: tuple[int, int]


@final
@dataclass(frozen=True, slots=True)
class SeedOf:
    """S[out] = a number that comes with every pair."""

    out: int
    name: str
    row: int


@final
@dataclass(frozen=True, slots=True)
class Expect:
    """S[outs[e]] = values[e], formulas in the nodes of `known`, which are read from rows; for errors and doubts see
    `judged`.

    A function of rows, which has no error, stands for no expectation.
    """

    outs: tuple[Ints, ...]
    expectations: tuple[Expectation, ...]
    values: tuple[Scalar, ...]
    errors: tuple[Scalar, ...]
    doubts: tuple[Scalar, ...]
    known: tuple[tuple[Traced, Operand], ...]


@final
@dataclass(frozen=True, slots=True)
class Mehler:
    """S[out] = the series of rows left[k] and right[k], `strides` apart, at the covariance in S[cross]."""

    out: Ints
    cross: Ints
    left: Ints
    right: Ints
    strides: tuple[int, int]
    expectation: Expectation


@final
@dataclass(frozen=True, slots=True)
class Lowered:
    """The instructions, the number of slots, where the slots of a key start, and the rows of both sides."""

    sums: tuple[Sum, ...]
    given: tuple[Given | SeedOf, ...]
    expects: tuple[Expect, ...]
    mehlers: tuple[Mehler, ...]
    size: int
    start: Mapping[Key, int]
    left: Rows
    right: Rows

    def split(self, slots: Floats, tape: Tape) -> dict[Key, Floats]:
        """The parts of an array of slots [slots, ...] that belong to the keys of the tape."""
        return {key: slots[start : start + tape.slots[key].size] for key, start in self.start.items()}


def lower(tape: Tape) -> Lowered:
    """The instructions of a cross tape, or of that of one run, which reads nothing but slots of its own.

    NotTraceable when an expectation has no scalar code.
    """
    if any(isinstance(block, Forms | Contraction) for block in tape.blocks):
        raise NotTraceable("powers of quadratic forms")
    lowering = _Lowering(tape)
    for block in merged(tape.blocks):
        lowering.add(block)
    return lowering.done()


@dataclass
class _Lowering:
    tape: Tape
    sums: list[Sum] = field(default_factory=list)
    given: list[Given | SeedOf] = field(default_factory=list)
    asked: list[tuple[GroupValue, int, int]] = field(default_factory=list)  # (group, first virtual slot, entries)
    factors: list[tuple[Factor, int]] = field(default_factory=list)
    mehlers: list[Mehler] = field(default_factory=list)
    virtual: int = 0

    def __post_init__(self) -> None:
        self.start: dict[Key, int] = {}
        self.size = 1  # slot 0 is zero
        for key, slots in self.tape.slots.items():
            self.start[key], self.size = self.size, self.size + slots.size
        self.sides = [Rows({k: x.size for k, x in t.slots.items()}) for t in self.tape.selves]
        self.single = self.tape.single

    def done(self) -> Lowered:
        """The result."""
        self.real = np.zeros(self.virtual, dtype=np.int64)
        expects = (*self._functions(), *self._expects())
        sums = tuple(Sum(s.out, s.coef, tuple(self._settled(o) for o in s.operands)) for s in self.sums)
        return Lowered(sums, tuple(self.given), expects, tuple(self.mehlers), self.size, self.start, *self.sides)

    def _settled(self, operand: Operand) -> Operand:
        """The operand with the slots of expectations in the place of virtual ones."""
        virtual = operand.rows >= VIRTUAL
        if not virtual.any():
            return operand
        return Operand(operand.where, np.where(virtual, self.real[operand.rows - VIRTUAL * virtual], operand.rows))

    # ------------------------------------------------------------ blocks

    def add(self, block: Block) -> None:
        """The instructions of a block."""
        match block:
            case Mix():
                self._sum(block.key, block.out, block.coef, [(block.where, block.dep, block.slots), *block.scalars])
            case SumOfProducts():
                scale = np.full(len(block.out), block.scale)
                self._sum(block.key, block.out, scale, [("own", *block.a), ("own", *block.b)])
            case Constant():
                self._sum(block.key, block.out, block.value, [])
            case DataGram():
                self._gram(block)
            case Seed():
                rows = zip((self.start[block.key] + block.out).tolist(), block.rows.tolist(), strict=True)
                self.given += [SeedOf(out, block.name, row) for out, row in rows]
            case Product():
                self._product(block)

    def _sum(self, key: Key, out: Ints, coef: Floats, placed: Sequence[Placed]) -> None:
        operands = tuple(self.operand(*p) for p in placed if p[1] != ONE)
        self.sums.append(Sum(self.start[key] + out, coef, operands))

    def operand(self, where: str, key: Key, slots: Ints) -> Operand:
        """Rows of slots; a key without slots is zero."""
        if where == "own" or self.single:
            start = self.start.get(key, 0)
            return Operand("own", np.where((slots > 0) & (start > 0), start + slots, 0))
        return Operand(where, self.sides[where == "right"].slots(key, slots))

    def _gram(self, block: DataGram) -> None:
        if block.right == "" and not self.single:
            raise NotTraceable("a number of the data between two runs")
        out = self.start[block.key] + block.out
        for o, i, j in zip(out.tolist(), block.li.tolist(), block.rj.tolist(), strict=True):
            self.given.append(Given(o, (block.left, block.right), (i, j)))

    def _product(self, block: Product) -> None:
        coef, operands = np.ones(len(block.out)), []
        for factor in block.factors:
            wheres = {s[0] for s in factor.scalars.values()}
            if not wheres:
                coef = coef * np.asarray(ex.evaluate(factor.fn, factor.numbers), dtype=np.float64)
            elif len(wheres) == 1 and "own" not in wheres and not self.single:
                operands.append(self._factor(factor, wheres.pop(), len(block.out)))
            else:
                operands.append(self._function(factor, len(block.out)))
        operands += [self._group(g, len(block.out)) for g in block.groups]
        self.sums.append(Sum(self.start[block.key] + block.out, coef, tuple(operands)))

    def _factor(self, factor: Factor, where: str, entries: int) -> Operand:
        return Operand(where, self.sides[where == "right"].factor(factor, entries))

    def _function(self, factor: Factor, entries: int) -> Operand:
        """A factor of slots of the pair, or of both runs."""
        if isinstance(factor.fn, ex.Sym):
            return self.operand(*factor.scalars[factor.fn.name])
        self.factors.append((factor, self.virtual))
        return self._virtual(entries)

    def _virtual(self, entries: int) -> Operand:
        self.virtual += entries
        return Operand("own", VIRTUAL + self.virtual - entries + np.arange(entries))

    def _group(self, group: GroupValue, entries: int) -> Operand:
        if group.moment is not None:
            return self.operand("own", *group.moment)
        if group.mean is not None:
            return self.operand(*group.mean)
        self.asked.append((group, self.virtual, entries))
        return self._virtual(entries)

    # ------------------------------------------------------------ functions of rows

    def _functions(self) -> Iterator[Expect]:
        """One instruction for all entries of a function."""
        alike: dict[Any, list[tuple[Ints, int]]] = {}
        for factor, first in self.factors:
            rows = {n: self.operand(*p) for n, p in factor.scalars.items()}
            fixed = tuple((n, _constant(numbers)) for n, numbers in factor.numbers.items())
            wheres = tuple((n, o.where) for n, o in rows.items())
            table = np.stack([o.rows for o in rows.values()], axis=1)
            alike.setdefault((factor.fn, fixed, wheres), []).append((table, first))
        for (fn, fixed, wheres), members in alike.items():
            unique, place = np.unique(np.concatenate([table for table, _ in members]), axis=0, return_inverse=True)
            outs = self.size + np.arange(len(unique))
            self.size += len(unique)
            self.real[np.concatenate([first + np.arange(len(t)) for t, first in members])] = outs[place.reshape(-1)]
            recorder = Recorder()
            nodes = {n: recorder.input(n) for n, _ in wheres}
            known = ((nodes[n], Operand(where, unique[:, c])) for c, (n, where) in enumerate(wheres))
            yield Expect((outs,), (), (ex.evaluate(fn, {**dict(fixed), **nodes}),), (), (), tuple(known))

    # ------------------------------------------------------------ expectations

    def _expects(self) -> Iterator[Expect]:
        """One instruction for all entries with the same form of arguments and the same expectations."""
        forms: dict[object, list[tuple[_Form, Expectation, int]]] = {}
        for group, first, entries in self.asked:
            form = _form(group, entries, self)
            assert group.expectation is not None
            forms.setdefault(form.signature, []).append((form, group.expectation, first))
        for members in forms.values():
            yield from self._same_form(members)

    def _same_form(self, members: list[tuple[_Form, Expectation, int]]) -> Iterator[Expect]:
        names = list(members[0][0].rows)
        table = np.concatenate([np.stack([f.rows[n].rows for n in names], axis=1) for f, _, _ in members])
        unique, place = np.unique(table, axis=0, return_inverse=True)
        place = place.reshape(-1)
        kinds = list({id(e): e for _, e, _ in members}.values())
        outs = np.zeros((len(kinds), len(unique)), dtype=np.int64)
        ends = np.cumsum([f.entries for f, _, _ in members])
        for (form, e, first), end in zip(members, ends, strict=True):
            at, kind = place[end - form.entries : end], kinds.index(e)
            new = np.unique(at[outs[kind, at] == 0])
            outs[kind, new] = self.size + np.arange(len(new))
            self.size += len(new)
            self.real[first : first + form.entries] = outs[kind, at]
        for pattern in np.unique(outs > 0, axis=1).T:
            chosen = np.flatnonzero(((outs > 0) == pattern[:, None]).all(axis=0))
            used = np.flatnonzero(pattern)
            inputs = {n: Operand(members[0][0].rows[n].where, unique[chosen, c]) for c, n in enumerate(names)}
            found = {k: marginals_of(kinds[k]) for k in used}
            for k, sides in found.items():
                if sides is not None and self.single:
                    raise NotTraceable("a series of each variance")
                if sides is not None:
                    self.mehlers.append(self._mehler(members[0][0], inputs, kinds[k], sides, outs[k, chosen]))
            rest = [k for k in used if found[k] is None]
            if rest:
                yield self._expect(members[0][0], inputs, [kinds[k] for k in rest], [outs[k, chosen] for k in rest])

    def _mehler(
        self, form: _Form, inputs: Mapping[str, Operand], e: Expectation, sides: tuple[Marginal, Marginal], out: Ints
    ) -> Mehler:
        starts, strides = [], []
        for s, where in enumerate(("left", "right")):
            if not params_of(sides[s]) <= set(form.fixed):
                raise NotTraceable("a parameter inside a function that is integrated numerically")
            own = {n: o.rows for n, o in inputs.items() if o.where == where}
            combos, place = _distinct(list(own.values()), len(out))
            entries = len(combos[0])
            values: dict[str, Ints | float] = {**form.fixed, **dict(zip(own, combos, strict=True))}
            second = values[f"s{s}{s}"]
            if isinstance(second, float):
                raise NotTraceable("a constant argument")
            params = {n: v for n, v in values.items() if n in form.params}
            start = self.sides[s].series(sides[s], values[f"m{s}"], second, params, entries)
            starts.append(start + place)
            strides.append(entries)
        cross = inputs["s01"].rows if "s01" in inputs else np.zeros(len(out), dtype=np.int64)
        return Mehler(out, cross, starts[0], starts[1], (strides[0], strides[1]), e)

    def _expect(
        self, form: _Form, inputs: Mapping[str, Operand], kinds: Sequence[Expectation], outs: Sequence[Ints]
    ) -> Expect:
        recorder = Recorder()
        at = form.arguments(recorder)
        sides = [frozenset(n for n, o in inputs.items() if o.where == where) for where in ("left", "right")]
        found = judged(kinds, at, sides, recorder)
        values, errors, doubts = map(tuple, (found.values, found.errors, found.doubts))
        known: list[tuple[Traced, Operand]] = []
        for s, where in enumerate(("left", "right")):
            own = {n: o.rows for n, o in inputs.items() if o.where == where}
            nodes = frontier([*values, *errors, *doubts], frozenset(own))
            combos, place = _distinct(list(own.values()), len(outs[0]))
            rows = self.sides[s].formulas(nodes, dict(zip(own, combos, strict=True)), len(combos[0]) if own else 0)
            known += [(n, Operand(where, r[place])) for n, r in zip(nodes, rows, strict=True)]
        known += [(recorder.input(n), o) for n, o in inputs.items() if o.where == "own"]
        return Expect(tuple(outs), tuple(kinds), values, errors, doubts, tuple(known))


def _distinct(columns: Sequence[Ints], entries: int) -> tuple[list[Ints], Ints]:
    """The distinct rows of a table given by columns, and where each row is among them."""
    if not columns:
        return [], np.zeros(entries, dtype=np.int64)
    unique, place = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return list(unique.T), place.reshape(-1)


def _constant(numbers: Floats) -> float:
    """The number that all entries have."""
    if np.any(numbers != numbers[0]):
        raise NotTraceable("a parameter that depends on the index")
    return float(numbers[0])


@final
@dataclass(frozen=True, slots=True)
class _Form:
    """The arguments of an expectation: rows by name; what is the same number for all entries is in `fixed`."""

    sizes: tuple[int, int]
    rows: Mapping[str, Operand]
    fixed: Mapping[str, float]
    params: tuple[str, ...]
    entries: int

    @property
    def signature(self) -> object:
        """Equal for forms that can be joined."""
        wheres = tuple((n, o.where) for n, o in self.rows.items())
        return (self.sizes, wheres, tuple(sorted(self.fixed.items())), self.params)

    def arguments(self, recorder: Recorder) -> Arguments:
        """The arguments as recorded inputs."""

        def value(name: str) -> Scalar:
            return self.fixed[name] if name in self.fixed else recorder.input(name)

        n = range(sum(self.sizes))
        mean = tuple(value(f"m{i}") for i in n)
        second = tuple(tuple(value(f"s{min(i, j)}{max(i, j)}") for j in n) for i in n)
        return Arguments(mean, second, {p: value(p) for p in self.params}, self.sizes)


def _form(group: GroupValue, entries: int, lowering: _Lowering) -> _Form:
    """The form of the arguments of an expectation."""
    k, m = len(group.means[0]), len(group.means[1])
    placed: dict[str, Placed] = {}
    for s, where in enumerate(("left", "right")):
        shift = 0 if s == 0 else k
        for i, slot in enumerate(group.means[s]):
            placed[f"m{shift + i}"] = (where, *slot)
        for i, line in enumerate(group.inside[s]):
            placed |= {f"s{shift + i}{shift + j}": (where, *slot) for j, slot in enumerate(line) if j >= i}
    for i, line in enumerate(group.across):
        placed |= {f"s{i}{k + j}": ("own", *slot) for j, slot in enumerate(line)}
    placed |= group.scalars
    fixed = {name: 0.0 for name, (_, _, slots) in placed.items() if name not in group.scalars and not np.any(slots)}
    fixed |= {name: _constant(numbers) for name, (_, numbers) in group.numbers.items()}
    rows = {name: lowering.operand(*p) for name, p in placed.items() if name not in fixed}
    return _Form((k, m), rows, fixed, (*group.scalars, *group.numbers), entries)
