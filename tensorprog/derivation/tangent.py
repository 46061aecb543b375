"""The tangent kernel as a short sum: weights whose gradients meet in one quantity stand together.

    C_dh (sw^2 E[relu(h_1) relu(h_1')])  +  C_dh sb^2     ->     C_dh C_h ,      as C_h = sw^2 E[...] + sb^2
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tensorprog.derivation.algebra import product, total
from tensorprog.derivation.folding import Term
from tensorprog.derivation.notation import Add, Equation, Node, Product, Scalar, Sum
from tensorprog.ir import expr as ex


def gathered(terms: Sequence[Term], equations: Iterable[Equation]) -> tuple[Term, ...]:
    """The terms, those that add up to a multiple of a left side replaced by it."""
    found = [(w, node) for w, whole in terms for node in _summands(whole)]
    for equation in equations:
        if isinstance(equation.right, Add):
            parts = [_cut(t) for t in equation.right.terms]
            found = _replaced(found, equation.left, parts)
    return tuple(found)


Cut = tuple[Node, frozenset[Node], tuple[object, ...]]  # scalar, factors, ranges of the sum around them


def _summands(node: Node) -> tuple[Node, ...]:
    return node.terms if isinstance(node, Add) else (node,)


def _factors(node: Node) -> tuple[Node, ...]:
    return node.factors if isinstance(node, Product) else (node,)


def _cut(node: Node) -> tuple[Scalar, list[Node]]:
    """The number in front and the other factors."""
    factors = _factors(node)
    scalar = ex.mul(*(f.expr for f in factors if isinstance(f, Scalar)))
    return Scalar(scalar), [f for f in factors if not isinstance(f, Scalar)]


def _open(node: Node) -> tuple[Scalar, list[Node], Sum | None]:
    """The number in front, the factors, and the sum that the factors stand under."""
    scalar, factors = _cut(node)
    if len(factors) == 1 and isinstance(factors[0], Sum):
        inner, under = _cut(factors[0].body)
        return Scalar(ex.mul(scalar.expr, inner.expr)), under, factors[0]
    return scalar, factors, None


def _replaced(terms: list[Term], left: Node, parts: list[tuple[Scalar, list[Node]]]) -> list[Term]:
    """The terms with every group  C * part_1, C * part_2, ...  replaced by  C * left."""
    opened = [_open(node) for _, node in terms]
    for k, (scalar, factors, around) in enumerate(opened):
        rest = _quotient(scalar, factors, parts[0])
        if rest is None:
            continue
        wanted = [_times(rest, p) for p in parts]
        members = [_find(opened, w, around) for w in wanted]
        if all(m is not None for m in members) and len(set(members)) == len(parts):
            body = product(rest[0], *rest[1], left)
            whole = body if around is None else total(around.ranges, body)
            weights = tuple(dict.fromkeys(w for m in members if m is not None for w in terms[m][0]))
            kept = [(t if n != k else (weights, whole)) for n, t in enumerate(terms) if n == k or n not in members]
            return _replaced(kept, left, parts)
    return terms


def _quotient(scalar: Scalar, factors: list[Node], part: tuple[Scalar, list[Node]]) -> tuple[Scalar, list[Node]] | None:
    rest = list(factors)
    for f in part[1]:
        if f not in rest:
            return None
        rest.remove(f)
    return (Scalar(ex.div(scalar.expr, part[0].expr)), rest) if rest else None


def _times(rest: tuple[Scalar, list[Node]], part: tuple[Scalar, list[Node]]) -> tuple[Scalar, list[Node]]:
    return Scalar(ex.mul(rest[0].expr, part[0].expr)), rest[1] + part[1]


def _find(
    opened: list[tuple[Scalar, list[Node], Sum | None]], wanted: tuple[Scalar, list[Node]], around: Sum | None
) -> int | None:
    for k, (scalar, factors, other) in enumerate(opened):
        same = (None if other is None else other.ranges) == (None if around is None else around.ranges)
        if same and _equal(scalar, wanted[0]) and sorted(map(repr, factors)) == sorted(map(repr, wanted[1])):
            return k
    return None


def _equal(a: Scalar, b: Scalar) -> bool:
    return ex.div(a.expr, b.expr) == ex.ONE
