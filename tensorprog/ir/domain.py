"""Where nonlinearities are defined, and how fast they grow.

Every vector family gets an interval that holds its coordinates and a growth: log|h| = O(|z|^order) in the
Gaussian variables z behind it, and the degree where it is polynomially bounded.  A function that is not
defined on all of the interval of its argument is an error, and so is growth of order 2 or more, for which
Gaussian moments need not exist (the condition "a < 2" of Tensor Programs I, Definition 5.1).

Scalars are not judged here: whether `sqrt(avg(...))` stays in its domain depends on the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from tensorprog.errors import TensorProgError, fail
from tensorprog.ir.expr import (
    COMPARE,
    ONE,
    ZERO,
    Expr,
    Num,
    Op,
    Sym,
    add,
    differentiate,
    evaluate,
    mul,
    show,
    substitute,
    symbols,
)
from tensorprog.ir.functions import FUNCTIONS, INF, REALS, Interval
from tensorprog.ir.program import Instr, Linear, MatMul, MaxOver, Pointwise, Program, Read, Term
from tensorprog.ir.schedule import components

MAX_ROUNDS = 4
MOST_DEGREE = 12  # of the polynomials whose maximum is looked for


@final
@dataclass(frozen=True, slots=True)
class Bound:
    """Coordinates lie in `range`; growth is polynomial of `degree` (order 0) or like exp(|z|^order).

    `zero`: the coordinate is like |z|^zero where it reaches zero without a change of sign; infinite if it is zero
    with positive probability, 0 if it is not known to reach zero.  `decay`: it may fall like exp(-|z|^decay).
    """

    range: Interval
    degree: float
    order: float = 0.0
    zero: float = 0.0
    decay: float = 0.0


NOTHING = Bound((INF, -INF), 0.0)
GAUSSIAN = Bound(REALS, 1.0)
UNKNOWN = Bound(REALS, 0.0)


class Undefined(Exception):
    """A function outside its domain: the text says which."""


class Singular(Undefined):
    """A function that divides by zero so strongly, or so often, that its square has no mean."""


def check_domains(program: Program) -> None:
    """Raises TensorProgError for a nonlinearity that is not defined, or grows too fast."""
    _judge(program, lambda name, error: True)


def check_gradients(program: Program, forward: Collection[str]) -> None:
    """Raises TensorProgError for a gradient of a differentiated program whose variance is infinite.

    As the slope of sqrt(abs(u)): E[f'(u)^2] = E[1 / (4 |u|)] does not exist.
    """
    _judge(program, lambda name, error: name not in forward and isinstance(error, Singular))


Judge = Callable[[str, Undefined], bool]


def _judge(program: Program, raises: Judge) -> None:
    """Bounds of all families; errors where `raises` says so, elsewhere such a family may be anything."""
    bounds = {i.var.name: NOTHING for i in program.instrs}
    for group in components(program.instrs):
        for turn in range(MAX_ROUNDS):
            before = [bounds[i.var.name] for i in group]
            for instr in group:
                bounds[instr.var.name] = _bound(instr, bounds, program, raises)
            if before == [bounds[i.var.name] for i in group]:
                break
            if turn == MAX_ROUNDS - 2:  # a loop that keeps growing may go anywhere
                bounds.update({i.var.name: Bound(REALS, bounds[i.var.name].degree) for i in group})


def _bound(instr: Instr, bounds: Mapping[str, Bound], program: Program, raises: Judge) -> Bound:
    op = instr.op
    if instr.var.dim is None:
        return UNKNOWN
    match op:
        case MatMul():
            return GAUSSIAN
        case Linear():
            return _linear(op, bounds, program)
        case Pointwise(fn=fn, args=args):
            return _pointwise(instr, fn, args, bounds, program, raises)
        case MaxOver(operand=h):
            return bounds[h]
        case _:
            return Bound(REALS, 0.0)


def _linear(op: Linear, bounds: Mapping[str, Bound], program: Program) -> Bound:
    """The sum of terms; how often a term is added is not known, so only its sign survives."""
    low, high, degree, order = 0.0, 0.0, 0.0, 0.0
    for t in op.terms:
        inner = Bound((1.0, 1.0), 0.0) if t.operand is None else bounds[t.operand]
        if inner is NOTHING or inner.range[0] > inner.range[1]:
            continue
        sign = _sign(t.coef) if not t.scalars else None
        whole = t.map.source == t.map.target and len(t.map.domain) == len(t.map.target)
        a, b = _scaled(inner.range, sign, t.coef if whole else None)
        low, high = low + a, high + b
        degree, order = max(degree, inner.degree), max(order, inner.order)
    return Bound((low, high), degree, order)


def _sign(coef: Expr) -> int | None:
    """The sign of a coefficient whose indices and sizes are at least 0 (1 for sizes)."""
    if isinstance(coef, Num):
        return 1 if coef.value > 0 else -1 if coef.value < 0 else 0
    if isinstance(coef, Sym):
        return 1
    if coef.fn in COMPARE:
        return 1
    if coef.fn == "pow":
        return _sign(coef.args[0])
    if coef.fn == "mul":
        signs = [_sign(a) for a in coef.args]
        return None if None in signs else math.prod(s for s in signs if s is not None)
    return None


def _scaled(interval: Interval, sign: int | None, coef: Expr | None) -> Interval:
    """coef times the interval; without a known coefficient whatever has its sign."""
    if coef is not None and isinstance(coef, Num):
        ends = [_times(float(coef.value), e) for e in interval]
        return min(ends), max(ends)
    if sign is None:
        return REALS
    low, high = interval if sign >= 0 else (-interval[1], -interval[0])
    return (0.0 if low >= 0 else -INF), (0.0 if high <= 0 else INF)


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _pointwise(  # noqa: PLR0913
    instr: Instr, fn: Expr, args: tuple[Read, ...], bounds: Mapping[str, Bound], program: Program, raises: Judge
) -> Bound:
    known = {f"a{k}": bounds[a.var] for k, a in enumerate(args) if program.var(a.var).dim is not None}
    if any(b.range[0] > b.range[1] for b in known.values()):
        return NOTHING
    written = {f"a{k}": inlined(a.var, program) for k, a in enumerate(args) if f"a{k}" in known}
    try:
        bound = bound_of(fn, known, written)
        if bound.order >= 2:
            raise Undefined("it grows too fast for its Gaussian moments to exist")
    except Undefined as error:
        if raises(instr.var.name, error):
            raise _undefined(instr, fn, args, str(error)) from None
        return UNKNOWN
    return bound


def _undefined(instr: Instr, fn: Expr, args: tuple[Read, ...], what: str) -> TensorProgError:
    text = show(substitute(fn, {f"a{k}": Sym(a.var.split(".")[0]) for k, a in enumerate(args)}))
    hint = "nonlinearities must be defined on all of R and grow slower than exp(c u^2), whatever c"
    return fail(f"the nonlinearity {text} has no limit: {what}", instr.var.span, hint)


def inlined(name: str, program: Program, depth: int = 3) -> Expr:
    """A vector as a function of those it is made of coordinate by coordinate, at the same index and without scalars."""
    if depth == 0:
        return Sym(name)
    match program.instr(name).op:
        case Linear(terms=terms) if all(_in_place(t) for t in terms):
            parts = (ONE if t.operand is None else inlined(t.operand, program, depth - 1) for t in terms)
            return add(*(mul(t.coef, p) for t, p in zip(terms, parts, strict=True)))
        case Pointwise(fn=fn, args=args) if all(program.var(a.var).axes == program.var(name).axes for a in args):
            if any(program.var(a.var).dim is None for a in args):
                return Sym(name)
            return substitute(fn, {f"a{k}": inlined(a.var, program, depth - 1) for k, a in enumerate(args)})
        case _:
            return Sym(name)


def _in_place(t: Term) -> bool:
    return not t.scalars and t.map.source == t.map.target and len(t.map.domain) == len(t.map.target)


def bound_of(fn: Expr, known: Mapping[str, Bound], written: Mapping[str, Expr]) -> Bound:
    """The bound of an expression in vectors (`known`) and other numbers; `written` are the vectors as functions.

    Raises Undefined.
    """
    if isinstance(fn, Num):
        return Bound((float(fn.value), float(fn.value)), 0.0)
    if isinstance(fn, Sym):
        return known.get(fn.name, UNKNOWN)
    if not symbols(fn) & known.keys():
        return _number(fn)
    parts = [bound_of(a, known, written) for a in fn.args]
    if fn.fn == "exp":
        peak = _peak(substitute(fn.args[0], written)) if symbols(fn.args[0]) <= written.keys() else None
        parts = parts if peak is None else [replace(parts[0], range=(parts[0].range[0], peak))]
    if fn.fn == "add":
        low, high = sum(p.range[0] for p in parts), sum(p.range[1] for p in parts)
        decay = min(p.decay for p in parts)
        return Bound((low, high), max(p.degree for p in parts), max(p.order for p in parts), decay=decay)
    if fn.fn == "mul":
        return _product(fn, parts)
    if fn.fn == "pow":
        return _power(fn, parts[0])
    return _function(fn.fn, parts)


def _number(fn: Op) -> Bound:
    if symbols(fn):
        return UNKNOWN
    value = float(evaluate(fn, {}))
    return Bound((value, value), 0.0)


def _product(fn: Op, parts: list[Bound]) -> Bound:
    degree, order = sum(p.degree for p in parts), max(p.order for p in parts)
    low, high = parts[0].range
    for p in parts[1:]:
        ends = [_times(a, b) for a in (low, high) for b in p.range]
        low, high = min(ends), max(ends)
    return Bound((low, high), degree, order, max(p.zero for p in parts), max(p.decay for p in parts))


def _power(fn: Op, base: Bound) -> Bound:
    exponent = fn.args[1]
    if not isinstance(exponent, Num):
        raise Undefined(f"the exponent in {show(fn)} is not a number")
    p, (low, high) = float(exponent.value), base.range
    even = p == int(p) and int(p) % 2 == 0
    if p < 0 and low < 0 < high and not (base.zero or even):
        raise Undefined("it divides by a quantity that takes both signs")
    if p != int(p) and low < 0:
        raise Undefined("it takes a root of a quantity that can be negative")
    if p < 0:
        return _inverse(-p, base)
    ends, zero = [_safe_power(low, p), _safe_power(high, p)], base.zero * p
    if even and low < 0:
        ends = [0.0, max(_safe_power(abs(low), p), _safe_power(abs(high), p))]
        zero = max(zero, p) if high > 0 else zero
    return Bound((min(ends), max(ends)), base.degree * p, base.order, zero, base.decay)


def _inverse(p: float, base: Bound) -> Bound:
    """1 / base^p; its variance is finite where base^p is like |z|^k with k < 1/2."""
    low, high = base.range
    if math.isinf(base.zero):
        raise Singular("it divides by a quantity that is zero with positive probability")
    if 2 * base.zero * p >= 1 or low < 0 < high:
        raise Singular("it divides by a quantity that reaches zero, and its variance is infinite")
    away = low > 0 or high < 0
    range_ = (0.0, INF) if low >= 0 else (-INF, 0.0)
    return Bound(range_, 0.0) if away or not base.decay else Bound(range_, INF, base.decay)


def _safe_power(base: float, p: float) -> float:
    try:
        return float(base**p) if not (math.isinf(base) and base < 0) else (INF if int(p) % 2 == 0 else -INF)
    except OverflowError:
        return INF


def _function(name: str, parts: list[Bound]) -> Bound:
    f, inner = FUNCTIONS[name], parts[0]
    if name in {"max", "min"}:
        choose = max if name == "max" else min
        ends = choose(p.range[0] for p in parts), choose(p.range[1] for p in parts)
        return Bound(ends, max(p.degree for p in parts), max(p.order for p in parts), _cut_at_zero(name, parts))
    if name == "log" and math.isinf(inner.zero):
        raise Undefined("it takes the logarithm of a quantity that is zero with positive probability")
    if inner.range[0] < f.domain[0] or inner.range[1] > f.domain[1]:
        raise Undefined(f"{name} is not defined at negative arguments")
    interval = f.range
    if f.monotone:
        interval = _value(name, inner.range[0], f.range[0]), _value(name, inner.range[1], f.range[1])
    if f.growth == "exp":
        return _exponential(name, inner, interval)
    degree = inner.degree if f.growth == "linear" else 0.0
    order = inner.order if f.growth == "linear" else 0.0
    return Bound(interval, degree, order, _zero_of(name, inner), _DECAYS.get(name, 0.0) * _steepness(inner))


_DECAYS = {"sigmoid": 1.0, "softplus": 1.0, "normcdf": 2.0, "normpdf": 2.0, "erfc": 2.0}


def _steepness(inner: Bound) -> float:
    """The degree of what a function with a tail is applied to."""
    return INF if inner.order > 0 else inner.degree


def _cut_at_zero(name: str, parts: list[Bound]) -> float:
    """Infinite for max(u, 0) and min(u, 0), which are zero with positive probability."""
    cut = any(p.range == (0.0, 0.0) for p in parts)
    beyond = any(p.range[0] < 0 if name == "max" else p.range[1] > 0 for p in parts)
    return INF if cut and beyond else 0.0


def _zero_of(name: str, inner: Bound) -> float:
    low, high = inner.range
    if name == "step":
        return INF if low < 0 else 0.0
    if name == "abs" and low < 0 < high:
        return max(1.0, inner.zero)
    return inner.zero if name in {"abs", "sin", "sinh", "tanh", "atan", "erf", "sign", "stop"} else 0.0


def _exponential(name: str, inner: Bound, interval: Interval) -> Bound:
    """exp of something bounded above is bounded; else its order is the degree of what it is applied to."""
    above = inner.range[1] < INF
    below = inner.range[0] > -INF
    if above and (name == "exp" or below):
        return Bound(interval, 0.0, decay=0.0 if below else _steepness(inner))
    growth = INF if inner.order > 0 else max(inner.degree, 1.0)
    return Bound(interval, INF, growth, decay=growth if name == "exp" and not below else 0.0)


def _peak(e: Expr) -> float | None:
    """The maximum of a polynomial in one vector that falls on both sides, such as u - u^2."""
    names = sorted(symbols(e))
    coefficients = _coefficients(e, names[0]) if len(names) == 1 else None
    if coefficients is None or len(coefficients) % 2 == 0 or coefficients[-1] >= 0:
        return None
    polynomial = np.polynomial.Polynomial(coefficients)
    at = polynomial.deriv().roots()
    return float(np.max(polynomial(at[np.abs(at.imag) < 1e-9].real), initial=coefficients[0]))


def _coefficients(e: Expr, name: str) -> list[float] | None:
    """Of a polynomial in `name`, by Taylor's formula; None for anything else."""
    found: list[float] = []
    for k in range(MOST_DEGREE):
        if not _is_polynomial(e):
            return None
        found.append(float(evaluate(e, {name: 0})) / math.factorial(k))
        e = differentiate(e, name)
        if e == ZERO:
            return found
    return None


def _is_polynomial(e: Expr) -> bool:
    if not isinstance(e, Op):
        return True
    if e.fn == "pow":
        exponent = e.args[1]
        whole = isinstance(exponent, Num) and exponent.value == int(exponent.value) and exponent.value >= 0
        return whole and _is_polynomial(e.args[0])
    return e.fn in {"add", "mul"} and all(map(_is_polynomial, e.args))


def _value(name: str, at: float, otherwise: float) -> float:
    if math.isinf(at):
        return otherwise
    try:
        with np.errstate(all="ignore"):
            return float(FUNCTIONS[name].numpy(at))
    except (OverflowError, FloatingPointError, ValueError):
        return otherwise
