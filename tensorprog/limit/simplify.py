"""Limit program -> the same with fewer definitions: aliases and constants are gone.

d.f = 1                                    d.y = v
d.y = d.f * v         ->                   d.h = v * step(h)
d.z = d.y
d.h = d.z * step(h)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr
from tensorprog.ir.program import (
    Inner,
    Instr,
    Linear,
    MatMul,
    MaxOver,
    Operation,
    Pointwise,
    Program,
    Read,
    Term,
    Use,
    identity,
)


@dataclass(frozen=True)
class Renaming:
    """`alias` maps a family to the equal one it stands for; `constant` maps scalars to numbers."""

    alias: Mapping[str, str]
    constant: Mapping[str, Expr]

    def name(self, name: str) -> str:
        """The family that a name stands for."""
        return self.alias.get(name, name)

    def use(self, use: Use) -> Use:
        """The use with its families renamed."""
        return replace(use, row=self.name(use.row), col=None if use.col is None else self.name(use.col))


def simplify(program: Program, keep: frozenset[str]) -> tuple[Program, Renaming]:
    """The program without aliases and constant scalars (those in `keep` stay), and what became of them."""
    alias: dict[str, str] = {}
    constant: dict[str, Expr] = {}
    while True:
        renaming = Renaming(alias, constant)
        program = replace(program, instrs=tuple(Instr(i.var, _operation(i.op, renaming)) for i in program.instrs))
        new_constants = {
            i.var.name: c for i in program.instrs if (c := _constant(i)) is not None and i.var.name not in constant
        }
        new_aliases = {
            i.var.name: a for i in program.instrs if (a := alias_of(i, program)) is not None and i.var.name not in keep
        }
        if not new_constants and not new_aliases:
            return program, Renaming({k: _last(k, alias) for k in alias}, constant)
        constant.update(new_constants)
        alias.update({k: v for k, v in new_aliases.items() if _last(v, {**alias, **new_aliases}) != k})
        gone = set(alias) | (set(constant) - keep)
        program = replace(program, instrs=tuple(i for i in program.instrs if i.var.name not in gone))
        alias = {k: _last(k, alias) for k in alias}
        renaming = Renaming(alias, constant)
        program = replace(program, instrs=tuple(Instr(i.var, _operation(i.op, renaming)) for i in program.instrs))


def _last(name: str, alias: Mapping[str, str]) -> str:
    seen: set[str] = set()
    while name in alias and name not in seen:
        seen.add(name)
        name = alias[name]
    return name


def alias_of(instr: Instr, program: Program) -> str | None:
    """The family of which this one is a copy."""
    if not isinstance(instr.op, Linear) or len(instr.op.terms) != 1:
        return None
    term = instr.op.terms[0]
    if term.operand is None or term.scalars or term.coef != ONE or term.operand == instr.var.name:
        return None
    source = program.var(term.operand)
    same_axes = (
        [a.extent for a in source.axes] == [a.extent for a in instr.var.axes] == [a.extent for a in term.map.domain]
    )
    plain = term.map.target == term.map.source == identity(term.map.domain)
    return term.operand if same_axes and plain and source.dim == instr.var.dim else None


def _constant(instr: Instr) -> Expr | None:
    """The number that a scalar without axes is."""
    if instr.var.dim is not None or instr.var.axes or not isinstance(instr.op, Linear):
        return None
    if len(instr.op.terms) != 1:
        return None
    term = instr.op.terms[0]
    plain = term.operand is None and not term.scalars and not term.map.domain
    return term.coef if plain else None


def _read(read: Read, renaming: Renaming) -> Read:
    return Read(renaming.name(read.var), read.index)


def _operation(op: Operation, renaming: Renaming) -> Operation:
    match op:
        case MatMul(operand=h) if h is not None:
            return replace(op, operand=renaming.name(h))
        case Linear(terms=terms):
            return replace(op, terms=tuple(_term(t, renaming) for t in terms))
        case Pointwise(fn=fn, args=args):
            return _pointwise(fn, args, renaming)
        case MaxOver(operand=h):
            return replace(op, operand=renaming.name(h))
        case Inner(left=u, right=v):
            return replace(op, left=_read(u, renaming), right=None if v is None else _read(v, renaming))
        case _:
            return op


def _term(term: Term, renaming: Renaming) -> Term:
    numbers = [renaming.constant[s.var] for s in term.scalars if s.var in renaming.constant]
    scalars = tuple(_read(s, renaming) for s in term.scalars if s.var not in renaming.constant)
    operand = term.operand
    if operand is not None and operand in renaming.constant:
        numbers, operand = [*numbers, renaming.constant[operand]], None
    coef = ex.mul(term.coef, *numbers)
    return replace(term, operand=None if operand is None else renaming.name(operand), coef=coef, scalars=scalars)


def _pointwise(fn: Expr, args: tuple[Read, ...], renaming: Renaming) -> Pointwise:
    names: dict[str, Expr] = {}
    kept: list[Read] = []
    for k, a in enumerate(args):
        if a.var in renaming.constant:
            names[f"a{k}"] = renaming.constant[a.var]
        else:
            names[f"a{k}"] = ex.Sym(f"a{len(kept)}")
            kept.append(_read(a, renaming))
    return Pointwise(ex.substitute(fn, names), tuple(kept))
