"""Expectations by Hermite series, as rows of the two examples and one instruction.

    E[f(u) g(v)] = sum_k f_k g_k rho^k          (`symbolic.series`)

The coefficients of f belong to the left example, those of g to the right one; what is left for a pair is a polynomial
in its correlation.  Entries that the series does not resolve are in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.symbolic.absorb import Absorbed
from tensorprog.symbolic.expectation import Closed, Expectation, Moved, Numerical
from tensorprog.symbolic.marginals import ACCEPT, Side, reach_of, reduced
from tensorprog.symbolic.orthant import ratio
from tensorprog.symbolic.series import ORDER
from tensorprog.tape.execute import Run

Floats = NDArray[np.float64]
HALF = 3e-9
"""A tail of a series below it, relative to the norm, is negligible times another one."""
EXTRA = 6
"""Rows beside the coefficients: those of `Marginal`."""
COUNT = ORDER + 1 + EXTRA
UNROLLED = 8
"""Coefficients taken at a time, so that sums stay in registers."""


@final
@dataclass(frozen=True, slots=True)
class Marginal:
    """One side: the function of a Gaussian symbol, and the affine map of its argument."""

    side: Side
    map: Absorbed
    reach: float


def marginals_of(e: Expectation) -> tuple[Marginal, Marginal] | None:
    """The sides of an expectation that is a series; None for any other."""
    maps = (e.left, e.right) if isinstance(e, Moved) else (Absorbed(ex.ONE), Absorbed(ex.ONE))
    inner = e.inner if isinstance(e, Moved) else e
    rule = inner.rule if isinstance(inner, Numerical) else None
    if isinstance(inner, Closed) and inner.is_slow:
        rule = inner.backup
    if rule is None or rule.factors is None or len(rule.factors) != 2:
        return None
    (i, f), (j, g) = rule.factors
    request = inner.request
    if (i, j) != (0, 1) or len(request.left_args) != 1 or len(request.right_args) != 1 or f.points or g.points:
        return None
    reach = max(reach_of(f.regular), reach_of(g.regular))
    sides = Side(f.regular, rule.args[0]), Side(g.regular, rule.args[1])
    return Marginal(sides[0], maps[0], reach), Marginal(sides[1], maps[1], reach)


def floor_of(e: Expectation) -> float:
    """The error that is good enough, relative to root mean squares, of an expectation that is a series."""
    inner = e.inner if isinstance(e, Moved) else e
    rule = inner.backup if isinstance(inner, Closed) else inner.rule if isinstance(inner, Numerical) else None
    assert rule is not None
    return rule.floor


def params_of(m: Marginal) -> frozenset[str]:
    """The parameters inside the function itself, which must be numbers here."""
    return ex.symbols(m.side.e) - {m.side.arg}


@final
@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Row start + k * entries + entry: coefficient k; after them sign / deviation, mean, root of the norm, root of the
    rest, error, and the order from which the coefficients are negligible."""

    start: int
    marginal: Marginal
    mean: Ints | float
    second: Ints
    params: Mapping[str, Ints | float]
    entries: int

    def fill(self, rows: Floats, run: Run) -> None:
        """See `rows.Recipe`."""
        params = {name: rows[at] if isinstance(at, np.ndarray) else at for name, at in self.params.items()}
        second = rows[self.second]
        mean = rows[self.mean] if isinstance(self.mean, np.ndarray) else np.full_like(second, self.mean)
        variance = second - mean**2
        slope, moved = self.marginal.map.law(mean, params)
        slope = np.broadcast_to(slope, second.shape)
        factor = slope**self.marginal.map.power
        fixed = {name: float(at) for name, at in self.params.items() if not isinstance(at, np.ndarray)}
        found = reduced(self.marginal.side, moved.ravel(), (slope**2 * variance).ravel(), self.marginal.reach, fixed)
        shape = second.shape
        coefficients = found.coefficients.reshape(-1, *shape) * factor
        size = np.abs(factor)
        extra = (
            np.sign(slope) * ratio(np.ones(()), np.sqrt(variance)),
            mean,
            np.sqrt(found.norm).reshape(shape) * size,
            np.sqrt(found.rest).reshape(shape) * size,
            found.error.reshape(shape) * size,
            _length(coefficients),
        )
        block = np.concatenate([coefficients, np.stack(extra)])
        rows[self.start : self.start + block.shape[0] * self.entries] = block.reshape(-1, shape[-1])


