"""From normal forms to groups: at most one hard gate per coordinate, polynomials centred at its knot.

    u_i = origin_i + flip_i * z_i ,   hard gates become step(z_i), sign(z_i) or dirac(z_i)

Products of half-lines of one coordinate are intervals, written as differences of half-lines; dirac takes
the others at its point; a step next to its complement is written with disjoint parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from tensorprog.errors import fail
from tensorprog.ir.expr import HALF, MINUS_ONE, ONE, ZERO, Expr, call, div, mul, num, sub
from tensorprog.symbolic import poly
from tensorprog.symbolic.normal import Factor, Form, Gate, Wave
from tensorprog.symbolic.poly import Poly, Powers, number


@final
@dataclass(frozen=True, slots=True)
class Knot:
    """kind(flip * (u_i - origin)) for a hard gate of one coordinate; kind "" is no gate."""

    kind: str = ""
    origin: Expr = ZERO
    flip: int = 1


FREE = Knot()


@final
@dataclass(frozen=True, slots=True)
class Group:
    """poly(z) * exp(exponent(u)) * wave(u) * gates: one knot per coordinate, and others (soft, or of several)."""

    poly: tuple[tuple[Powers, Expr], ...]
    exponent: tuple[tuple[Powers, Expr], ...]
    wave: Wave | None
    knots: tuple[Knot, ...]
    others: tuple[Gate, ...]


Key = tuple[Factor, tuple[Knot, ...]]  # the factor keeps only the gates that are no knots


def groups(form: Form, n: int) -> tuple[Group, ...]:
    """The groups of a normal form in `n` arguments."""
    table: dict[Key, Poly] = {}
    for factor, p in form.items():
        for weight, key in _merged(factor, n):
            table[key] = poly.plus(table.get(key, {}), poly.scaled(weight, p))
    if n == 1:
        table = _disjoint(table)
    return tuple(_group(key, p) for key, p in table.items() if p)


def _group(key: Key, p: Poly) -> Group:
    factor, knots = key
    for i, knot in enumerate(knots):
        p = poly.recentred(p, i, knot.origin, knot.flip)
    return Group(tuple(sorted(p.items(), key=lambda t: t[0])), factor.exponent, factor.wave, knots, factor.gates)


def _merged(factor: Factor, n: int) -> list[tuple[Expr, Key]]:
    """The factor as a weighted sum of keys."""
    others = tuple(g for g in factor.gates if _knot(g) is None)
    sums: list[tuple[Expr, tuple[Knot, ...]]] = [(ONE, ())]
    for i in range(n):
        found = [k for k in map(_knot, factor.gates) if k is not None and k[0] == i]
        weight: Expr = ONE
        for _, w, _ in found:
            weight = mul(weight, w)
        choices = _product([k for _, _, k in found])
        sums = [(mul(a, weight, b), (*done, k)) for a, done in sums for b, k in choices]
    rest = Factor(factor.exponent, factor.wave, others)
    return [(w, (rest, knots)) for w, knots in sums if w != ZERO]


def _knot(gate: Gate) -> tuple[int, Expr, Knot] | None:
    """(coordinate, weight, knot) of a hard gate of one coordinate with a slope of known sign."""
    support = gate.form.support
    if gate.soft or len(support) != 1:
        return None
    slope = number(gate.form.coefs[support[0]])
    if slope is None:
        return None
    origin: Expr = poly.negated(div(gate.form.const, gate.form.coefs[support[0]]))
    flip = 1 if slope > 0 else -1
    if gate.kind == "H":
        return support[0], ONE, Knot("H", origin, flip)
    if gate.kind == "S":
        return support[0], num(flip), Knot("S", origin)
    return support[0], call("abs", div(ONE, gate.form.coefs[support[0]])), Knot("D", origin)


# ---------------------------------------------------------------- products on one coordinate


def _product(knots: list[Knot]) -> list[tuple[Expr, Knot]]:
    if not knots:
        return [(ONE, FREE)]
    total: list[tuple[Expr, Knot]] = [(ONE, knots[0])]
    for knot in knots[1:]:
        total = [(mul(w, v), k) for w, old in total for v, k in _pair(old, knot)]
    return total


def _pair(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    """The product of two gates of one coordinate as a weighted sum of gates."""
    if "" in (a.kind, b.kind):
        return [(ONE, a if b.kind == "" else b)]
    if "D" in (a.kind, b.kind):
        point, other = (a, b) if a.kind == "D" else (b, a)
        return [(_at(other, point.origin), point)]
    if a.origin == b.origin and "S" in (a.kind, b.kind):
        return _same_knot(a, b)
    if a.kind == "S":
        return [(w, k) for v, half in _as_steps(a) for w, k in _weighted(v, _pair(half, b))]
    if b.kind == "S":
        return _pair(b, a)
    return _together(a, b) if a.flip == b.flip else _interval(a, b)


def _weighted(weight: Expr, terms: list[tuple[Expr, Knot]]) -> list[tuple[Expr, Knot]]:
    return [(mul(weight, w), k) for w, k in terms]


def _as_steps(a: Knot) -> list[tuple[Expr, Knot]]:
    return [(num(2), Knot("H", a.origin)), (MINUS_ONE, FREE)]


def _same_knot(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    if a.kind == b.kind:
        return [(ONE, FREE)]
    half = a if a.kind == "H" else b
    return [(num(half.flip), half)]


def _at(gate: Knot, t: Expr) -> Expr:
    """The value of a gate at the point of a dirac; the mean of both sides at its own knot."""
    if gate.kind == "D":
        if gate.origin == t:
            raise fail("the expectation diverges: the square of a point mass (derivative of a step)")
        return ZERO
    if gate.origin == t:
        return HALF if gate.kind == "H" else ZERO
    return call("step" if gate.kind == "H" else "sign", mul(num(gate.flip), sub(t, gate.origin)))


def _together(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    """step(u - s) step(u - t) = step(u - max(s, t))"""
    return [(ONE, Knot("H", call("max" if a.flip > 0 else "min", a.origin, b.origin), a.flip))]


def _interval(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    """1[low < u < high], written with the far half-lines where the interval holds 0 or is constant."""
    low, high = (a.origin, b.origin) if a.flip > 0 else (b.origin, a.origin)
    lo, hi = number(low), number(high)
    if lo is None or hi is None:
        nonempty = call("step", sub(high, low))
        return [(nonempty, Knot("H", low)), (poly.negated(nonempty), Knot("H", high))]
    if lo >= hi:
        return []
    if lo < 0 < hi:
        return [(ONE, FREE), (MINUS_ONE, Knot("H", low, -1)), (MINUS_ONE, Knot("H", high))]
    if lo >= 0:
        return [(ONE, Knot("H", low)), (MINUS_ONE, Knot("H", high))]
    return [(ONE, Knot("H", high, -1)), (MINUS_ONE, Knot("H", low, -1))]


def _disjoint(table: dict[Key, Poly]) -> dict[Key, Poly]:
    """P0 + P1 step(u - t) + P2 step(t - u) = (P0 + P1) step(u - t) + (P0 + P2) step(t - u), where P0 != 0.

    Only where t is the one knot beside P0: then nothing large is left to cancel.
    """
    result = dict(table)
    for factor in {key[0] for key in table}:
        knots = [key[1][0] for key in table if key[0] == factor and table[key]]
        steps = [k for k in knots if k.kind == "H"]
        if FREE not in knots or len(steps) + 1 != len(knots) or len({k.origin for k in steps}) != 1:
            continue
        base = result.pop((factor, (FREE,)))
        for flip in (1, -1):
            key = (factor, (Knot("H", steps[0].origin, flip),))
            result[key] = poly.plus(base, result.get(key, {}))
    return {key: p for key, p in result.items() if p}
