"""Where a function of several variables bends: the planes on which it has kinks or changes within a short distance.

A kink is the zero set of an argument of abs, sign, step, max, min or of a comparison; a maximum inside one is
replaced by each of its branches.  A smooth primitive of an affine form changes within a distance of about 1 of
the zero of that form, and a fraction or logarithm of exponentials where two exponents are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from typing import final

import numpy as np

from tensorprog.ir.expr import ZERO, Expr, Num, Op, evaluate, neg, num, rebuild, sub, symbols
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.symbolic.kinks import KINKED, Function, kinks
from tensorprog.symbolic.orthant import Array

BRANCHES = 64
LEVELS = {"sign": (-1, 1), "step": (0, 1), "gt": (0, 1), "ge": (0, 1), "lt": (0, 1), "le": (0, 1)}


@final
@dataclass(frozen=True, slots=True)
class Plane:
    """slope . x + offset = 0; `softness` is 0 for a kink, else the distance, in the form's units, of the change."""

    slope: Array
    offset: float
    softness: float


@final
@dataclass(frozen=True, slots=True)
class Bends:
    """The planes of a function, and whether it has kinks along surfaces that are not planes."""

    planes: tuple[Plane, ...]
    curved: bool


def bends(e: Expr, args: tuple[str, ...], env: Mapping[str, float]) -> Bends:
    """The planes of `e` as a function of `args`; parameters are the numbers `env`."""
    reader = _Reader(args, env)
    hard = [p for switch in _switches(e) for p in reader.kinks_of(switch)]
    soft = [p for form in _soft_forms(e) for p in reader.changes_of(form)]
    planes = [p for p in (*hard, *soft) if p is not None]
    return Bends(tuple(_distinct(planes)), None in hard)


def _distinct(planes: list[Plane]) -> Iterator[Plane]:
    seen = set()
    for p in planes:
        size = p.slope[np.flatnonzero(p.slope)[0]]
        key = (p.softness > 0, *np.round(np.append(p.slope, p.offset) / size, 12))
        if key not in seen:
            seen.add(key)
            yield p


