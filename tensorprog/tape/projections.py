"""Axis groups: a program over rows and columns as one program over rows and one over columns.

Two axes belong to the same group when one index expression or one coefficient mentions indices of both.  Where the axes
of a limit fall into independent groups, all its index maps are products, (i, j) <- (f(i), g(j)), and so are the sets of
index pairs that its kernels need.  The *projection* on a group has the same definitions over the axes of the group
alone; factors of coefficients that do not depend on an index are in the first projection.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Op
from tensorprog.ir.program import (
    Axis,
    Data,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    Operation,
    Pointwise,
    Read,
    Term,
    Use,
    identity,
)
from tensorprog.ir.tables import Sizes, shape
from tensorprog.limit.analyse import Limit, TrainedWeight
from tensorprog.limit.moments import Gaussian, Group, MeanOf, MomentOf, Moments, Product, Side

Node = tuple[str, str, int | str]
"""("var", family, axis), ("weight", name, axis), or (definition, term, index) of a domain."""


class NotSeparable(Exception):
    """The axes of a program do not fall into independent groups; the text says where."""


@final
@dataclass(frozen=True, slots=True)
class Groups:
    """The group, 0 or 1, of every axis."""

    of: Mapping[Node, int]

    def axes(self, kind: str, name: str, axes: Sequence[Axis], g: int) -> tuple[Axis, ...]:
        """The axes of a family or weight that are in a group."""
        return tuple(a for k, a in enumerate(axes) if self.of[kind, name, k] == g)

    def index(self, kind: str, name: str, index: Sequence[Expr], g: int) -> tuple[Expr, ...]:
        """The index expressions of a read at the axes of a group."""
        return tuple(e for k, e in enumerate(index) if self.of[kind, name, k] == g)

    def domain(self, owner: str, term: str, axes: Sequence[Axis], g: int) -> tuple[Axis, ...]:
        """The axes of a domain that are in a group."""
        return tuple(a for a in axes if self.of[owner, term, a.index] == g)


# ---------------------------------------------------------------- finding the groups


def groups_of(limit: Limit, sizes: tuple[Sizes, Sizes]) -> Groups:
    """The two groups, of several if there are more.  Raises NotSeparable."""
    links = _Links(limit)
    links.run()
    weight: dict[Node, int] = {}
    for instr in limit.program.instrs:
        found: dict[Node, int] = {}
        for k, extent in enumerate(shape(instr.var.axes, sizes[0])):
            root = links.root(("var", instr.var.name, k))
            found[root] = found.get(root, 1) * extent
        for root, size in found.items():
            weight[root] = max(weight.get(root, 1), size)
    order = sorted(weight, key=lambda r: -weight[r])
    if len(order) < 2 or weight[order[1]] < 2:
        raise NotSeparable("there is one group of axes")
    total, chosen = [1, 1], dict[Node, int]()
    for root in order:
        g = int(total[1] < total[0])
        chosen[root], total[g] = g, total[g] * weight[root]
    return Groups({node: chosen.get(links.root(node), 0) for node in links.parent})


@final
class _Links:
    """Axes and indices joined by what mentions them."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.program = limit, limit.program
        self.parent: dict[Node, Node] = {}

    def root(self, node: Node) -> Node:
        """The representative of the group of a node."""
        self.parent.setdefault(node, node)
        while self.parent[node] != node:
            node = self.parent[node]
        return node

    def run(self) -> None:
        """Join what all definitions and uses join."""
        for instr in self.program.instrs:
            for k in range(len(instr.var.axes)):
                self.root(("var", instr.var.name, k))
        for w in self.program.weights:
            for k in range(len(w.axes)):
                self.root(("weight", w.name, k))
        for instr in self.program.instrs:
            if not self.limit.orders.of[instr.var.name].data:
                self._instr(instr)
        for n, trained in enumerate(self.limit.trained):
            for m, use in enumerate(trained.uses):
                self._use(use, f"use {n} {m}")

    def _join(self, nodes: Iterable[Node]) -> None:
        roots = [self.root(n) for n in nodes]
        for r in roots[1:]:
            self.parent[self.root(r)] = self.root(roots[0])

    def _read(self, kind: str, name: str, index: Sequence[Expr], local: Mapping[str, Node]) -> None:
        for k, e in enumerate(index):
            self._join([(kind, name, k), *(local[s] for s in ex.symbols(e) if s in local)])

    def _coef(self, coef: Expr, local: Mapping[str, Node]) -> None:
        for factor in factors(coef):
            self._join(local[s] for s in ex.symbols(factor) if s in local)

    def _domain(self, owner: str, term: str, axes: Sequence[Axis]) -> dict[str, Node]:
        nodes: dict[str, Node] = {a.index: (owner, term, a.index) for a in axes}
        for node in nodes.values():
            self.root(node)
        return nodes

    def _use(self, use: Use, name: str) -> None:
        local = self._domain(name, "", use.domain)
        self._read("weight", use.weight, use.windex, local)
        self._read("var", self.limit.output_var, use.out, local)
        self._read("var", use.row, use.row_index, local)
        if use.col is not None:
            self._read("var", use.col, use.col_index, local)
        self._coef(use.coef, local)

    def _instr(self, instr: Instr) -> None:
        name, op = instr.var.name, instr.op
        own: dict[str, Node] = {a.index: ("var", name, k) for k, a in enumerate(instr.var.axes)}
        match op:
            case MatMul():
                local = self._domain(name, "", op.map.domain)
                self._read("weight", op.weight, op.windex, local)
                self._read("var", name, op.map.target, local)
                if op.operand is not None:
                    self._read("var", op.operand, op.map.source, local)
                self._coef(op.coef, local)
            case Linear():
                for n, t in enumerate(op.terms):
                    self._term(name, n, t)
            case Pointwise():
                for a in op.args:
                    self._read("var", a.var, a.index, own)
            case Inner():
                for read in (op.left, op.right):
                    if read is not None:
                        self._read("var", read.var, read.index, own)
            case _:
                if not isinstance(op, Data):
                    raise NotSeparable(f"'{name}' is a maximum")

    def _term(self, name: str, n: int, t: Term) -> None:
        if t.scalars:
            raise NotSeparable(f"'{name}' has random or deterministic coefficients")
        local = self._domain(name, str(n), t.map.domain)
        self._read("var", name, t.map.target, local)
        if t.operand is not None:
            self._read("var", t.operand, t.map.source, local)
        self._coef(t.coef, local)


