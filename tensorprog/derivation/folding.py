"""Equations at several levels -> recursions.

    C_h^2 = F(C_h^1),  C_h^3 = F(C_h^2),  C_h^4 = F(C_h^3)     ->     for l = 2, ..., 4:  C_h^l = F(C_h^(l-1))

Equations are compared with levels counted from that of their left side; those that are then equal at consecutive
levels are one.  Nothing else is assumed about the layers, so what differs stays apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from tensorprog.derivation.algebra import mapped, total, walk
from tensorprog.derivation.notation import Block, Element, Equation, Node, Range, Recursion
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym

Term = tuple[tuple[str, ...], Node]
"""Weights, and their part of the tangent kernel."""


def folded(equations: Sequence[Equation], index: str) -> tuple[Block, ...]:
    """The equations, those that repeat themselves as recursions over the level `index`."""
    kinds: dict[Equation, dict[int, Equation]] = {}
    order: list[tuple[Equation, int | None]] = []
    for e in equations:
        level = _level(e.left)
        general = e
        if level is not None:
            general = replace(e, left=_from(e.left, level, index), right=_from(e.right, level, index))
        kinds.setdefault(general, {})[level or 0] = e
        order.append((general, level))
    blocks: list[Block] = []
    seen: set[tuple[Equation, int]] = set()
    for general, level in order:
        if level is None:
            blocks.append(kinds[general][0])
        elif (general, level) not in seen:
            run = _run(kinds[general], level)
            seen |= {(general, k) for k in run}
            blocks.append(_block(general, run, kinds[general], index))
    return _joined(blocks)


def folded_terms(terms: Sequence[Term], index: str) -> tuple[Term, ...]:
    """The terms of a sum, those that repeat themselves as sums over the level `index`."""
    kinds: dict[Node, dict[int, Term]] = {}
    order: list[tuple[Node, int | None]] = []
    for weights, node in terms:
        level = _level(node)
        general = node if level is None else _from(node, level, index)
        kinds.setdefault(general, {})[level or 0] = (weights, node)
        order.append((general, level))
    found: list[Term] = []
    seen: set[tuple[Node, int]] = set()
    for general, level in order:
        if (general, level or 0) in seen:
            continue
        run = [0] if level is None else _run(kinds[general], level)
        seen |= {(general, k) for k in run}
        if len(run) == 1:
            found.append(kinds[general][run[0]])
            continue
        low, high = min(run), max(run)
        weights = tuple(dict.fromkeys(w for k in run for w in kinds[general][k][0]))
        found.append((weights, total((Range(index, ex.num(low), ex.num(high)),), general)))
    return tuple(found)


def _level(node: Node) -> int | None:
    """The level of the first element that has one."""
    for n in walk(node):
        if isinstance(n, Element) and isinstance(n.level, Num):
            return int(n.level.value)
    return None


def _has_levels(node: Node) -> bool:
    return any(isinstance(n, Element) and n.level is not None for n in walk(node))


def _from(node: Node, level: int, index: str) -> Node:
    """The node with levels counted from `level`, which becomes the index."""
    if isinstance(node, Element):
        if node.level is None:
            return node
        shifted: Expr = ex.add(Sym(index), node.level, ex.num(-level))
        return replace(node, level=shifted)
    return mapped(node, lambda n: _from(n, level, index))


def _run(at: Collection[int], level: int) -> list[int]:
    """The consecutive levels around one, in the order in which they were met."""
    low = high = level
    while low - 1 in at:
        low -= 1
    while high + 1 in at:
        high += 1
    return [k for k in at if low <= k <= high]


def _block(general: Equation, run: list[int], at: dict[int, Equation], index: str) -> Block:
    if len(run) == 1:
        return at[run[0]]
    low, high = min(run), max(run)
    first, last = (low, high) if run[0] <= run[-1] or not _has_levels(general.right) else (high, low)
    return Recursion(index, first, last, (general,))


def _joined(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Neighbouring recursions over the same levels as one."""
    found: list[Block] = []
    for block in blocks:
        last = found[-1] if found else None
        if isinstance(block, Recursion) and isinstance(last, Recursion) and _over(block) == _over(last):
            found[-1] = replace(last, equations=last.equations + block.equations)
        else:
            found.append(block)
    return tuple(found)


def _over(r: Recursion) -> tuple[str, int, int]:
    return r.index, r.first, r.last
