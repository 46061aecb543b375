"""Expectations of a product tape: their formulas, what these need of one example, entries that they leave in doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.access import RESULTS
from tensorprog.backend.emit import SETTLED
from tensorprog.backend.formula import Arguments, frontier, interpreted, ordered, recorded
from tensorprog.backend.grid_emit import Formulas, point_source
from tensorprog.backend.grid_loops import RUN
from tensorprog.backend.grid_points import Point, substituted
from tensorprog.backend.positive import where_positive
from tensorprog.backend.separate import separated
from tensorprog.backend.trace import NotTraceable, Recorder, Scalar, Traced
from tensorprog.symbolic.expectation import Expectation
from tensorprog.symbolic.moments import Moments
from tensorprog.tape.product_run import ProductRun

Floats = NDArray[np.float64]
SIDES = (frozenset(["s00"]), frozenset(["s11"]))
SLOW = frozenset(("sqrt", "div", "exp", "expm1", "log", "sin", "cos", "atan2", "erf", "ndtr", "owens_t"))


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the examples of one side: `rows` [examples, rows], the data first; of every pointwise operation
    with expectations its first row, the shape (n1, n2) of its slots, and the second moments [n1 n2, examples]; the
    dimension of the data and the number of its elements."""

    rows: Floats
    starts: Mapping[int, int]
    shapes: Mapping[int, tuple[int, int]]
    second: Mapping[int, Floats]
    dim: int
    elements: int


def known_of(
    points: Sequence[Point], formulas: Sequence[Formulas], runs: tuple[ProductRun, ProductRun], names: tuple[str, str]
) -> tuple[Known, Known]:
    """Of both sides; the same object where both are the same run, and need the same of it."""
    left = _known(points, formulas, runs[0], names, 0)
    keys = [x.inside for x in points if x.inside is not None]
    alike = runs[0] is runs[1] and names[0] == names[1] and all(a == b for a, b in keys)
    if alike and all(written(f.left) == written(f.right) for f in formulas):
        return left, left
    return left, _known(points, formulas, runs[1], names, 1)


def written(nodes: Sequence[Traced]) -> list[tuple[object, ...]]:
    """What nodes compute of one second moment, whichever side it belongs to."""
    number: dict[int, int] = {}
    lines: list[tuple[object, ...]] = []
    for node in ordered(nodes):
        number[id(node)] = len(lines)
        args = [("node", number[id(a)]) if isinstance(a, Traced) else a for a in node.args if node.op != "input"]
        lines.append((node.op, *args))
    return [*lines, *((number[id(n)],) for n in nodes)]


def _known(
    points: Sequence[Point], formulas: Sequence[Formulas], run: ProductRun, names: tuple[str, str], s: int
) -> Known:
    x = run.data[s][names[s]]
    starts, shapes, seconds = dict[int, int](), dict[int, tuple[int, int]](), dict[int, Floats]()
    count = x.shape[1] * x.shape[2]
    sides = [f.right if s else f.left for f in formulas]
    for n, point in enumerate(points):
        if point.inside is not None:
            value = run.values[point.inside[s]]
            shapes[n], seconds[n], starts[n] = (value.shape[0], value.shape[1]), value.reshape(-1, len(x)), count
            count += len(sides[n]) * len(seconds[n])
    rows = np.empty((len(x), count))
    rows[:, : x.shape[1] * x.shape[2]] = x.transpose(0, 2, 1).reshape(len(x), -1)
    for n, second in seconds.items():
        found = interpreted(sides[n], {("s11" if s else "s00"): np.ascontiguousarray(second.T)})
        for t, node in enumerate(found):
            first = starts[n] + t * len(second)
            rows[:, first : first + len(second)] = node
    return Known(rows, starts, shapes, seconds, x.shape[2], x.shape[1])


def single_point(e: Expectation) -> Point:
    """An expectation by itself, of whatever second moments."""
    recorder = Recorder()
    return Point((e,), None, recorder.input("k0"), (recorder.input("v0"),))


