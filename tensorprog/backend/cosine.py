"""Functions of one cosine as piecewise polynomials, and the machine code that evaluates them for all pairs.

    f(c) = p_k(sqrt(1 - c)) for c >= 0,   q_k(sqrt(1 + c)) for c < 0,   k the interval of the root

Kernels have branch points of square-root type at c = 1 and -1; in the roots they are analytic there, at any depth.  The
intervals are of equal length, polynomials of degree `DEGREE` interpolate at the extrema of Chebyshev polynomials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.build import is_built, load
from tensorprog.backend.mirror import mirror

Floats = NDArray[np.float64]
DEGREE = 6
COUNTS = (16, 32, 64, 128)
"""Numbers of intervals that are tried."""
NODES = 0.5 - 0.5 * np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
"""Where they agree; the ends are among them, so that values at equal and opposite examples are exact."""

PROBES = 0.5 - 0.5 * np.cos(np.pi * (np.arange(1, DEGREE) + 0.5) / DEGREE)
"""Where in every interval the polynomials are compared with the function: between the nodes, where they are farthest.
Not between the first two: near cosine 1 the tape itself knows angles to 1e-16 / angle only."""
RESERVE = 2.0
"""The errors told are so many times the deviations seen."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """The cosines of some rows and columns; where `mirrored`, those below the diagonal are left to their mirror
    images."""

    rows: slice
    cols: slice
    mirrored: bool
    cosines: NDArray[Any]

    def turned_over(self, kernels: tuple[NDArray[Any], ...]) -> None:
        """The mirror images of what was computed."""
        for kernel in kernels if self.mirrored else ():
            mirror(kernel, self.rows.start, self.rows.stop, self.cols.start, self.cols.stop)


@final
@dataclass(frozen=True, slots=True)
class Table:
    """coefficients [function, sign, interval, power]; `errors` are bounds from the deviations at the
    probes, `ends` the values at cosine 1 and -1, [function, 2]."""

    coefficients: Floats
    errors: Floats
    ends: Floats

    def write(self, part: Part, scale: tuple[Floats, Floats], kernels: tuple[Floats, ...]) -> None:
        """kernels[f][i, j] = scale[0][f, i] * scale[1][f, j] * f(cosine) for the pairs of a part."""
        where = part.rows.start, part.cols.start, part.mirrored
        load(SOURCE).write(self.coefficients, part.cosines, *scale, kernels, *where)
        part.turned_over(kernels)


def is_ready() -> bool:
    """Whether the machine code is on disk; making it takes a second."""
    return is_built(SOURCE)


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
        errors = RESERVE * np.abs(found - values[..., len(NODES) :]).max(axis=(1, 2, 3))
        if (errors <= tolerance * np.abs(values).max(axis=(1, 2, 3))).all():
            return Table(np.ascontiguousarray(np.moveaxis(coefficients, -1, 0)), errors, values[:, :, 0, 0])
    return None


_HORNER = "\n".join(f"                y = y * x + table[k + {n}]" for n in reversed(range(DEGREE)))

SOURCE = f'''"""Piecewise polynomials of a cosine."""

import math

import numpy as np
from numba import njit

OPTIONS = {{"error_model": "numpy", "nogil": True, "cache": True}}


@njit(fastmath={{"contract"}}, **OPTIONS)
def write(coefficients, cosines, left, right, outs, start, first, mirrored):
    count, cols = coefficients.shape[2], cosines.shape[1]
    at, local = np.empty(cols, np.int64), np.empty(cols)
    for i in range(cosines.shape[0]):
        low = min(cols, max(0, start + i - first)) if mirrored else 0
        cosine = cosines[i, low:]
        for j in range(len(cosine)):
            c = max(-1.0, min(1.0, cosine[j]))
            root = math.sqrt(1.0 - abs(c)) * count
            k = min(int(root), count - 1)
            at[j] = (k + (count if c < 0.0 else 0)) * {DEGREE + 1}
            local[j] = 2.0 * (root - k) - 1.0
        for f in range(len(outs)):
            table, row = coefficients[f].ravel(), outs[f][start + i, first + low : first + cols]
            scale, weights = left[f, start + i], right[f, first + low : first + cols]
            for j in range(len(row)):
                k, x = at[j], local[j]
                y = table[k + {DEGREE}]
{_HORNER}
                row[j] = y * scale * weights[j]
'''
