"""How formulas are built, walked through and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from tensorprog.derivation.notation import (
    ONE,
    ZERO,
    Add,
    Applied,
    Condition,
    Element,
    Expectation,
    Function,
    Gram,
    Integral,
    Kernel,
    Largest,
    Mean,
    Moment,
    Node,
    Product,
    Range,
    Scalar,
    Sum,
    Within,
)
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym

# ---------------------------------------------------------------- builders


def add(*terms: Node) -> Node:
    """The sum, flat, numbers as one and without zeros."""
    flat = [t for term in terms for t in (term.terms if isinstance(term, Add) else (term,))]
    numbers = [t for t in flat if isinstance(t, Scalar)]
    if len(numbers) > 1:
        first = flat.index(numbers[0])
        whole: Node = Scalar(ex.add(*(n.expr for n in numbers)))
        flat = [whole if k == first else t for k, t in enumerate(flat) if k == first or not isinstance(t, Scalar)]
    flat = [t for t in flat if t != ZERO]
    if not flat:
        return ZERO
    return flat[0] if len(flat) == 1 else Add(tuple(flat))


def product(*factors: Node) -> Node:
    """The product, flat, with one scalar in front and sums over indices at the end."""
    flat = [f for factor in factors for f in (factor.factors if isinstance(factor, Product) else (factor,))]
    scalar = ex.mul(*(f.expr for f in flat if isinstance(f, Scalar)))
    rest = sorted((f for f in flat if not isinstance(f, Scalar)), key=lambda f: isinstance(f, Sum))
    if scalar == ex.ZERO:
        return ZERO
    parts = rest if scalar == ex.ONE and rest else [Scalar(scalar), *rest]
    return parts[0] if len(parts) == 1 else Product(tuple(parts))


def total(ranges: tuple[Range, ...], body: Node) -> Node:
    """The sum over ranges; sums in sums are joined, what does not depend on an index stands in front."""
    if not ranges or body == ZERO:
        return body
    if isinstance(body, Sum):
        return total(ranges + body.ranges, body.body)
    names = {r.index for r in ranges}
    factors = body.factors if isinstance(body, Product) else (body,)
    fixed = [f for f in factors if not names & symbols(f)]
    inner = product(*(f for f in factors if names & symbols(f)))
    if not fixed or inner == ONE:
        return Sum(ranges, body)
    return product(*fixed, total(ranges, inner))


# ---------------------------------------------------------------- walks


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside."""
    match node:
        case Moment(left=a, right=b) | Gram(left=a, right=b):
            return (a, b)
        case Mean(element=a):
            return (a,)
        case Applied(weight=w, operand=h):
            return (w,) if h is None else (w, h)
        case Function(args=args):
            return tuple(a for _, a in args)
        case Expectation(factors=nodes) | Integral(factors=nodes) | Product(factors=nodes) | Add(terms=nodes):
            return nodes
        case Sum(body=body) | Largest(body=body):
            return (body,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes inside, outside first."""
    yield node
    for child in children(node):
        yield from walk(child)


def mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """The node with `change` applied to the nodes directly inside; sums and products are built anew."""
    match node:
        case Moment(left=a, right=b):
            return Moment(_element(change(a)), _element(change(b)))
        case Gram(left=a, right=b):
            return Gram(_element(change(a)), _element(change(b)))
        case Mean(element=a):
            return Mean(_element(change(a)))
        case Applied(weight=w, operand=h):
            return replace(node, weight=_element(change(w)), operand=None if h is None else _element(change(h)))
        case Function(args=args):
            return replace(node, args=tuple((s, change(a)) for s, a in args))
        case Expectation(factors=factors) | Integral(factors=factors):
            return replace(node, factors=tuple(map(change, factors)))
        case Product(factors=factors):
            return product(*map(change, factors))
        case Add(terms=terms):
            return add(*map(change, terms))
        case Sum(ranges=ranges, body=body):
            return total(ranges, change(body))
        case Largest(body=body):
            return replace(node, body=change(body))
        case _:
            return node


def _element(node: Node) -> Element:
    assert isinstance(node, Element)
    return node


def symbols(node: Node) -> frozenset[str]:
    """The names of indices, sizes and parameters in a node (those of a sum's own indices included)."""
    match node:
        case Scalar(expr=e):
            return ex.symbols(e)
        case Element(index=index) | Kernel(index=index):
            return frozenset().union(*map(ex.symbols, index))
        case Condition(left=a, right=b) | Within(index=a, extent=b):
            return ex.symbols(a) | ex.symbols(b)
        case Function(body=body, args=args):
            own = ex.symbols(body) - {s for s, _ in args}
            return own.union(*(symbols(a) for _, a in args))
        case _:
            return frozenset().union(*map(symbols, children(node)))


def renamed(node: Node, values: dict[str, Expr]) -> Node:
    """The node with index expressions for names of indices."""
    if not values:
        return node

    def change(n: Node) -> Node:
        match n:
            case Scalar(expr=e):
                return Scalar(ex.substitute(e, values))
            case Element(index=index) | Kernel(index=index):
                return replace(n, index=tuple(ex.substitute(e, values) for e in index))
            case Condition(left=a, right=b):
                return condition(ex.substitute(a, values), ex.substitute(b, values))
            case Within(index=a, extent=b):
                return within(ex.substitute(a, values), b)
            case Function(body=body, args=args):
                return Function(ex.substitute(body, values), tuple((s, change(a)) for s, a in args))
            case _:
                return mapped(n, change)

    return change(node)


def condition(left: Expr, right: Expr) -> Node:
    """[left = right], decided where it can be."""
    if left == right:
        return ONE
    if isinstance(left, ex.Num) and isinstance(right, ex.Num):
        return ZERO
    return Condition(left, right)


def within(index: Expr, extent: Expr) -> Node:
    """[0 <= index < extent]; decided at both ends, as an extent is at least 1."""
    if index == ex.ZERO or index == ex.sub(extent, ex.ONE):
        return ONE
    return Within(index, extent)


def function(body: Expr, names: Mapping[str, Node]) -> Node:
    """An expression with nodes for its symbols; a symbol alone is the node itself."""
    if isinstance(body, Sym) and body.name in names:
        return names[body.name]
    used = [(s, n) for s, n in names.items() if s in ex.symbols(body)]
    plain: dict[str, Expr] = {s: Sym(f"a{k}") for k, (s, _) in enumerate(used)}
    return Function(ex.substitute(body, plain), tuple((f"a{k}", n) for k, (_, n) in enumerate(used)))
