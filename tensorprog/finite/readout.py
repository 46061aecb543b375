"""Which weights an output is linear in, so that its covariance can be estimated from a single draw.

    f = dot(v, h) + c,  v and c fresh   ->   {v, c},   E f f' = E [ var(v) <h, h'> + var(c) ]

A draw of f says little about its covariance; the covariance given all other weights says much, and
converges to the limit as the width grows.
"""

from __future__ import annotations

from collections.abc import Mapping

from tensorprog.ir.expr import ZERO, Expr, differentiate, substitute, symbols
from tensorprog.ir.program import Data, Inner, Linear, MatMul, MaxOver, Operation, Pointwise, Program

Degrees = frozenset[int]
"""The degrees of the terms of a polynomial in the chosen weights; 2 stands for more, and for no polynomial."""

NOTHING: Degrees = frozenset()
CONSTANT: Degrees = frozenset([0])
LINEAR: Degrees = frozenset([1])
OTHER: Degrees = frozenset([2])


def readout_weights(program: Program, output: str) -> frozenset[str]:
    """Weights in which the output is, jointly, linear, beside what does not depend on them; empty if there are none.

    Given all others, the output has then the covariance sum over these W of var(W) <d f / d W, d f' / d W>.
    """
    chosen: frozenset[str] = frozenset()
    root = program.output(output).var
    for weight in reversed(program.weights):
        if weight.variance == ZERO:
            continue
        trial = chosen | {weight.name}
        found = degrees(program, trial)[root]
        if found == LINEAR:
            return trial
        if found <= CONSTANT | LINEAR and found != CONSTANT:
            chosen = trial
    return chosen


def has_centre(program: Program, output: str, readout: frozenset[str]) -> bool:
    """Whether the output is not zero where these weights are at their means."""
    moved = any(program.weight(name).mean != ZERO for name in readout)
    return moved or degrees(program, readout)[program.output(output).var] != LINEAR


def degrees(program: Program, chosen: frozenset[str]) -> dict[str, Degrees]:
    """The degrees of every family in the weights `chosen`; loops by iteration to the least fixed point."""
    found: dict[str, Degrees] = {i.var.name: NOTHING for i in program.instrs}
    changed = True
    while changed:
        changed = False
        for instr in program.instrs:
            new = found[instr.var.name] | _degrees(instr.op, found, chosen)
            changed |= new != found[instr.var.name]
            found[instr.var.name] = new
    return found


def _degrees(op: Operation, found: Mapping[str, Degrees], chosen: frozenset[str]) -> Degrees:
    match op:
        case Data():
            return CONSTANT
        case MatMul(weight=w, operand=h):
            return _times(LINEAR if w in chosen else CONSTANT, CONSTANT if h is None else found[h])
        case Linear(terms=terms):
            parts = (_times(*(found[s.var] for s in t.scalars), CONSTANT if t.operand is None else found[t.operand])
                     for t in terms if t.coef != ZERO)
            return NOTHING.union(*parts)
        case Pointwise(fn=fn, args=args):
            return _pointwise(fn, [found[a.var] for a in args])
        case MaxOver(operand=h):
            return found[h] if found[h] <= CONSTANT else OTHER
        case Inner(left=u, right=v):
            return _times(found[u.var], CONSTANT if v is None else found[v.var])


def _times(*factors: Degrees) -> Degrees:
    product = CONSTANT
    for factor in factors:
        product = frozenset(min(2, a + b) for a in product for b in factor)
    return product


def _pointwise(fn: Expr, args: list[Degrees]) -> Degrees:
    """A function that is linear in the arguments of positive degree keeps their degrees, and may add a constant."""
    live = [f"a{k}" for k, degree in enumerate(args) if degree - CONSTANT]
    if not live:
        return CONSTANT if all(args) else NOTHING
    if not _is_linear(fn, live):
        return OTHER
    rest = NOTHING if substitute(fn, dict.fromkeys(live, ZERO)) == ZERO else CONSTANT
    return rest.union(*(args[int(name[1:])] for name in live))


def _is_linear(fn: Expr, names: list[str]) -> bool:
    """Whether fn is linear in these arguments together, beside what does not depend on them."""
    try:
        return not any(symbols(differentiate(fn, name)) & set(names) for name in names)
    except ValueError:  # a function without a derivative
        return False
