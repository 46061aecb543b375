"""Functions of two norms and an angle as polynomials, and the machine code that evaluates them for all pairs.

    f(q, q', c) = sum over n, a, b of A[n, a, b] x^n s^a s'^b,        |c| <= FAR
    x = arcsin(c) / arcsin(FAR),      s = (log q - middle) / half,    q a squared norm

A kernel of kinked functions has branch points just beyond c = 1 and -1 where norms differ, so that pairs near these are
left out.  In between it is analytic at any depth; polynomials interpolate at the extrema of those of Chebyshev.  Terms
with b > m (1 - n / (N + 1)) are as small as those beyond the degrees N and m, and are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import NDArray

from tensorprog.backend.build import is_built, load
from tensorprog.backend.cosine import Part

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sampled = Callable[[Floats, Ints, Ints, Floats], Floats]
"""The functions [functions, P] at squared norms q[i[p]], q[j[p]] and cosines c[p], of (q, i, j, c)."""

FAR = 0.95
"""Cosines up to which there are polynomials."""
EDGE = float(np.arcsin(FAR))
SHAPES = {"float32": ((12, 4), (16, 4), (20, 4), (16, 6), (20, 6), (20, 8), (28, 6), (28, 10))}
"""Degrees N and m that are tried, those with few terms first."""
TOLERANCES = {"float32": 4e-7}
"""The error of a table relative to the largest value of its function."""
ROUNDING = {"float32": 2e-7}
"""That of its evaluation; measured, with a reserve."""
ROOTS = {"float32": 9}
"""The degree of arccos(1 - z) / sqrt(z) in z."""
PART = 256
"""Examples whose coefficients are computed at a time: so few that BLAS takes one thread, others would cost more."""
EQUAL = 16
"""The degree in s of a function at equal arguments."""
RESERVE = 2.0
"""The errors told are so many times the deviations seen, between the nodes."""


@final
@dataclass(frozen=True, slots=True)
class Table:
    """coefficients [function, a, term], the terms (n, b) of `shape` in their order; `equal` [function, power of s] is
    f(q, q, 1).  Squared norms have logarithms middle - half to middle + half; `errors` are absolute bounds."""

    shape: tuple[int, int]
    dtype: str
    middle: float
    half: float
    coefficients: Floats
    equal: Floats
    errors: Floats

    def places(self, squares: Floats) -> Floats:
        """s of squared norms."""
        places: Floats = (np.log(squares) - self.middle) / self.half
        return places

    def on_diagonal(self, places: Floats) -> Floats:
        """f(q, q, 1) [functions, P]."""
        return np.stack([np.polynomial.polynomial.polyval(places, c) for c in self.equal])

    def rows(self, places: Floats) -> NDArray[Any]:
        """[function, row, term]: coefficients of the polynomials of s' and x for left examples at some places."""
        functions, powers, terms = self.coefficients.shape
        rows: NDArray[Any] = np.empty((functions, len(places), terms), self.dtype)
        for k in range(0, len(places), PART):
            part = slice(k, k + PART)
            rows[:, part] = np.vander(places[part], powers, increasing=True) @ self.coefficients
        return rows

    def write(
        self, part: Part, rows: NDArray[Any], places: NDArray[Any], kernels: tuple[Floats, ...]
    ) -> tuple[Ints, Ints]:
        """Write a part of the kernels, from the `rows` of all left and the `places` of all right examples.

        Returns the pairs that are left out.
        """
        outside = np.zeros(len(part.cosines), dtype=np.int64)
        corner = part.rows.start, part.cols.start
        load(source(self.shape, self.dtype)).write(part.cosines, rows, places, kernels, outside, *corner, part.mirrored)
        part.turned_over(kernels)
        i = np.flatnonzero(outside)
        far, j = np.nonzero(np.abs(part.cosines[i]) > np.dtype(self.dtype).type(FAR))
        i, j = i[far] + part.rows.start, j + part.cols.start
        chosen = (i < j) | (not part.mirrored)
        return i[chosen], j[chosen]


def is_ready(dtype: str) -> bool:
    """Whether machine code for some degrees is on disk; making it takes seconds."""
    return any(is_built(source(shape, dtype)) for shape in SHAPES[dtype])


# ---------------------------------------------------------------- interpolation


def tabulate(function: Sampled, low: float, high: float, dtype: str) -> Table | None:
    """The table for squared norms between two; None where no degrees are accurate enough."""
    middle, half = (np.log(low) + np.log(high)) / 2, (np.log(high) - np.log(low)) / 2

    def squares(places: Floats) -> Floats:
        q: Floats = np.exp(middle + half * places)
        return q

    equal = _on_diagonal(function, squares)
    for shape in SHAPES[dtype]:
        found = _of_shape(function, squares, shape)
        largest = np.maximum(found[2], np.abs(equal[0]).sum(axis=1))
        errors = RESERVE * np.maximum(found[1], equal[1]) + ROUNDING[dtype] * largest
        if (errors <= (TOLERANCES[dtype] + ROUNDING[dtype]) * largest).all():
            return Table(shape, dtype, middle, half, found[0], equal[0], errors)
    return None