def factors(coef: Expr) -> tuple[Expr, ...]:
    """The factors of a product."""
    return coef.args if isinstance(coef, Op) and coef.fn == "mul" else (coef,)


def constants_inlined(limit: Limit) -> Limit:
    """The limit with scalars that are the same number everywhere as factors of coefficients."""
    program = limit.program
    known = {i.var.name: i for i in program.instrs if i.var.dim is None and _constant(i) is not None}

    def term(t: Term) -> Term:
        extents = {a.index: a.extent for a in t.map.domain}
        chosen = [s for s in t.scalars if s.var in known and _inside(s, known[s.var].var.axes, extents)]
        values = [_constant(known[s.var]) or ONE for s in chosen]
        return replace(t, coef=ex.mul(t.coef, *values), scalars=tuple(s for s in t.scalars if s not in chosen))

    instrs = tuple(
        replace(i, op=replace(i.op, terms=tuple(map(term, i.op.terms)))) if isinstance(i.op, Linear) else i
        for i in program.instrs
    )
    return replace(limit, program=replace(program, instrs=instrs))


def _constant(instr: Instr) -> Expr | None:
    """The number that all elements of a family of scalars are."""
    if not isinstance(instr.op, Linear) or len(instr.op.terms) != 1:
        return None
    t = instr.op.terms[0]
    everywhere = t.map.domain == instr.var.axes and t.map.target == identity(instr.var.axes)
    free = not {a.index for a in t.map.domain} & ex.symbols(t.coef)
    return t.coef if t.operand is None and not t.scalars and everywhere and free else None


