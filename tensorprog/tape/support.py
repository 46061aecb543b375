"""Which index pairs of a moment can be different from zero, before anything is asked for.

A readout with a weight of its own for every pixel meets itself at equal pixels only, and so does every
gradient behind it: seen from there the forward pass is needed at equal pixels only.  The support of a moment
is a boolean array over its index pairs, or None where every pair may count.  Expectations of nonlinearities
and data count everywhere; where moments lead to each other in a loop, pairs are followed through it (`reach`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Instr, Linear, MatMul, Program, operands
from tensorprog.ir.schedule import components
from tensorprog.ir.tables import Ints, Sizes, count, flat_index, grid, map_table, read_table
from tensorprog.limit.moments import MomentOf, Moments, Side, Unservable
from tensorprog.tape.reach import Entries, Moment, Reach, Source, Term
from tensorprog.tape.shared import Taps

Mask = NDArray[np.bool_]
SMALL = 64
"""Fewer pairs than this are not worth a look."""


class Supports:
    """The supports of the moments between two runs, each found once."""

    def __init__(
        self, moments: Moments, sizes: tuple[Sizes, Sizes], taps: Callable[[str, int], Taps], zero: Callable[..., bool]
    ) -> None:
        self.moments, self.sizes, self.taps, self.zero = moments, sizes, taps, zero
        self.program: Program = moments.program
        self.known: dict[tuple[str, str], Mask | None] = {}

    def of(self, u: str, v: str) -> Mask | None:
        """Where E[Z^u[i] Z^v'[j]] may differ from zero; None: anywhere."""
        if (u, v) not in self.known:
            moment = (u, v)
            if self._trivial(moment):
                return self.known[moment]
            if self._loops(moment):
                self.known |= Reach(self._leading_to(moment), self._shape, lambda m: self.of(*m)).settle()
            else:
                self.known[moment] = self._find(self.program.instr(u), self.program.instr(v))
        return self.known[u, v]

    def _trivial(self, moment: Moment, small: int = SMALL) -> bool:
        """Whether a support is found at a glance, or has few pairs; then it is known."""
        shape, dim = self._shape(moment), self.program.var(moment[0]).dim
        if dim is None or not dim.wide:
            self.known[moment] = None
        elif self.zero(*moment):
            self.known[moment] = np.zeros(shape, dtype=bool)
        elif shape[0] * shape[1] < small:
            self.known[moment] = None
        return moment in self.known

    def _shape(self, moment: Moment) -> tuple[int, int]:
        return self._count(moment[0], 0), self._count(moment[1], 1)

    def _count(self, name: str, side: int) -> int:
        return count(self.program.var(name).axes, self.sizes[side])

    def _find(self, u: Instr, v: Instr) -> Mask | None:
        shape = self._shape((u.var.name, v.var.name))
        if isinstance(u.op, Linear):
            return self._linear(u, lambda name: self.of(name, v.var.name), 0, shape)
        if isinstance(v.op, Linear):
            return self._linear(v, lambda name: self.of(u.var.name, name), 1, shape)
        if isinstance(u.op, MatMul) and isinstance(v.op, MatMul):
            return self._shared(self.taps(u.var.name, 0), self.taps(v.var.name, 1), shape)
        return self._products(u, v, shape)

    def _linear(
        self, instr: Instr, inner: Callable[[str], Mask | None], side: int, shape: tuple[int, int]
    ) -> Mask | None:
        """The union over the terms, each carried along its index map."""
        assert isinstance(instr.op, Linear)
        total = np.zeros(shape, dtype=bool)
        for term in instr.op.terms:
            mask = None if term.operand is None else inner(term.operand)
            if mask is None or term.operand is None:
                return None
            table = map_table(term.map, instr.var.axes, self.program.var(term.operand).axes, self.sizes[side])
            size = (shape[side], self._count(term.operand, side))
            carry = csr_matrix((np.ones(len(table)), (table.target, table.source)), shape=size)
            moved = carry @ (mask if side == 0 else mask.T).astype(np.float64)
            total |= (moved if side == 0 else moved.T) > 0
        return total

    def _shared(self, left: Taps, right: Taps, shape: tuple[int, int]) -> Mask | None:
        """Pairs of contributions through the same element of the weight whose operands can be correlated."""
        known = left.operand is not None and right.operand is not None
        inner = self.of(left.operand, right.operand) if known else None  # type: ignore[arg-type]
        if inner is None and (left.element == left.element[:1]).all():
            return None
        total = np.zeros(shape, dtype=bool)
        for r in range(left.element.shape[1]):
            for q in range(right.element.shape[1]):
                if not left.meets(r, right, q):
                    continue
                a, b = left.element[:, r], right.element[:, q]
                meet = (a[:, None] == b[None, :]) & (a >= 0)[:, None]
                if inner is not None:
                    meet &= inner[left.source[:, r]][:, right.source[:, q]]
                total |= meet
        return total

    def _products(self, u: Instr, v: Instr, shape: tuple[int, int]) -> Mask | None:
        """The union over the products, each where all moments in it are supported."""
        try:
            products = self.moments.product(u.var.name, v.var.name)
        except Unservable:
            return None
        total = np.zeros(shape, dtype=bool)
        for p in products:
            masks = [self._moved(g, p.left, p.right) for g in p.groups if isinstance(g, MomentOf)]
            kept = [m for m in masks if m is not None]
            if not kept:
                return None
            summed = np.logical_and.reduce(kept).reshape(shape[0], -1, shape[1], kept[0].shape[1] // shape[1])
            total |= summed.any(axis=(1, 3))
        return total

    def _moved(self, group: MomentOf, left: Side, right: Side) -> Mask | None:
        """The support of a moment at the elements that a product reads."""
        inner = self.of(group.left.var, group.right.var)
        if inner is None:
            return None
        i = self._elements(group.left.var, group.left.index, left, 0)
        j = self._elements(group.right.var, group.right.index, right, 1)
        inside: Mask = inner[i][:, j] & (i >= 0)[:, None] & (j >= 0)[None, :]
        return inside

    def _elements(self, var: str, index: tuple[Expr, ...], side: Side, s: int) -> Ints:
        env = {**self.sizes[s], **grid(side.axes, self.sizes[s])}
        return flat_index(index, self.program.var(var).axes, env, self.sizes[s], count(side.axes, self.sizes[s]))

    # ------------------------------------------------------------ loops

    @cached_property
    def _looped(self) -> frozenset[str]:
        """The families that depend on themselves."""
        groups = components(self.program.instrs)
        return frozenset(
            i.var.name for g in groups if len(g) > 1 or g[0].var.name in operands(g[0].op) for i in g
        )

    def _loops(self, moment: Moment) -> bool:
        return not self._looped.isdisjoint(moment)

    def _leading_to(self, moment: Moment) -> dict[Moment, list[Term]]:
        """The terms of a moment in a loop, and of those in loops that lead to it."""
        found: dict[Moment, list[Term]] = {}
        waiting = [moment]
        while waiting:
            m = waiting.pop()
            if m not in found and m not in self.known and not self._trivial(m, 0):
                try:
                    found[m] = list(self._terms(*m))
                except Unservable:
                    self.known[m] = None
                    continue
                sources = (s.moment for term in found[m] for s in term.sources)
                waiting += [s for s in sources if self._loops(s)]
        return found

    def _terms(self, u: str, v: str) -> Iterator[Term]:
        ops = self.program.instr(u).op, self.program.instr(v).op
        if isinstance(ops[0], Linear):
            every = np.arange(self._count(v, 1))
            for operand, target, source in self._carried(u, ops[0], 0):
                sources = () if operand is None else (Source((operand, v), source, every),)
                yield Term(Entries(target), Entries(every), sources)
        elif isinstance(ops[1], Linear):
            every = np.arange(self._count(u, 0))
            for operand, target, source in self._carried(v, ops[1], 1):
                sources = () if operand is None else (Source((u, operand), every, source),)
                yield Term(Entries(every), Entries(target), sources)
        elif isinstance(ops[0], MatMul) and isinstance(ops[1], MatMul):
            left, right = self.taps(u, 0), self.taps(v, 1)
            yield Term(_tapped(left), _tapped(right), self._operands(left, right))
        else:
            yield from self._products_of(u, v)

    def _carried(self, name: str, op: Linear, side: int) -> Iterator[tuple[str | None, Ints, Ints]]:
        """(operand, elements of a sum, elements of the operand) of every term."""
        axes, sizes = self.program.var(name).axes, self.sizes[side]
        for term in op.terms:
            if term.operand is None:
                target = read_table(term.map.target, term.map.domain, axes, sizes)
                yield None, target[target >= 0], target[target >= 0]
            else:
                table = map_table(term.map, axes, self.program.var(term.operand).axes, sizes)
                yield term.operand, table.target, table.source

    @staticmethod
    def _operands(left: Taps, right: Taps) -> tuple[Source, ...]:
        if left.operand is None or right.operand is None:
            return ()
        return (Source((left.operand, right.operand), left.source.ravel(), right.source.ravel()),)

    def _products_of(self, u: str, v: str) -> Iterator[Term]:
        for p in self.moments.product(u, v):
            targets = []
            for side, name, s in ((p.left, u, 0), (p.right, v, 1)):
                size = count(side.axes, self.sizes[s])
                targets.append(Entries(np.arange(size) // (size // self._count(name, s))))
            sources = tuple(
                Source(
                    (g.left.var, g.right.var),
                    self._elements(g.left.var, g.left.index, p.left, 0),
                    self._elements(g.right.var, g.right.index, p.right, 1),
                )
                for g in p.groups
                if isinstance(g, MomentOf)
            )
            yield Term(targets[0], targets[1], sources)


def _tapped(taps: Taps) -> Entries:
    """The contributions to a product with a weight, target by target."""
    return Entries(np.arange(taps.element.size) // max(1, taps.element.shape[1]), taps.element.ravel())
