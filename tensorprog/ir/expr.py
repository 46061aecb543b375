"""Scalar expressions: index arithmetic, sizes, coefficients and the bodies of nonlinearities.

    Expr = Num(value) | Sym(name) | Op(fn, args)
    fn   = add | mul | pow | floordiv | mod | eq | ne | lt | le | gt | ge | a name of functions.FUNCTIONS

`Op`s are made by the builders below (`add`, `mul`, `power`, `call`), which fold constants and keep sums
and products flat; equal expressions made by them are mostly equal as data, but no normal form is promised.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, reduce
from typing import Any, Union, final

import numpy as np

from tensorprog.ir.functions import FUNCTIONS


@final
@dataclass(frozen=True, slots=True)
class Num:
    """A constant: exact (Fraction) wherever the program is, else a float."""

    value: Fraction | float


@final
@dataclass(frozen=True, slots=True)
class Sym:
    """A name: an index, a size, a width or the argument of a nonlinearity."""

    name: str


@final
@dataclass(frozen=True, slots=True)
class Op:
    """`fn` applied to `args`."""

    fn: str
    args: tuple[Expr, ...]


Expr = Union[Num, Sym, Op]
Value = Any

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
JUMPS = {"gt": 1, "ge": 1, "lt": -1, "le": -1}  # of comparisons, where the difference of both sides passes 0 upwards


def num(value: int | float | Fraction) -> Num:
    """A constant; integers become exact."""
    return Num(Fraction(value) if isinstance(value, int | Fraction) else float(value))


ZERO, ONE, MINUS_ONE, HALF = num(0), num(1), num(-1), num(Fraction(1, 2))
PI = Num(math.pi)


# ---------------------------------------------------------------- builders


def add(*terms: Expr) -> Expr:
    """The sum, flat, with constants folded and like terms collected."""
    constant: Fraction | float = Fraction(0)
    coefficients: dict[Expr, Fraction | float] = {}
    for term in _flat("add", terms):
        if isinstance(term, Num):
            constant = constant + term.value
        else:
            factor, rest = _split_coefficient(term)
            coefficients[rest] = coefficients.get(rest, Fraction(0)) + factor
    parts = [mul(Num(c), rest) for rest, c in coefficients.items() if c != 0]
    if constant != 0 or not parts:
        parts.append(Num(constant))
    return parts[0] if len(parts) == 1 else Op("add", tuple(parts))


def mul(*factors: Expr) -> Expr:
    """The product, flat, with constants folded and equal bases joined into powers."""
    constant: Fraction | float = Fraction(1)
    exponents: dict[Expr, Expr] = {}
    for factor in _flat("mul", factors):
        if isinstance(factor, Num):
            constant = constant * factor.value
        else:
            base, exponent = factor.args if isinstance(factor, Op) and factor.fn == "pow" else (factor, ONE)
            exponents[base] = add(exponents.get(base, ZERO), exponent)
    if constant == 0:
        return ZERO
    parts = [p for p in (power(b, e) for b, e in exponents.items()) if p != ONE]
    if constant != 1 or not parts:
        parts.insert(0, Num(constant))
    return parts[0] if len(parts) == 1 else Op("mul", tuple(parts))


def power(base: Expr, exponent: Expr) -> Expr:
    """base^exponent; exact where the result is rational."""
    if exponent == ZERO:
        return ONE
    if exponent == ONE:
        return base
    if isinstance(base, Num) and isinstance(exponent, Num):
        folded = _fold_power(base.value, exponent.value)
        if folded is not None:
            return Num(folded)
    if isinstance(base, Op) and base.fn == "pow" and _is_integer(exponent):
        return power(base.args[0], mul(base.args[1], exponent))
    if isinstance(base, Op) and base.fn == "mul" and _is_integer(exponent):
        return mul(*(power(f, exponent) for f in base.args))
    return Op("pow", (base, exponent))


def _fold_power(base: Fraction | float, exponent: Fraction | float) -> Fraction | float | None:
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and abs(exponent) <= 4096:
        if base == 0 and exponent < 0:
            return None
        if isinstance(base, float):
            return float(base**exponent.numerator)
        size = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
        return base**exponent.numerator if size <= 4096 else _float_power(float(base), float(exponent))
    return _float_power(float(base), float(exponent)) if base >= 0 else None


def _float_power(base: float, exponent: float) -> float | None:
    try:
        return math.pow(base, exponent)
    except (OverflowError, ValueError, ZeroDivisionError):
        return None


def neg(e: Expr) -> Expr:
    """-e"""
    return mul(MINUS_ONE, e)


def sub(a: Expr, b: Expr) -> Expr:
    """a - b"""
    return add(a, neg(b))


def div(a: Expr, b: Expr) -> Expr:
    """a / b"""
    return mul(a, power(b, MINUS_ONE))


def sqrt(a: Expr) -> Expr:
    """a^(1/2)"""
    return power(a, HALF)


def call(fn: str, *args: Expr) -> Expr:
    """A primitive function, a comparison, `floordiv` or `mod`, folded when all arguments are constants."""
    if fn == "sqrt":
        return sqrt(args[0])
    if all(isinstance(a, Num) for a in args) and fn != "dirac":
        try:
            return _constant(evaluate(Op(fn, args), {}))
        except (ArithmeticError, ValueError):
            pass
    return Op(fn, args)


def _constant(value: Any) -> Num:
    if isinstance(value, bool | np.bool_):
        return num(int(value))
    return Num(value) if isinstance(value, Fraction) else Num(float(value))


def _flat(fn: str, args: Iterable[Expr]) -> Iterable[Expr]:
    for a in args:
        if isinstance(a, Op) and a.fn == fn:
            yield from a.args
        else:
            yield a


def _split_coefficient(term: Expr) -> tuple[Fraction | float, Expr]:
    if isinstance(term, Op) and term.fn == "mul" and isinstance(term.args[0], Num):
        rest = term.args[1:]
        return term.args[0].value, rest[0] if len(rest) == 1 else Op("mul", rest)
    return Fraction(1), term


def _is_integer(e: Expr) -> bool:
    return isinstance(e, Num) and isinstance(e.value, Fraction) and e.value.denominator == 1


# ---------------------------------------------------------------- readings


def symbols(e: Expr) -> frozenset[str]:
    """The names in `e`."""
    if isinstance(e, Sym):
        return frozenset([e.name])
    if isinstance(e, Num):
        return frozenset()
    return frozenset().union(*(symbols(a) for a in e.args))


def substitute(e: Expr, values: Mapping[str, Expr]) -> Expr:
    """`e` with names replaced, rebuilt by the folding builders."""
    if isinstance(e, Sym):
        return values.get(e.name, e)
    if isinstance(e, Num):
        return e
    return rebuild(e.fn, tuple(substitute(a, values) for a in e.args))


def rebuild(fn: str, args: tuple[Expr, ...]) -> Expr:
    """The folding builder of `fn` applied to `args`."""
    if fn == "add":
        return add(*args)
    if fn == "mul":
        return mul(*args)
    if fn == "pow":
        return power(*args)
    return call(fn, *args)


def evaluate(e: Expr, env: Mapping[str, Value]) -> Value:
    """The value of `e`; numbers stay exact (Fraction) under + * / and integer powers, arrays broadcast."""
    if isinstance(e, Num):
        return e.value
    if isinstance(e, Sym):
        return env[e.name]
    args = [evaluate(a, env) for a in e.args]
    if e.fn == "add":
        return reduce(operator.add, _plain(args))
    if e.fn == "mul":
        return reduce(operator.mul, _plain(args))
    if e.fn == "pow":
        return _power_value(args[0], args[1])
    if e.fn == "floordiv":
        a, b = _plain(args)
        return a // b
    if e.fn == "mod":
        a, b = _plain(args)
        return a % b
    if e.fn in COMPARE:
        a, b = _plain(args)
        return COMPARE[e.fn](a, b) * 1
    return FUNCTIONS[e.fn].numpy(*(_float(a) for a in args))


def _plain(args: list[Value]) -> list[Value]:
    """Fractions become floats when they meet float arrays (numpy would make object arrays)."""
    if any(isinstance(a, np.ndarray | np.generic) and a.dtype != object for a in args):
        return [_float(a) for a in args]
    return args


def _float(value: Value) -> Value:
    return float(value) if isinstance(value, Fraction | int) else value


def _power_value(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, np.ndarray):
        return np.float_power(_float(base), exponent)
    if isinstance(exponent, Fraction) and exponent.denominator == 1:
        exponent = exponent.numerator
        if exponent >= 0 or not isinstance(base, np.ndarray):
            return base**exponent
        return 1.0 / base ** (-exponent)
    if exponent == Fraction(1, 2):
        return np.sqrt(_float(base))
    return _float(base) ** _float(exponent)


def integer(e: Expr, env: Mapping[str, Value]) -> int:
    """The value of a size as an int.  ValueError when it is not an integer."""
    value = evaluate(e, env)
    if value != int(value):
        raise ValueError(f"{show(e)} = {float(value):g} is not an integer")
    return int(value)


# ---------------------------------------------------------------- derivatives


def differentiate(e: Expr, name: str) -> Expr:
    """d e / d name, in the sense of distributions for step and sign (`dirac`)."""
    if name not in symbols(e):
        return ZERO
    if isinstance(e, Sym):
        return ONE
    assert isinstance(e, Op)
    if e.fn == "add":
        return add(*(differentiate(a, name) for a in e.args))
    if e.fn == "mul":
        return add(*(_product_term(e.args, k, name) for k in range(len(e.args))))
    if e.fn == "pow":
        return _power_rule(e, name)
    partials = (mul(partial(e, k), differentiate(a, name)) for k, a in enumerate(e.args))
    return add(*partials)


def _product_term(factors: tuple[Expr, ...], k: int, name: str) -> Expr:
    return mul(*factors[:k], differentiate(factors[k], name), *factors[k + 1 :])


def _power_rule(e: Op, name: str) -> Expr:
    base, exponent = e.args
    slope = mul(exponent, power(base, sub(exponent, ONE)), differentiate(base, name))
    if name not in symbols(exponent):
        return slope
    return add(slope, mul(e, call("log", base), differentiate(exponent, name)))


def partial(e: Op, k: int) -> Expr:
    """The derivative of a primitive function or a comparison with respect to its k-th argument, at its arguments."""
    if e.fn in JUMPS:
        return mul(num(JUMPS[e.fn] * (-1) ** k), call("dirac", sub(*e.args)))
    text = FUNCTIONS[e.fn].derivative[k] if e.fn in FUNCTIONS else "0"
    if text is None:
        raise ValueError(f"{e.fn} has no derivative")
    return substitute(derivative_of(text), dict(zip("ab", e.args, strict=False)))


@cache
def derivative_of(text: str) -> Expr:
    """The expression written in a row of the function table (Python syntax, `^` for powers)."""
    tree = ast.parse(text.replace("^", "**"), mode="eval")
    return _from_ast(tree.body)


_BINARY: dict[type[ast.operator], Callable[[Expr, Expr], Expr]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.Div: div,
    ast.Pow: power,
}


def _from_ast(node: ast.expr) -> Expr:
    match node:
        case ast.Constant(value=int() | float() as value):
            return num(value)
        case ast.Name(id=name):
            return PI if name == "pi" else Sym(name)
        case ast.UnaryOp(operand=operand):
            return neg(_from_ast(operand))
        case ast.Call(func=ast.Name(id=name), args=args):
            return call(name, *(_from_ast(a) for a in args))
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_from_ast(left), _from_ast(right))
        case _:
            raise AssertionError(ast.dump(node))


# ---------------------------------------------------------------- print

_SYMBOLS = {
    "floordiv": " // ",
    "mod": " % ",
    "eq": " == ",
    "ne": " != ",
    "lt": " < ",
    "le": " <= ",
    "gt": " > ",
    "ge": " >= ",
}


def show(e: Expr) -> str:
    """The expression in .tp syntax, with the parentheses that it needs."""
    return _show(e, 0)


def _show(e: Expr, level: int) -> str:
    if isinstance(e, Sym):
        return e.name
    if isinstance(e, Num):
        return _bracket(show_number(e.value), level, 1 if e.value < 0 else 2 if _is_ratio(e.value) else 9)
    if e.fn == "add":
        text = " + ".join(_show(a, 1) for a in e.args).replace("+ -", "- ")
        return _bracket(text, level, 1)
    if e.fn == "mul":
        return _show_product(e, level)
    if e.fn == "pow":
        return _show_power(e, level)
    if e.fn in _SYMBOLS:
        return _bracket(_SYMBOLS[e.fn].join(_show(a, 3) for a in e.args), level, 0.5)
    return f"{e.fn}({', '.join(_show(a, 0) for a in e.args)})"


def _show_product(e: Op, level: float) -> str:
    below = [a for a in e.args if _negative_power(a)]
    above = [a for a in e.args if not _negative_power(a)]
    sign = ""
    if above and isinstance(above[0], Num) and above[0].value < 0:
        sign, rest = "-", Num(-above[0].value)
        above = above[1:] if rest.value == 1 and len(above) + len(below) > 1 else [rest, *above[1:]]
    text = " * ".join(_show(a, 2) for a in above) or "1"
    for a in below:
        assert isinstance(a, Op)
        text += " / " + _show(power(a.args[0], neg(a.args[1])), 3)
    return _bracket(sign + text, level, 1 if sign else 2)


def _negative_power(e: Expr) -> bool:
    return isinstance(e, Op) and e.fn == "pow" and isinstance(e.args[1], Num) and e.args[1].value < 0


def _show_power(e: Op, level: float) -> str:
    if e.args[1] == HALF:
        return f"sqrt({_show(e.args[0], 0)})"
    if _negative_power(e):
        return _bracket("1 / " + _show(power(e.args[0], neg(e.args[1])), 3), level, 2)
    return _bracket(f"{_show(e.args[0], 5)}^{_show(e.args[1], 5)}", level, 4)


def _is_ratio(value: Fraction | float) -> bool:
    return isinstance(value, Fraction) and value.denominator != 1 and "/" in show_number(value)


def show_number(value: Fraction | float) -> str:
    """Decimal when short, else a fraction or 12 digits."""
    if isinstance(value, float) and value == math.pi:
        return "pi"
    decimal = f"{float(value):.12g}"
    if isinstance(value, float) or Fraction(decimal) == value:
        return decimal
    return str(value)


def _bracket(text: str, level: float, own: float) -> str:
    return f"({text})" if own < level else text
