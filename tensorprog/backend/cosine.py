"""Functions of one cosine as piecewise polynomials, and the machine code that evaluates them for all pairs.

    f(c) = p_k(sqrt(1 - c)) for c >= 0,   q_k(sqrt(1 + c)) for c < 0,   k the interval of the root

Kernels have branch points of square-root type at c = 1 and -1; in the roots they are analytic there, at any depth.  The
intervals are of equal length, polynomials of degree `DEGREE` interpolate at the extrema of Chebyshev polynomials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.build import is_built, load

Floats = NDArray[np.float64]
DEGREE = 9
COUNTS = (16, 64)
"""Numbers of intervals that are tried."""
PROBES = np.array([0.11, 0.29, 0.5, 0.71, 0.94])
"""Where in every interval the polynomials are compared with the function."""
NODES = 0.5 - 0.5 * np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
"""Where they agree; the ends are among them, so that values at equal and opposite examples are exact."""


@final
@dataclass(frozen=True, slots=True)
class Table:
    """coefficients [sign, interval, power, function]; `errors` are the largest deviations at the probes, and `ends` the
    values at cosine 1 and -1, [function, 2]."""

    coefficients: Floats
    errors: Floats
    ends: Floats

    def write(self, function: int, cosines: Floats, left: Floats, right: Floats, out: Floats) -> None:
        """out[i, j] = left[i] * right[j] * f(cosines[i, j])"""
        load(SOURCE).write(self.coefficients[..., function].copy(), cosines, left, right, out)


def is_ready() -> bool:
    """Whether the machine code is on disk; making it takes a second."""
    return is_built(SOURCE)


def mirror(square: Floats, start: int, end: int) -> None:
    """Below the rows from `start` to `end` of a symmetric matrix, what they have right of them."""
    load(SOURCE).mirror(square, start, end)


def tabulate(function: Callable[[Floats], Floats], tolerance: float) -> Table | None:
    """The table of functions of cosines, [P] -> [functions, P]; None where an error is above `tolerance` times the
    largest value of its function."""
    for count in COUNTS:
        interval = np.arange(count)[:, None]
        roots = (interval + np.concatenate([NODES, PROBES])) / count
        cosines = np.stack([1 - roots**2, roots**2 - 1])
        values = function(cosines.ravel()).reshape(-1, *cosines.shape)
        local = 2 * (np.sqrt(1 - np.abs(cosines)) * count - interval) - 1  # of the cosines as they were rounded
        powers = local[..., None] ** np.arange(DEGREE + 1)
        coefficients = np.linalg.solve(powers[:, :, : len(NODES)], np.moveaxis(values[..., : len(NODES)], 0, -1))
        found = np.einsum("skpd,skdf->fskp", powers[:, :, len(NODES) :], coefficients)
        errors = np.abs(found - values[..., len(NODES) :]).max(axis=(1, 2, 3))
        if (errors <= tolerance * np.abs(values).max(axis=(1, 2, 3))).all():
            return Table(np.ascontiguousarray(coefficients), errors, values[:, :, 0, 0])
    return None


_HORNER = "\n".join(f"            y = y * x + table[k + {n}]" for n in reversed(range(DEGREE)))

SOURCE = f'''"""Piecewise polynomials of a cosine."""

import math

import numpy as np
from numba import njit

OPTIONS = {{"error_model": "numpy", "nogil": True, "cache": True}}


@njit(fastmath={{"contract"}}, **OPTIONS)
def write(coefficients, cosines, left, right, out):
    count, cols = coefficients.shape[1], cosines.shape[1]
    table = coefficients.ravel()
    at, local = np.empty(cols, np.int64), np.empty(cols)
    for i in range(cosines.shape[0]):
        scale = left[i]
        for j in range(cols):
            c = max(-1.0, min(1.0, cosines[i, j]))
            root = math.sqrt(1.0 - abs(c)) * count
            k = min(int(root), count - 1)
            at[j] = (k + (count if c < 0.0 else 0)) * {DEGREE + 1}
            local[j] = 2.0 * (root - k) - 1.0
        for j in range(cols):
            k, x = at[j], local[j]
            y = table[k + {DEGREE}]
{_HORNER}
            out[i, j] = y * scale * right[j]


@njit(**OPTIONS)
def mirror(square, start, end):
    for a in range(end, square.shape[1], 32):
        for i in range(start, end):
            for j in range(a, min(a + 32, square.shape[1])):
                square[j, i] = square[i, j]
'''