def formulas_of(point: Point) -> Formulas:
    """The formulas of a pointwise operation.  NotTraceable when an expectation has none."""
    recorder = Recorder()
    first, second = recorder.input("s00"), recorder.input("s11")
    k = {n: recorder.input(n) for n in _inputs([point.cross, *point.outs]) if n.startswith("k")}
    (cross,) = substituted([point.cross], k, recorder)
    moments = (first, cross), (cross, second)
    at = Arguments((0.0, 0.0), moments, {}, (1, 1))
    found = separated([x for e in point.expectations for x in recorded(e, at)], SIDES, recorder)
    values = found[::2]
    judged = [_judged(v, e, recorder) for v, e in zip(values, found[1::2], strict=True)]
    errors, doubts = [e for e, _ in judged], list({id(c): c for _, cs in judged for c in cs}.values())
    values, errors, doubts = _cancelled(values, errors, doubts, recorder)
    inputs: dict[str, Scalar] = {**k, **{f"v{n}": v for n, v in enumerate(values)}}
    outs = substituted(point.outs, inputs, recorder)
    sides = [_rows([*outs, *values, *errors, *doubts], names) for names in SIDES]
    slots = tuple(k[f"k{n}"] for n in range(len(k)))
    if len(outs) >= RESULTS or len(outs) + len(slots) + len(SIDES) > RUN:
        raise NotTraceable("many results at one place")
    return Formulas(tuple(outs), tuple(values), tuple(errors), tuple(doubts), slots, sides[0], sides[1])


def _cancelled(
    values: list[Scalar], errors: list[Scalar], doubts: list[Scalar], recorder: Recorder
) -> tuple[list[Scalar], list[Scalar], list[Scalar]]:
    """The same formulas for positive variances, where others are in doubt anyway."""
    sides = "s00", "s11"
    variances = [recorder.input(name) for name in sides]
    guards = [recorder.record("eq", v, 0.0) for v in variances]
    others = [c for c in doubts if not any(c is g for g in guards)]
    if len(others) + len(guards) > len(doubts):
        return values, errors, doubts
    found = where_positive([*values, *errors, *others], sides, recorder)
    n, m = len(values), len(values) + len(errors)
    return found[:n], found[n:m], [*(recorder.record("le", v, 0.0) for v in variances), *found[m:]]


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


def _rows(values: Sequence[Scalar], names: frozenset[str]) -> tuple[Traced, ...]:
    """What is computed once for every example: roots and quotients, and what else a pair reads."""
    slow = list(dict.fromkeys(x for n in frontier(values, names) for x in _slow(n)))
    rest = ordered(values, frozenset(map(id, slow)))
    return (*(n for n in rest if n.op == "input" and n.inputs <= names), *sorted(slow, key=lambda n: len(ordered([n]))))


def _slow(node: Traced) -> list[Traced]:
    """The parts of a node that take time: itself, or what it adds and multiplies."""
    if not any(x.op in SLOW for x in ordered([node])):
        return []
    if node.op in ("add", "sub", "mul", "neg", "abs"):
        return [x for a in node.args if isinstance(a, Traced) for x in _slow(a)]
    return [node]


def _inputs(values: Sequence[Scalar]) -> list[str]:
    return [n.args[0] for n in ordered(values) if n.op == "input"]


def kinds_of(formulas: Sequence[Formulas]) -> tuple[tuple[int, ...], tuple[Formulas, ...]]:
    """The number of the function of each, and one of each kind."""
    number: dict[str, int] = {}
    kinds: list[Formulas] = []
    found = []
    for f in formulas:
        source = point_source("point", f)
        if source not in number:
            number[source] = len(kinds)
            kinds.append(f)
        found.append(number[source])
    return tuple(found), tuple(kinds)


def settled(
    point: Point, reads: Sequence[Floats], second: tuple[Floats, Floats]
) -> tuple[list[Floats], list[float]]:
    """The results of a pointwise operation by its expectations themselves, and their worst errors."""
    inputs = {f"k{n}": x for n, x in enumerate(reads)}
    (cross,) = _values([point.cross], inputs)
    found = [evaluated(e, second[0], second[1], cross) for e in point.expectations]
    inputs |= {f"v{n}": value for n, (value, _) in enumerate(found)}
    return _values(point.outs, inputs), [error for _, error in found]


def _values(values: Sequence[Scalar], inputs: Mapping[str, Floats]) -> list[Floats]:
    nodes = [v for v in values if isinstance(v, Traced)]
    found = iter(interpreted(nodes, inputs))
    return [next(found) if isinstance(v, Traced) else np.asarray(v) for v in values]


def evaluated(e: Expectation, left: Floats, right: Floats, cross: Floats) -> tuple[Floats, float]:
    """The values of an expectation of one argument without mean on each side, and the worst error."""
    mean, cov = np.zeros((1, *left.shape)), (left[None, None], right[None, None], cross[None, None])
    value, error = e.evaluate(Moments(mean, cov[0], mean, cov[1], cov[2]), {})
    return np.broadcast_to(value, left.shape), float(np.max(error, initial=0.0))
