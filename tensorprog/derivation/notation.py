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

from dataclasses import dataclass, field
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
