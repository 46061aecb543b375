"""Functions of many deviations from those of a few: expectations are smooth in the logarithm of the deviation.

Chebyshev interpolation; what its last coefficients hold is the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.polynomial.chebyshev import chebval

from tensorprog.symbolic.orthant import Array

NODES = (16, 24, 64)
SPREAD = 1.0  # in logarithms: deviations within a factor of e^2
VANISHED = 4e-15


@final
@dataclass(frozen=True, slots=True)
class Values:
    """Functions [K, N] of N deviations, sizes [K] relative to which they are wanted, and errors [N] of the first."""

    functions: Array
    sizes: Array
    errors: Array


@final
@dataclass(frozen=True, slots=True)
class Interpolant:
    """Chebyshev coefficients [K, n] of K functions, where in [-1, 1] the N deviations are, and the error of the first.

    That is the worst of the few, and what the last coefficients of any function hold relative to its size.
    """

    coefficients: Array
    at: Array
    error: float

    def all(self) -> Array:
        """The functions [K, N]."""
        orders = np.arange(self.coefficients.shape[1])
        return np.asarray(self.coefficients @ np.cos(np.outer(orders, np.arccos(np.clip(self.at, -1, 1)))))

    def first(self) -> Array:
        """The first function [N], to the last bit the same whichever deviations stand beside."""
        return np.asarray(chebval(self.at, self.coefficients[0]))


def interpolated(deviation: Array, values: Callable[[Array], Values]) -> Interpolant | None:
    """The functions with these values at some deviations; None where they are too far apart or it does not converge."""
    logs = np.log(deviation)
    middle, half = 0.5 * (logs.max() + logs.min()), 0.5 * np.ptp(logs)
    if not 0 < half < SPREAD:
        return None
    for n in NODES:
        angles = np.pi * (np.arange(n) + 0.5) / n
        few = values(np.exp(middle + half * np.cos(angles)))
        waves = np.cos(np.outer(angles, np.arange(n))) * np.where(np.arange(n) == 0, 1.0, 2.0) / n
        chebyshev = few.functions @ waves
        last = np.abs(chebyshev[:, -3:]).sum(axis=1)
        if np.all(last <= VANISHED * few.sizes):
            error = float(np.max(few.errors) + np.max(last / few.sizes) * few.sizes[0])
            return Interpolant(chebyshev, (logs - middle) / half, error)
    return None
