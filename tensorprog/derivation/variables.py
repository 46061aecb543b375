"""The variables themselves, defined as in the program: what is drawn where a moment has no formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from tensorprog.derivation.algebra import add, mapped, product, total
from tensorprog.derivation.inlining import instance
from tensorprog.derivation.levels import base, without
from tensorprog.derivation.notation import (
    Applied,
    Element,
    Equation,
    Function,
    Gram,
    Largest,
    Mean,
    Moment,
    Node,
    Scalar,
)
from tensorprog.derivation.relations import Names, solve, whole
from tensorprog.elaborate.driver import reachable
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Data, Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Read, identity, operands
from tensorprog.limit.analyse import Limit


def definitions(limit: Limit, roots: Iterable[str], kept: Collection[str]) -> tuple[Equation, ...]:
    """The definitions in the limit program of what `roots` are functions of; those `kept` are never written out."""
    instrs = [i for i in reachable(limit.program.instrs, list(roots)) if not isinstance(i.op, Data)]
    inner = _written_out(instrs) - frozenset(kept)
    known = {i.var.name: _definition(i, limit) for i in instrs}
    return tuple(
        replace(known[i.var.name], right=_substituted(known[i.var.name].right, inner, known, limit))
        for i in instrs
        if i.var.name not in inner
    )


def _written_out(instrs: Sequence[Instr]) -> frozenset[str]:
    """What has no name of its own and stands in one sum only; weights that are vectors."""
    bound = {n for i in instrs if not isinstance(i.op, Linear) for n in operands(i.op)}
    uses = Counter(n for i in instrs for n in operands(i.op))
    short = [i for i in instrs if isinstance(i.op, MatMul | Pointwise) and not i.var.named and uses[i.var.name] == 1]
    return frozenset(i.var.name for i in short if i.var.name not in bound) | {
        i.var.name for i in instrs if _is_weight(i)
    }


def _is_weight(instr: Instr) -> bool:
    return isinstance(instr.op, MatMul) and instr.op.operand is None and not instr.var.axes


def _substituted(node: Node, inner: frozenset[str], known: Mapping[str, Equation], limit: Limit) -> Node:
    if isinstance(node, Element) and node.name in inner:
        return instance(known[node.name], node, limit.program)
    if isinstance(node, Applied | Moment | Mean | Gram):
        return node
    return mapped(node, lambda n: _substituted(n, inner, known, limit))


def _definition(instr: Instr, limit: Limit) -> Equation:
    i = identity(instr.var.axes)
    left, op = Element(instr.var.name, i), instr.op
    match op:
        case MatMul():
            return Equation(left, _product(instr, op, limit))
        case Linear():
            return Equation(left, _sum(instr, op, limit))
        case Pointwise(fn=fn, args=args):
            return Equation(left, Function(fn, tuple((f"a{k}", _element(a)) for k, a in enumerate(args))))
        case MaxOver(operand=h, over=over):
            axes = limit.program.var(h).axes[-over:]
            return Equation(left, Largest(tuple(map(whole, identity(axes), axes)), Element(h, i + identity(axes))))
        case Inner():
            return Equation(left, _inner(instr, op, limit))
        case _:
            raise AssertionError(op)


def _names(instr: Instr) -> Names:
    return Names(frozenset(a.index for a in instr.var.axes).union(*(ex.symbols(a.extent) for a in instr.var.axes)))


def _extents(name: str | None, limit: Limit) -> tuple[Expr, ...]:
    return () if name is None else tuple(a.extent for a in limit.program.var(name).axes)


def _product(instr: Instr, op: MatMul, limit: Limit) -> Node:
    """coef * W[..] h[..], summed over taps."""
    axes = instr.var.axes
    read = tuple(zip(op.map.source, _extents(op.operand, limit), strict=False))
    extents = tuple(a.extent for a in axes)
    found = solve(op.map.target, op.map.domain, identity(axes), extents, _names(instr), False, read)
    operand = None if op.operand is None else Element(op.operand, found.at(op.map.source))
    applied = Applied(_weight(op.weight, found.at(op.windex), limit), op.transposed, operand)
    return total(found.ranges, product(Scalar(found.at((op.coef,))[0]), *found.conditions, applied))


def _weight(name: str, index: tuple[Expr, ...], limit: Limit) -> Element:
    """The weight W, or W^l where the source calls it W_{l}."""
    origin = next(w.origin for w in limit.source.weights if w.name == name)
    stem = without(base(name), origin[-1].value) if origin else base(name)
    return Element(stem, index, level=None if stem == base(name) else ex.num(origin[-1].value))


def _sum(instr: Instr, op: Linear, limit: Limit) -> Node:
    axes, names = instr.var.axes, _names(instr)
    terms = []
    for t in op.terms:
        read = tuple(zip(t.map.source, _extents(t.operand, limit), strict=False))
        place, extents = identity(axes), tuple(a.extent for a in axes)
        found = solve(t.map.target, t.map.domain, place, extents, names, False, read)
        scalars = [Element(s.var, found.at(s.index)) for s in t.scalars]
        operand = () if t.operand is None else (Element(t.operand, found.at(t.map.source)),)
        coef = Scalar(found.at((t.coef,))[0])
        terms.append(total(found.ranges, product(coef, *scalars, *found.conditions, *operand)))
    return add(*terms)


def _inner(instr: Instr, op: Inner, limit: Limit) -> Node:
    """A mean where the scalar is a number in the limit, else the inner product itself."""
    left = _element(op.left)
    if op.right is None:
        return product(Scalar(limit.inners[instr.var.name]), Mean(left))
    right = _element(op.right)
    if instr.var.name in limit.random:
        return Gram(left, right)
    return product(Scalar(limit.inners[instr.var.name]), Moment(left, right))


def _element(read: Read) -> Element:
    return Element(read.var, read.index)


