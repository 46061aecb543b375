"""Uses of weights that are the gradients of a matrix product: dW += dg (x) h, where g = W h."""

from __future__ import annotations

from tensorprog.ir.program import MatMul, Program, Use


def twin(program: Program, use: Use) -> str | None:
    """The matrix product g = W h whose gradient dg (x) h a use is."""
    for i in program.instrs:
        op = i.op
        if (
            isinstance(op, MatMul)
            and use.col is not None
            and (op.weight, op.operand, op.windex) == (use.weight, use.col, use.windex)
            and (op.map.domain, op.map.target, op.map.source) == (use.domain, use.row_index, use.col_index)
            and op.coef == use.coef
            and not use.out
        ):
            return i.var.name
    return None
