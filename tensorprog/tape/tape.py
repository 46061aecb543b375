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
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Inner, Instr, Linear, MatMul
from tensorprog.ir.schedule import levels
from tensorprog.ir.tables import Ints
from tensorprog.limit.analyse import TrainedWeight
from tensorprog.limit.moments import Product as ProductEquation
from tensorprog.limit.moments import Side
from tensorprog.limit.uses import twin
from tensorprog.tape.asking import Line
from tensorprog.tape.blocks import Block, Contraction, Factor, Key, Mix, Product, SumOfProducts, merged, part
from tensorprog.tape.rules import Rules
from tensorprog.tape.shared import meeting, use_taps


class Tape(Rules):
    """What computes the kernels of a pair of runs, or the variances, means and scalars of one run."""

    def build(self) -> None:
        """Expand what was asked for until nothing is missing."""
        while self.waiting:
            key, li, rj = self.waiting.pop(0)
            self._foresee(key, li, rj)
            own = self.slots[key].at[li * self.slots[key].cols + rj]
            getattr(self, f"_expand_{key[0]}")(key, own, li, rj)

    def _foresee(self, key: Key, li: Ints, rj: Ints) -> None:
        """Ask at once for all index pairs on the line along which a recurrence moves: the same displacement twice."""
        before = self.lines.get(key)
        step = _displacement(before, li, rj)
        self.lines[key] = li, rj, step
        if before is None or step is None or step != before[2]:
            return
        number = min(_steps(at, d, size) for at, d, size in zip((li, rj), step, self._shape(key), strict=True))
        ahead = np.arange(1, number + 1)[:, None]
        li, rj = ((at + d * ahead).ravel() for at, d in zip((li, rj), step, strict=True))
        match key:
            case ("moment", u, v):
                self.moment(u, v, li, rj)
            case ("mean", u):
                self.mean(u, li)
            case ("scalar", s):
                self.scalar(s, li)

    def _shape(self, key: Key) -> tuple[int, int]:
        return self.slots[key].rows, self.slots[key].cols

    @property
    def count(self) -> int:
        """The number of slots."""
        return sum(s.size for s in self.slots.values())

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
            self.add(Mix(("nngp",), own, "own", key, slots, np.ones(len(own)), ()))
            return ("nngp",)
        return self.ask(("covariance", out, out), li, rj, rows, cols)[0]

    def _expand_nngp(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        raise AssertionError("expanded where it is asked for")

    def _covariance(self, s: str | None, t: str | None, li: Ints, rj: Ints) -> tuple[str, Key, Ints]:
        """That of two terms of outputs; numbers, and scalars that are numbers in the limit, have none."""
        if s is None or t is None or not {s, t} <= self.limit.random:
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
            products = self.moments.expectation(
                self.moments.inner(s.var.name, "l"), self.moments.inner(t.var.name, "r")
            )
            for n, product in enumerate(products):
                scaled = ProductEquation(
                    Side(product.left.axes, ex.mul(scale, product.left.fn), product.left.reads),
                    product.right,
                    product.groups,
                )
                self._product(key, own, scaled, li, rj, n)

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
        for n, trained in enumerate(self.limit.trained):
            for a in range(len(trained.uses)):
                for b in range(len(trained.uses)):
                    self._ntk_part(n, trained, a, b)
        return ("ntk",)

    def _ntk_part(self, n: int, trained: TrainedWeight, a: int, b: int) -> None:
        """scale * sum over pairs of entries of two uses of E[row row'] * (shared sum of E[col col'])."""
        uses = trained.uses[a], trained.uses[b]
        taps = [use_taps(self.program, u, self.sizes[s], self.parameters) for s, u in enumerate(uses)]
        rows = [t.row for t in taps]
        li, rj = (x.ravel() for x in np.meshgrid(np.arange(len(rows[0])), np.arange(len(rows[1])), indexing="ij"))
        li, rj = meeting(taps[0], taps[1], li, rj)
        row = self._row_moment(uses[0].row, uses[1].row, rows[0][li], rows[1][rj])
        twins = [twin(self.program, u) for u in uses]
        scale = trained.scale
        alive = np.flatnonzero(row[1] > 0) if row[0] != ("one",) else np.arange(len(li))
        if twins[0] is not None and twins[1] is not None:
            col = self.moment(twins[0], twins[1], rows[0][li[alive]], rows[1][rj[alive]])
            scale = ex.div(scale, self.limit.gains[twins[0]])
        else:
            col = self.ask(("ghost", trained.weight, str(a), str(b)), li[alive], rj[alive], len(rows[0]), len(rows[1]))
        outs = taps[0].out[li[alive]], taps[1].out[rj[alive]]
        own = self.slots[("ntk",)].at[outs[0] * self.slots[("ntk",)].cols + outs[1]]
        coef = self._coefficient(scale, self.sizes[0])
        slopes = {p: float(s) for p, s in coef.slopes.items()}
        pair = (row[0], row[1][alive]), col
        self.add(SumOfProducts(("ntk",), own, *pair, float(coef.value), slopes), n, a, b)

    def _row_moment(self, u: str, v: str, li: Ints, rj: Ints) -> tuple[Key, Ints]:
        """E[row row']; rows of a scalar weight are scalars, whose product is taken."""
        if self.program.var(u).dim is not None:
            return self.moment(u, v, li, rj)
        return self.ask(("outer", u, v), li, rj, self._count(u, 0), self._count(v, 1))

    def _expand_outer(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        """The product of two deterministic scalars, one of each run."""
        a, b = self.selves[0].scalar(key[1], li), self.selves[1].scalar(key[2], rj)
        factor = Factor(ex.mul(ex.Sym("a"), ex.Sym("b")), {"a": ("left", *a), "b": ("right", *b)}, {})
        self.add(Product(key, own, (factor,), ()))

    # ------------------------------------------------------------ order

    @cached_property
    def ordered(self) -> list[Block]:
        """The blocks of a tape that is built, cut by levels: everything is there when it is read."""
        start = self._starts()
        level = self._levels(start)
        ordered: list[tuple[int, int, Block]] = []
        for n, block in enumerate(merged(self.blocks)):
            depth = level[start[block.key] + block.out]
            order = np.argsort(depth, kind="stable")
            first = np.flatnonzero(np.diff(depth[order], prepend=-1)).tolist()
            if len(first) == 1:
                ordered.append((int(depth[0]), n, block))
                continue
            block = part(block, order)
            for lo, hi in zip(first, [*first, len(order)][1:], strict=True):
                ordered.append((int(depth[order[lo]]), n, part(block, slice(lo, hi))))
        return [b for _, _, b in sorted(ordered, key=lambda x: x[:2])]

    def find_zeros(self) -> dict[Key, NDArray[np.bool_]]:
        """Index pairs to which nothing but zeros is added: offsets that never meet.

        A slot lives when one of its contributions has living factors.
        """
        if self._all_live():
            return {}
        start = self._starts()
        alive = np.zeros(self.count + 2, dtype=bool)  # what is no slot is 0, but for the number 1, which is the last
        alive[-1] = True
        out, reads = self._contributions(start)
        depth = self._levels(start)[out]
        order = np.argsort(depth, kind="stable")
        out, reads = out[order], reads[order]
        first = np.flatnonzero(np.diff(depth[order], prepend=-1)).tolist()
        for lo, hi in zip(first, [*first, len(order)][1:], strict=True):
            alive[out[lo:hi][alive[reads[lo:hi]].all(axis=1)]] = True
        found = {key: alive[start[key] + np.arange(s.size)] for key, s in self.slots.items()}
        return {key: (s.at > 0) & ~found[key][s.at] for key, s in self.slots.items() if not found[key][1:].all()}

    def _all_live(self) -> bool:
        """Whether there are contributions to all slots, of factors that are slots or the number 1."""
        added = {key: np.zeros(s.size, dtype=bool) for key, s in self.slots.items()}
        for block in self.blocks:
            added[block.key][block.out] = True
            for key, slots in block.factors_of(self.single):
                if key != ("one",) and not (key in self.slots and (slots > 0).all()):
                    return False
        return all(a[1:].all() for a in added.values())

    def _contributions(self, start: Mapping[Key, int]) -> tuple[Ints, Ints]:
        """The slot of every contribution, and the slots of its factors [contributions, factors], filled up by the 1."""
        factors = [list(block.factors_of(self.single)) for block in self.blocks]
        reads = np.full((sum(len(b.out) for b in self.blocks), max(map(len, factors), default=0)), -1)
        end = 0
        for block, slots in zip(self.blocks, factors, strict=True):
            end += len(block.out)
            for k, (key, at) in enumerate(slots):
                if key != ("one",):
                    reads[end - len(block.out) : end, k] = start[key] + at if key in start else -2
        return np.concatenate([np.zeros(0, np.int64), *(start[b.key] + b.out for b in self.blocks)]), reads

    def _starts(self) -> dict[Key, int]:
        """Where the slots of a key start among all slots."""
        ends = np.cumsum([0, *(s.size for s in self.slots.values())]).tolist()
        return dict(zip(self.slots, ends, strict=False))

    def _levels(self, start: Mapping[Key, int]) -> Ints:
        """The level of every slot."""
        whole = self._key_levels()
        if whole is not None:
            return np.array([whole[key] for key, s in self.slots.items() for _ in range(s.size)], dtype=np.int64)
        edges = []
        for block in self.blocks:
            terms = chain(*block.terms()) if isinstance(block, Contraction) else block.reads(self.single)
            for key, slots in terms:
                if key in start:
                    used = np.flatnonzero(slots > 0)
                    edges.append((start[key] + slots[used], start[block.key] + block.out[used]))
        level = levels(self.count, edges)
        if (level < 0).any():
            raise fail("the equations of this program refer to each other in a circle", self.program.span)
        return level

    @cached_property
    def is_recurrent(self) -> bool:
        """Whether a key needs itself, so that slots come one after another."""
        return self._key_levels() is None

    def _key_levels(self) -> dict[Key, int] | None:
        """The length of the longest path to every key; None where a key needs itself, as in recurrences."""
        needs: dict[Key, set[Key]] = {key: set() for key in self.slots}
        for block in self.blocks:
            needs[block.key].update(key for key, _ in block.reads(self.single) if key in self.slots)
        try:
            order = tuple(TopologicalSorter(needs).static_order())
        except CycleError:
            return None
        level: dict[Key, int] = {}
        for key in order:
            level[key] = max((level[k] + 1 for k in needs[key]), default=0)
        return level


def _displacement(before: Line | None, li: Ints, rj: Ints) -> tuple[int, int] | None:
    """By how much index pairs are displaced from those before; None if not all by the same."""
    if before is None or len(before[0]) != len(li):
        return None
    down, right = li - before[0], rj - before[1]
    return (int(down[0]), int(right[0])) if (down == down[0]).all() and (right == right[0]).all() else None


def _steps(at: Ints, step: int, size: int) -> int:
    """How often indices may be displaced by `step` before one leaves the range."""
    if step == 0:
        return size
    return int(at.min()) // -step if step < 0 else (size - 1 - int(at.max())) // step
