"""How far rounding may move the values of an expression: running error analysis (Wilkinson 1963, section 1.36).

    doubt(x) = |x| for a variable,    doubt(f(a, ...)) = |f(a, ...)| + sum |df/da| doubt(a)

to first order and in units of the rounding unit.  It is much larger than the value where terms cancel.  The values 0, 1
and -1 are taken to be exact: functions with limits reach them far out, where 1 - tanh(u)^2 is nothing and not noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from tensorprog.ir.expr import Expr, Num, Op, Sym, derivative_of, evaluate, rebuild
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.symbolic.orthant import Array

_SLOTS = (Sym("a"), Sym("b"))


def doubt(e: Expr, env: Mapping[str, Any]) -> Array:
    """The uncertainty of `e` at values of its variables, in units of the rounding unit."""
    with np.errstate(all="ignore"):
        return _judged(e, env)[1]


def cancels(e: Expr) -> bool:
    """Whether `e` has sums, so that its doubt may be larger than its value."""
    return isinstance(e, Op) and (e.fn == "add" or any(map(cancels, e.args)))


def _judged(e: Expr, env: Mapping[str, Any]) -> tuple[Array, Array]:
    """Value and doubt."""
    if not isinstance(e, Op):
        value = np.asarray(evaluate(e, env), dtype=float)
        return value, np.abs(value) if isinstance(e, Sym) else _own(value)
    parts = [_judged(a, env) for a in e.args]
    if e.fn == "add":
        total = np.asarray(sum(v for v, _ in parts))
        return total, np.asarray(sum((d for _, d in parts), start=_own(total)))
    if e.fn == "mul":
        return _product(parts)
    if e.fn == "pow" and isinstance(e.args[1], Num):
        (base, d), exponent = parts[0], e.args[1]
        value = np.asarray(evaluate(Op("pow", (Sym("a"), exponent)), {"a": base}), dtype=float)
        slope = evaluate(rebuild("pow", (Sym("a"), Num(exponent.value - 1))), {"a": base})
        return value, _finite_sum(_own(value), abs(float(exponent.value)) * np.abs(slope) * d)
    return _called(e, parts)


def _product(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    value, d = parts[0]
    for v, other in parts[1:]:
        value, d = value * v, _finite_sum(np.abs(value) * other, d * np.abs(v))
    return value, _finite_sum(d, _own(value))


def _called(e: Op, parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    names = {s.name: v for s, (v, _) in zip(_SLOTS, parts, strict=False)}
    value = np.asarray(evaluate(Op(e.fn, _SLOTS[: len(parts)]), names), dtype=float)
    total = _own(value)
    for slope, (_, d) in zip(_slopes(e.fn), parts, strict=False):
        total = _finite_sum(total, np.abs(np.asarray(evaluate(slope, names), dtype=float)) * d)
    return value, total


def _own(value: Array) -> Array:
    """The rounding of a result itself."""
    size = np.abs(value)
    return np.asarray(np.where(size == 1, 0.0, size))


@cache
def _slopes(fn: str) -> tuple[Expr, ...]:
    """The derivatives by each argument; none for what jumps."""
    texts = FUNCTIONS[fn].derivative if fn in FUNCTIONS else ()
    return tuple(derivative_of(t) for t in texts if t is not None and "dirac" not in t)


def _finite_sum(a: Array, b: Array) -> Array:
    """a + b, with nothing for products of zero and infinity: far out a value is constant."""
    return np.asarray(np.where(np.isfinite(b), a + b, a))
