"""Which index pairs of a moment can be different from zero, before anything is asked for.

A readout with a weight of its own for every pixel meets itself at equal pixels only, and so does every
gradient behind it: seen from there the forward pass is needed at equal pixels only.  The support of a moment
is a boolean array over its index pairs, or None where every pair may count.  Expectations of nonlinearities
and data count everywhere; what a loop adds is left to the tape, which drops the zeros it finds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Instr, Linear, MatMul, Program
from tensorprog.ir.tables import Ints, Sizes, count, flat_index, grid, map_table
from tensorprog.limit.moments import MomentOf, Moments, Side, Unservable
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
            self.known[u, v] = None  # what a loop asks of itself
            self.known[u, v] = self._find(self.program.instr(u), self.program.instr(v))
        return self.known[u, v]

    def _count(self, name: str, side: int) -> int:
        return count(self.program.var(name).axes, self.sizes[side])

    def _find(self, u: Instr, v: Instr) -> Mask | None:
        shape = self._count(u.var.name, 0), self._count(v.var.name, 1)
        if shape[0] * shape[1] < SMALL or u.var.dim is None or not u.var.dim.wide:
            return None
        if self.zero(u.var.name, v.var.name):
            return np.zeros(shape, dtype=bool)
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
