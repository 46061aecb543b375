"""Expectations of polynomials times sin and cos, under gates or not: exponentials with an imaginary argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.symbolic.enlarge import enlarge
from tensorprog.symbolic.gates import Group, Knot
from tensorprog.symbolic.law import Gates, Law
from tensorprog.symbolic.orthant import EPS, Array, array
from tensorprog.symbolic.poly import Powers
from tensorprog.symbolic.tilt import Mass
from tensorprog.symbolic.weights import Params, Weights, affine, monomials, number


def turn(angle: Array, quarter: int) -> Array:
    """cos(angle - quarter * pi/2)"""
    value = np.sin(angle) if quarter % 2 else np.cos(angle)
    return array(value if quarter % 4 in (0, 1) else -value)


def wave_pair(law: Law, mass: Mass, a: Group, b: Group, params: Params) -> tuple[Array, Array]:
    """mass * E[P_a P_b cos(alpha) cos(beta)] for the waves that are there, and its rounding error."""
    phases = [
        (*affine(g.wave.form, offset, params), g.wave.quarter)
        for g, offset in ((a, 0), (b, len(a.knots)))
        if g.wave is not None
    ]
    if a.kinds or b.kinds:
        enlarged, gates = enlarge(law, a, b, params)
        moved = [_moved(phase, (*a.knots, *b.knots), params) for phase in phases]
        return _by_tilting(enlarged, gates, mass.log, list(monomials(a, b, params, len(enlarged.mean))), moved)
    terms = list(monomials(a, b, params, len(law.mean)))
    if any(any(powers) for powers, _ in terms):
        return _by_tilting(law, (), mass.log, terms, phases)
    value, scale = _mean(law, phases) if len(phases) == 1 else _product(law, phases)
    weight = sum(w for _, w in terms)
    return weight * mass.value * value, np.abs(weight) * mass.value * scale


Phase = tuple[Weights, Any, int]


def _angle(law: Law, phase: Phase) -> Array:
    return array(sum((c * law.mean[i] for i, c in phase[0].items()), start=phase[1]))


def _cov(law: Law, x: Phase, y: Phase) -> Array:
    return array(sum(c * d * law.cov[i][j] for i, c in x[0].items() for j, d in y[0].items()))


def _mean(law: Law, phases: list[Phase]) -> tuple[Array, Array]:
    """E cos(alpha) = cos(mean) exp(-var/2)"""
    (x,) = phases
    size = 0.5 * _cov(law, x, x)
    value = np.exp(-size) * turn(_angle(law, x), x[2])
    return array(value), array(4 * EPS * (1 + size) * np.abs(value))


def _product(law: Law, phases: list[Phase]) -> tuple[Array, Array]:
    """E cos(alpha) cos(beta) = exp(-(A+B)/2) (cos cos cosh C + sin sin sinh C), C = Cov(alpha, beta).

    exp(-(A+B)/2) and the hyperbolic functions are joined before they over- or underflow.
    """
    x, y = phases
    c = _cov(law, x, y)
    alpha, beta = _angle(law, x), _angle(law, y)
    half = 0.5 * ((_cov(law, x, x) - np.abs(c)) + (_cov(law, y, y) - np.abs(c)))
    even = 0.5 * (1 + np.exp(-2 * np.abs(c)))
    odd = -0.5 * np.sign(c) * np.expm1(-2 * np.abs(c))
    first = turn(alpha, x[2]) * turn(beta, y[2]) * even
    second = turn(alpha, x[2] + 1) * turn(beta, y[2] + 1) * odd
    value = np.exp(-half) * (first + second)
    return array(value), 4 * EPS * (1 + half) * np.exp(-half) * (np.abs(first) + np.abs(second))


def _moved(phase: Phase, knots: Sequence[Knot], params: Params) -> Phase:
    """The phase as a form of the centred variables, u_i = origin_i + flip_i z_i."""
    weights, const, quarter = phase
    shift = sum(w * number(knots[i].origin, params) for i, w in weights.items())
    return {i: w * number(knots[i].flip, params) for i, w in weights.items()}, const + shift, quarter


def _by_tilting(
    law: Law, gates: Gates, log: Array, terms: list[tuple[Powers, Any]], phases: list[Phase]
) -> tuple[Array, Array]:
    """Re of the moments at the complex mean  mean + i cov w,  over both signs of the second wave."""
    value, error = np.zeros(()), np.zeros(())
    signs = (1.0, -1.0) if len(phases) == 2 else (1.0,)
    for sign in signs:
        weights, angle, quarter = _joined(law, phases, sign)
        decay, tilted = law.tilted_by_wave(weights, log + 1j * angle)
        for powers, weight in terms:
            term = weight * (-1j) ** quarter * tilted.expect(powers, gates) / len(signs)
            size = np.abs(weight) * tilted.scale(powers, gates) if gates else np.abs(term)
            value = value + term.real
            error = error + size * ((8 + decay) * EPS + tilted.doubt())
    return value, error


def _joined(law: Law, phases: list[Phase], sign: float) -> tuple[Weights, Array, int]:
    """alpha + sign * beta as weights, value at the mean and quarter turns."""
    weights = dict(phases[0][0])
    angle, quarter = _angle(law, phases[0]), phases[0][2]
    for form, const, turns in phases[1:]:
        weights |= {i: sign * c for i, c in form.items()}
        angle = angle + sign * _angle(law, (form, const, turns))
        quarter += int(sign) * turns
    return weights, angle, quarter
