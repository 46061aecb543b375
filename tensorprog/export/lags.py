"""When the families of a circle are computed: one loop over one axis of each, in either direction, with any lags.

A family f is computed at the step t of the loop for its index +-t + c_f.  A read that is found `lag` steps away
asks for

    shift(reader) >= shift(source) + lag        (strictly, where one iteration would need its own result)

and such shifts exist exactly if the lags around every circle are negative (Bellman and Ford; Karp, Miller and Winograd
1967).  Lags may contain sizes, which are at least 1, and indices that are summed over; what counts is the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from tensorprog.export.body import less, solve
from tensorprog.ir.expr import MINUS_ONE, ONE, ZERO, Expr, Num, Op, Sym, add, mul, neg, num, sub, substitute, symbols
from tensorprog.ir.program import Axis, Inner, Instr, Linear, Map, MatMul, MaxOver, Pointwise

INDEX = "step"
Positions = Mapping[str, int]
Places = Mapping[str, Expr]


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """A family at an index, within sums over `free`."""

    source: str
    index: tuple[Expr, ...]
    free: tuple[Axis, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Edge:
    """One family reads another that is computed at most `lag` steps later."""

    reader: str
    source: str
    lag: int


@final
@dataclass(frozen=True, slots=True)
class Order:
    """The definitions of one step, operands first; the index of each family in that of the loop; the direction."""

    group: tuple[Instr, ...]
    at: Places
    sign: int


def order(group: list[Instr], positions: Positions, sizes: frozenset[str]) -> Order | None:
    """How one loop over these axes computes a circle; None if it does not."""
    places = _places(group, positions, sizes)
    for sign in (1, -1):
        edges = None if places is None else _edges(group, positions, places, sizes, sign)
        shifts = None if edges is None else _shifts(group, edges)
        if places is not None and edges is not None and shifts is not None:
            at = {name: substitute(place, {INDEX: add(Sym(INDEX), num(-sign * shifts[name]))})
                  for name, place in places.items()}
            now = [e for e in edges if shifts[e.reader] == shifts[e.source] + e.lag]
            return Order(tuple(_sorted(group, now)), {name: less(e, ZERO) for name, e in at.items()}, sign)
    return None


def steps(axis: Axis, at: Expr) -> tuple[Expr, Expr]:
    """From which step of the loop to which, exclusive, a family with this index has elements."""
    shift = less(at, Sym(INDEX))
    if INDEX not in symbols(shift):
        return neg(shift), less(axis.extent, shift)
    last = add(at, Sym(INDEX))
    return less(add(last, ONE), axis.extent), less(add(last, ONE), ZERO)


# ---------------------------------------------------------------- places and lags


def _places(group: list[Instr], positions: Positions, sizes: frozenset[str]) -> Places | None:
    """The index of every family at a step, found along the reads from the first one; None where one is not reached."""
    by_name = {i.var.name: i for i in group}
    found: dict[str, Expr] = {group[0].var.name: Sym(INDEX)}
    waiting = [group[0]]
    while waiting:
        reader = waiting.pop(0)
        for reading in _reads(reader, positions, found[reader.var.name]):
            source = by_name.get(reading.source)
            if source is not None and source.var.name not in found:
                axis = source.var.axes[positions[source.var.name]]
                place = _place(reading.index[positions[source.var.name]], axis, sizes)
                if place is not None:
                    found[source.var.name] = place
                    waiting.append(source)
    return found if len(found) == len(group) else None


def _place(here: Expr, axis: Axis, sizes: frozenset[str]) -> Expr | None:
    """The step, or from the last element backwards, wherever that is `here` up to a number; else `here`."""
    for first in (Sym(INDEX), add(axis.extent, MINUS_ONE, neg(Sym(INDEX)))):
        rest = less(here, first)
        if INDEX not in symbols(rest):
            return first if isinstance(rest, Num) or symbols(rest) - sizes else less(here, ZERO)
    return None


def _edges(
    group: list[Instr], positions: Positions, places: Places, sizes: frozenset[str], sign: int
) -> list[Edge] | None:
    """What is read within the circle, in a loop of this direction; None where a lag has no bound."""
    found = []
    for instr in group:
        begins = steps(instr.var.axes[positions[instr.var.name]], places[instr.var.name])[0] == ZERO
        for reading in _reads(instr, positions, places[instr.var.name]):
            if reading.source in places:
                place, here = places[reading.source], reading.index[positions[reading.source]]
                forwards = INDEX not in symbols(less(place, Sym(INDEX)))
                lag = less(here, place) if forwards else less(place, here)
                bound = _most(mul(num(sign), lag), reading.free, sizes | ({INDEX} if begins else set()))
                if bound is None:
                    return None
                found.append(Edge(instr.var.name, reading.source, bound))
    return found


def _most(e: Expr, free: Iterable[Axis], least: frozenset[str]) -> int | None:
    """An upper bound, with sizes of at least 1, steps from 0 on and free indices inside their axes; None if unknown."""
    e = less(e, ZERO)
    for axis in free:
        slope = sub(less(substitute(e, {axis.index: ONE}), ZERO), less(substitute(e, {axis.index: ZERO}), ZERO))
        if not isinstance(less(slope, ZERO), Num):
            return None
        rises = float(_value(less(slope, ZERO))) > 0
        e = less(substitute(e, {axis.index: add(axis.extent, MINUS_ONE) if rises else ZERO}), ZERO)
    total = Fraction(0)
    for term in e.args if isinstance(e, Op) and e.fn == "add" else (e,):
        factor, rest = term.args if isinstance(term, Op) and term.fn == "mul" and len(term.args) == 2 else (ONE, term)
        if isinstance(rest, Num):
            total += Fraction(rest.value)
        elif not (isinstance(rest, Sym) and rest.name in least and isinstance(factor, Num) and factor.value < 0):
            return None
        elif rest.name != INDEX:
            total += Fraction(factor.value)
    return total.__floor__()


def _value(e: Expr) -> Fraction | float:
    assert isinstance(e, Num)
    return e.value


def _shifts(group: list[Instr], edges: list[Edge]) -> dict[str, int] | None:
    """The least shifts, none negative; None if a circle has a lag that is not negative."""
    unit = len(group) + 1  # a read takes one part of a step, so that one iteration has an order
    found = {i.var.name: 0 for i in group}
    for _ in range(unit):
        late = False
        for e in edges:
            needed = found[e.source] + unit * e.lag + 1
            if needed > found[e.reader]:
                found[e.reader], late = needed, True
        if not late:
            return {name: parts // unit for name, parts in found.items()}
    return None


def _sorted(group: list[Instr], edges: list[Edge]) -> Iterator[Instr]:
    """Operands first."""
    waiting, known = list(group), set[str]()
    while waiting:
        ready = next(i for i in waiting if all(e.source in known for e in edges if e.reader == i.var.name))
        known.add(ready.var.name)
        waiting.remove(ready)
        yield ready


# ---------------------------------------------------------------- reads


def _reads(instr: Instr, positions: Positions, at: Expr) -> Iterator[Reading]:
    """Every read in the index of the loop, for the element `at`."""
    var, op = instr.var, instr.op
    own: dict[str, Expr] = {var.axes[positions[var.name]].index: at}

    def through(source: str, index: tuple[Expr, ...], map_: Map) -> Reading:
        solved = solve(map_, var, own)
        return Reading(source, _replaced(index, solved.values), solved.free)

    match op:
        case MatMul(operand=h, map=m) if h is not None:
            yield through(h, m.source, m)
        case Linear(terms=terms):
            for t in terms:
                if t.operand is not None:
                    yield through(t.operand, t.map.source, t.map)
                yield from (through(s.var, s.index, t.map) for s in t.scalars)
        case Pointwise(args=args):
            yield from (Reading(a.var, _replaced(a.index, own)) for a in args)
        case Inner(left=u, right=v):
            yield from (Reading(r.var, _replaced(r.index, own)) for r in (u, v) if r is not None)
        case MaxOver(operand=h, over=over):
            index = _replaced(tuple(Sym(a.index) for a in var.axes), own)
            yield Reading(h, (*index, *(Sym("") for _ in range(over))))
        case _:
            return


def _replaced(index: tuple[Expr, ...], values: Mapping[str, Expr]) -> tuple[Expr, ...]:
    return tuple(substitute(e, values) for e in index)
