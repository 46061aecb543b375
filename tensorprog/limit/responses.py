"""The dot Z terms: what a matrix product has in common with earlier products of the transpose.

    Z^{Wh} = hat Z^{Wh} + gain * sum over earlier W.T y of Z^y * E[d Z^h / d hat Z^{W.T y}]

(Tensor Programs III, Theorem 2.10).  Here each such term becomes an ordinary term of a sum: its coefficient
is the mean of a derivative family, and derivative families are families like all others,

    d y[i] / d g[j]:   of g itself [i = j];   of a sum the sum;   of phi(h1, ...) the chain rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

from tensorprog.errors import fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym
from tensorprog.ir.program import (
    Axis,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    MaxOver,
    Pointwise,
    Program,
    Read,
    Term,
    identity,
    operands,
)
from tensorprog.limit.orders import Orders


@final
@dataclass(frozen=True, slots=True)
class Response:
    """`coefficient[i, j]` = E[d Z^{target[i]} / d hat Z^{leaf[j]}], a scalar family."""

    product: str
    target: str
    leaf: str
    coefficient: str


def hat_name(product: str) -> str:
    """The purely Gaussian part of a product."""
    return f"{product}.hat"


def needed(program: Program, orders: Orders) -> list[tuple[str, str]]:
    """(W h, earlier W.T y) where h depends on W.T y and no sign symmetry makes the mean slope vanish."""
    candidates = [(g, leaf) for g, leaf in opposite(program) if _slope_has_mean(g, leaf, orders)]
    if not candidates:
        return []
    depends = dependence(program.instrs)
    return [
        (g.var.name.removesuffix(".hat"), leaf.var.name.removesuffix(".hat"))
        for g, leaf in candidates
        if leaf.var.name in depends[_operand(g)]
    ]


def opposite(program: Program) -> Iterator[tuple[Instr, Instr]]:
    """Pairs of products of a matrix and of its transpose."""
    products: dict[tuple[str, bool], list[Instr]] = {}
    for i in program.instrs:
        if isinstance(i.op, MatMul) and i.op.operand is not None:
            products.setdefault((i.op.weight, i.op.transposed), []).append(i)
    for (weight, transposed), found in products.items():
        for leaf in products.get((weight, not transposed), ()):
            yield from ((g, leaf) for g in found)


def _operand(product: Instr) -> str:
    assert isinstance(product.op, MatMul) and product.op.operand is not None
    return product.op.operand


def _slope_has_mean(g: Instr, leaf: Instr, orders: Orders) -> bool:
    """Whether no sign symmetry makes E[d Z^h / d hat Z^{W.T y}] vanish."""
    if orders.of[g.var.name].power is None:
        return False
    return orders.of[_operand(g)].characters.times(orders.of[leaf.var.name].characters).has_mean


def dependence(instrs: tuple[Instr, ...]) -> dict[str, frozenset[str]]:
    """For every variable the matrix products that its Z is a function of, itself included."""
    reach: dict[str, frozenset[str]] = {i.var.name: frozenset() for i in instrs}
    changed = True
    while changed:
        changed = False
        for instr in instrs:
            name = instr.var.name
            if isinstance(instr.op, MatMul):
                new = frozenset([name])
            elif instr.var.dim is None:
                new = frozenset()
            else:
                new = reach[name].union(*(reach.get(o, frozenset()) for o in operands(instr.op)), frozenset())
            if new != reach[name]:
                reach[name], changed = new, True
    return reach


class Derivatives:
    """Adds dot Z terms to a program: the products of `pairs` become hat + sum of responses."""

    def __init__(self, program: Program, pairs: list[tuple[Instr, Instr]]) -> None:
        self.program, self.pairs = program, pairs
        self.added: dict[str, Instr] = {}
        self.responses: list[Response] = []

    def run(self) -> Program:
        """The program with its dot Z terms."""
        self.hats = {g.var.name for g, _ in self.pairs}
        instrs = [new for i in self.program.instrs for new in (self._split(i) if i.var.name in self.hats else [i])]
        self.table = {i.var.name: i for i in instrs}
        self.depends = dependence(tuple(instrs))
        for response in self.responses:
            self._define(response)
        return replace(self.program, instrs=(*instrs, *self.added.values()))

    def _leaf_name(self, product: str) -> str:
        """The Gaussian part of a product in the new program."""
        return hat_name(product) if product in self.hats else product

    def _split(self, g: Instr) -> list[Instr]:
        hat = replace(g.var, name=hat_name(g.var.name), named=False)
        axes = identity(g.var.axes)
        terms = [Term(hat.name, Map(g.var.axes, axes, axes))]
        terms += [self._dot(g, leaf) for product, leaf in self.pairs if product is g]
        return [Instr(hat, g.op), Instr(g.var, Linear(tuple(terms)))]

    def _dot(self, g: Instr, leaf: Instr) -> Term:
        """gain * coef * coef' * [same weight] * R[source of g, target of leaf] * y[source of leaf]."""
        assert isinstance(g.op, MatMul) and isinstance(leaf.op, MatMul) and g.op.operand is not None
        rename = {a.index: f"{a.index}~" for a in leaf.op.map.domain}

        def moved(e: Expr) -> Expr:
            return ex.substitute(e, {old: Sym(new) for old, new in rename.items()})

        domain = g.op.map.domain + tuple(Axis(rename[a.index], a.extent) for a in leaf.op.map.domain)
        same = [ex.call("eq", a, moved(b)) for a, b in zip(g.op.windex, leaf.op.windex, strict=True)]
        weight = self.program.weight(g.op.weight)
        length = self.program.var(g.op.operand).dim
        assert length is not None
        coef = ex.mul(weight.variance, length.size, g.op.coef, leaf.op.coef, *same)
        response = self._response(g, leaf)
        index = g.op.map.source + tuple(moved(e) for e in leaf.op.map.target)
        map_ = Map(domain, g.op.map.target, tuple(moved(e) for e in leaf.op.map.source))
        return Term(leaf.op.operand, map_, coef, (Read(response, index),))

    def _response(self, g: Instr, leaf: Instr) -> str:
        assert isinstance(g.op, MatMul) and g.op.operand is not None
        name = f"R.{g.op.operand}.{leaf.var.name}"
        response = Response(g.var.name, g.op.operand, self._leaf_name(leaf.var.name), name)
        if all(r.coefficient != name for r in self.responses):
            self.responses.append(response)
        return name

    def _define(self, response: Response) -> None:
        """The coefficient as the mean of a derivative family."""
        target, leaf = self.table[response.target].var, self.table[response.leaf]
        axes = target.axes + self._leaf_axes(leaf, target.axes)
        slope = self.derivative(target.name, leaf)
        assert target.dim is not None
        var = replace(target, name=response.coefficient, axes=axes, dim=None, named=False)
        mean = Inner(Read(slope, identity(axes)), None, ex.power(target.dim.size, ex.MINUS_ONE))
        self.added[response.coefficient] = Instr(var, mean)

    def _leaf_axes(self, leaf: Instr, beside: tuple[Axis, ...]) -> tuple[Axis, ...]:
        taken = {a.index for a in beside}
        axes = []
        for a in leaf.var.axes:
            index = f"{a.index}^"
            while index in taken:
                index += "^"
            taken.add(index)
            axes.append(Axis(index, a.extent))
        return tuple(axes)

    def derivative(self, name: str, leaf: Instr) -> str:
        """The family d name[i] / d hat leaf[j] over the axes (i, j)."""
        result = f"D.{name}.{leaf.var.name}"
        if result in self.added:
            return result
        instr = self.table[name]
        own = instr.var.axes
        last = self._leaf_axes(leaf, own)
        var = replace(instr.var, name=result, axes=own + last, named=False)
        self.added[result] = Instr(var, Linear(()))
        if name == leaf.var.name:
            op: Linear | Pointwise = self._own_derivative(own)
        else:
            match instr.op:
                case Linear(terms=terms):
                    op = Linear(tuple(t for t in (self._term(t, leaf, last) for t in terms) if t is not None))
                case Pointwise(fn=fn, args=args):
                    op = self._chain(instr, fn, args, last, leaf)
                case MaxOver():
                    raise fail(
                        "a maximum over an axis between a matrix and its transpose is not supported", instr.var.span
                    )
                case _:
                    op = Linear(())
        self.added[result] = Instr(var, op)
        return result

    def _own_derivative(self, own: tuple[Axis, ...]) -> Linear:
        """d hat g[i] / d hat g[j] = [i = j]."""
        target = identity(own) + identity(own)
        return Linear((Term(None, Map(own, target, target)),))

    def _depends(self, name: str, leaf: Instr) -> bool:
        return leaf.var.name in self.depends[name]

    def _term(self, term: Term, leaf: Instr, last: tuple[Axis, ...]) -> Term | None:
        if term.operand is None or not self._depends(term.operand, leaf):
            return None
        slope = self.derivative(term.operand, leaf)
        taken = {a.index for a in term.map.domain}
        inner = tuple(Axis(a.index + ("~" if a.index in taken else ""), a.extent) for a in last)
        map_ = Map(term.map.domain + inner, term.map.target + identity(inner), term.map.source + identity(inner))
        return Term(slope, map_, term.coef, term.scalars)

    def _chain(
        self, instr: Instr, fn: Expr, args: tuple[Read, ...], last: tuple[Axis, ...], leaf: Instr
    ) -> Linear | Pointwise:
        reads = list(args)
        parts = []
        for k, a in enumerate(args):
            if self._depends(a.var, leaf):
                reads.append(Read(self.derivative(a.var, leaf), a.index + identity(last)))
                try:
                    slope = ex.differentiate(fn, f"a{k}")
                except ValueError as error:
                    raise fail(
                        f"the limit needs a derivative that does not exist: {error}",
                        instr.var.span,
                        "a matrix meets its transpose across this nonlinearity: use a smoother one",
                    ) from None
                parts.append(ex.mul(slope, Sym(f"a{len(reads) - 1}")))
        return Pointwise(ex.add(*parts), tuple(reads)) if parts else Linear(())
