"""Expressions to sums of Gaussian-integrable terms.

    f(u) = sum over factors F of  P_F(u) * F(u),      P_F a polynomial,
    F    = exp(q(u)) * cos(w.u + phase) * product of gates,     q of degree 1 or 2
    gate = step | sign | dirac of an affine form, or normcdf | erf-like (soft) of one

The rules are per primitive: polynomials and products; exp of degree 2; sin and cos of affine forms by the
product formulas; erf, normcdf as soft gates; abs, max, min and comparisons as hard ones.  A function of a
piecewise argument (exp(min(u, 0))) is split into its pieces (`pieces`).  `NotClosed` means: no rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import final

from tensorprog.errors import fail
from tensorprog.ir.expr import HALF, MINUS_ONE, ONE, PI, ZERO, Expr, Num, Op, add, call, div, mul, num, power, sqrt, sub
from tensorprog.ir.expr import symbols as symbols_of
from tensorprog.symbolic import poly
from tensorprog.symbolic.pieces import DEGREE, NotClosed, count, follows, halves, point_masses, restricted
from tensorprog.symbolic.poly import Linear, Poly, Powers

LIMIT = 400  # terms of one normal form


@final
@dataclass(frozen=True, slots=True)
class Gate:
    """`kind` H: step, S: sign, D: dirac; of `form`, or of form + standard normal noise when `soft`."""

    kind: str
    form: Linear
    soft: bool = False


@final
@dataclass(frozen=True, slots=True)
class Wave:
    """cos(form - quarter * pi/2)"""

    form: Linear
    quarter: int = 0


@final
@dataclass(frozen=True, slots=True)
class Factor:
    """exp(sum of exponent) * wave * product of gates."""

    exponent: tuple[tuple[Powers, Expr], ...] = ()
    wave: Wave | None = None
    gates: tuple[Gate, ...] = ()


Form = dict[Factor, Poly]
TRIVIAL = Factor()


def normal_form(e: Expr, args: tuple[str, ...]) -> Form:
    """The normal form of `e` as a function of `args`; NotClosed when no rule applies."""
    return Normalizer(args).form(e)


@final
class Normalizer:
    """The rules for fixed arguments u = `args`; other symbols are parameters."""

    def __init__(self, args: tuple[str, ...]) -> None:
        self.args, self.n = args, len(args)
        self.names = frozenset(args)

    def form(self, e: Expr) -> Form:
        """The normal form of `e`."""
        if not self.names & symbols_of(e):
            return _clean({TRIVIAL: poly.constant(e, self.n)})
        position = poly.index(e, self.args)
        if position is not None:
            return {TRIVIAL: poly.variable(position, self.n)}
        assert isinstance(e, Op)
        rule = RULES.get(e.fn)
        if rule is None:
            raise NotClosed(e.fn)
        return rule(self, e)

    def polynomial(self, e: Expr, most: int) -> Poly | None:
        """`e` as a polynomial of at most that degree, None if it is something else."""
        form = self.form(e)
        if set(form) <= {TRIVIAL} and poly.degree(form.get(TRIVIAL, {})) <= most:
            return form.get(TRIVIAL, {})
        return None

    def affine(self, e: Expr) -> Linear | None:
        """`e` as an affine form, None if it is something else."""
        p = self.polynomial(e, 1)
        return None if p is None else poly.linear(p, self.n)

    def split(self, e: Op) -> Form:
        """The sum over the pieces of `e`, each with its half-lines as gates."""
        parts = halves(e, lambda a: self.polynomial(a, DEGREE))
        if any(count(smooth) >= count(e) for _, smooth in parts):
            raise NotClosed(e.fn)
        total: Form = {}
        for conditions, smooth in parts:
            gates = _sorted(Gate("H", c) for c in conditions)
            total = plus(total, multiply({Factor(gates=gates): poly.constant(ONE, self.n)}, self.form(smooth)))
        return total


def plus(a: Form, b: Form) -> Form:
    """a + b"""
    total = dict(a)
    for factor, p in b.items():
        total[factor] = poly.plus(total.get(factor, {}), p)
    return _clean(total)


def multiply(a: Form, b: Form) -> Form:
    """a b"""
    total: Form = {}
    for (fa, pa), (fb, pb) in product(a.items(), b.items()):
        for weight, factor in _join(fa, fb):
            total = plus(total, {factor: poly.scaled(weight, poly.times(pa, pb))})
    if len(total) > LIMIT:
        raise NotClosed("too many terms")
    return total


def scale(weight: Expr, a: Form) -> Form:
    """weight * a"""
    return _clean({f: poly.scaled(weight, p) for f, p in a.items()})


def _clean(form: Form) -> Form:
    return {f: p for f, p in form.items() if p}


def _join(a: Factor, b: Factor) -> list[tuple[Expr, Factor]]:
    """The product of two factors; two waves give two terms."""
    exponent = tuple(sorted(poly.plus(dict(a.exponent), dict(b.exponent)).items(), key=lambda t: t[0]))
    joined = _join_gates(a.gates, b.gates)
    if joined is None:
        return []
    weight, gates = joined
    if a.wave is None or b.wave is None:
        return [(weight, Factor(exponent, a.wave or b.wave, gates))]
    minus = Wave(a.wave.form.plus(b.wave.form.scaled(MINUS_ONE)), a.wave.quarter - b.wave.quarter)
    both = Wave(a.wave.form.plus(b.wave.form), a.wave.quarter + b.wave.quarter)
    return [_settled(mul(HALF, weight), Factor(exponent, wave, gates)) for wave in (minus, both)]


def _settled(weight: Expr, factor: Factor) -> tuple[Expr, Factor]:
    """A wave of a constant becomes a coefficient."""
    wave = factor.wave
    if wave is None or wave.form.support:
        return weight, factor
    value = _quarter_turn(wave.form.const, wave.quarter)
    return mul(weight, value), Factor(factor.exponent, None, factor.gates)


def _quarter_turn(angle: Expr, quarter: int) -> Expr:
    """cos(angle - quarter * pi/2), exactly."""
    value = call("cos" if quarter % 2 == 0 else "sin", angle)
    return value if quarter % 4 in (0, 1) else mul(MINUS_ONE, value)


def _join_gates(a: tuple[Gate, ...], b: tuple[Gate, ...]) -> tuple[Expr, tuple[Gate, ...]] | None:
    """Weight and gates; None where half-lines exclude each other.

    Equal hard gates: step^2 = step, sign^2 = 1 (almost everywhere).  Equal soft gates are independent noises.
    """
    common = {g for g in a if g in b and not g.soft}
    if any(g.kind == "D" for g in common):
        raise fail("the expectation diverges: the square of a point mass (derivative of a step)")
    squared = {g for g in common if g.kind == "S"}
    return _without_implied([g for g in a if g not in squared] + [g for g in b if g not in common])


def _without_implied(gates: list[Gate]) -> tuple[Expr, tuple[Gate, ...]] | None:
    """The gates without those that follow from half-lines of several arguments, None for an empty set.

    Those of one argument are merged later (`gates`).
    """
    steps = [g.form for g in gates if g.kind == "H" and not g.soft]
    if all(len(form.support) == 1 for form in steps):
        return ONE, _sorted(gates)
    kept = restricted((), steps)
    if kept is None:
        return None
    signs = {g: _sign_under(g, kept) for g in gates if g.kind == "S" and not g.soft}
    rest = (g for g in gates if signs.get(g) is None and (g.soft or g.kind != "H" or g.form in kept))
    return mul(*(s for s in signs.values() if s is not None)), _sorted(rest)


def _sign_under(gate: Gate, conditions: tuple[Linear, ...]) -> Expr | None:
    """The sign of a form where the conditions settle it."""
    if follows(gate.form, conditions):
        return ONE
    return MINUS_ONE if follows(gate.form.scaled(MINUS_ONE), conditions) else None


def _sorted(gates: Iterable[Gate]) -> tuple[Gate, ...]:
    return tuple(sorted(gates, key=repr))


# ---------------------------------------------------------------- rules

Rule = Callable[[Normalizer, Op], Form]


def _add(to: Normalizer, e: Op) -> Form:
    return reduce(plus, map(to.form, e.args))


def _mul(to: Normalizer, e: Op) -> Form:
    return reduce(multiply, map(to.form, e.args))


def _pow(to: Normalizer, e: Op) -> Form:
    base, exponent = e.args
    count = exponent.value if isinstance(exponent, Num) else None
    if isinstance(count, Fraction) and count.denominator == 1 and 0 <= count <= 64:
        return reduce(multiply, [to.form(base)] * int(count))
    if not to.names & symbols_of(base):
        return to.form(Op("exp", (mul(exponent, call("log", base)),)))
    return _power_of_exponential(to.form(base), exponent, e)


def _power_of_exponential(form: Form, exponent: Expr, e: Op) -> Form:
    """(c exp(q))^x = c^x exp(x q)"""
    if len(form) != 1:
        raise NotClosed(e.fn)
    ((factor, p),) = form.items()
    if factor.wave or factor.gates or poly.degree(p) > 0:
        raise NotClosed(e.fn)
    raised = tuple((k, mul(exponent, c)) for k, c in factor.exponent)
    return {Factor(raised): {k: power(c, exponent) for k, c in p.items()}}


def _exp(to: Normalizer, e: Op) -> Form:
    p = to.polynomial(e.args[0], 2)
    if p is None:
        return to.split(e)
    origin = (0,) * to.n
    exponent = tuple(sorted(((k, c) for k, c in p.items() if k != origin), key=lambda t: t[0]))
    return {Factor(exponent): {origin: call("exp", p.get(origin, ZERO))}}


def _wave(quarter: int) -> Rule:
    def rule(to: Normalizer, e: Op) -> Form:
        form = to.affine(e.args[0])
        if form is None:
            return to.split(e)
        return {Factor(wave=Wave(form, quarter)): poly.constant(ONE, to.n)}

    return rule


def _gate(kind: str, soft: bool = False, stretch: Expr = ONE) -> Rule:
    def rule(to: Normalizer, e: Op) -> Form:
        form = to.affine(e.args[0])
        if form is None:
            return to.split(e)
        return {Factor(gates=(Gate(kind, form.scaled(stretch), soft),)): poly.constant(ONE, to.n)}

    return rule


def _rewritten(rewrite: Callable[..., Expr]) -> Rule:
    return lambda to, e: to.form(rewrite(*e.args))


def _extreme(side: Expr) -> Rule:
    """max(x, y) = y + (x - y) step(x - y);  min(x, y) = y + (x - y) step(y - x);  y the one without arguments."""

    def rule(to: Normalizer, e: Op) -> Form:
        x, y = e.args if to.names & symbols_of(e.args[0]) else e.args[::-1]
        difference = sub(x, y)
        form = to.affine(difference)
        if form is None:
            return to.split(e)
        gate = Gate("H", form.scaled(side))
        excess = multiply(to.form(difference), {Factor(gates=(gate,)): poly.constant(ONE, to.n)})
        return plus(to.form(y), excess)

    return rule


def _dirac(to: Normalizer, e: Op) -> Form:
    p = to.polynomial(e.args[0], DEGREE)
    if p is None:
        return to.split(e)
    points = [{Factor(gates=(Gate("D", form),)): poly.constant(w, to.n)} for w, form in point_masses(p)]
    return reduce(plus, points, {})


def _abs(to: Normalizer, e: Op) -> Form:
    form = to.affine(e.args[0])
    if form is None:
        return to.split(e)
    return {Factor(gates=(Gate("S", form),)): poly.from_linear(form)}


def _almost_nowhere(value: Expr) -> Rule:
    return lambda to, e: to.form(value)


_GAUSS = num(Fraction(-1, 2))
RULES: dict[str, Rule] = {
    "add": _add,
    "mul": _mul,
    "pow": _pow,
    "exp": _exp,
    "cos": _wave(0),
    "sin": _wave(1),
    "sinh": _rewritten(lambda a: mul(HALF, sub(call("exp", a), call("exp", mul(MINUS_ONE, a))))),
    "cosh": _rewritten(lambda a: mul(HALF, add(call("exp", a), call("exp", mul(MINUS_ONE, a))))),
    "erf": _gate("S", soft=True, stretch=Num(math.sqrt(2))),
    "erfc": _rewritten(lambda a: sub(ONE, call("erf", a))),
    "normcdf": _gate("H", soft=True),
    "normpdf": _rewritten(lambda a: div(call("exp", mul(_GAUSS, power(a, num(2)))), sqrt(mul(num(2), PI)))),
    "step": _gate("H"),
    "sign": _gate("S"),
    "dirac": _dirac,
    "abs": _abs,
    "max": _extreme(ONE),
    "min": _extreme(MINUS_ONE),
    "ge": _rewritten(lambda a, b: call("step", sub(a, b))),
    "gt": _rewritten(lambda a, b: call("step", sub(a, b))),
    "le": _rewritten(lambda a, b: call("step", sub(b, a))),
    "lt": _rewritten(lambda a, b: call("step", sub(b, a))),
    "eq": _almost_nowhere(ZERO),
    "ne": _almost_nowhere(ONE),
}
