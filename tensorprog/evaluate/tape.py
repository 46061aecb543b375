"""Equations -> tape: which index pairs of which moments are needed, and in what order.

A run is one set of sizes (all examples whose axes have the same extents).  A *slot* is one number for every
pair of examples: the moment of two families at one pair of indices, or, on the tape of a single run, a
variance, a mean or a scalar at one index.  Starting from the output, `Tape` asks for the slots that are
needed and nothing else: a flattened convolutional net never meets two different pixels, a recurrence from
(T, T') walks down its diagonal.  Slots are then ordered by levels; all slots of a level are computed at
once, which for a recurrence are its wavefronts.

A tape knows index structure only; `execute.py` runs it on data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.errors import fail
from tensorprog.evaluate.blocks import Block, Constant, DataGram, Factor, GroupValue, Mix, Product, SumOfProducts, merged, part
from tensorprog.evaluate.shared import Taps, join, taps_of, use_taps
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Read, Term
from tensorprog.ir.tables import Ints, Sizes, coefficients, count, flat_index, grid, map_table, read_table, shape
from tensorprog.limit.analyse import Limit, TrainedWeight
from tensorprog.limit.equations import twin
from tensorprog.limit.moments import Gaussian, MeanOf, MomentOf, Moments, Side
from tensorprog.limit.moments import Product as ProductEquation

Key = tuple[str, ...]
MAX_PAIRS = 1 << 26


@final
@dataclass
class Slots:
    """The slots of one key: `at` maps a pair code to a slot; slot 0 is the constant zero."""

    rows: int
    cols: int
    at: Ints = field(init=False)
    size: int = 1

    def __post_init__(self) -> None:
        if self.rows * self.cols > MAX_PAIRS:
            raise fail(f"{self.rows} x {self.cols} index pairs are more than this evaluation can hold")
        self.at = np.zeros(self.rows * self.cols, dtype=np.int64)


class Tape:
    """The slots and blocks of a pair of runs, whose own tapes are `selves`, or of one run (None).

    `zeros` marks index pairs of keys that are known to be zero.
    """

    def __init__(
        self, limit: Limit, moments: Moments, sizes: tuple[Sizes, Sizes],
        selves: tuple[Tape, Tape] | None = None, zeros: Mapping[Key, NDArray[np.bool_]] | None = None,
    ) -> None:
        self.limit, self.moments = limit, moments
        self.program = limit.program
        self.sizes = sizes
        self.selves = selves or (self, self)
        self.zeros = zeros or {}
        self.slots: dict[Key, Slots] = {}
        self.blocks: list[Block] = []
        self.waiting: list[tuple[Key, Ints, Ints]] = []
        self._taps: dict[tuple[str, int], Taps] = {}

    @property
    def single(self) -> bool:
        """Whether this is the tape of one run."""
        return self.selves[0] is self

    # ------------------------------------------------------------ asking for slots

    def moment(self, u: str, v: str, li: Ints, rj: Ints) -> tuple[Key, Ints]:
        """Slots of E[Z^u[li] Z^v'[rj]]; out-of-range indices (-1) give zero."""
        kind = "data" if self._is_data(u) else "moment"
        if kind == "moment" and self.moments.vanishes(u, v):
            return ("zero",), np.zeros(len(li), dtype=np.int64)
        if self.single and (v, u) < (u, v):
            u, v, li, rj = v, u, rj, li
        return self.ask((kind, u, v), li, rj, self._count(u, 0), self._count(v, 1))

    def mean(self, u: str, at: Ints) -> tuple[Key, Ints]:
        """Slots of E[Z^u[at]] on the tape of one run."""
        if self.moments.vanishes(u):
            return ("zero",), np.zeros(len(at), dtype=np.int64)
        return self.ask(("mean", u), at, np.where(at < 0, -1, 0), self._count(u, 0), 1)

    def scalar(self, s: str, at: Ints) -> tuple[Key, Ints]:
        """Slots of a scalar family on the tape of one run."""
        return self.ask(("scalar", s), at, np.where(at < 0, -1, 0), self._count(s, 0), 1)

    def ask(self, key: Key, li: Ints, rj: Ints, rows: int, cols: int) -> tuple[Key, Ints]:
        """Slots of a key at index pairs; new ones are queued for expansion."""
        slots = self.slots.setdefault(key, Slots(rows, cols)) if key not in self.slots else self.slots[key]
        valid = (li >= 0) & (rj >= 0)
        codes = np.where(valid, li * slots.cols + rj, 0)
        if key in self.zeros:
            valid &= ~self.zeros[key][codes]
        new = np.unique(codes[valid & (slots.at[codes] == 0)])
        if len(new):
            slots.at[new] = np.arange(slots.size, slots.size + len(new))
            slots.size += len(new)
            self.waiting.append((key, new // slots.cols, new % slots.cols))
        return key, np.where(valid, slots.at[codes], 0)

    def build(self) -> None:
        """Expand what was asked for until nothing is missing."""
        while self.waiting:
            key, li, rj = self.waiting.pop(0)
            own = self.slots[key].at[li * self.slots[key].cols + rj]
            getattr(self, f"_expand_{key[0]}")(key, own, li, rj)

    def _is_data(self, name: str) -> bool:
        dim = self.program.var(name).dim
        return dim is not None and not dim.wide

    def _count(self, name: str, side: int) -> int:
        return count(self.program.var(name).axes, self.sizes[side])

    # ------------------------------------------------------------ moments

    def _expand_data(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        self.blocks.append(DataGram(key, own, key[1], key[2], li, rj))

    def _expand_moment(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        u, v = (self.program.instr(n) for n in key[1:])
        if isinstance(u.op, Linear) and isinstance(v.op, Linear) and self._thin(u, 0) and self._thin(v, 1):
            self._bilinear(key, own, u, v, li, rj)
        elif isinstance(u.op, Linear):
            self._linear(key, own, u.op, u, li, lambda name, at, k: self._against(name, v.var.name, at, rj[k]), 0)
        elif isinstance(v.op, Linear):
            self._linear(key, own, v.op, v, rj, lambda name, at, k: self._against(u.var.name, name, li[k], at), 1)
        elif isinstance(u.op, MatMul) and isinstance(v.op, MatMul):
            self._shared(key, own, self.taps(u.var.name, 0), self.taps(v.var.name, 1), li, rj)
        else:
            for product in self.moments.product(u.var.name, v.var.name):
                self._product(key, own, product, li, rj)

    def _against(self, u: str | None, v: str | None, li: Ints, rj: Ints) -> tuple[str, Key, Ints]:
        """The moment of two elements where None is the vector of ones: then a mean of the other."""
        if u is None:
            return ("right", *self.selves[1].mean(_name(v), rj))
        if v is None:
            return ("left", *self.selves[0].mean(u, li))
        return ("own", *self.moment(u, v, li, rj))

    def _linear(self, key: Key, own: Ints, op: Linear, instr: Instr, at: Ints, ask: Any, side: int) -> None:
        """Bilinearity in one argument: out[k] = sum over the terms and pairs of the map that reach at[k]."""
        for term in op.terms:
            rows, source, coef, scalars = self._term_entries(term, instr, at, side)
            if not len(rows):
                continue
            where, dep, slots = ask(term.operand, source, rows)
            self.blocks.append(Mix(key, own[rows], where, dep, slots, coef, tuple(("left" if side == 0 else "right", *s) for s in scalars)))

    def _thin(self, instr: Instr, side: int) -> bool:
        """Whether every element is a sum of few others, so that both arguments may be expanded at once."""
        assert isinstance(instr.op, Linear)
        if len(instr.op.terms) > 6 or any(t.operand is None for t in instr.op.terms):
            return False
        size = max(1, count(instr.var.axes, self.sizes[side]))
        return all(count(t.map.domain, self.sizes[side]) <= size for t in instr.op.terms)

    def _bilinear(self, key: Key, own: Ints, u: Instr, v: Instr, li: Ints, rj: Ints) -> None:
        """Bilinearity in both arguments at once."""
        assert isinstance(u.op, Linear) and isinstance(v.op, Linear)
        for a in u.op.terms:
            for b in v.op.terms:
                if self.moments.vanishes(_name(a.operand), _name(b.operand)):
                    continue
                rows, i, c, s = self._term_entries(a, u, li, 0)
                if not len(rows):
                    break
                cols, j, d, t = self._term_entries(b, v, rj[rows], 1)
                if not len(cols):
                    continue
                dep, slots = self.moment(_name(a.operand), _name(b.operand), i[cols], j)
                scalars = tuple(("left", k, x[cols]) for k, x in s) + tuple(("right", k, x) for k, x in t)
                self.blocks.append(Mix(key, own[rows[cols]], "own", dep, slots, c[cols] * d, scalars))

    def _term_entries(self, term: Term, instr: Instr, at: Ints, side: int) -> tuple[Ints, Ints, NDArray[np.float64], list[tuple[Key, Ints]]]:
        """(position in `at`, source element, coefficient, scalar slots) of every contribution of a term."""
        sizes = self.sizes[side]
        if term.operand is None:
            target = read_table(term.map.target, term.map.domain, instr.var.axes, sizes)
            keep = np.flatnonzero(target >= 0)
            target, source = target[keep], np.zeros(len(keep), dtype=np.int64)
            index = {k: v[keep] for k, v in grid(term.map.domain, sizes).items()}
        else:
            table = map_table(term.map, instr.var.axes, self.program.var(term.operand).axes, sizes)
            target, source, index = table.target, table.source, dict(table.index)
        value = np.broadcast_to(np.asarray(ex.evaluate(term.coef, {**sizes, **index}), dtype=np.float64), (len(target),))
        rows, entries = _lookup(target, at)
        picked = {k: v[entries] for k, v in index.items()}
        scalars = []
        for s in term.scalars:
            where = flat_index(s.index, self.program.var(s.var).axes, {**sizes, **picked}, sizes, len(entries))
            scalars.append(self.selves[side].scalar(s.var, where))
        return rows, source[entries], value[entries], scalars

    def taps(self, name: str, side: int) -> Taps:
        """The contributions to a matrix product, with the elements of the weight that they use."""
        if (name, side) not in self._taps:
            gain = float(ex.evaluate(self.limit.gains[name], self.sizes[side]))
            self._taps[name, side] = taps_of(self.program, self.program.instr(name), self.sizes[side], gain)
        return self._taps[name, side]

    def _shared(self, key: Key, own: Ints, left: Taps, right: Taps, li: Ints, rj: Ints) -> None:
        """gain * sum over contributions with the same element of the weight of E[h h']."""
        rows, a, b, coef = join(left, right, li, rj)
        if not len(rows):
            return
        if left.operand is None or right.operand is None:
            self.blocks.append(Constant(key, own[rows], coef))
            return
        dep, slots = self.moment(left.operand, right.operand, a, b)
        self.blocks.append(Mix(key, own[rows], "own", dep, slots, coef, ()))

    def _expand_ghost(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        uses = {(t.weight, str(k)): u for t in self.limit.trained for k, u in enumerate(t.uses)}
        taps = [use_taps(self.program, uses[key[1], key[2 + s]], self.sizes[s]) for s in (0, 1)]
        self._shared(key, own, taps[0], taps[1], li, rj)

    # ------------------------------------------------------------ products of groups

    def _product(self, key: Key, own: Ints, product: ProductEquation, li: Ints, rj: Ints) -> None:
        at = (li, rj)
        factors = [f for s in (0, 1) if (f := self._factor((product.left, product.right)[s], at[s], s)) is not None]
        sides = (product.left, product.right)
        groups = tuple(self._group_value(g, sides, at) for g in product.groups)
        self.blocks.append(Product(key, own, tuple(factors), groups))

    def _elements(self, read: Read, side: Side, at: Ints, s: int) -> Ints:
        """The elements that a read of a side names, for elements `at` of the side's own axes."""
        env = {**self.sizes[s], **{k: v[at] for k, v in grid(side.axes, self.sizes[s]).items()}}
        return flat_index(read.index, self.program.var(read.var).axes, env, self.sizes[s], len(at))

    def _factor(self, side: Side, at: Ints, s: int) -> Factor | None:
        """The numerical factor of a side, where it is not 1."""
        if side.fn == ex.ONE:
            return None
        where = "left" if s == 0 else "right"
        scalars, numbers = {}, {}
        for symbol in ex.symbols(side.fn):
            if symbol in side.reads:
                scalars[symbol] = (where, *self.selves[s].scalar(side.reads[symbol].var, self._elements(side.reads[symbol], side, at, s)))
            else:
                numbers[symbol] = self._number(ex.Sym(symbol), side, at, s)
        return Factor(side.fn, scalars, numbers)

    def _number(self, e: Expr, side: Side, at: Ints, s: int) -> Any:
        env = {**self.sizes[s], **{k: v[at] for k, v in grid(side.axes, self.sizes[s]).items()}}
        return np.broadcast_to(np.asarray(ex.evaluate(e, env), dtype=np.float64), (len(at),))

    def _group_value(self, group: MomentOf | MeanOf | Gaussian, sides: tuple[Side, Side], at: tuple[Ints, Ints]) -> GroupValue:
        if isinstance(group, MomentOf):
            li, rj = self._elements(group.left, sides[0], at[0], 0), self._elements(group.right, sides[1], at[1], 1)
            return GroupValue(None, moment=self.moment(group.left.var, group.right.var, li, rj))
        if isinstance(group, MeanOf):
            s = 0 if group.side == "left" else 1
            return GroupValue(None, mean=(group.side, *self.selves[s].mean(group.read.var, self._elements(group.read, sides[s], at[s], s))))
        return self._gaussian(group, sides, at)

    def _gaussian(self, group: Gaussian, sides: tuple[Side, Side], at: tuple[Ints, Ints]) -> GroupValue:
        reads = (group.left, group.right)
        elements = [[self._elements(r, sides[s], at[s], s) for r in reads[s]] for s in (0, 1)]
        means = tuple(tuple(self.selves[s].mean(r.var, e) for r, e in zip(reads[s], elements[s], strict=True)) for s in (0, 1))
        inside = tuple(
            tuple(tuple(self.selves[s].moment(a.var, b.var, i, j) for b, j in zip(reads[s], elements[s], strict=True))
                  for a, i in zip(reads[s], elements[s], strict=True))
            for s in (0, 1)
        )
        across = tuple(
            tuple(self.moment(a.var, b.var, i, j) for b, j in zip(reads[1], elements[1], strict=True))
            for a, i in zip(reads[0], elements[0], strict=True)
        )
        scalars: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        for symbol, where, what in group.params:
            s = 0 if where == "left" else 1
            if isinstance(what, Read):
                scalars[symbol] = (where, *self.selves[s].scalar(what.var, self._elements(what, sides[s], at[s], s)))
            else:
                numbers[symbol] = (where, self._number(what, sides[s], at[s], s))
        return GroupValue(group.expectation, means=means, inside=inside, across=across, scalars=scalars, numbers=numbers)

    # ------------------------------------------------------------ means and scalars of one run

    def _expand_mean(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        instr = self.program.instr(key[1])
        if isinstance(instr.op, Linear):
            for term in instr.op.terms:
                rows, source, coef, scalars = self._term_entries(term, instr, li, 0)
                dep, slots = (("one",), np.zeros(len(rows), dtype=np.int64)) if term.operand is None else self.mean(term.operand, source)
                self.blocks.append(Mix(key, own[rows], "own", dep, slots, coef, tuple(("left", *s) for s in scalars)))
            return
        for product in self.moments.product(key[1], None):
            self._product(key, own, product, li, rj)

    def _expand_scalar(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        instr = self.program.instr(key[1])
        if self.limit.orders.of[key[1]].data:
            self.blocks.append(DataGram(key, own, key[1], "", li, rj))
            return
        op, sizes = instr.op, self.sizes[0]
        if isinstance(op, Inner):
            self._expand_inner(key, own, op, instr, li)
        elif isinstance(op, Linear):
            for term in op.terms:
                rows, source, coef, scalars = self._term_entries(term, instr, li, 0)
                dep, slots = (("one",), np.zeros(len(rows), dtype=np.int64)) if term.operand is None else self.scalar(term.operand, source)
                self.blocks.append(Mix(key, own[rows], "own", dep, slots, coef, tuple(("left", *s) for s in scalars)))
        elif isinstance(op, Pointwise):
            side = Side(instr.var.axes, op.fn, {f"a{k}": a for k, a in enumerate(op.args)})
            factor = self._factor(side, li, 0)
            self.blocks.append(Product(key, own, () if factor is None else (factor,), ()))
        elif isinstance(op, MaxOver):
            window = int(np.prod(shape(self.program.var(op.operand).axes[-op.over :], sizes)))
            parts = [self.scalar(op.operand, li * window + k) for k in range(window)]
            args = {f"a{k}": ("left", *p) for k, p in enumerate(parts)}
            fn = ex.Sym("a0")
            for k in range(1, window):
                fn = ex.call("max", fn, ex.Sym(f"a{k}"))
            self.blocks.append(Product(key, own, (Factor(fn, args, {}),), ()))

    def _expand_inner(self, key: Key, own: Ints, op: Inner, instr: Instr, li: Ints) -> None:
        """scale * E[Z^u Z^v] on the same run."""
        scale = ex.evaluate(self.limit.inners[key[1]], self.sizes[0])
        side = Side(instr.var.axes, ex.ONE, {})
        u = self._elements(op.left, side, li, 0)
        if op.right is None:
            dep, slots = self.mean(op.left.var, u)
        else:
            dep, slots = self.moment(op.left.var, op.right.var, u, self._elements(op.right, side, li, 0))
        self.blocks.append(Mix(key, own, "own", dep, slots, np.full(len(own), float(scale)), ()))

    # ------------------------------------------------------------ the kernels

    def nngp(self) -> Key:
        """Ask for the covariance of the output, all pairs of its elements."""
        out = self.limit.output_var
        rows, cols = self._count(out, 0), self._count(out, 1)
        li, rj = np.divmod(np.arange(rows * cols), cols)
        if self.limit.is_vector:
            key, slots = self.moment(out, out, li, rj)
            own = self.ask(("nngp",), li, rj, rows, cols)[1]
            self.waiting.pop()
            self.blocks.append(Mix(("nngp",), own, "own", key, slots, np.ones(len(own)), ()))
            return ("nngp",)
        return self.ask(("covariance", out, out), li, rj, rows, cols)[0]

    def _expand_nngp(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        raise AssertionError("expanded where it is asked for")

    def _covariance(self, s: str | None, t: str | None, li: Ints, rj: Ints) -> tuple[str, Key, Ints]:
        if s is None or t is None:
            return "own", ("zero",), np.zeros(len(li), dtype=np.int64)
        return ("own", *self.ask(("covariance", s, t), li, rj, self._count(s, 0), self._count(t, 1)))

    def _expand_covariance(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        """Cov of two scalars that stay random."""
        s, t = (self.program.instr(n) for n in key[1:])
        if isinstance(s.op, Linear):
            self._linear(key, own, s.op, s, li, lambda name, at, k: self._covariance(name, t.var.name, at, rj[k]), 0)
        elif isinstance(t.op, Linear):
            self._linear(key, own, t.op, t, rj, lambda name, at, k: self._covariance(s.var.name, name, li[k], at), 1)
        elif isinstance(s.op, MatMul) and isinstance(t.op, MatMul):
            if s.op.weight == t.op.weight:
                self._shared(key, own, self.taps(s.var.name, 0), self.taps(t.var.name, 1), li, rj)
        elif isinstance(s.op, Inner) and isinstance(t.op, Inner):
            scale = self._inner_scale(s, t)
            for product in self.moments.expectation(self.moments.inner(s.var.name, "l"), self.moments.inner(t.var.name, "r")):
                scaled = ProductEquation(Side(product.left.axes, ex.mul(scale, product.left.fn), product.left.reads), product.right, product.groups)
                self._product(key, own, scaled, li, rj)

    def _inner_scale(self, s: Instr, t: Instr) -> Expr:
        assert isinstance(s.op, Inner) and isinstance(t.op, Inner)
        orders, dim = self.limit.orders, self.program.var(s.op.left.var).dim
        assert dim is not None
        return ex.mul(orders.leading(s.op.coef).coef, orders.leading(t.op.coef).coef, orders.leading(dim.size).coef)

    def ntk(self) -> Key:
        """Ask for the NTK of the output, all pairs of its elements."""
        out = self.limit.output_var
        rows, cols = self._count(out, 0), self._count(out, 1)
        li, rj = np.divmod(np.arange(rows * cols), cols)
        self.ask(("ntk",), li, rj, rows, cols)
        self.waiting.pop()
        for part in self.limit.trained:
            for a in range(len(part.uses)):
                for b in range(len(part.uses)):
                    self._ntk_part(part, a, b)
        return ("ntk",)

    def _ntk_part(self, part: TrainedWeight, a: int, b: int) -> None:
        """scale * sum over pairs of entries of two uses of E[row row'] * (shared sum of E[col col'])."""
        uses = part.uses[a], part.uses[b]
        taps = [use_taps(self.program, u, self.sizes[s]) for s, u in enumerate(uses)]
        rows = [t.row for t in taps]
        li, rj = (x.ravel() for x in np.meshgrid(np.arange(len(rows[0])), np.arange(len(rows[1])), indexing="ij"))
        row = self._row_moment(uses[0].row, uses[1].row, rows[0][li], rows[1][rj])
        twins = [twin(self.program, u) for u in uses]
        scale = float(ex.evaluate(part.scale, self.sizes[0]))
        alive = np.flatnonzero(row[1] > 0) if row[0] != ("one",) else np.arange(len(li))
        if twins[0] is not None and twins[1] is not None:
            col = self.moment(twins[0], twins[1], rows[0][li[alive]], rows[1][rj[alive]])
            scale /= float(ex.evaluate(self.limit.gains[twins[0]], self.sizes[0]))
        else:
            col = self.ask(("ghost", part.weight, str(a), str(b)), li[alive], rj[alive], len(rows[0]), len(rows[1]))
        outs = taps[0].out[li[alive]], taps[1].out[rj[alive]]
        own = self.slots[("ntk",)].at[outs[0] * self.slots[("ntk",)].cols + outs[1]]
        self.blocks.append(SumOfProducts(("ntk",), own, (row[0], row[1][alive]), col, scale))

    def _row_moment(self, u: str, v: str, li: Ints, rj: Ints) -> tuple[Key, Ints]:
        """E[row row']; rows of a scalar weight are scalars, whose product is taken."""
        if self.program.var(u).dim is not None:
            return self.moment(u, v, li, rj)
        return self.ask(("outer", u, v), li, rj, self._count(u, 0), self._count(v, 1))

    def _expand_outer(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        """The product of two deterministic scalars, one of each run."""
        a, b = self.selves[0].scalar(key[1], li), self.selves[1].scalar(key[2], rj)
        factor = Factor(ex.mul(ex.Sym("a"), ex.Sym("b")), {"a": ("left", *a), "b": ("right", *b)}, {})
        self.blocks.append(Product(key, own, (factor,), ()))

    # ------------------------------------------------------------ order

    def ordered(self) -> list[Block]:
        """The blocks cut by levels, in an order in which everything is there when it is read."""
        start: dict[Key, int] = {}
        total = 0
        for key, slots in self.slots.items():
            start[key], total = total, total + slots.size
        level = self._levels(start, total)
        ordered: list[tuple[int, int, Block]] = []
        for n, block in enumerate(merged(self.blocks)):
            depth = level[start[block.key] + block.out]
            depths = np.unique(depth)
            for d in depths:
                ordered.append((int(d), n, part(block, np.flatnonzero(depth == d)) if len(depths) > 1 else block))
        return [b for _, _, b in sorted(ordered, key=lambda x: x[:2])]

    def find_zeros(self, ordered: list[Block]) -> dict[Key, NDArray[np.bool_]]:
        """Index pairs to which nothing but zeros is added: offsets that never meet.

        A slot lives when one of its contributions has living factors; blocks come in the order of their levels.
        """
        alive = {key: np.zeros(slots.size, dtype=bool) for key, slots in self.slots.items()}
        for block in ordered:
            lives = np.ones(len(block.out), dtype=bool)
            for key, slots in block.factors_of(self.single):
                if key != ("one",):
                    lives &= alive[key][slots] if key in alive else False
            alive[block.key][block.out[lives]] = True
        return {key: (s.at > 0) & ~alive[key][s.at] for key, s in self.slots.items() if not alive[key][1:].all()}

    def _levels(self, start: Mapping[Key, int], total: int) -> Ints:
        from tensorprog.ir.schedule import levels

        edges = []
        for block in self.blocks:
            for key, slots in block.reads(self.single):
                if key in start:
                    used = np.flatnonzero(slots > 0)
                    edges.append((start[key] + slots[used], start[block.key] + block.out[used]))
        level = levels(total, edges)
        if (level < 0).any():
            raise fail("the equations of this program refer to each other in a circle", self.program.span)
        return level


def _name(name: str | None) -> str:
    assert name is not None
    return name


def _lookup(target: Ints, at: Ints) -> tuple[Ints, Ints]:
    """For every position k in `at` and every entry e with target[e] = at[k]: (k, e)."""
    size = int(max(target.max(initial=-1), at.max(initial=-1))) + 1
    entries = csr_matrix((np.ones(len(target)), (target, np.arange(len(target)))), shape=(size, len(target)))
    picked = entries[at]
    rows = np.repeat(np.arange(len(at)), np.diff(picked.indptr))
    return rows, picked.indices.astype(np.int64)


__all__ = ["Tape", "coefficients"]
