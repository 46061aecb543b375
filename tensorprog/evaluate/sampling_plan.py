"""What is sampled, and in which order: the limit program with wide vectors of `samples` coordinates.

A dot Z term sums over all earlier products, sum_j R[i, j] y[j], where R[i, j] is zero unless Z[i] is a
function of leaf j.  Inside loops the order of computation rests on these zeros, so they are found first,
element by element, as the least solution of: i depends on j through vectors and through the terms that are
not zero.

Coefficients R whose derivative contains a `dirac` cannot be averaged.  They become regressions of the target on
its leaves (Stein's lemma, E[hat_j Z] = sum_k Cov(hat_j, hat_k) R_k), written here as inner products of the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from tensorprog.errors import fail
from tensorprog.finite.forward import needed
from tensorprog.finite.plan import Plan
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Dim, Inner, Instr, Linear, Map, MatMul, Pointwise, Program, Read, identity, operands
from tensorprog.ir.schedule import Step, check_assigned, components, dependencies, levels, schedule
from tensorprog.ir.tables import Ints, Sizes, Table, count, flat_index, map_table
from tensorprog.limit.analyse import Limit
from tensorprog.limit.responses import Response

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@final
@dataclass(frozen=True, slots=True)
class Sampler:
    """The program that is sampled, and for regression coefficients their target and joint leaves."""

    program: Program
    responses: tuple[Response, ...]
    regressions: Mapping[str, tuple[str, tuple[str, ...]]]


def sampler(limit: Limit, roots: Collection[str], samples: int) -> Sampler:
    """The limit program as far as `roots` need it.  TensorProgError when it contains a dirac that cannot be sampled."""
    regressions = regressions_of(limit)
    leaves = {r.coefficient: r for r in limit.responses}
    instrs = [_regression(i, leaves[i.var.name]) if i.var.name in regressions else i for i in limit.program.instrs]
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


def _regression(instr: Instr, response: Response) -> Instr:
    assert isinstance(instr.op, Inner)
    index = identity(instr.var.axes)
    split = len(index) - len(instr.op.left.index) + len(index)
    del split
    return instr


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
