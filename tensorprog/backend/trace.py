"""Formulas on arrays, run on symbols: what an array program does to one entry, as straight-line scalar code.

A `Traced` value stands for one entry of an array.  It implements NumPy's dispatch protocols (NEP 13 and 18), so that
the formulas of `symbolic` run on it unchanged; every operation becomes a node, equal nodes are one, constants fold.
Questions about whole arrays (`np.any`) are answered by yes, so that the general path is recorded.

    node = input(name) | op(args),   args nodes or numbers
    op   = add sub mul div neg pow | sqrt exp expm1 log sin cos abs sign | max min where | gt lt ge le eq ne and or not
         | atan2 erf ndtr owens_t copysign residue(x, y, xy), the error of a product
         | turn(y, x), atan2 for y >= 0 where absolute errors do
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, final

import numpy as np
from scipy import special

Scalar = Any  # Traced | float | bool


class NotTraceable(Exception):
    """A formula uses something that has no scalar code here."""


@final
class Traced:
    """A node of a recording; `inputs` are the names it depends on."""

    __slots__ = ("args", "inputs", "op", "recorder")
    __hash__ = object.__hash__

    def __init__(self, recorder: Recorder, op: str, args: tuple[Scalar, ...], inputs: frozenset[str]) -> None:
        self.recorder, self.op, self.args, self.inputs = recorder, op, args, inputs

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **options: Any) -> Scalar:
        op = UFUNCS.get(ufunc)
        if method != "__call__" or op is None or options:
            raise NotTraceable(getattr(ufunc, "__name__", str(ufunc)))
        return self.recorder.record(op, *args)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Scalar:
        rule = FUNCTIONS.get(function)
        if rule is None or options:
            raise NotTraceable(getattr(function, "__name__", str(function)))
        return rule(self.recorder, *args)

    @property
    def shape(self) -> tuple[int, ...]:
        """An entry has no axes."""
        return ()

    @property
    def real(self) -> Traced:
        """Complex formulas are not traced."""
        return self

    def product_error(self, x: Scalar, y: Scalar, xy: Scalar) -> Scalar:
        """x y - xy (`symbolic.orthant`)"""
        return self.recorder.record("residue", x, y, xy)

    def __bool__(self) -> bool:
        raise NotTraceable("a decision about an entry")

    def __add__(self, other: Scalar) -> Scalar:
        return self.recorder.record("add", self, other)

    def __radd__(self, other: Scalar) -> Scalar:
        return self.recorder.record("add", other, self)

    def __sub__(self, other: Scalar) -> Scalar:
        return self.recorder.record("sub", self, other)

    def __rsub__(self, other: Scalar) -> Scalar:
        return self.recorder.record("sub", other, self)

    def __mul__(self, other: Scalar) -> Scalar:
        return self.recorder.record("mul", self, other)

    def __rmul__(self, other: Scalar) -> Scalar:
        return self.recorder.record("mul", other, self)

    def __truediv__(self, other: Scalar) -> Scalar:
        return self.recorder.record("div", self, other)

    def __rtruediv__(self, other: Scalar) -> Scalar:
        return self.recorder.record("div", other, self)

    def __pow__(self, other: Scalar) -> Scalar:
        return self.recorder.record("pow", self, other)

    def __rpow__(self, other: Scalar) -> Scalar:
        return self.recorder.record("pow", other, self)

    def __neg__(self) -> Scalar:
        return self.recorder.record("neg", self)

    def __abs__(self) -> Scalar:
        return self.recorder.record("abs", self)

    def __gt__(self, other: Scalar) -> Scalar:
        return self.recorder.record("gt", self, other)

    def __lt__(self, other: Scalar) -> Scalar:
        return self.recorder.record("lt", self, other)

    def __ge__(self, other: Scalar) -> Scalar:
        return self.recorder.record("ge", self, other)

    def __le__(self, other: Scalar) -> Scalar:
        return self.recorder.record("le", self, other)

    def __eq__(self, other: Scalar) -> Scalar:
        return self.recorder.record("eq", self, other)

    def __ne__(self, other: Scalar) -> Scalar:
        return self.recorder.record("ne", self, other)

    def __and__(self, other: Scalar) -> Scalar:
        return self.recorder.record("and", self, other)

    def __rand__(self, other: Scalar) -> Scalar:
        return self.recorder.record("and", other, self)

    def __or__(self, other: Scalar) -> Scalar:
        return self.recorder.record("or", self, other)

    def __ror__(self, other: Scalar) -> Scalar:
        return self.recorder.record("or", other, self)

    def __invert__(self) -> Scalar:
        return self.recorder.record("not", self)


@final
class Recorder:
    """Makes nodes; equal ones are made once."""

    def __init__(self) -> None:
        self.nodes: dict[Any, Traced] = {}

    def input(self, name: str) -> Traced:
        """The entry of an array by name."""
        return self._node("input", (name,), frozenset([name]))

    def record(self, op: str, *args: Any) -> Scalar:
        """The value of `op`: a number if all arguments are, an argument where a rule says so, else a node."""
        plain = tuple(a if isinstance(a, Traced) else _number(a) for a in args)
        if not any(isinstance(a, Traced) for a in plain):
            return FOLD[op](*plain)
        known = _simplified(op, plain)
        if known is not None:
            return known
        if op == "pow":
            return self._power(*plain)
        inputs = frozenset().union(*(a.inputs for a in plain if isinstance(a, Traced)))
        return self._node(op, plain, inputs)

    def _node(self, op: str, args: tuple[Any, ...], inputs: frozenset[str]) -> Traced:
        key = (op, *(id(a) if isinstance(a, Traced) else (type(a), a) for a in args))
        if key not in self.nodes:
            self.nodes[key] = Traced(self, op, args, inputs)
        return self.nodes[key]

    def _power(self, base: Scalar, exponent: Scalar) -> Scalar:
        """Small integer powers as products, square roots as such."""
        if exponent in (0.5, -0.5):
            root = self.record("sqrt", base)
            return root if exponent > 0 else self.record("div", 1.0, root)
        if isinstance(exponent, Traced) or exponent != int(exponent) or abs(exponent) > 16:
            raise NotTraceable("a power that is no small integer")
        value: Scalar = 1.0
        for _ in range(abs(int(exponent))):
            value = self.record("mul", value, base)
        return value if exponent >= 0 else self.record("div", 1.0, value)


def _number(value: Any) -> float | bool:
    if isinstance(value, bool | np.bool_) or (isinstance(value, np.ndarray) and value.dtype == bool):
        return bool(value)
    if np.iscomplexobj(value):
        raise NotTraceable("a complex number")
    return float(value)


def _is(value: Scalar, number: float) -> bool:
    return not isinstance(value, Traced) and value == number


def _same(a: Scalar, b: Scalar) -> bool:
    return a is b or (not isinstance(a, Traced) and not isinstance(b, Traced) and a == b)


def _simplified(op: str, args: tuple[Scalar, ...]) -> Scalar | None:
    """The value without a new node, for neutral elements and known choices; a quotient by a number is a product."""
    if op == "div" and not isinstance(args[1], Traced) and args[1] != 0 and isinstance(args[0], Traced):
        return args[0].recorder.record("mul", args[0], 1 / args[1])
    if op == "where" and _is_root(*args):
        return args[0].args[0]
    rule = NEUTRAL.get(op)
    return None if rule is None else rule(*args)


def _is_root(condition: Scalar, quotient: Scalar, other: Scalar) -> bool:
    """Whether it is a / sqrt(a) where sqrt(a) is not 0, and else 0: sqrt(a) itself."""
    if not (_is(other, 0) and isinstance(condition, Traced) and condition.op == "ne" and _is(condition.args[1], 0)):
        return False
    root = condition.args[0]
    if not (isinstance(root, Traced) and root.op == "sqrt" and isinstance(quotient, Traced) and quotient.op == "div"):
        return False
    divisor = quotient.args[1]
    safe = divisor.op == "where" and divisor.args[0] is condition and divisor.args[1] is root
    return safe and quotient.args[0] is root.args[0]


NEUTRAL: dict[str, Callable[..., Scalar | None]] = {
    "add": lambda a, b: b if _is(a, 0) else a if _is(b, 0) else None,
    "sub": lambda a, b: a if _is(b, 0) else None,
    "mul": lambda a, b: 0.0 if _is(a, 0) or _is(b, 0) else b if _is(a, 1) else a if _is(b, 1) else None,
    "div": lambda a, b: 0.0 if _is(a, 0) else a if _is(b, 1) else None,
    "and": lambda a, b: False if _is(a, 0) or _is(b, 0) else b if _is(a, 1) else a if _is(b, 1) else None,
    "or": lambda a, b: True if _is(a, 1) or _is(b, 1) else b if _is(a, 0) else a if _is(b, 0) else None,
    "where": lambda c, a, b: a if _same(a, b) or _is(c, 1) else b if _is(c, 0) else None,
    "residue": lambda x, y, _: 0.0 if any(_is(a, n) for a in (x, y) for n in (0, 1)) else None,
    "max": lambda a, b: a if _same(a, b) else None,
    "min": lambda a, b: a if _same(a, b) else None,
}

FOLD: dict[str, Callable[..., float | bool]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda a, b: float(np.divide(a, b)),
    "neg": operator.neg,
    "pow": lambda a, b: float(np.power(a, b)),
    "sqrt": lambda a: float(np.sqrt(a)),
    "exp": lambda a: float(np.exp(a)),
    "expm1": lambda a: float(np.expm1(a)),
    "log": lambda a: float(np.log(a)),
    "sin": math.sin,
    "cos": math.cos,
    "abs": abs,
    "sign": lambda a: float(np.sign(a)),
    "max": max,
    "min": min,
    "where": lambda c, a, b: a if c else b,
    "gt": operator.gt,
    "lt": operator.lt,
    "ge": operator.ge,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "and": lambda a, b: bool(a and b),
    "or": lambda a, b: bool(a or b),
    "not": operator.not_,
    "atan2": math.atan2,
    "turn": math.atan2,
    "copysign": math.copysign,
    "erf": math.erf,
    "ndtr": lambda a: float(special.ndtr(a)),
    "owens_t": lambda h, a: float(special.owens_t(h, a)),
}

UFUNCS: dict[Any, str] = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.divide: "div",
    np.negative: "neg",
    np.power: "pow",
    np.sqrt: "sqrt",
    np.exp: "exp",
    np.expm1: "expm1",
    np.log: "log",
    np.sin: "sin",
    np.cos: "cos",
    np.abs: "abs",
    np.sign: "sign",
    np.maximum: "max",
    np.minimum: "min",
    np.greater: "gt",
    np.less: "lt",
    np.greater_equal: "ge",
    np.less_equal: "le",
    np.equal: "eq",
    np.not_equal: "ne",
    np.bitwise_and: "and",
    np.bitwise_or: "or",
    np.logical_and: "and",
    np.logical_or: "or",
    np.invert: "not",
    np.logical_not: "not",
    np.arctan2: "atan2",
    np.copysign: "copysign",
    special.erf: "erf",
    special.ndtr: "ndtr",
    special.owens_t: "owens_t",
}

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: lambda to, c, a, b: to.record("where", c, a, b),
    np.clip: lambda to, x, low, high: to.record("max", to.record("min", x, high), low),
    np.any: lambda to, x: True,
    np.square: lambda to, x: to.record("mul", x, x),
    np.iscomplexobj: lambda to, x: False,
    np.broadcast_shapes: lambda to, *shapes: (),
}
