"""Several outputs as one family, so that what is said of the elements of an output is said of all of them jointly.

    output f = F[i, j],  output g = G      ->      joint[i J + j] = F[i, j],  joint[I J] = G
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Axis, Instr, Linear, Map, Output, Program, Term, Var, identity

NAME = "joint"


def joined(program: Program) -> Program:
    """The program with the single output "joint": the elements of all outputs, scalars, one after the other."""
    terms: list[Term] = []
    first: Expr = ex.ZERO
    for output in program.outputs:
        axes = program.var(output.var).axes
        terms.append(Term(output.var, Map(axes, (ex.add(first, _number(axes)),), identity(axes))))
        first = ex.add(first, ex.mul(*(a.extent for a in axes)))
    taken = {i.var.name for i in program.instrs} | {a.index for i in program.instrs for a in i.var.axes}
    name, index = _fresh(NAME, taken), _fresh("k", taken)
    family = Var(name, (Axis(index, first),), span=program.span, named=True)
    return replace(program.extended((Instr(family, Linear(tuple(terms))),)),
                   outputs=(Output(NAME, name, program.span),))


def _number(axes: Sequence[Axis]) -> Expr:
    """The number of an element in the order of its indices, the last one fastest."""
    number: Expr = ex.ZERO
    for axis in axes:
        number = ex.add(ex.mul(number, axis.extent), ex.Sym(axis.index))
    return number


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
