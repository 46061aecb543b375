"""Arguments of an expectation that move, and the functions of them that derivatives of expectations integrate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

from tensorprog.errors import fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym
from tensorprog.symbolic.expectation import Request
from tensorprog.tape.blocks import Factor, GroupValue, Placed


@final
@dataclass(frozen=True, slots=True)
class Argument:
    """Mean (None: zero) and second moment of an argument, and their derivatives (None: zero)."""

    mean: Placed | None
    mean_tangent: Placed | None
    second: Placed
    second_tangent: Placed | None

    def stretch(self) -> Factor | None:
        """r = C' / (2 C) of the variance C, 0 where that is 0; None where it is 0 everywhere."""
        parts = {"t": self.second_tangent, "m": self.mean, "n": self.mean_tangent}
        if self.second_tangent is None and self.mean_tangent is None:
            return None
        known = {name: placed for name, placed in parts.items() if placed is not None}
        return Factor(_stretch(frozenset(known)), {"s": self.second, **known}, {})

    @property
    def inverse(self) -> Factor:
        """1 / C of an argument without mean, 0 where C is 0."""
        return Factor(_over(ex.ONE, Sym("s")), {"s": self.second}, {})


def _stretch(known: frozenset[str]) -> Expr:
    t, m, n = (Sym(x) if x in known else ex.ZERO for x in "tmn")
    variance = ex.sub(Sym("s"), ex.power(m, ex.num(2)))
    moved = ex.sub(t, ex.mul(ex.num(2), m, n))
    return _over(ex.mul(ex.HALF, moved), variance)


def _over(x: Expr, variance: Expr) -> Expr:
    """x / variance, 0 where that is 0 (or less, by rounding); no sum with 1, in which small variances are lost."""
    live = ex.call("gt", variance, ex.ZERO)
    return ex.div(ex.mul(live, x), ex.call("max", variance, ex.sub(ex.ONE, live)))


def derived(request: Request, i: int) -> Request:
    """F with its i-th argument differentiated."""
    k = len(request.left_args)
    try:
        if i < k:
            return replace(request, left=ex.differentiate(request.left, request.left_args[i]))
        return replace(request, right=ex.differentiate(request.right, request.right_args[i - k]))
    except ValueError as error:
        text = ex.show(ex.mul(request.left, request.right))
        raise fail(f"E[{text}] has no derivative: {error}", hint="ask for the derivatives of the NNGP alone") from None


def multiplied(request: Request, i: int) -> Request:
    """F times its i-th argument."""
    k = len(request.left_args)
    if i < k:
        return replace(request, left=ex.mul(Sym(request.left_args[i]), request.left))
    return replace(request, right=ex.mul(Sym(request.right_args[i - k]), request.right))


def number(placed: Placed) -> Factor:
    return Factor(Sym("t"), {"t": placed}, {})


def minus(placed: Placed) -> Factor:
    return Factor(ex.neg(Sym("t")), {"t": placed}, {})


def at_place(placed: Placed) -> GroupValue:
    """A slot as a factor of a product."""
    where, key, slots = placed
    return GroupValue(None, moment=(key, slots)) if where == "own" else GroupValue(None, mean=placed)
