"""Sums with what their terms have in common in front:  a b + a c  ->  a (b + c)."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from tensorprog.derivation.algebra import add, product
from tensorprog.derivation.notation import ZERO, Add, Node, Product, Scalar
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr


def factored(node: Node) -> Node:
    """A sum with what all its terms have in common in front."""
    if not isinstance(node, Add):
        return node
    terms = [t.factors if isinstance(t, Product) else (t,) for t in node.terms]
    common: list[Node] = [f for f in terms[0] if not isinstance(f, Scalar) and all(f in t for t in terms[1:])]
    common = [f for k, f in enumerate(common) if f not in common[:k]]
    scalar = _common_scalar(terms)
    if common or scalar != ex.ONE:
        inverse = Scalar(ex.div(ex.ONE, scalar))
        return product(Scalar(scalar), *common, factored(add(*(product(inverse, *_without(t, common)) for t in terms))))
    return _partly_factored(node)


def _common_scalar(terms: list[tuple[Node, ...]]) -> Expr:
    """The powers of symbols that the numbers of all terms have in common."""
    found: list[dict[Expr, Fraction]] = []
    for t in terms:
        scalar = ex.mul(*(f.expr for f in t if isinstance(f, Scalar)))
        parts = scalar.args if isinstance(scalar, ex.Op) and scalar.fn == "mul" else (scalar,)
        found.append(dict(_power_of(p) for p in parts if not isinstance(p, ex.Num)))
    shared = {b: min(d[b] for d in found) for b in found[0] if all(b in d for d in found[1:])}
    same = [(b, p) for b, p in shared.items() if all(d[b] * p > 0 for d in found)]
    return ex.mul(*(ex.power(b, ex.num(p)) for b, p in same))


def _power_of(e: Expr) -> tuple[Expr, Fraction]:
    if isinstance(e, ex.Op) and e.fn == "pow" and isinstance(e.args[1], ex.Num):
        return e.args[0], Fraction(e.args[1].value)
    return e, Fraction(1)


def _partly_factored(node: Add) -> Node:
    """The sum with the factor that most terms share in front of those terms."""
    terms = [list(t.factors) if isinstance(t, Product) else [t] for t in node.terms]
    counts = Counter(f for t in terms for f in dict.fromkeys(t) if not isinstance(f, Scalar))
    shared, count = counts.most_common(1)[0] if counts else (ZERO, 0)
    if count < 2:
        return node
    inside = [product(*_without(tuple(t), [shared])) for t in terms if shared in t]
    first = next(k for k, t in enumerate(terms) if shared in t)
    rest = [product(*t) if k != first else product(shared, factored(add(*inside)))
            for k, t in enumerate(terms) if k == first or shared not in t]
    return add(*rest)


def _without(factors: tuple[Node, ...], gone: list[Node]) -> list[Node]:
    rest = list(factors)
    for f in gone:
        rest.remove(f)
    return rest
