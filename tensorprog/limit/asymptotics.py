"""Powers of the width: the leading order of numbers and of nonlinearities as all widths grow together.

Widths go to infinity at fixed ratios, n_k = r_k * n; a quantity is `coef * n^power` to leading order.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Op, Sym
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.ir.program import Program

Power = Fraction | None  # None: exactly zero

HOMOGENEOUS = {"max": 1, "min": 1, "abs": 1, "sign": 0, "step": 0, "dirac": -1, "stop": 1}


class Leading(NamedTuple):
    """coef * n^power; power None is zero."""

    coef: Expr
    power: Power


class Diverges(Exception):
    """A bounded-domain argument of a nonlinearity grows with the width."""

    def __init__(self, fn: str, power: Fraction) -> None:
        super().__init__(fn)
        self.fn, self.power = fn, power


def ratios(program: Program, symbolic: bool = False) -> dict[str, Expr]:
    """r_k: every width over the first one, as numbers or as symbols `(m/n)`."""
    if not program.widths:
        return {}
    if symbolic:
        one = program.widths[0].name
        return {w.name: ex.ONE if w.name == one else Sym(f"({w.name}/{one})") for w in program.widths}
    sizes = [w.size for w in program.widths]
    first = Fraction(ex.evaluate(sizes[0], {}))
    return {w.name: ex.num(Fraction(ex.evaluate(s, {})) / first) for w, s in zip(program.widths, sizes, strict=True)}


def leading(e: Expr, widths: Mapping[str, Expr]) -> Leading:
    """The leading order of a size expression.  ValueError for functions of a width other than powers."""
    if isinstance(e, Sym) and e.name in widths:
        return Leading(widths[e.name], Fraction(1))
    if e == ex.ZERO:
        return Leading(ex.ZERO, None)
    if not ex.symbols(e) & widths.keys():
        return Leading(e, Fraction(0))
    assert isinstance(e, Op)
    if e.fn == "add":
        return _sum([leading(a, widths) for a in e.args])
    if e.fn == "mul":
        return _product([leading(a, widths) for a in e.args])
    if e.fn == "pow" and isinstance(e.args[1], Num):
        base, exponent = leading(e.args[0], widths), e.args[1].value
        assert base.power is not None
        return Leading(ex.power(base.coef, e.args[1]), base.power * Fraction(exponent).limit_denominator(10**6))
    raise ValueError(ex.show(e))


def _sum(parts: list[Leading]) -> Leading:
    powers = [p.power for p in parts if p.power is not None]
    if not powers:
        return Leading(ex.ZERO, None)
    top = max(powers)
    coef = ex.add(*(p.coef for p in parts if p.power == top))
    return Leading(coef, top)


def _product(parts: list[Leading]) -> Leading:
    total: Power = Fraction(0)
    for p in parts:
        total = None if total is None or p.power is None else total + p.power
    return Leading(ex.mul(*(p.coef for p in parts)) if total is not None else ex.ZERO, total)


def leading_function(fn: Expr, powers: Mapping[str, Power], widths: Mapping[str, Expr]) -> Leading:
    """The leading order of fn when its arguments are Z * n^power; the result is a function of the Z.

    Homogeneous functions scale; others need arguments of order 1, and are replaced by their value (or
    slope) at zero where an argument vanishes.  Raises Diverges where an argument grows.
    """
    if isinstance(fn, Sym) and fn.name in widths:
        return Leading(widths[fn.name], Fraction(1))
    if isinstance(fn, Sym):
        power = powers.get(fn.name, Fraction(0))
        return Leading(fn if power is not None else ex.ZERO, power)
    if isinstance(fn, Num):
        return Leading(fn, None if fn.value == 0 else Fraction(0))
    if fn.fn == "pow":
        return _leading_power(fn, powers, widths)
    parts = [leading_function(a, powers, widths) for a in fn.args]
    if fn.fn == "add":
        return _sum(parts)
    if fn.fn == "mul":
        return _product(parts)
    if fn.fn in HOMOGENEOUS:
        return _homogeneous(fn.fn, parts)
    return _inhomogeneous(fn.fn, parts)


def _leading_power(fn: Op, powers: Mapping[str, Power], widths: Mapping[str, Expr]) -> Leading:
    base, exponent = leading_function(fn.args[0], powers, widths), fn.args[1]
    if not isinstance(exponent, Num):
        return _inhomogeneous("pow", [base, Leading(exponent, Fraction(0))])
    if base.power is None:
        return Leading(ex.ZERO, None)
    return Leading(ex.power(base.coef, exponent), base.power * Fraction(exponent.value).limit_denominator(10**6))


def _homogeneous(fn: str, parts: list[Leading]) -> Leading:
    powers = [p.power for p in parts if p.power is not None]
    if not powers:
        value = ex.call(fn, *(ex.ZERO for _ in parts))
        return Leading(value, None if value == ex.ZERO else Fraction(0))
    top = max(powers)
    args = [p.coef if p.power == top else ex.ZERO for p in parts]
    degree = HOMOGENEOUS[fn]
    if degree < 0 and top < 0:
        raise Diverges(fn, top)
    return Leading(ex.call(fn, *args), top * degree)


def _inhomogeneous(fn: str, parts: list[Leading]) -> Leading:
    for p in parts:
        if p.power is not None and p.power > 0:
            raise Diverges(fn, p.power)
    alive = [p.coef if p.power == 0 else ex.ZERO for p in parts]
    value = ex.call(fn, *alive)
    if value != ex.ZERO or fn not in FUNCTIONS or len(parts) > 1:
        return Leading(value, Fraction(0) if value != ex.ZERO else None)
    slope = ex.substitute(ex.differentiate(Op(fn, (Sym("u"),)), "u"), {"u": ex.ZERO})
    part = parts[0]
    return Leading(ex.mul(slope, part.coef), part.power if slope != ex.ZERO else None)
