"""Is the output Gaussian in the limit, or only given random scalars that it was computed from?

    f = dot(v, h)                                    Gaussian: its kernel is its law
    a = softmax(dot(q, k) / sqrt(n)),  f = dot(v, sum a h)   Gaussian given a; its kernel is a second moment
"""

from __future__ import annotations

from tensorprog.ir.program import Inner, Linear, MatMul, operands
from tensorprog.limit.analyse import Limit


def is_gaussian(limit: Limit) -> bool:
    """Whether the elements of the output, for all examples together, are jointly Gaussian in the limit.

    They are if the output is a sum of products of vectors, and of scalar weights, that no random scalar enters.
    """
    waiting, seen = [limit.output_var], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in limit.random:
            continue
        seen.add(name)
        op = limit.program.instr(name).op
        match op:
            case Inner() if not _ancestors(limit, operands(op)) & limit.random:
                continue
            case MatMul(operand=None):
                continue
            case Linear(terms=terms) if not any(t.scalars for t in terms):
                waiting.extend(operands(op))
            case _:
                return False
    return bool(seen)


def stays_random(limit: Limit) -> bool:
    """Whether the kernels of one network do not converge: random scalars enter it by more than a sum."""
    if limit.output_var in limit.random:
        return not is_gaussian(limit)
    return bool(_ancestors(limit, (limit.output_var,)) & limit.random)


def _ancestors(limit: Limit, names: tuple[str, ...]) -> frozenset[str]:
    """The families that these were computed from, and themselves."""
    seen, waiting = set(names), list(names)
    while waiting:
        new = set(operands(limit.program.instr(waiting.pop()).op)) - seen
        seen |= new
        waiting.extend(new)
    return frozenset(seen)
