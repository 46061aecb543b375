"""Tilting: a Gaussian law times exp of a polynomial of degree 2 is a Gaussian law again (completing the square)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog.errors import fail
from tensorprog.symbolic.gates import Group
from tensorprog.symbolic.law import Law
from tensorprog.symbolic.orthant import Array, array, is_array
from tensorprog.symbolic.weights import Params, Weights, exponents, number


@final
@dataclass(frozen=True, slots=True)
class Mass:
    """factor * exp(exponent): what a tilt divided by; the factor is a product of roots, which need no logarithm."""

    exponent: Array
    factor: Array

    @property
    def value(self) -> Array:
        """The mass itself."""
        return array(self.factor * np.exp(self.exponent))

    @property
    def log(self) -> Array:
        """Its logarithm."""
        return array(self.exponent + np.log(self.factor))


def tilted(law: Law, a: Group, b: Group, params: Params) -> tuple[Law, Mass]:
    """The law times the exponentials of both groups, normalized, and its mass."""
    mass = Mass(np.zeros(()), np.ones(()))
    for q, direction in _quadratics(a, b, params):  # first, so that the linear part meets the small covariance
        law, mass = _tilt_quadratic(law, mass, q, direction)
    law, more = _tilt_linear(law, _linear(a, b, params))
    return law, Mass(array(mass.exponent + more), mass.factor)


def _linear(a: Group, b: Group, params: Params) -> Weights:
    """The linear part of the exponent: {variable: weight}."""
    return {p.index(1): number(c, params) for p, c in exponents(a, b) if sum(p) == 1}


def _quadratics(a: Group, b: Group, params: Params) -> list[tuple[Any, tuple[float, ...]]]:
    """The quadratic part as -q z^2 / 2 with z = direction . x; x_i x_j is a difference of two squares."""
    found: list[tuple[Any, tuple[float, ...]]] = []
    for powers, c in exponents(a, b):
        if sum(powers) != 2:
            continue
        weight = number(c, params)
        if 2 in powers:
            found.append((-2 * weight, tuple(float(p == 2) for p in powers)))
        else:
            i, j = (k for k, p in enumerate(powers) if p)
            for sign in (1.0, -1.0):
                direction = tuple(1.0 if k == i else sign if k == j else 0.0 for k in range(len(powers)))
                found.append((-0.5 * sign * weight, direction))
    return sorted(found, key=lambda t: -float(np.min(t[0])))


def _tilt_linear(law: Law, weights: Weights) -> tuple[Law, Array]:
    """exp(w.x): mean + cov w, and log mass w.mean + w cov w / 2."""
    if not weights:
        return law, np.zeros(())
    shift = [sum(row[i] * w for i, w in weights.items()) for row in law.cov]
    log = sum(w * (law.mean[i] + 0.5 * shift[i]) for i, w in weights.items())
    return Law([m + s for m, s in zip(law.mean, shift, strict=True)], law.cov), array(log)


def _tilt_quadratic(law: Law, mass: Mass, q: Any, direction: tuple[float, ...]) -> tuple[Law, Mass]:
    """exp(-q z^2 / 2), z = direction . x with mean m and variance v: everything shrinks by 1 / (1 + q v)."""
    n = range(len(law.mean))
    with_z = [sum(law.cov[i][j] * d for j, d in enumerate(direction) if d) for i in n]
    mean = sum(law.mean[j] * d for j, d in enumerate(direction) if d)
    variance = sum(with_z[j] * d for j, d in enumerate(direction) if d)
    growth = 1 + q * variance
    if is_array(growth) and np.any(growth <= 0):
        raise fail("the expectation diverges: exp of a quadratic form that grows faster than the Gaussian decays")
    shrink = q / growth
    single = direction.index(1.0) if sum(map(abs, direction)) == 1 else None
    cov = [[_shrunk(law, i, j, single, with_z, q, growth) for j in n] for i in n]
    means = [law.mean[i] - with_z[i] * shrink * mean for i in n]
    if single is not None:
        means[single] = law.mean[single] / growth
    exponent = array(mass.exponent - 0.5 * shrink * np.square(mean))
    return Law(means, cov), Mass(exponent, array(mass.factor / np.sqrt(growth)))


def _shrunk(law: Law, i: int, j: int, single: int | None, with_z: list[Any], q: Any, growth: Any) -> Array:
    """cov_ij - cov_iz cov_jz q / growth, without cancellation where z is one of the variables."""
    if single is None:
        return array(law.cov[i][j] - with_z[i] * with_z[j] * q / growth)
    if single in (i, j):
        return array(law.cov[i][j] / growth)
    plain = law.cov[i][j] * law.cov[single][single] - with_z[i] * with_z[j]
    cross = law.covariance.minor(i, single) if i == j else plain
    return array((law.cov[i][j] + q * cross) / growth)
