"""Expectations as derivatives by a correlation, which they multiply the change of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from tensorprog.symbolic.expectation import Expectation, Moved, Numerical, Request, picked, picked_params
from tensorprog.symbolic.moments import Moments
from tensorprog.symbolic.orthant import Array, minor
from tensorprog.symbolic.points import has_dirac

RESOLVED = 1e-12
"""The error of a derivative that is good enough, relative to root mean squares."""


@final
@dataclass(frozen=True, slots=True)
class Bounded:
    """`inner` of one argument on each side, and 0 where these are at correlation 1 or -1."""

    inner: Expectation

    @property
    def request(self) -> Request:
        """What is computed."""
        return self.inner.request

    @property
    def tier(self) -> str:
        """That of the inner expectation."""
        return self.inner.tier

    def describe(self) -> str:
        """See `Expectation.describe`."""
        return self.inner.describe()

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """See `Expectation.evaluate`."""
        singular = np.broadcast_to(minor(*(moments.cov(i, j) for i, j in ((0, 0), (1, 1), (0, 1)))) == 0, moments.shape)
        value, error = np.zeros(moments.shape), np.zeros(moments.shape)
        if not singular.all():
            regular = picked(moments, ~singular), picked_params(params, ~singular)
            value[~singular], error[~singular] = self.inner.evaluate(*regular)
        return value, error


def resolved(expectation: Expectation) -> Expectation:
    """The expectation as a derivative, of which errors of 1e-12 of the bound of Cauchy and Schwarz are good enough.

    E[f' g'] passes through zero between examples, where an error relative to itself would take nested rules for each
    pair.  In the derivative of a kernel it stands beside the derivatives at equal examples, in which it is that bound.
    """
    if isinstance(expectation, Moved | Bounded):
        return replace(expectation, inner=resolved(expectation.inner))
    if isinstance(expectation, Numerical):
        return replace(expectation, rule=replace(expectation.rule, floor=RESOLVED))
    return expectation


def bounded(expectation: Expectation) -> Expectation:
    """The expectation, bounded where it can be infinite."""
    r = expectation.request
    two = (len(r.left_args), len(r.right_args)) == (1, 1)
    return Bounded(expectation) if two and has_dirac(r.left) and has_dirac(r.right) else expectation
