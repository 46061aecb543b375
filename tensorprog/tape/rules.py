"""The rules: the contributions to slots that were asked for.

One `_expand_<kind>` for every kind of key: the moment of two families, data, ghosts (sums over the columns of
a use of a weight), means, scalars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Read, Term
from tensorprog.ir.tables import Ints, count, flat_index, grid, map_table, read_table, shape
from tensorprog.limit.forms import QuadraticForms
from tensorprog.limit.moments import Gaussian, Group, MeanOf, MomentOf, Side, Unservable
from tensorprog.limit.moments import Product as ProductEquation
from tensorprog.symbolic.expectation import with_values
from tensorprog.tape.blocks import Constant, DataGram, Factor, GroupValue, Key, Mix, Product
from tensorprog.tape.coefficients import Coefficient
from tensorprog.tape.contracting import MOST_ENTRIES, Contracting
from tensorprog.tape.shared import Taps, join, use_taps


class Rules(Contracting):
    """Expands keys into blocks."""

    # ------------------------------------------------------------ moments

    def _expand_data(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        self.add(DataGram(key, own, key[1], key[2], li, rj))

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
            for n, product in enumerate(self.moments.product(u.var.name, v.var.name)):
                self._product(key, own, product, li, rj, n)

    def _against(self, u: str | None, v: str | None, li: Ints, rj: Ints) -> tuple[str, Key, Ints]:
        """The moment of two elements where None is the vector of ones: then a mean of the other."""
        if u is None:
            return ("right", *self.selves[1].mean(_name(v), rj))
        if v is None:
            return ("left", *self.selves[0].mean(u, li))
        return ("own", *self.moment(u, v, li, rj))

    def _linear(self, key: Key, own: Ints, op: Linear, instr: Instr, at: Ints, ask: Any, side: int) -> None:
        """Bilinearity in one argument: out[k] = sum over the terms and pairs of the map that reach at[k]."""
        for n, term in enumerate(op.terms):
            rows, source, coef, scalars = self._term_entries(term, instr, at, side)
            if not len(rows):
                continue
            where, dep, slots = ask(term.operand, source, rows)
            placed = tuple(("left" if side == 0 else "right", *s) for s in scalars)
            self.add(Mix(key, own[rows], where, dep, slots, coef.value, placed, coef.slopes), n)

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
        for n, a in enumerate(u.op.terms):
            for m, b in enumerate(v.op.terms):
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
                coef = c[cols] * d
                mix = Mix(key, own[rows[cols]], "own", dep, slots, coef.value, scalars, coef.slopes)
                self.add(mix, n, m)

    def _term_entries(
        self, term: Term, instr: Instr, at: Ints, side: int
    ) -> tuple[Ints, Ints, Coefficient, list[tuple[Key, Ints]]]:
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
        value = self._coefficient(term.coef, {**sizes, **index}, (len(target),))
        rows, entries = _lookup(target, at)
        picked = {k: v[entries] for k, v in index.items()}
        scalars = []
        for s in term.scalars:
            where = flat_index(s.index, self.program.var(s.var).axes, {**sizes, **picked}, sizes, len(entries))
            scalars.append(self.selves[side].scalar(s.var, where))
        alive = np.flatnonzero(np.all([value.matters[entries], *(slots > 0 for _, slots in scalars)], axis=0))
        kept = [(key, slots[alive]) for key, slots in scalars]
        return rows[alive], source[entries[alive]], value[entries[alive]], kept

    def _shared(self, key: Key, own: Ints, left: Taps, right: Taps, li: Ints, rj: Ints) -> None:
        """gain * sum over contributions with the same element of the weight of E[h h']."""
        rows, a, b, coef = join(left, right, li, rj)
        if not len(rows):
            return
        if left.operand is None or right.operand is None:
            self.add(Constant(key, own[rows], coef.value, coef.slopes))
            return
        dep, slots = self.moment(left.operand, right.operand, a, b)
        self.add(Mix(key, own[rows], "own", dep, slots, coef.value, (), coef.slopes))

    def _expand_ghost(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        uses = {(t.weight, str(k)): u for t in self.limit.trained for k, u in enumerate(t.uses)}
        taps = [use_taps(self.program, uses[key[1], key[2 + s]], self.sizes[s], self.parameters) for s in (0, 1)]
        self._shared(key, own, taps[0], taps[1], li, rj)

    # ------------------------------------------------------------ products of groups

    def _product(self, key: Key, own: Ints, product: ProductEquation, li: Ints, rj: Ints, number: int) -> None:
        contraction = self._contraction(key, own, product, li, rj)
        if contraction is not None:
            self.add(contraction, number)
            return
        own, li, rj = self._summed(key, own, product, li, rj)
        alive = self._supported(product, li, rj)
        own, li, rj = own[alive], li[alive], rj[alive]
        if not len(own):
            return
        at = (li, rj)
        factors = [f for s in (0, 1) if (f := self._factor((product.left, product.right)[s], at[s], s)) is not None]
        sides = (product.left, product.right)
        groups = tuple(self._group_value(g, sides, at) for g in product.groups)
        self.add(Product(key, own, tuple(factors), groups), number)

    def _summed(
        self, key: Key, own: Ints, product: ProductEquation, li: Ints, rj: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """The entries of all terms of the sums over the further axes of both sides."""
        slots = self.slots[key]
        n, m = count(product.left.axes, self.sizes[0]) // slots.rows, count(product.right.axes, self.sizes[1])
        m //= slots.cols
        if n * m == 1:
            return own, li, rj
        if len(own) * n * m > MOST_ENTRIES:
            raise Unservable(f"sums inside of an expectation have {len(own) * n * m} terms")
        a, b = (x.ravel() for x in np.indices((n, m)))
        rows, cols = li[:, None] * n + a, rj[:, None] * m + b
        return np.repeat(own, n * m), rows.ravel(), cols.ravel()

    def _supported(self, product: ProductEquation, li: Ints, rj: Ints) -> Ints:
        """The entries of which no moment is known to be zero."""
        alive = np.ones(len(li), dtype=bool)
        for g in product.groups:
            support = self.supports.of(g.left.var, g.right.var) if isinstance(g, MomentOf) else None
            if support is not None and isinstance(g, MomentOf):
                i, j = self._elements(g.left, product.left, li, 0), self._elements(g.right, product.right, rj, 1)
                alive &= support[i, j] & (i >= 0) & (j >= 0)
        return np.flatnonzero(alive)

    def _factor(self, side: Side, at: Ints, s: int) -> Factor | None:
        """The numerical factor of a side, where it is not 1."""
        if side.fn == ex.ONE:
            return None
        where = "left" if s == 0 else "right"
        scalars, numbers = {}, {}
        for symbol in ex.symbols(side.fn):
            if symbol in side.reads:
                scalars[symbol] = (
                    where,
                    *self.selves[s].scalar(side.reads[symbol].var, self._elements(side.reads[symbol], side, at, s)),
                )
            else:
                numbers[symbol] = self._number(ex.Sym(symbol), side, at, s)
        return Factor(side.fn, scalars, numbers)

    def _group_value(
        self, group: Group, sides: tuple[Side, Side], at: tuple[Ints, Ints]
    ) -> GroupValue:
        if isinstance(group, MomentOf | QuadraticForms):
            return GroupValue(None, moment=self._slots_of(group, sides, at))
        if isinstance(group, MeanOf):
            s = 0 if group.side == "left" else 1
            return GroupValue(
                None,
                mean=(group.side, *self.selves[s].mean(group.read.var, self._elements(group.read, sides[s], at[s], s))),
            )
        return self._gaussian(group, sides, at)

    def _gaussian(self, group: Gaussian, sides: tuple[Side, Side], at: tuple[Ints, Ints]) -> GroupValue:
        left = [(r.var, self._elements(r, sides[0], at[0], 0)) for r in group.left]
        right = [(r.var, self._elements(r, sides[1], at[1], 1)) for r in group.right]
        a, b = self.selves
        means = tuple(a.mean(u, i) for u, i in left), tuple(b.mean(v, j) for v, j in right)
        inside = (
            tuple(tuple(a.moment(u, w, i, k) for w, k in left) for u, i in left),
            tuple(tuple(b.moment(v, w, j, k) for w, k in right) for v, j in right),
        )
        across = tuple(tuple(self.moment(u, v, i, j) for v, j in right) for u, i in left)
        scalars: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        chosen: dict[str, Expr] = {}
        for symbol, where, what in group.params:
            s = 0 if where == "left" else 1
            if isinstance(what, Read):
                scalars[symbol] = (where, *self.selves[s].scalar(what.var, self._elements(what, sides[s], at[s], s)))
            elif isinstance(what, ex.Sym) and what.name in self.parameters:
                chosen[symbol] = what
            else:
                numbers[symbol] = (where, self._number(what, sides[s], at[s], s))
        request = with_values(group.expectation.request, chosen) if chosen else None
        expectation = group.expectation if request is None else self.moments.settled(request, self.sizes[0])
        return GroupValue(
            expectation,
            means=means,
            inside=inside,
            across=across,
            scalars=scalars,
            numbers=numbers,
            parametric=request,
        )

    # ------------------------------------------------------------ means and scalars of one run

    def _expand_mean(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        instr = self.program.instr(key[1])
        if isinstance(instr.op, Linear):
            for n, term in enumerate(instr.op.terms):
                rows, source, coef, scalars = self._term_entries(term, instr, li, 0)
                dep, slots = (
                    (("one",), np.zeros(len(rows), dtype=np.int64))
                    if term.operand is None
                    else self.mean(term.operand, source)
                )
                placed = tuple(("left", *s) for s in scalars)
                self.add(Mix(key, own[rows], "own", dep, slots, coef.value, placed, coef.slopes), n)
            return
        for n, product in enumerate(self.moments.product(key[1], None)):
            self._product(key, own, product, li, rj, n)

    def _expand_scalar(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        instr = self.program.instr(key[1])
        if self.limit.orders.of[key[1]].data:
            self.add(DataGram(key, own, key[1], "", li, rj))
            return
        op, sizes = instr.op, self.sizes[0]
        if isinstance(op, Inner):
            self._expand_inner(key, own, op, instr, li)
        elif isinstance(op, Linear):
            for n, term in enumerate(op.terms):
                rows, source, coef, scalars = self._term_entries(term, instr, li, 0)
                dep, slots = (
                    (("one",), np.zeros(len(rows), dtype=np.int64))
                    if term.operand is None
                    else self.scalar(term.operand, source)
                )
                placed = tuple(("left", *s) for s in scalars)
                self.add(Mix(key, own[rows], "own", dep, slots, coef.value, placed, coef.slopes), n)
        elif isinstance(op, Pointwise):
            side = Side(instr.var.axes, op.fn, {f"a{k}": a for k, a in enumerate(op.args)})
            factor = self._factor(side, li, 0)
            self.add(Product(key, own, () if factor is None else (factor,), ()))
        elif isinstance(op, MaxOver):
            window = int(np.prod(shape(self.program.var(op.operand).axes[-op.over :], sizes)))
            parts = [self.scalar(op.operand, li * window + k) for k in range(window)]
            args = {f"a{k}": ("left", *p) for k, p in enumerate(parts)}
            fn: Expr = ex.Sym("a0")
            for k in range(1, window):
                fn = ex.call("max", fn, ex.Sym(f"a{k}"))
            self.add(Product(key, own, (Factor(fn, args, {}),), ()))

    def _expand_inner(self, key: Key, own: Ints, op: Inner, instr: Instr, li: Ints) -> None:
        """scale * E[Z^u Z^v] on the same run."""
        scale = self._coefficient(self.limit.inners[key[1]], self.sizes[0], (len(own),))
        side = Side(instr.var.axes, ex.ONE, {})
        u = self._elements(op.left, side, li, 0)
        if op.right is None:
            dep, slots = self.mean(op.left.var, u)
        else:
            dep, slots = self.moment(op.left.var, op.right.var, u, self._elements(op.right, side, li, 0))
        self.add(Mix(key, own, "own", dep, slots, scale.value, (), scale.slopes))


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
