"""Gradient independence: may the transposes of the backward pass be treated as fresh matrices?

They may when every dot Z of the backward program vanishes.  The compiler finds that by sign symmetries
(`parity.py`); the check of the papers, a readout that is used once and linearly, is the simplest case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from tensorprog.errors import TensorProgError
from tensorprog.ir.program import Differentiated, MatMul, Program
from tensorprog.limit.responses import Response


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """`holds`: the gradient independence assumption gives the right limit.  `reason` says why or where not.

    `forward` names the products of the forward pass that carry dot Z terms.
    """

    holds: bool
    reason: str
    forward: tuple[str, ...] = ()


def verdict(
    source: Program, program: Program, responses: list[Response], backward: Differentiated | TensorProgError
) -> Verdict:
    """The verdict, from the dot Z terms that were needed."""
    own = {i.var.name for i in source.instrs}
    forward = tuple(dict.fromkeys(r.product for r in responses if r.product in own))
    later = tuple(dict.fromkeys(r.product for r in responses if r.product not in own))
    weights = ", ".join(sorted({_weight(program, p) for p in forward + later}))
    if isinstance(backward, TensorProgError):
        reason = f"there is no backward pass: {backward.diagnostics[0].message}"
    elif later:
        reason = (
            f"the backward pass uses the transpose of {weights} on vectors that depend on its forward products; "
            "their dot Z terms are computed"
        )
    elif forward:
        reason = (
            f"{weights} meets its own transpose in the forward pass; its dot Z terms are computed, "
            "the backward ones vanish"
        )
    elif not any(isinstance(i.op, MatMul) and i.op.transposed for i in program.instrs):
        reason = "no transposed matrix occurs"
    else:
        reason = (
            "every vector of the backward pass is odd under a change of sign of the readout or of transposed matrices, "
            "which the forward pass does not share: all dot Z terms vanish"
        )
    return Verdict(not later and not forward, reason, forward)


def _weight(program: Program, product: str) -> str:
    op = program.instr(f"{product}.hat").op
    assert isinstance(op, MatMul)
    return op.weight