@final
@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads affine forms of `args` off an expression by its values."""

    args: tuple[str, ...]
    env: Mapping[str, float]

    def plane(self, form: Expr, softness: float) -> Plane | None:
        """The plane form = 0; None when the form is constant or not affine."""
        n = len(self.args)
        points = np.concatenate([np.zeros((1, n)), np.eye(n), _PROBES[:, :n]])
        with np.errstate(all="ignore"):
            values = self._value(form, points.T)
        slope, offset = values[1 : n + 1] - values[0], values[0]
        line = offset + _PROBES[:, :n] @ slope
        if not np.allclose(values[n + 1 :], line, rtol=1e-9, atol=1e-12 * np.max(np.abs(values))):
            return None
        slope = np.where(np.abs(slope) > 1e-14 * np.max(np.abs(slope)), slope, 0.0)
        return Plane(slope, float(offset), softness) if np.any(slope) else None

    def kinks_of(self, switch: Expr) -> list[Plane | None]:
        """The planes on which a switch changes its sign; None among them when there are other surfaces."""
        support = [i for i, a in enumerate(self.args) if a in symbols(switch)]
        if len(support) == 1:
            return list(self._axis_planes(switch, support[0]))
        found = [self.plane(b, 0.0) for b in _branches(switch) if symbols(b) & set(self.args)]
        return [p for p in found if p is None or np.any(p.slope)]

    def changes_of(self, form: Expr) -> Iterator[Plane]:
        """Where a form that is the argument of a smooth function is about 0."""
        support = [i for i, a in enumerate(self.args) if a in symbols(form)]
        plane = self.plane(form, 1.0) if support else None
        if plane is not None:
            yield plane
        elif support:
            if len(support) == 1:
                yield from self._axis_changes(form, support[0])
            for i in support:
                yield Plane(np.eye(len(self.args))[i], 0.0, self._distance(form, i))

    def _axis_planes(self, switch: Expr, i: int) -> Iterator[Plane]:
        for t in self._zeros(switch, i):
            yield Plane(np.eye(len(self.args))[i], -t, 0.0)

    def _axis_changes(self, form: Expr, i: int) -> Iterator[Plane]:
        """The zeros of a form of one argument, as soft as it is steep."""
        f = self._along(i)(form)
        for t in self._zeros(form, i):
            h = 1e-5 * (1 + abs(t))
            slope = abs(float(np.diff(f(np.array([t - h, t + h])))[0])) / (2 * h)
            if slope:
                yield Plane(np.eye(len(self.args))[i], -t, 1 / slope)

    def _distance(self, form: Expr, i: int) -> float:
        """How far from the origin along an axis a form changes by 1."""
        steps = 2.0 ** np.arange(-20, 10)
        f = self._along(i)(form)
        with np.errstate(all="ignore"):
            changed = np.abs(f(steps) - f(np.zeros(1))) >= 1
        return float(steps[np.argmax(changed)]) if np.any(changed) else 1.0

    def _zeros(self, form: Expr, i: int) -> tuple[float, ...]:
        with np.errstate(all="ignore"):
            return kinks(Op("sign", (form,)), self._along(i))

    def _along(self, i: int) -> Callable[[Expr], Function]:
        """Expressions as functions of the i-th argument, the others at 0."""
        origin = {**dict.fromkeys(self.args, 0.0), **self.env}

        def read(e: Expr) -> Function:
            return lambda x: np.broadcast_to(np.asarray(evaluate(e, {**origin, self.args[i]: x}), float), x.shape)

        return read

    def _value(self, e: Expr, x: Array) -> Array:
        env = {**self.env, **dict(zip(self.args, x, strict=True))}
        return np.broadcast_to(np.asarray(evaluate(e, env), dtype=float), x.shape[1:])


_PROBES = np.random.default_rng(5).normal(size=(4, 8)) * 3.0


def _switches(e: Expr) -> Iterator[Expr]:
    """The differences whose signs decide, in all subexpressions."""
    if not isinstance(e, Op):
        return
    for a in e.args:
        yield from _switches(a)
    if e.fn in KINKED:
        yield e.args[0] if len(e.args) == 1 else _difference(*e.args)


def _difference(a: Expr, b: Expr) -> Expr:
    """a - b, or what has the same sign: equal monotone functions are peeled off."""
    if isinstance(a, Op) and isinstance(b, Op) and a.fn == b.fn and a.fn in FUNCTIONS and a.fn not in KINKED:
        f = FUNCTIONS[a.fn]
        if f.monotone and f.arity == 1:
            return _difference(a.args[0], b.args[0])
    return sub(a, b)


def _branches(e: Expr) -> list[Expr]:
    """The expression with every maximum, absolute value and step replaced by each of its branches."""
    if not isinstance(e, Op):
        return [e]
    if e.fn in LEVELS:
        return [num(v) for v in LEVELS[e.fn]]
    parts = [_branches(a) for a in e.args]
    if e.fn in ("max", "min"):
        return [*parts[0], *parts[1]]
    if e.fn == "abs":
        return [*parts[0], *map(neg, parts[0])]
    if np.prod([len(p) for p in parts]) > BRANCHES:
        return [e]
    return [rebuild(e.fn, choice) for choice in product(*parts)]


def _soft_forms(e: Expr) -> Iterator[Expr]:
    """The arguments of smooth primitives, differences of exponents in fractions, bases of powers."""
    if not isinstance(e, Op):
        return
    for a in e.args:
        yield from _soft_forms(a)
    if e.fn in FUNCTIONS and e.fn not in KINKED and e.fn != "stop" and FUNCTIONS[e.fn].arity == 1:
        yield from _branches(_hinged(e.args[0]))
    if e.fn == "log" or (e.fn == "pow" and not _is_natural(e.args[1])):
        for a, b in combinations(_exponents(e.args[0]), 2):
            yield from _branches(sub(a, b))
        yield from _branches(e.args[0])


def _hinged(e: Expr) -> Expr:
    """softplus as the maximum that it follows: for places of changes, which need not be exact."""
    if not isinstance(e, Op):
        return e
    args = tuple(_hinged(a) for a in e.args)
    return rebuild("max", (*args, ZERO)) if e.fn == "softplus" else rebuild(e.fn, args)


def _is_natural(e: Expr) -> bool:
    return isinstance(e, Num) and e.value >= 0 and e.value == int(e.value)


def _exponents(e: Expr) -> list[Expr]:
    """The exponents of the terms of a sum; 0 for a term without exponential."""
    terms = e.args if isinstance(e, Op) and e.fn == "add" else (e,)
    return [_exponent(t) for t in terms]


def _exponent(term: Expr) -> Expr:
    factors = term.args if isinstance(term, Op) and term.fn == "mul" else (term,)
    exponents = [f.args[0] for f in factors if isinstance(f, Op) and f.fn == "exp"]
    return rebuild("add", tuple(exponents)) if exponents else ZERO