def _inside(read: Read, axes: Sequence[Axis], extents: Mapping[str, Expr]) -> bool:
    """Whether an element is read whatever the indices are."""
    return all(
        isinstance(e, ex.Sym) and extents.get(e.name) == a.extent for e, a in zip(read.index, axes, strict=True)
    )


# ---------------------------------------------------------------- projecting


@final
@dataclass(frozen=True, slots=True)
class Projection:
    """The parts of a limit that are over the axes of group `g`."""

    limit: Limit
    groups: Groups
    g: int

    def projected(self) -> Limit:
        """The limit over these axes."""
        program = self.limit.program
        weights = tuple(replace(w, axes=self.groups.axes("weight", w.name, w.axes, self.g)) for w in program.weights)
        small = replace(program, weights=weights, instrs=tuple(map(self._instr, program.instrs)))
        first = self.g == 0
        return replace(
            self.limit,
            program=small,
            gains=self.limit.gains if first else dict.fromkeys(self.limit.gains, ONE),
            inners=self.limit.inners if first else dict.fromkeys(self.limit.inners, ONE),
            trained=tuple(self._trained(n, t) for n, t in enumerate(self.limit.trained)),
        )

    def _trained(self, n: int, t: TrainedWeight) -> TrainedWeight:
        uses = tuple(self._use(u, f"use {n} {m}") for m, u in enumerate(t.uses))
        return replace(t, uses=uses, scale=t.scale if self.g == 0 else ONE)

    def _instr(self, instr: Instr) -> Instr:
        name = instr.var.name
        var = replace(instr.var, axes=self.groups.axes("var", name, instr.var.axes, self.g))
        if self.limit.orders.of[name].data:
            return Instr(var, instr.op)
        return Instr(var, self._op(name, instr.op))

    def _op(self, name: str, op: Operation) -> Operation:
        match op:
            case MatMul():
                windex = self.groups.index("weight", op.weight, op.windex, self.g)
                coef = self._coef(name, "", op.coef, op.map.domain)
                return replace(op, windex=windex, map=self._map(name, "", op.operand, op.map), coef=coef)
            case Linear():
                return replace(op, terms=tuple(self._term(name, n, t) for n, t in enumerate(op.terms)))
            case Pointwise():
                return replace(op, args=tuple(map(self.read, op.args)))
            case Inner():
                right = None if op.right is None else self.read(op.right)
                return replace(op, left=self.read(op.left), right=right)
        return op

    def read(self, r: Read) -> Read:
        """A read at the axes of the group."""
        return Read(r.var, self.groups.index("var", r.var, r.index, self.g))

    def _map(self, name: str, term: str, operand: str | None, m: Map) -> Map:
        domain = self.groups.domain(name, term, m.domain, self.g)
        target = self.groups.index("var", name, m.target, self.g)
        return Map(domain, target, () if operand is None else self.groups.index("var", operand, m.source, self.g))

    def _term(self, name: str, n: int, t: Term) -> Term:
        coef = self._coef(name, str(n), t.coef, t.map.domain)
        return replace(t, map=self._map(name, str(n), t.operand, t.map), coef=coef)

    def _coef(self, owner: str, term: str, coef: Expr, domain: Sequence[Axis]) -> Expr:
        """The factors whose indices are in the group."""
        of = {a.index: self.groups.of[owner, term, a.index] for a in domain}
        chosen = [f for f in factors(coef) if min((of[s] for s in ex.symbols(f) if s in of), default=0) == self.g]
        return ex.mul(*chosen)

    def _use(self, use: Use, name: str) -> Use:
        at = self.groups.index
        return Use(
            use.weight,
            at("weight", use.weight, use.windex, self.g),
            self.groups.domain(name, "", use.domain, self.g),
            at("var", self.limit.output_var, use.out, self.g),
            use.row,
            at("var", use.row, use.row_index, self.g),
            use.col,
            () if use.col is None else at("var", use.col, use.col_index, self.g),
            self._coef(name, "", use.coef, use.domain),
        )


