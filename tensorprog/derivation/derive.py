"""A limit as a derivation: its equations in the order of computation, short and folded, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from tensorprog.derivation.folding import Term, folded, folded_terms
from tensorprog.derivation.inlining import inlined
from tensorprog.derivation.levels import Level, base, levels, relabelled
from tensorprog.derivation.notation import Block, Element, Equation, Kernel, Node, factored, symbols, walk
from tensorprog.derivation.system import System, system
from tensorprog.derivation.tangent import gathered
from tensorprog.limit.analyse import Limit


@final
@dataclass(frozen=True)
class Derivation:
    """The kernels of one output of a program.

    `ntk` are the terms of the tangent kernel with the weights that they belong to; `table` tells under which
    family and level a variable of the limit program is shown.
    """

    limit: Limit
    forward: tuple[Block, ...]
    nngp: Equation | None
    backward: tuple[Block, ...]
    ntk: tuple[Term, ...]
    table: dict[str, Level]
    system: System
    level: str


def derive(limit: Limit) -> Derivation:
    """The derivation of a limit."""
    found = system(limit)
    short = inlined(found, limit.program, limit.output_var)
    nngp = () if short.nngp is None else (short.nngp,)
    nodes = [n for e in (*short.forward, *nngp, *short.backward) for n in (e.left, e.right)] + [n for _, n in short.ntk]
    used = {n.name for node in nodes for n in walk(node) if isinstance(n, Element)}
    table = levels(limit.program, used)
    index = _index(table, nodes)

    def shown(e: Equation) -> Equation:
        return replace(e, left=relabelled(e.left, table), right=factored(relabelled(e.right, table)))

    forward, backward = [shown(e) for e in short.forward], [shown(e) for e in short.backward]
    results = [shown(e) for e in nngp]
    terms: list[Term] = [((base(w),), relabelled(n, table)) for w, n in short.ntk]
    terms = list(gathered(terms, forward + backward))
    terms = [(w, _known(n, results)) for w, n in terms]
    return Derivation(
        limit, folded(forward, index), results[0] if results else None, folded(backward, index),
        folded_terms(terms, index), table, found, index,
    )


def _known(node: Node, results: Iterable[Equation]) -> Node:
    """The NNGP by its name, where it is a term of the tangent kernel."""
    for e in results:
        if node == e.right and isinstance(e.left, Kernel) and not e.left.index:
            return e.left
    return node


def _index(table: dict[str, Level], nodes: Iterable[Node]) -> str:
    """A name for levels: that of the loop, if nothing else is called so."""
    taken = frozenset[str]().union(*map(symbols, nodes))
    own = [level.index for level in table.values() if level.index]
    return next(name for name in (*own[:1], "l", "m", "k", "level") if name not in taken)
