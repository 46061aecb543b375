"""Equations -> fewer equations: quantities without a name in the source are written out where they are used.

    E[h_in h_in'] = E[relu(h) relu(h')]
    E[W_h_in W_h_in'] = sw^2 E[h_in h_in']      ->     E[h.2 h.2'] = sw^2 E[relu(h) relu(h')] + sb^2
    E[h.2 h.2'] = E[W_h_in W_h_in'] + E[b b']

What stays: moments of Gaussian arguments of expectations, quantities with a name of their own (unless they are mere
numbers), quantities that refer to themselves, and long ones that are used often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import final

from tensorprog.derivation.algebra import children, mapped, product, renamed, symbols, walk, within
from tensorprog.derivation.keys import Key, key_of, references
from tensorprog.derivation.notation import (
    Add,
    Element,
    Equation,
    Expectation,
    Function,
    Gram,
    Kernel,
    Largest,
    Mean,
    Moment,
    Node,
    Scalar,
    Sum,
)
from tensorprog.derivation.relations import Names
from tensorprog.derivation.system import System
from tensorprog.ir.expr import Expr, Sym
from tensorprog.ir.program import Program

LONG = 60
"""Nodes of a right side, times its uses, from which it keeps an equation of its own."""


@final
@dataclass(frozen=True)
class Short:
    """What is left: equations in the order in which they are computed, the forward ones first, and the results."""

    forward: tuple[Equation, ...]
    nngp: Equation | None
    backward: tuple[Equation, ...]
    ntk: tuple[tuple[str, Node], ...]


def inlined(system: System, program: Program, output: str, named: frozenset[str]) -> Short:
    """The system with what is not among the `named` variables written out."""
    work = _Inliner(system, program, named)
    nngp = None if system.nngp is None else replace(system.nngp, right=work.resolved(system.nngp.right))
    if nngp is None:
        work.keep(("scalar", output))
    forward = work.drain()
    ntk = tuple((w, work.resolved(n)) for w, n in system.ntk)
    return Short(forward, nngp, work.drain(), ntk)


def arguments(node: Expectation) -> tuple[Element, ...]:
    """The random elements in an expectation."""
    return tuple(n for n in walk(node) if isinstance(n, Element))


@dataclass
class _Inliner:
    system: System
    program: Program
    named: frozenset[str]
    kept: dict[Key, Equation] = field(default_factory=dict)
    order: list[Key] = field(default_factory=list)
    path: list[Key] = field(default_factory=list)
    done: dict[Key, Equation] = field(default_factory=dict)
    circular: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pinned = frozenset(_pinned(self.system))
        nodes = [e.right for e in self.system.equations.values()] + [n for _, n in self.system.ntk]
        self.uses: dict[Key, int] = {}
        for key in (key for node in nodes for key in references(node)):
            self.uses[key] = self.uses.get(key, 0) + 1

    def drain(self) -> tuple[Equation, ...]:
        """The equations that were kept since the last call."""
        found, self.order = self.order, []
        return tuple(self.kept[k] for k in found)

    def keep(self, key: Key) -> None:
        """Make sure that an equation of its own stands for a key."""
        if key in self.system.equations and key not in self.kept:
            equation = self._equation(key)
            if key not in self.kept:
                self.kept[key] = equation
                self.order.append(key)

    def resolved(self, node: Node) -> Node:
        """The node with references written out, or kept and their equations noted."""
        if isinstance(node, Expectation):
            for needed in _needed(node, self.system):
                if needed not in self.path:
                    self.keep(needed)
        key = key_of(node)
        if key is None or key not in self.system.equations:
            return mapped(node, self.resolved) if key is None else node
        if key in self.path:
            self.circular.add(key)
            return node
        equation = self._equation(key)
        if self._stays(key, equation):
            self.keep(key)
            return node
        return instance(equation, node, self.program)

    def _equation(self, key: Key) -> Equation:
        if key not in self.done:
            self.path.append(key)
            equation = self.system.equations[key]
            self.done[key] = replace(equation, right=self.resolved(equation.right))
            self.path.pop()
        return self.done[key]

    def _stays(self, key: Key, equation: Equation) -> bool:
        if key in self.pinned or key in self.circular:
            return True
        if _is_number(equation.right):
            return False
        if self.named.issuperset(key[1:]):
            return True
        size = sum(1 for _ in walk(equation.right))
        return size * self.uses.get(key, 0) > LONG and size > 8


def _is_number(node: Node) -> bool:
    return all(isinstance(n, Scalar) for n in walk(node))


def _pinned(system: System) -> Iterator[Key]:
    for node in (n for e in system.equations.values() for n in walk(e.right)):
        if isinstance(node, Expectation):
            yield from _needed(node, system)
    if system.nngp is not None:
        for node in walk(system.nngp.right):
            if isinstance(node, Expectation):
                yield from _needed(node, system)


def _needed(node: Expectation, system: System) -> Iterator[Key]:
    """The means and moments that the law of the arguments is made of."""
    if node.law is None:
        return
    names = list(dict.fromkeys(e.name for e in arguments(node)))
    for u in names:
        yield from (k for k in (("mean", u), ("scalar", u)) if k in system.equations)
        yield from (("moment", u, v) for v in names if ("moment", u, v) in system.equations)


# ---------------------------------------------------------------- instances


def instance(equation: Equation, node: Node, program: Program) -> Node:
    """The right side of an equation for the elements of a reference to its left side."""
    before, after = _elements(equation.left), _elements(node)
    names = Names(symbols(equation.right) | symbols(node))
    right = _fresh(equation.right, symbols(node), names)
    values = {_name(i): e for a, b in zip(before, after, strict=True) for i, e in zip(a.index, b.index, strict=True)}
    guards = [
        within(e, axis.extent)
        for a, b in zip(before, after, strict=True)
        for i, e, axis in zip(a.index, b.index, program.var(a.name).axes, strict=True)
        if not isinstance(e, Sym) and not _implied(equation.right, _name(i), axis.extent, program)
    ]
    runs = {a.prime: b.prime for a, b in zip(before, after, strict=True)}
    return product(*guards, _on_runs(renamed(right, values), runs))


def _implied(node: Node, index: str, extent: Expr, program: Program) -> bool:
    """Whether the node is zero wherever the index lies outside 0, ..., extent - 1."""
    if isinstance(node, Add):
        return all(_implied(t, index, extent, program) for t in node.terms)
    if isinstance(node, Moment | Gram | Mean):
        return any(
            i == Sym(index) and axis.extent == extent
            for e in _elements(node)
            for i, axis in zip(e.index, program.var(e.name).axes, strict=True)
        )
    if isinstance(node, Function | Expectation | Largest | Element | Kernel):
        return False
    return any(_implied(n, index, extent, program) for n in children(node))


def _fresh(node: Node, taken: frozenset[str], names: Names) -> Node:
    """The node with the indices of its sums named apart from `taken`."""
    if isinstance(node, Sum | Largest):
        clash = [r for r in node.ranges if r.index in taken]
        values: dict[str, Expr] = {r.index: Sym(names.fresh(r.index, r.index.endswith("'"))) for r in clash}
        ranges = tuple(replace(r, index=_name(values.get(r.index, Sym(r.index)))) for r in node.ranges)
        return replace(node, ranges=ranges, body=_fresh(renamed(node.body, values), taken, names))
    return mapped(node, lambda n: _fresh(n, taken, names))


def _on_runs(node: Node, runs: Mapping[bool, bool]) -> Node:
    """The node with its elements moved to other runs."""
    if isinstance(node, Element):
        return replace(node, prime=runs.get(node.prime, node.prime))
    return mapped(node, lambda n: _on_runs(n, runs))


def _elements(node: Node) -> tuple[Element, ...]:
    return (node,) if isinstance(node, Element) else tuple(n for n in children(node) if isinstance(n, Element))


def _name(e: Expr) -> str:
    assert isinstance(e, Sym)
    return e.name
