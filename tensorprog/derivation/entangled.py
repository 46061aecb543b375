"""How many Gaussian variables one nonlinear function mixes: what cannot be cut into short expectations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.program import Linear, Pointwise
from tensorprog.limit.analyse import Limit

Mixed = tuple[frozenset[str], int]
"""The Gaussian variables of an expression, and the most that one of its nonlinear functions mixes."""
NOTHING: Mixed = (frozenset(), 0)


@final
class Entangled:
    """Counts for the variables of one limit; results are kept."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.known: dict[str, Mixed] = {}

    def count(self, name: str) -> int:
        """The most Gaussian variables that a single nonlinear function in a variable depends on."""
        return self._variable(name)[1]

    def _variable(self, name: str) -> Mixed:
        if name not in self.known:
            self.known[name] = NOTHING  # for a variable that is a function of itself
            self.known[name] = self._define(name)
        return self.known[name]

    def _define(self, name: str) -> Mixed:
        instr = self.limit.program.instr(name)
        if instr.var.dim is None:
            return NOTHING
        if self.limit.roles[name] == "G-var":
            return frozenset([name]), 1
        if isinstance(instr.op, Linear):
            return _joined(*(self._variable(t.operand) for t in instr.op.terms if t.operand is not None))
        if isinstance(instr.op, Pointwise):
            return _of(instr.op.fn, {f"a{k}": self._variable(a.var) for k, a in enumerate(instr.op.args)})
        return NOTHING


def _of(e: Expr, args: Mapping[str, Mixed]) -> Mixed:
    if isinstance(e, Sym):
        return args.get(e.name, NOTHING)
    if isinstance(e, Num):
        return NOTHING
    atoms, most = _joined(*(_of(a, args) for a in e.args))
    return (atoms, most) if e.fn in ("add", "mul") else (atoms, max(most, len(atoms)))


def _joined(*parts: Mixed) -> Mixed:
    return frozenset[str]().union(*(a for a, _ in parts)), max((k for _, k in parts), default=0)


