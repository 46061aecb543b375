"""Expectations of a product tape: their formulas, what these need of one example, entries that they leave in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.access import RESULTS
from tensorprog.backend.formula import Arguments, frontier, interpreted, ordered
from tensorprog.backend.grid_emit import Formulas
from tensorprog.backend.grid_loops import RUN
from tensorprog.backend.grid_points import Point, substituted
from tensorprog.backend.judged import Judged, judged
from tensorprog.backend.trace import NotTraceable, Recorder, Scalar, Traced
from tensorprog.symbolic.expectation import Expectation
from tensorprog.symbolic.moments import Moments
from tensorprog.tape.blocks import Key

Floats = NDArray[np.float64]
VARIANCES = ("s00", "s11")
SIDES = (frozenset(VARIANCES[:1]), frozenset(VARIANCES[1:]))
SLOW = frozenset(("sqrt", "div", "exp", "expm1", "log", "sin", "cos", "atan2", "turn", "erf", "ndtr", "owens_t"))


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the examples of one side: `rows` [examples, rows], the data first; of every pointwise operation
    with expectations its first row, the shape (n1, n2) of its slots, and the second moments [examples, n1 n2]; the
    dimension of the data and the number of its elements."""

    rows: Floats
    starts: Mapping[int, int]
    shapes: Mapping[int, tuple[int, int]]
    second: Mapping[int, Floats]
    dim: int
    elements: int


@final
@dataclass(frozen=True, slots=True)
class Single:
    """A side by itself: its data [examples, elements, dim], and second moments [examples, slots] with their shapes."""

    data: Floats
    values: Mapping[Key, Floats]
    sizes: Mapping[Key, tuple[int, int]]


def known_of(
    points: Sequence[Point], formulas: Sequence[Formulas], sides: tuple[Single, Single]
) -> tuple[Known, Known]:
    """Of both sides; the same object where both are the same, and need the same of it."""
    left = _known(points, formulas, sides[0], 0)
    keys = [x.inside for x in points if x.inside is not None]
    alike = sides[0] is sides[1] and all(a == b for a, b in keys)
    if alike and all(written(f.left) == written(f.right) for f in formulas):
        return left, left
    return left, _known(points, formulas, sides[1], 1)


def written(nodes: Sequence[Traced]) -> list[tuple[object, ...]]:
    """What nodes compute of one second moment, whichever side it belongs to."""
    number: dict[int, int] = {}
    lines: list[tuple[object, ...]] = []
    for node in ordered(nodes):
        number[id(node)] = len(lines)
        args = [("node", number[id(a)]) if isinstance(a, Traced) else a for a in node.args if node.op != "input"]
        lines.append((node.op, *args))
    return [*lines, *((number[id(n)],) for n in nodes)]


def _known(points: Sequence[Point], formulas: Sequence[Formulas], side: Single, s: int) -> Known:
    examples, elements, dim = side.data.shape
    starts, shapes, seconds = dict[int, int](), dict[int, tuple[int, int]](), dict[int, Floats]()
    nodes, count = [f.right if s else f.left for f in formulas], elements * dim
    for n, point in enumerate(points):
        if point.inside is not None:
            key = point.inside[s]
            shapes[n], seconds[n], starts[n] = side.sizes[key], side.values[key], count
            count += len(nodes[n]) * seconds[n].shape[1]
    rows = np.empty((examples, count))
    rows[:, : elements * dim] = side.data.transpose(0, 2, 1).reshape(examples, -1)
    for n, second in seconds.items():
        for t, value in enumerate(interpreted(nodes[n], {("s11" if s else "s00"): second})):
            first = starts[n] + t * second.shape[1]
            rows[:, first : first + second.shape[1]] = value
    return Known(rows, starts, shapes, seconds, dim, elements)


def formulas_of(point: Point) -> Formulas:
    """The formulas of a pointwise operation.  NotTraceable when an expectation has none."""
    recorder = Recorder()
    k = {n: recorder.input(n) for n in _inputs([point.cross, *point.second, *point.outs]) if n.startswith("k")}
    cross, *second = substituted([point.cross, *point.second], k, recorder)
    found = _judged(point.expectations, cross, recorder)
    if second:  # put into the formulas of pairs of runs, to have the same to the last bit
        inside = {**k, **dict(zip(VARIANCES, second, strict=True))}
        found = found.through(lambda nodes: substituted(nodes, inside, recorder))
    if found.doubts and not any(isinstance(v, Traced) for v in found.values):
        raise NotTraceable("a constant in doubt")
    inputs: dict[str, Scalar] = {**k, **{f"v{n}": v for n, v in enumerate(found.values)}}
    outs = substituted(point.outs, inputs, recorder)
    sides = [_rows([*outs, *found.values, *found.errors, *found.doubts], names) for names in SIDES]
    slots = tuple(k[f"k{n}"] for n in range(len(k)))
    if len(outs) > RESULTS or len(outs) + len(slots) + len(SIDES) > RUN:
        raise NotTraceable("many results at one place")
    values, errors, doubts = map(tuple, (found.values, found.errors, found.doubts))
    return Formulas(tuple(outs), values, errors, doubts, slots, sides[0], sides[1])


def _judged(expectations: Sequence[Expectation], cross: Scalar, recorder: Recorder) -> Judged:
    """Expectations of one argument on each side."""
    left, right = (recorder.input(name) for name in VARIANCES)
    return judged(expectations, Arguments((0.0, 0.0), ((left, cross), (cross, right)), {}, (1, 1)), SIDES, recorder)


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


def settled(
    point: Point, reads: Sequence[Floats], second: Sequence[Floats]
) -> tuple[list[Floats], list[float]]:
    """The results of a pointwise operation by its expectations themselves, and their worst errors; `second` are the
    second moments of both runs behind it, if it has any."""
    inputs = {f"k{n}": x for n, x in enumerate(reads)}
    cross, *inside = _values([point.cross, *point.second], inputs)
    second = second or inside
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
