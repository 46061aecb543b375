"""A limit as a derivation: its equations in the order of computation, short and folded, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from tensorprog.derivation.algebra import symbols, walk
from tensorprog.derivation.factoring import factored
from tensorprog.derivation.folding import Term, folded, folded_terms
from tensorprog.derivation.inlining import inlined
from tensorprog.derivation.levels import Level, levels, relabelled, titles
from tensorprog.derivation.notation import Block, Element, Equation, Kernel, Node
from tensorprog.derivation.system import System, system
from tensorprog.derivation.tangent import gathered
from tensorprog.derivation.variables import definitions
from tensorprog.derivation.writing import SUM_OF_SAMPLED
from tensorprog.limit.analyse import Limit


@final
@dataclass(frozen=True)
class Derivation:
    """The kernels of one output of a program.

    `ntk` are the terms of the tangent kernel with the weights that they belong to.  `variables` define what is drawn
    where moments are means over samples, `sampled` says why, `random` are scalars whose values the equations take as
    given.  `table` tells under which family and level a variable of the limit program is shown.
    """

    limit: Limit
    forward: tuple[Block, ...]
    nngp: Equation | None
    backward: tuple[Block, ...]
    ntk: tuple[Term, ...]
    variables: tuple[Block, ...]
    sampled: tuple[str, ...]
    random: tuple[str, ...]
    table: dict[str, Level]
    level: str


def derive(limit: Limit) -> Derivation:
    """The derivation of a limit."""
    found = system(limit)
    named = frozenset(n for n, v in titles(limit).items() if v.named)
    short = inlined(found, limit.program, limit.output_var, named)
    nngp = () if short.nngp is None else (short.nngp,)
    nodes = [n for e in (*short.forward, *nngp, *short.backward) for n in (e.left, e.right)] + [n for _, n in short.ntk]
    used = {n.name for node in nodes for n in walk(node) if isinstance(n, Element)}
    drawn = _drawn(found, limit, used)
    used |= {n.name for e in drawn for side in (e.left, e.right) for n in walk(side) if isinstance(n, Element)}
    table = levels(limit, used)
    index = _index(table, nodes)

    def shown(e: Equation) -> Equation:
        return replace(e, left=relabelled(e.left, table), right=factored(relabelled(e.right, table)))

    forward, backward = [shown(e) for e in short.forward], [shown(e) for e in short.backward]
    results = [shown(e) for e in nngp]
    terms: list[Term] = [((w,), relabelled(n, table)) for w, n in short.ntk]
    terms = list(gathered(terms, forward + backward))
    terms = [(w, _known(n, results)) for w, n in terms]
    return Derivation(
        limit, folded(forward, index), results[0] if results else None, folded(backward, index),
        folded_terms(terms, index), folded([shown(e) for e in drawn], index), _reasons(found),
        tuple(dict.fromkeys(table[n].name for n in _random(limit, used))), table, index,
    )


def _drawn(found: System, limit: Limit, used: set[str]) -> tuple[Equation, ...]:
    """The variables behind the moments that are sampled."""
    names = [n for key in found.sampled for n in key[1:]] + _random(limit, used)
    return definitions(limit, names, used) if names else ()


def _random(limit: Limit, used: set[str]) -> list[str]:
    """Scalars that stay random, in the equations."""
    return sorted(used & limit.random)


def _reasons(found: System) -> tuple[str, ...]:
    """Why moments are sampled."""
    return tuple(dict.fromkeys(r for r in found.sampled.values() if r != SUM_OF_SAMPLED))


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