class ProjectedMoments(Moments):
    """The equations of the moments of the whole limit, over the axes of a group."""

    def __init__(self, whole: Moments, projection: Projection) -> None:
        super().__init__(projection.projected(), whole.prefer)
        self.whole, self.projection = whole, projection

    def vanishes(self, *names: str) -> bool:
        """See `Moments`."""
        return self.whole.vanishes(*names)

    def product(self, left: str, right: str | None) -> tuple[Product, ...]:
        """See `Moments`."""
        of, program = self.projection.groups.of, self.whole.program
        known = [
            {} if n is None else {a.index: of["var", n, k] for k, a in enumerate(program.var(n).axes)}
            for n in (left, right)
        ]
        return tuple(self._product(p, *known) for p in self.whole.product(left, right))

    def inner(self, name: str, prefix: str) -> Side:
        """See `Moments`; of the whole limit."""
        return self.whole.inner(name, prefix)

    def expectation(self, left: Side, right: Side) -> tuple[Product, ...]:
        """See `Moments`; of two sides of the whole limit."""
        return tuple(self._product(p, {}, {}) for p in self.whole.expectation(left, right))

    def _product(self, p: Product, left: Mapping[str, int], right: Mapping[str, int]) -> Product:
        return Product(self._side(p.left, left), self._side(p.right, right), tuple(map(self._on_axes, p.groups)))

    def _side(self, side: Side, known: Mapping[str, int]) -> Side:
        names = {a.index for a in side.axes}
        if names & ex.symbols(side.fn):
            raise NotSeparable("a factor depends on an index")
        read = self.projection.read
        axes = tuple(a for a in side.axes if self._axis_group(side, a, known) == self.projection.g)
        return Side(axes, side.fn, {s: read(r) for s, r in side.reads.items()}, side.opened)

    def _axis_group(self, side: Side, axis: Axis, known: Mapping[str, int]) -> int:
        of, reads = self.projection.groups.of, side.reads.values()
        found = {of["var", r.var, k] for r in reads for k, e in enumerate(r.index) if axis.index in ex.symbols(e)}
        found |= {known[axis.index]} if axis.index in known else set()
        if len(found) != 1:
            raise NotSeparable(f"an expectation over '{axis.index}' is no product")
        return found.pop()

    def _on_axes(self, group: Group) -> Group:
        read = self.projection.read
        match group:
            case MomentOf():
                return MomentOf(read(group.left), read(group.right))
            case MeanOf():
                return MeanOf(group.side, read(group.read))
            case Gaussian():
                if group.params:
                    raise NotSeparable("an expectation has parameters")
                return replace(group, left=tuple(map(read, group.left)), right=tuple(map(read, group.right)))
        raise NotSeparable("an expectation has powers of quadratic forms")


def places(axes: Sequence[Axis], sizes: Sizes, groups: Groups, name: str, g: int) -> np.ndarray:
    """What an element of the projection of a family adds to the number of an element of the family."""
    extents = shape(tuple(axes), sizes)
    strides = np.cumprod([1, *extents[::-1]])[::-1][1:]
    kept = [k for k in range(len(axes)) if groups.of["var", name, k] == g]
    sizes_kept = [extents[k] for k in kept]
    grids = np.indices(sizes_kept, dtype=np.int64).reshape(len(kept), math.prod(sizes_kept))
    return np.asarray(sum((grids[n] * strides[k] for n, k in enumerate(kept)), np.zeros(grids.shape[1], np.int64)))
