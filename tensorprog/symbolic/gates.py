"""From normal forms to groups: at most one hard gate per coordinate, polynomials centred at its knot.

    u_i = origin_i + flip_i * z_i ,   hard gates become step(z_i), sign(z_i) or dirac(z_i)

Products of half-lines of one coordinate are intervals, written as differences of half-lines; dirac takes
the others at its point; a step next to its complement is written with disjoint parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from tensorprog.errors import fail
from tensorprog.ir.expr import HALF, MINUS_ONE, ONE, ZERO, Expr, Num, Op, call, div, mul, num, sub
from tensorprog.symbolic import poly
from tensorprog.symbolic.normal import Factor, Form, Gate, Wave
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.poly import Poly, Powers, number


@final
@dataclass(frozen=True, slots=True)
class Knot:
    """kind(flip * (u_i - origin)), flip = +-1, for a hard gate of one coordinate; kind "" is no gate."""

    kind: str = ""
    origin: Expr = ZERO
    flip: Expr = ONE


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

    @property
    def kinds(self) -> list[str]:
        """Of all gates."""
        return [k.kind for k in self.knots if k.kind] + [o.kind for o in self.others]


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
    """(coordinate, weight, knot) of a hard gate of one coordinate; its slope must not be 0."""
    support = gate.form.support
    if gate.soft or len(support) != 1:
        return None
    slope = gate.form.coefs[support[0]]
    origin: Expr = poly.negated(div(gate.form.const, slope))
    flip = _direction(slope)
    if gate.kind == "H":
        return support[0], ONE, Knot("H", origin, flip)
    if gate.kind == "S":
        return support[0], flip, Knot("S", origin)
    return support[0], call("abs", div(ONE, slope)), Knot("D", origin)


def _direction(slope: Expr) -> Expr:
    """The sign of a slope, with the sign of its constant factor in front."""
    if isinstance(slope, Op) and slope.fn == "mul" and isinstance(slope.args[0], Num):
        return mul(call("sign", slope.args[0]), call("sign", mul(*slope.args[1:])))
    return call("sign", slope)


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
    if a.flip == b.flip:
        return _together(a, b)
    if a.flip == poly.negated(b.flip):
        return _interval(a, b)
    raise NotClosed("half-lines of unknown directions")


def _weighted(weight: Expr, terms: list[tuple[Expr, Knot]]) -> list[tuple[Expr, Knot]]:
    return [(mul(weight, w), k) for w, k in terms]


def _as_steps(a: Knot) -> list[tuple[Expr, Knot]]:
    return [(num(2), Knot("H", a.origin)), (MINUS_ONE, FREE)]


def _same_knot(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    if a.kind == b.kind:
        return [(ONE, FREE)]
    half = a if a.kind == "H" else b
    return [(half.flip, half)]


def _at(gate: Knot, t: Expr) -> Expr:
    """The value of a gate at the point of a dirac; the mean of both sides at its own knot."""
    if gate.kind == "D":
        if gate.origin == t:
            raise fail("the expectation diverges: the square of a point mass (derivative of a step)")
        return ZERO
    if gate.origin == t:
        return HALF if gate.kind == "H" else ZERO
    return call("step" if gate.kind == "H" else "sign", mul(gate.flip, sub(t, gate.origin)))


def _together(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    """step(u - s) step(u - t) = step(u - max(s, t)), and mirrored"""
    far = mul(a.flip, call("max", mul(a.flip, a.origin), mul(a.flip, b.origin)))
    return [(ONE, Knot("H", far, a.flip))]


def _interval(a: Knot, b: Knot) -> list[tuple[Expr, Knot]]:
    """The indicator of an interval, written with the far half-lines where it holds 0."""
    if a.flip == MINUS_ONE:
        a, b = b, a
    low, high = number(a.origin), number(b.origin)
    if low is None or high is None or a.flip != ONE:
        inside = call("step", mul(a.flip, sub(b.origin, a.origin)))
        return [(inside, a), (poly.negated(inside), Knot("H", b.origin, a.flip))]
    if low >= high:
        return []
    if low < 0 < high:
        return [(ONE, FREE), (MINUS_ONE, _mirrored(a)), (MINUS_ONE, _mirrored(b))]
    if low >= 0:
        return [(ONE, a), (MINUS_ONE, _mirrored(b))]
    return [(ONE, b), (MINUS_ONE, _mirrored(a))]


def _mirrored(a: Knot) -> Knot:
    """The complement of a half-line."""
    return Knot("H", a.origin, poly.negated(a.flip))


def _disjoint(table: dict[Key, Poly]) -> dict[Key, Poly]:
    """P0 + P1 step(u - t) + P2 step(t - u) = (P0 + P1) step(u - t) + (P0 + P2) step(t - u), where P0 != 0.

    Only where t is the one knot beside P0: then nothing large is left to cancel.
    """
    result = dict(table)
    for factor in {key[0] for key in table}:
        knots = [key[1][0] for key in table if key[0] == factor and table[key]]
        steps = [k for k in knots if k.kind == "H"]
        if FREE not in knots or not steps or len(steps) + 1 != len(knots):
            continue
        both = (steps[0], _mirrored(steps[0]))
        if any(k not in both for k in steps):
            continue
        base = result.pop((factor, (FREE,)))
        for knot in both:
            key = (factor, (knot,))
            result[key] = poly.plus(base, result.get(key, {}))
    return {key: p for key, p in result.items() if p}
