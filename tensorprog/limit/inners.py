"""Random inner products that are not independent although their parts are.

Two scalars `<u, v> / sqrt(n)` that stay random have Cov(s, t) = E[Z^u Z^v Z^u' Z^v'] when the matrices behind
them are independent.  A matrix and its transpose are independent in every vector, but not here:
`<W.T a, b> = <a, W b>` exactly.  With F = Z^u Z^v and G = Z^u' Z^v' the covariance has further terms

    gain * E[dF / d hat(W a) * Z^b] * E[dG / d hat(W.T b) * Z^a]

for products W a behind s and W.T b behind t.  They are not computed; a program in which no symmetry makes
them vanish is refused.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

from tensorprog.errors import fail
from tensorprog.ir.program import Inner, Instr, Linear, MatMul, Program, operands
from tensorprog.limit.orders import Orders, plain
from tensorprog.limit.parity import Characters, make
from tensorprog.limit.responses import dependence, opposite


def check_inners(program: Program, orders: Orders, forward: frozenset[str]) -> None:
    """Raises TensorProgError where two random inner products meet a matrix and its transpose.

    `forward` are the families of the forward pass.  The output itself is read by no gradient, so that it counts
    beside inner products of the forward pass only, and not at all when it vanishes with the width.
    """
    inners = [i for i in program.instrs if isinstance(i.op, Inner) and orders.of[i.var.name].characters.offset]
    pairs, final = list(opposite(program)), _final(program)
    if not inners or not pairs:
        return
    depends = dependence(program.instrs)
    powers = [orders.of[o.var].power for o in program.outputs]
    vanishing = all(p is None or p < 0 for p in powers)
    for s, t in combinations_with_replacement(inners, 2):
        names = {s.var.name, t.var.name}
        if names & final and (vanishing or names - forward):
            continue
        for a, b in pairs:
            if _meets(s, a, b, depends, orders) and _meets(t, b, a, depends, orders):
                assert isinstance(a.op, MatMul)
                raise fail(
                    f"the random inner products '{plain(s)}' and '{plain(t)}' are correlated through "
                    f"'{a.op.weight.split('.')[0]}' and its transpose; this part of their covariance is not computed",
                    s.var.span,
                    "use different weights, or scale the inner product by 1/n",
                )


def _final(program: Program) -> frozenset[str]:
    """The scalars that do nothing but add up to an output."""
    found: set[str] = set()
    waiting = [o.var for o in program.outputs]
    while waiting:
        name = waiting.pop()
        found.add(name)
        op = program.instr(name).op
        if isinstance(op, Linear):
            waiting += [t.operand for t in op.terms if t.operand is not None and not t.scalars]
    inside = {n for i in program.instrs for n in operands(i.op) if i.var.name not in found}
    return frozenset(found - inside)


def _meets(s: Instr, product: Instr, other: Instr, depends: dict[str, frozenset[str]], orders: Orders) -> bool:
    """Whether E[d(Z^u Z^v) / d hat(product) * Z^(operand of other)] need not vanish."""
    op = s.op
    assert isinstance(op, Inner) and isinstance(other.op, MatMul) and other.op.operand is not None
    names = [op.left.var] + ([op.right.var] if op.right is not None else [])
    if not any(product.var.name in depends[n] for n in names):
        return False
    total = Characters(0)
    for n in (*names, product.var.name, other.op.operand):
        total = total.times(orders.of[n].characters)
    return _given_scalars(total, orders).has_mean


def _given_scalars(characters: Characters, orders: Orders) -> Characters:
    """The characters when random scalars are held fixed: their signs no longer count."""
    weights = {w.name for w in orders.program.weights if w.rows is None}
    free = sum(orders.group(name) for name in orders.groups if not (name.startswith("<") or name in weights))
    return make(characters.offset & free, tuple(b & free for b in characters.basis))
