"""What is sampled: the limit program with wide vectors of `samples` coordinates.

Dot Z coefficients R whose derivative contains a `dirac` cannot be averaged.  They become regressions of the
target on its leaves (Stein's lemma, E[hat_j Z] = sum_k Cov(hat_j, hat_k) R_k), written here as inner products
of the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import final

from tensorprog.errors import fail
from tensorprog.finite.forward import needed
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Dim, Inner, Instr, MatMul, Pointwise, Program, Read, identity, operands
from tensorprog.limit.analyse import Limit
from tensorprog.limit.responses import Response


@final
@dataclass(frozen=True, slots=True)
class Sampler:
    """The program that is sampled, and for regression coefficients their target and joint leaves."""

    program: Program
    responses: tuple[Response, ...]
    regressions: Mapping[str, tuple[str, tuple[str, ...]]]


def sampler(limit: Limit, roots: Collection[str], samples: int) -> Sampler:
    """The limit program as far as `roots` need it.

    Raises TensorProgError when a dirac is left in it.
    """
    regressions = regressions_of(limit)
    leaves = {r.coefficient: r for r in limit.responses}
    splits = {name: len(limit.program.var(target).axes) for name, (target, _) in regressions.items()}
    instrs = [
        _regression(i, leaves[i.var.name], splits[i.var.name]) if i.var.name in splits else i
        for i in limit.program.instrs
    ]
    program = needed(replace(limit.program, instrs=tuple(_sampled(i, samples) for i in instrs)), roots)
    for i in program.instrs:
        if _has_dirac(i):
            name = i.var.name.removeprefix("d.").split(".")[0]
            raise fail(f"'{name}' needs the derivative of a step function, which has no samples", i.var.span)
    kept = {i.var.name for i in program.instrs}
    return Sampler(program, tuple(r for r in limit.responses if r.coefficient in kept), regressions)


def _sampled(instr: Instr, samples: int) -> Instr:
    wide = instr.var.dim is not None and instr.var.dim.wide
    return replace(instr, var=replace(instr.var, dim=Dim(ex.num(samples), True))) if wide else instr


def _regression(instr: Instr, response: Response, split: int) -> Instr:
    index = identity(instr.var.axes)
    return replace(instr, op=Inner(Read(response.target, index[:split]), Read(response.leaf, index[split:])))


def leaf_of(regression: Instr) -> str:
    """The leaf of a coefficient that is a regression."""
    assert isinstance(regression.op, Inner) and regression.op.right is not None
    return regression.op.right.var


# ---------------------------------------------------------------- regressions


def regressions_of(limit: Limit) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Coefficient -> (target, leaves): all coefficients of a target and a matrix of which one meets a dirac."""
    joint: dict[tuple[str, str, bool], list[Response]] = {}
    for r in limit.responses:
        op = limit.program.instr(r.leaf).op if any(i.var.name == r.leaf for i in limit.program.instrs) else None
        if isinstance(op, MatMul):
            joint.setdefault((r.target, op.weight, op.transposed), []).append(r)
    coefficients = {r.coefficient for r in limit.responses}
    found = {}
    for (target, _, _), members in joint.items():
        if any(_meets_dirac(limit.program, r.coefficient, coefficients) for r in members):
            found.update({r.coefficient: (target, tuple(m.leaf for m in members)) for r in members})
    return found


def _has_dirac(instr: Instr) -> bool:
    return isinstance(instr.op, Pointwise) and _mentions(instr.op.fn, "dirac")


def _mentions(e: ex.Expr, fn: str) -> bool:
    return isinstance(e, ex.Op) and (e.fn == fn or any(_mentions(a, fn) for a in e.args))


def _meets_dirac(program: Program, coefficient: str, others: Collection[str]) -> bool:
    seen, waiting = {coefficient}, [coefficient]
    while waiting:
        instr = program.instr(waiting.pop())
        if _has_dirac(instr):
            return True
        new = set(operands(instr.op)) - seen - set(others)
        seen |= new
        waiting.extend(new)
    return False
