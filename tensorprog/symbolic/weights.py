"""Values of the coefficients of a product of two groups, in the joint variables (l, r)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from tensorprog.ir.expr import Expr, Num, evaluate
from tensorprog.symbolic.gates import Group
from tensorprog.symbolic.poly import Linear, Powers

Params = Mapping[str, Any]
Weights = dict[int, Any]  # {joint variable: coefficient}


def number(e: Expr, params: Params) -> Any:
    """The value of a coefficient: a float or an array."""
    value = e.value if isinstance(e, Num) else evaluate(e, params)
    return value if hasattr(value, "__array_ufunc__") else float(value)


def affine(form: Linear, offset: int, params: Params) -> tuple[Weights, Any]:
    """An affine form of one run whose variables start at `offset`: its weights and its constant."""
    return {offset + i: number(form.coefs[i], params) for i in form.support}, number(form.const, params)


def monomials(a: Group, b: Group, params: Params, size: int) -> Iterator[tuple[Powers, Any]]:
    """The products of the monomials of both polynomials, padded to `size` variables."""
    for (p, x), (q, y) in product(a.poly, b.poly):
        powers = (*p, *q)
        yield powers + (0,) * (size - len(powers)), number(x, params) * number(y, params)


def exponents(a: Group, b: Group) -> Iterator[tuple[Powers, Expr]]:
    """The monomials of the exponents of both groups."""
    n, m = len(a.knots), len(b.knots)
    for powers, c in a.exponent:
        yield (*powers, *(0,) * m), c
    for powers, c in b.exponent:
        yield (*(0,) * n, *powers), c