def _length(coefficients: Floats) -> Floats:
    """The order from which on the coefficients are negligible, for every marginal."""
    tails = np.sqrt(np.cumsum((coefficients**2)[::-1], axis=0)[::-1])
    return np.asarray((tails > HALF * tails[0]).sum(axis=0), dtype=np.float64)


def _power(n: int) -> list[str]:
    """Lines that make y = r^n by squaring, from r."""
    lines = ["y = r"]
    for bit in bin(n)[3:]:
        lines += ["y = y * y"] + (["y = y * r"] if bit == "1" else [])
    return lines


def _horner(unrolled: int) -> list[str]:
    """Lines that take `unrolled` coefficients, from order t + unrolled - 1 down to t, into the sums."""
    lines = [f"f{n} = L[a + (t + {n}) * p + i]" for n in range(unrolled)]
    lines += ["for j in range(nj):", "    r = given(rho, j)", "    y = total[j]"]
    lines += [f"    y = y * r + f{n} * given(R, b + (t + {n}) * q + j)" for n in reversed(range(unrolled))]
    return [*lines, "    results0(total, j, y)"]


def _indented(lines: list[str], indent: int) -> str:
    return "\n".join(" " * indent + line for line in lines)


BODY = f"""\
    rho = T
    total = behind(T, cols)
    for k in range(lo, hi):
        row = behind(index, k * 7)
        o = row[0] * area
        c = row[1] * area
        p = row[4] * lefts
        q = row[5] * rights
        a = row[2] * lefts + ii
        b = row[3] * rights + jj
        floor = coef[k]
        n = a + {ORDER + 1} * p
        m = b + {ORDER + 1} * q
        widest = 0.0
        worst = 0
        for j in range(nj):
            widest = max(widest, R[m + 5 * q + j])
        for i in range(ni):
            x = L[n + i]
            mean = L[n + p + i]
            norm = L[n + 2 * p + i]
            rest = L[n + 3 * p + i]
            error = L[n + 4 * p + i]
            most = 0
            for j in range(nj):
                r = (S[c + i * cols + j] - mean * R[m + q + j]) * x * R[m + j]
                r = max(min(r, 1.0), -1.0)
                rho[j] = r
                total[j] = 0.0
                size = special.bits(abs(r))
                most = size if size > most else most
            order = 1  # terms beyond it are below 1e-17 of the norms, as |rho|^order is, or the coefficients are
            large = special.number(most)
            if not large < 1e-300:
                long = max(widest, L[n + 5 * p + i])
                order = int(min(long, {ORDER + 1}.0 if large > 0.999 else 1.0 + 39.2 / -math.log(large)))
            for t in range(order - {UNROLLED}, -1, -{UNROLLED}):
{_indented(_horner(UNROLLED), 16)}
            for t in range(order % {UNROLLED} - 1, -1, -1):
{_indented(_horner(1), 16)}
            for j in range(nj):
                r = abs(rho[j])
{_indented(_power(ORDER + 1), 16)}
                cross = norm * R[m + 2 * q + j]
                e = y * rest * R[m + 3 * q + j] + 3.6e-15 * cross
                e += error * R[m + 2 * q + j] + norm * R[m + 4 * q + j]
                good = e <= max({ACCEPT} * abs(total[j]), floor * cross)
                size = special.bits(e if good else 0.0)
                worst = size if size > worst else worst
                S[o + i * cols + j] = total[j]
                F[i * cols + j] += 0 if good else 1
        e = special.number(worst)
        W[row[6]] = e if e > W[row[6]] else W[row[6]]
"""
"""The body of the function of all series (see `emit`)."""
