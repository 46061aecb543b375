"""Recordings where both variances are positive: powers of these cancel, and guards against zero go.

    c sqrt(a) (1 / sqrt(a))                     ->  c
    x if a b > 0 else y                         ->  x
    atan2(d / sqrt(a b), cut(c / sqrt(a b)))    ->  turn(d, c)                d a root of a b - c^2
    atan2(cut(c / sqrt(a b)), d / sqrt(a b))    ->  atan2(c, d)
    cut(c / sqrt(a b)) < -t                     ->  c |c| < -t^2 a b          0 < t < 1

a and b are the variances of the left and of the right example, cut(x) = max(min(x, 1), -1).  A pair of examples then
reads a and b, and neither their roots nor the inverses of these.  Beside an angle no cut is needed: it moves c by
rounding only, or d is 0.  An angle of a small d, c > 0, is known to the rounding of c only: its absolute error counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from tensorprog.backend.formula import is_nonnegative, ordered
from tensorprog.backend.trace import Recorder, Scalar, Traced

Powers = tuple[float, float]
NONE: Powers = (0.0, 0.0)
CORRELATION: Powers = (-0.5, -0.5)
KNOWN = {"gt": True, "ge": True, "ne": True, "lt": False, "le": False, "eq": False}
"""How a positive number compares to 0."""


@final
@dataclass(frozen=True, slots=True)
class Monomial:
    """rest * a^p b^q; `cut` where values beyond +-1 are meant as +-1."""

    rest: Scalar
    powers: Powers
    cut: bool = False


def where_positive(values: Sequence[Scalar], sides: tuple[str, str], recorder: Recorder) -> list[Scalar]:
    """The same values at positive variances; `sides` are the inputs that name these."""
    work = _Cancelling(sides, recorder)
    for node in ordered(values):
        work.known[id(node)] = work.rebuilt(node)
    return [work.value(work.of(v)) for v in values]


@final
class _Cancelling:
    def __init__(self, sides: tuple[str, str], recorder: Recorder) -> None:
        self.record = recorder.record
        self.sides = tuple(recorder.input(name) for name in sides)
        self.known: dict[int, Monomial] = {}

    def of(self, value: Scalar) -> Monomial:
        """What a value has become."""
        return self.known[id(value)] if isinstance(value, Traced) else Monomial(value, NONE)

    def value(self, m: Monomial) -> Scalar:
        """A monomial as a node."""
        scale: Scalar = 1.0
        for side, power in zip(self.sides, m.powers, strict=True):
            base = side if power == int(power) else self.record("sqrt", side)
            for _ in range(round(abs(power) * (1 if base is side else 2))):
                scale = self.record("mul", scale, base if power > 0 else self.record("div", 1.0, base))
        total = self.record("mul", m.rest, scale)
        return self.record("max", self.record("min", total, 1.0), -1.0) if m.cut else total

    def rebuilt(self, node: Traced) -> Monomial:
        """A node whose arguments are rebuilt."""
        if node.op == "input":
            return self._input(node)
        args = [self.of(a) for a in node.args]
        found = RULES[node.op](self, args, node) if node.op in RULES else None
        return found or Monomial(self.record(node.op, *map(self.value, args)), NONE)

    def _input(self, node: Traced) -> Monomial:
        return next(
            (Monomial(1.0, (1.0 - s, float(s))) for s, side in enumerate(self.sides) if node is side),
            Monomial(node, NONE),
        )

    def product(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """Powers add up, numbers are multiplied."""
        x, y = args
        if x.cut or y.cut:
            return None
        return Monomial(self._times(x.rest, y.rest), (x.powers[0] + y.powers[0], x.powers[1] + y.powers[1]))

    def _times(self, x: Scalar, y: Scalar) -> Scalar:
        if isinstance(x, Traced):
            x, y = y, x
        if not isinstance(x, Traced) and isinstance(y, Traced) and y.op == "mul":
            number, other = sorted(y.args, key=lambda a: isinstance(a, Traced))
            if not isinstance(number, Traced):
                return self.record("mul", other, x * number)
        return self.record("mul", y, x)

    def quotient(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """By powers alone."""
        x, y = args
        if x.cut or y.cut or not _is(y.rest, 1):
            return None
        return Monomial(x.rest, (x.powers[0] - y.powers[0], x.powers[1] - y.powers[1]))

    def root(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """Of powers that are whole numbers."""
        (x,) = args
        if x.cut or any(p != int(p) for p in x.powers):
            return None
        return Monomial(self.record("sqrt", x.rest), (x.powers[0] / 2, x.powers[1] / 2))

    def negative(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """The powers stay."""
        return Monomial(self.record("neg", args[0].rest), args[0].powers, args[0].cut)

    def choice(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """The one that is known to be chosen."""
        condition = args[0].rest
        return None if isinstance(condition, Traced) else args[1 if condition else 2]

    def cut(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """max(min(c / sqrt(a b), 1), -1)"""
        inner = node.args[0]
        if not (_is(node.args[1], -1) and isinstance(inner, Traced) and inner.op == "min" and _is(inner.args[1], 1)):
            return None
        x = self.of(inner.args[0])
        return Monomial(x.rest, x.powers, True) if x.powers == CORRELATION and not x.cut else None

    def comparison(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """Of powers with 0, or of a correlation with a number."""
        x, number = args[0], args[1].rest
        if isinstance(number, Traced) or args[1].powers != NONE:
            return None
        if number == 0 and not x.cut and not isinstance(x.rest, Traced) and x.rest > 0:
            return Monomial(KNOWN[node.op], NONE)
        if node.op == "lt" and x.cut and -1 < number < 0:
            signed = self.record("mul", x.rest, self.record("abs", x.rest))
            return Monomial(self.record("lt", signed, self._variances(-(number**2))), NONE)
        return None

    def _variances(self, factor: float) -> Scalar:
        return self.record("mul", self.record("mul", *self.sides), factor)

    def angle(self, args: Sequence[Monomial], node: Traced) -> Monomial | None:
        """Of a correlation and its complement, or the other way round: of what they are without their powers."""
        d, c = sorted(args, key=lambda m: m.cut)
        if not (d.powers == c.powers == CORRELATION and c.cut and not d.cut and _is_complement(d.rest, c.rest)):
            return None
        op = "turn" if d is args[0] and is_nonnegative(d.rest) else "atan2"
        return Monomial(self.record(op, args[0].rest, args[1].rest), NONE)


def _is(value: Scalar, number: float) -> bool:
    return not isinstance(value, Traced) and bool(value == number)


def _is_complement(root: Scalar, c: Scalar) -> bool:
    """Whether `root` is a root of what has the square of c, or of -c, in it; or 0."""
    inner = c.args[0] if isinstance(c, Traced) and c.op == "neg" else c
    roots = [n for n in ordered([root]) if n.op == "sqrt"]
    return bool(roots) and all(
        any(n.op == "mul" and n.args[0] is inner and n.args[1] is inner for n in ordered([r])) for r in roots
    )


RULES = {
    "mul": _Cancelling.product,
    "div": _Cancelling.quotient,
    "sqrt": _Cancelling.root,
    "neg": _Cancelling.negative,
    "where": _Cancelling.choice,
    "max": _Cancelling.cut,
    "atan2": _Cancelling.angle,
    **dict.fromkeys(KNOWN, _Cancelling.comparison),
}
