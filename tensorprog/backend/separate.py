"""Recordings whose divisors and roots belong to one example each, as far as that can be had.

    x / (a b)                  ->  x * (1 / a) * (1 / b)            a of the left example, b of the right one
    x / (a b), 0 if a b = 0    ->  x * (1 / a, 0 if a = 0) * (1 / b, 0 if b = 0)
    sqrt(x a)                  ->  sqrt(x) * sqrt(a)
    sqrt(x if c else y)        ->  sqrt(x) if c else sqrt(y)
    sqrt(1 / a, 0 if a = 0)    ->  1 / sqrt(a), 0 if sqrt(a) = 0

What belongs to one example is computed once for it (`rows`), so that a pair is left with products.  Roots of a product
of two negative numbers become undefined, and are left to arrays as everything is that is no number.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorprog.backend.formula import ordered
from tensorprog.backend.trace import Recorder, Scalar, Traced

Sides = Sequence[frozenset[str]]


def separated(values: Sequence[Scalar], sides: Sides, recorder: Recorder) -> list[Scalar]:
    """The same values; `sides` are the inputs of the left and of the right example."""
    work = _Separation(sides, recorder)
    for node in ordered(values):
        work.new[id(node)] = work.rebuilt(node)
    return [work.of(v) for v in values]


class _Separation:
    def __init__(self, sides: Sides, recorder: Recorder) -> None:
        self.sides, self.recorder = sides, recorder
        self.new: dict[int, Scalar] = {}

    def of(self, value: Scalar) -> Scalar:
        """What a value has become."""
        return self.new[id(value)] if isinstance(value, Traced) else value

    def rebuilt(self, node: Traced) -> Scalar:
        """A node whose arguments are rebuilt."""
        if node.op == "input":
            return node
        if node.op == "where" and _is_guarded(node):
            return self._guarded(self.of(node.args[1].args[0]), self.of(node.args[0].args[0]))
        args = [self.of(a) for a in node.args]
        if node.op == "div":
            return self._quotient(*args)
        if node.op == "sqrt":
            return self._root(args[0])
        return self.recorder.record(node.op, *args)

    def _side(self, value: Scalar) -> int | None:
        """0 or 1 where a value belongs to the left or right example."""
        if not isinstance(value, Traced):
            return None
        return next((s for s, names in enumerate(self.sides) if value.inputs <= names), None)

    def _is_alone(self, x: Scalar, y: Scalar) -> bool:
        """Whether all of a quotient belongs to one example."""
        return self._side(y) is not None and (not isinstance(x, Traced) or self._side(x) == self._side(y))

    def _factors(self, value: Scalar) -> list[Scalar] | None:
        """One factor of each example, or one of any; None where there is more to it."""
        if self._side(value) is not None:
            return [value]
        if isinstance(value, Traced) and value.op == "mul" and None not in map(self._side, value.args):
            return list(value.args)
        return None

    def _quotient(self, x: Scalar, y: Scalar) -> Scalar:
        factors = self._factors(y)
        if factors is None or self._is_alone(x, y):
            return self.recorder.record("div", x, y)
        for f in factors:
            x = self.recorder.record("mul", x, self.recorder.record("div", 1.0, f))
        return x

    def _guarded(self, x: Scalar, y: Scalar) -> Scalar:
        """x / y, and 0 where y = 0."""
        factors = self._factors(y)
        if factors is None or self._is_alone(x, y):
            return self._ratio(x, y)
        for f in factors:
            x = self.recorder.record("mul", x, self._ratio(1.0, f))
        return x

    def _ratio(self, x: Scalar, y: Scalar) -> Scalar:
        record, nonzero = self.recorder.record, y != 0.0
        return record("where", nonzero, record("div", x, record("where", nonzero, y, 1.0)), 0.0)

    def _root(self, x: Scalar) -> Scalar:
        if isinstance(x, Traced) and x.op == "where" and _is_inverse(x):
            return self._ratio(1.0, self._root(x.args[0].args[0]))
        if isinstance(x, Traced) and self._side(x) is None:
            if x.op == "where":
                return self.recorder.record("where", x.args[0], self._root(x.args[1]), self._root(x.args[2]))
            if x.op == "mul" and any(self._side(a) is not None for a in x.args):
                return self._root(x.args[0]) * self._root(x.args[1])
        return self.recorder.record("sqrt", x)


def _is_guarded(node: Traced) -> bool:
    """Whether it is `orthant.ratio`: x / (y if y != 0 else 1) if y != 0 else 0."""
    condition, quotient, other = node.args
    if isinstance(other, Traced) or other != 0 or not isinstance(condition, Traced) or condition.op != "ne":
        return False
    if not (isinstance(quotient, Traced) and quotient.op == "div" and condition.args[1] == 0.0):
        return False
    divisor = quotient.args[1]
    return isinstance(divisor, Traced) and divisor.op == "where" and divisor.args[:2] == (condition, condition.args[0])


def _is_inverse(node: Traced) -> bool:
    """Whether it is 1 / y, and 0 where y = 0."""
    return _is_guarded(node) and not isinstance(node.args[1].args[0], Traced) and node.args[1].args[0] == 1.0
