"""Recordings of expectations whose errors are finite, and the conditions on which they are not.

    value,  inf if c else e            ->  e where not c
    value,  |value| * t                ->  t, a number: the relative error
    values at variances a b > 0        ->  powers of these cancel (`positive`), where others are in doubt anyway
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

from tensorprog.backend.formula import Arguments, recorded
from tensorprog.backend.positive import where_positive
from tensorprog.backend.separate import Sides, separated
from tensorprog.backend.trace import NotTraceable, Recorder, Scalar, Traced
from tensorprog.symbolic.expectation import Expectation

SETTLED = 1e-10
"""The relative error from which an entry is left to the numerical tiers."""


@final
@dataclass(frozen=True, slots=True)
class Judged:
    """Values and errors of expectations, where none of the conditions `doubts` holds; an error that is a number is one
    times the absolute value."""

    values: list[Scalar]
    errors: list[Scalar]
    doubts: list[Scalar]

    def through(self, change: Callable[[list[Scalar]], list[Scalar]]) -> Judged:
        """What all of it becomes."""
        found, n = change([*self.values, *self.errors, *self.doubts]), len(self.values)
        return Judged(found[:n], found[n : 2 * n], found[2 * n :])


def judged(expectations: Sequence[Expectation], at: Arguments, sides: Sides, recorder: Recorder) -> Judged:
    """Expectations at some arguments; `sides` are the inputs of the left and of the right example."""
    nodes = separated([x for e in expectations for x in recorded(e, at)], sides, recorder)
    parts = [_judged(v, e, recorder) for v, e in zip(nodes[::2], nodes[1::2], strict=True)]
    doubts = {id(c): c for _, cs in parts for c in cs}
    found = Judged(nodes[::2], [e for e, _ in parts], list(doubts.values()))
    variances = [at.second[k][k] for k in range(len(at.mean))]
    guards = [recorder.record("eq", v, 0.0) for v in variances]
    centred = not any(isinstance(m, Traced) or m != 0 for m in at.mean)
    if at.sizes != (1, 1) or not centred or any(id(g) not in doubts for g in guards):
        return found
    others = [c for i, c in doubts.items() if i not in map(id, guards)]
    names = tuple(v.args[0] for v in variances if isinstance(v, Traced))
    assert len(names) == 2
    found = replace(found, doubts=others).through(lambda nodes: where_positive(nodes, names, recorder))
    unequal = [c for c in found.doubts if isinstance(c, Traced) or c]  # to what is known of positive numbers
    return replace(found, doubts=[recorder.record("le", recorder.record("mul", *variances), 0.0), *unequal])


def _judged(value: Scalar, error: Scalar, recorder: Recorder) -> tuple[Scalar, list[Scalar]]:
    """The error of a value where it is finite, and the conditions on which it is not; a number for a relative error."""
    rest, conditions = _finite(error, recorder)
    if isinstance(rest, Traced) and rest.op == "mul":
        numbers = [a for a in rest.args if not isinstance(a, Traced)]
        sizes = [a for a in rest.args if isinstance(a, Traced) and a.op == "abs" and a.args[0] is value]
        if numbers and sizes and 0 <= numbers[0] <= SETTLED:
            return float(numbers[0]), conditions
    if not isinstance(rest, Traced) and rest != 0:
        raise NotTraceable("an error that is the same number everywhere")
    return rest, conditions


def _finite(value: Scalar, recorder: Recorder) -> tuple[Scalar, list[Scalar]]:
    """A value where it is not infinite, and the conditions on which it is."""
    if not isinstance(value, Traced):
        return value, []
    if value.op == "where" and not isinstance(value.args[1], Traced) and value.args[1] == math.inf:
        rest, conditions = _finite(value.args[2], recorder)
        return rest, [value.args[0], *conditions]
    if value.op in ("add", "mul"):
        parts = [_finite(a, recorder) for a in value.args]
        return recorder.record(value.op, *(p for p, _ in parts)), [c for _, cs in parts for c in cs]
    return value, []
