"""The limit program as text: `tensorprog show FILE --stage limit`.

  h : n = W_x + b                    G-var
  W_x : n = W @ x                    G-var, covariance 1.96 / d * E[x x']
"""

from __future__ import annotations

from tensorprog.ir.expr import ONE, mul, show
from tensorprog.ir.printer import print_instr
from tensorprog.ir.program import Data, Inner, Instr, MatMul
from tensorprog.limit.analyse import Limit


def print_limit(limit: Limit) -> str:
    """The definitions of the limit program with their roles, the covariances of products, the weights that move."""
    params = ", ".join(f"{k} = {v}" for k, v in limit.source.params)
    lines = [f"{limit.source.name}({params}): the limit of '{limit.output}'", ""]
    instrs = [i for i in limit.program.instrs if not isinstance(i.op, Data)]
    texts = [print_instr(i, limit.program) for i in instrs]
    width = min(72, max(map(len, texts), default=0))
    lines += [f"  {t:<{width}}   {_role(i, limit)}" for t, i in zip(texts, instrs, strict=True)]
    if limit.trained:
        lines += ["", "NTK: sums over pairs of uses, times", ""]
        lines += [f"  {t.weight}: {show(t.scale)}" for t in limit.trained]
    verdict = "holds" if limit.verdict.holds else "does not hold"
    return "\n".join([*lines, "", f"Gradient independence {verdict}: {limit.verdict.reason}."]) + "\n"


def _role(instr: Instr, limit: Limit) -> str:
    """The role of a variable, and the factor of its covariance or mean."""
    name, op = instr.var.name, instr.op
    role = limit.roles[name]
    if isinstance(op, MatMul):
        gain = show(mul(limit.gains[name], op.coef, op.coef))
        return f"{role}, covariance {gain}" + (f" * E[{op.operand} {op.operand}']" if op.operand else "")
    if isinstance(op, Inner) and name in limit.inners:
        other = "" if op.right is None else f" {op.right.var}"
        scale = limit.inners[name]
        return f"{role}, {'' if scale == ONE else show(scale) + ' * '}E[{op.left.var}{other}]" + (
            " as variance" if name in limit.random else ""
        )
    return role
