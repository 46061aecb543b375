"""The notation in which a derivation is written: a small language of formulas, and nothing about how they look.

    Node = Scalar(expr)                          a number, an index, a size, a parameter, an expression in them
         | Element(name, index, level)           one coordinate of a vector, or a scalar, of one run
         | Moment(left, right)                   E[u v'], to be found by an equation of its own
         | Mean(element)                         E[u], likewise
         | Gram(left, right)                     <x, x'>, known from the data
         | Expectation(factors)                  E[f(u) g(v')] over Gaussian variables
         | Integral(factors, variables)          the same as an integral against their density
         | Function(body, args)                  an expression with nodes in the place of symbols
         | Condition(left, right)                1 where both indices are equal, else 0
         | Within(index, extent)                 1 where 0 <= index < extent, else 0
         | Sum(ranges, body) | Largest(ranges, body) | Add(terms) | Product(factors) | Kernel(name, index)
         | Applied(weight, operand)              a matrix product, in the definition of a variable

Primes mark the second run, in elements (`prime`) and in the names of its indices (t').  A *level* is the number
of a layer: the index of a loop that the program unrolls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Union, final

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.limit.moments import Gaussian


@final
@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, or an expression in indices, sizes and parameters."""

    expr: Expr


@final
@dataclass(frozen=True, slots=True)
class Element:
    """name^level[index] of the run on x, or of the one on x' (`prime`)."""

    name: str
    index: tuple[Expr, ...] = ()
    prime: bool = False
    level: Expr | None = None


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """E[left right]"""

    left: Element
    right: Element


@final
@dataclass(frozen=True, slots=True)
class Mean:
    """E[element]"""

    element: Element


@final
@dataclass(frozen=True, slots=True)
class Gram:
    """<left, right>: the inner product of two known vectors."""

    left: Element
    right: Element


@final
@dataclass(frozen=True, slots=True)
class Function:
    """`body` with the nodes `args` for its symbols."""

    body: Expr
    args: tuple[tuple[str, Node], ...]


@final
@dataclass(frozen=True, slots=True)
class Expectation:
    """The mean of a product of functions of random elements.

    `law` is the expectation over Gaussian variables that it stands for, with the word whether their means are zero;
    None where the mean is taken over samples.
    """

    factors: tuple[Node, ...]
    law: tuple[Gaussian, bool] | None = field(default=None, compare=False, repr=False)


@final
@dataclass(frozen=True, slots=True)
class Integral:
    """The integral of a product of functions against the density of the variables of these names."""

    factors: tuple[Node, ...]
    variables: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Condition:
    """[left = right]: 1 or 0."""

    left: Expr
    right: Expr


@final
@dataclass(frozen=True, slots=True)
class Within:
    """[0 <= index < extent]: 1 or 0."""

    index: Expr
    extent: Expr


@final
@dataclass(frozen=True, slots=True)
class Range:
    """An index from `low` to `high`, both included."""

    index: str
    low: Expr
    high: Expr


@final
@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of `body` over all indices in the ranges."""

    ranges: tuple[Range, ...]
    body: Node


@final
@dataclass(frozen=True, slots=True)
class Largest:
    """The largest `body` over all indices in the ranges."""

    ranges: tuple[Range, ...]
    body: Node


@final
@dataclass(frozen=True, slots=True)
class Add:
    """The sum of several nodes; no terms is 0."""

    terms: tuple[Node, ...]


@final
@dataclass(frozen=True, slots=True)
class Product:
    """The product of several nodes."""

    factors: tuple[Node, ...]


@final
@dataclass(frozen=True, slots=True)
class Applied:
    """weight operand, or weight.T operand; a weight alone."""

    weight: Element
    transposed: bool
    operand: Element | None


@final
@dataclass(frozen=True, slots=True)
class Kernel:
    """A result under its name."""

    name: str
    index: tuple[Expr, ...] = ()


Node = Union[
    Scalar,
    Element,
    Moment,
    Mean,
    Gram,
    Function,
    Expectation,
    Integral,
    Condition,
    Within,
    Sum,
    Largest,
    Add,
    Product,
    Applied,
    Kernel,
]

ZERO, ONE = Scalar(ex.ZERO), Scalar(ex.ONE)


@final
@dataclass(frozen=True, slots=True)
class Equation:
    """left = right, and a remark."""

    left: Node
    right: Node
    remark: str = ""


@final
@dataclass(frozen=True, slots=True)
class Recursion:
    """Equations that hold for every value of an index, from `first` to `last` (descending where last < first)."""

    index: str
    first: int
    last: int
    equations: tuple[Equation, ...]


Block = Union[Equation, Recursion]

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