def _on_diagonal(function: Sampled, squares: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
    """The polynomials [function, power] of f(q, q, 1), and their largest deviations."""
    places = np.concatenate([_nodes(EQUAL), _between(EQUAL)])
    same = np.arange(len(places))
    values = function(squares(places), same, same, np.ones(len(places)))
    coefficients = _as_powers(_interpolated(values[:, : EQUAL + 1], 1), 1)
    found = coefficients @ np.vander(places, EQUAL + 1, increasing=True).T
    return coefficients, np.abs(found - values).max(axis=1)


def _of_shape(
    function: Sampled, squares: Callable[[Floats], Floats], shape: tuple[int, int]
) -> tuple[Floats, Floats, Floats]:
    """Coefficients [function, a, term], the largest deviations and values of each function."""
    n, m = shape
    q = squares(np.concatenate([_nodes(m), _between(m)]))
    values = _on_grid(function, q, np.arange(m + 1), _nodes(n))
    every = values
    for axis in (1, 2, 3):
        every = _interpolated(every, axis)
    every = every.swapaxes(2, 3) * (np.arange(m + 1) < np.array(widths(shape))[:, None])
    for axis in (1, 2, 3):
        every = _as_powers(every, axis)
    true = _on_grid(function, q, np.arange(m + 1, len(q)), _between(n))
    left, x = np.vander(_between(m), m + 1, increasing=True), np.vander(_between(n), n + 1, increasing=True)
    found = np.einsum("fANB,aA,bB,nN->fabn", every, left, left, x, optimize=True)
    terms = np.concatenate([every[:, :, k, :w] for k, w in enumerate(widths(shape))], axis=2)
    return terms, np.abs(found - true).max(axis=(1, 2, 3)), np.abs(values).max(axis=(1, 2, 3))


def _on_grid(function: Sampled, squares: Floats, chosen: Ints, x: Floats) -> Floats:
    """The functions [function, chosen, chosen, x]."""
    i, j, k = (g.ravel() for g in np.meshgrid(chosen, chosen, np.arange(len(x)), indexing="ij"))
    return function(squares, i, j, np.sin(EDGE * x)[k]).reshape(-1, len(chosen), len(chosen), len(x))


def _nodes(degree: int) -> Floats:
    nodes: Floats = -np.cos(np.pi * np.arange(degree + 1) / degree)
    return nodes


def _between(degree: int) -> Floats:
    between: Floats = -np.cos(np.pi * (np.arange(degree) + 0.5) / degree)
    return between


def _interpolated(values: Floats, axis: int) -> Floats:
    """Values at the nodes along an axis as coefficients of Chebyshev polynomials."""
    degree = values.shape[axis] - 1
    inverse: Floats = np.linalg.inv(np.asarray(chebyshev.chebvander(_nodes(degree), degree), dtype=np.float64))
    return np.moveaxis(inverse @ np.moveaxis(values, axis, -2), -2, axis)


def _as_powers(coefficients: Floats, axis: int) -> Floats:
    """Coefficients of Chebyshev polynomials along an axis as those of powers."""
    count = coefficients.shape[axis]
    powers = np.zeros((count, count))
    for k in range(count):
        powers[: k + 1, k] = chebyshev.cheb2poly([0.0] * k + [1.0])
    return np.moveaxis(powers @ np.moveaxis(coefficients, axis, -2), -2, axis)


def widths(shape: tuple[int, int]) -> list[int]:
    """The number of powers of s' beside each power of x."""
    n, m = shape
    return [1 + int(np.ceil(m * (1 - k / (n + 1)))) for k in range(n + 1)]


# ---------------------------------------------------------------- machine code


@cache
def source(shape: tuple[int, int], dtype: str) -> str:
    """The code for polynomials of these degrees."""
    z = (1 + _nodes(ROOTS[dtype])) / 2
    ratio = np.where(z > 0, 2 * np.arcsin(np.sqrt(z / 2)) / np.sqrt(np.where(z > 0, z, 1.0)), np.sqrt(2))
    root = Polynomial(_as_powers(_interpolated(ratio[:, None], 0), 0)[:, 0] / EDGE, domain=(0, 1)).convert().coef
    start = np.cumsum([0, *widths(shape)])
    inner = [_horner([f"c[{start[k] + b}]" for b in range(w)], "t") for k, w in enumerate(widths(shape))]
    return TEMPLATE.format(
        dtype=dtype, far=FAR, quarter=np.pi / 2 / EDGE,
        root=_lines("h", [f"T({float(r)!r})" for r in root], "z", 12), value=_lines("y", inner, "u", 16),
    )


def _horner(coefficients: Sequence[str], variable: str) -> str:
    text = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        text = f"({text} * {variable} + {c})"
    return text


def _lines(name: str, coefficients: Sequence[str], variable: str, indent: int) -> str:
    """Assignments that evaluate a polynomial."""
    lines = [f"{name} = {coefficients[-1]}"]
    lines += [f"{name} = {name} * {variable} + {c}" for c in reversed(coefficients[:-1])]
    return "\n".join(" " * indent + line for line in lines)


TEMPLATE = '''"""Polynomials of two norms and an angle."""

import math

import numpy as np
from numba import njit

OPTIONS = {{"error_model": "numpy", "nogil": True, "cache": True}}
T = np.{dtype}
ZERO, ONE, FAR, QUARTER = T(0.0), T(1.0), T({far}), T({quarter!r})


@njit(fastmath={{"contract"}}, **OPTIONS)
def write(cosines, rows, places, outs, outside, start, first, mirrored):
    high, cols = cosines.shape
    line = np.empty(cols, T)
    for i in range(high):
        low = min(cols, max(0, start + i + 1 - first)) if mirrored else 0
        cosine, x, right = cosines[i, low:], line[low:], places[first + low : first + cols]
        count = 0
        for j in range(len(cosine)):
            c = cosine[j]
            z = max(ZERO, ONE - abs(c))
{root}
            x[j] = math.copysign(QUARTER - math.sqrt(z) * h, c)
            count += abs(c) > FAR
        outside[i] = count
        for f in range(len(outs)):
            c, row = rows[f, start + i], outs[f][start + i, first + low : first + cols]
            for j in range(len(row)):
                u, t = x[j], right[j]
{value}
                row[j] = y

'''
