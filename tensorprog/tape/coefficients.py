"""Coefficients of a tape with their derivatives: numbers c and dc / dp for the parameters p that are symbols in them.

    (c d)' = c' d + c d'

Parameters of a program that stayed symbols are among its sizes, with the numbers chosen for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Coefficient:
    """An array of numbers, and its derivatives of the same shape with respect to the parameters that occur in it."""

    value: Floats
    slopes: dict[str, Floats] = field(default_factory=dict)

    def __getitem__(self, at: Any) -> Coefficient:
        return Coefficient(self.value[at], {p: s[at] for p, s in self.slopes.items()})

    def __mul__(self, other: Coefficient) -> Coefficient:
        names = self.slopes.keys() | other.slopes.keys()
        return Coefficient(self.value * other.value, {p: self._product_rule(other, p) for p in names})

    def _product_rule(self, other: Coefficient, p: str) -> Floats:
        found: Floats = np.zeros(np.broadcast_shapes(self.value.shape, other.value.shape))
        for a, b in ((self, other), (other, self)):
            if p in a.slopes:
                found += a.slopes[p] * b.value
        return found

    @property
    def matters(self) -> NDArray[np.bool_]:
        """Where the number or a derivative is not zero."""
        found: NDArray[np.bool_] = np.any([self.value != 0, *(s != 0 for s in self.slopes.values())], axis=0)
        return found


def coefficient(e: Expr, env: Mapping[str, Any], parameters: frozenset[str], shape: tuple[int, ...]) -> Coefficient:
    """An expression in indices and sizes as a coefficient."""

    def numbers(x: Expr) -> Floats:
        return np.broadcast_to(np.asarray(ex.evaluate(x, env), dtype=np.float64), shape)

    slopes = {p: numbers(ex.differentiate(e, p)) for p in sorted(ex.symbols(e) & parameters)}
    return Coefficient(numbers(e), slopes)


def joined(parts: list[Coefficient]) -> Coefficient:
    """Coefficients behind each other, [N] in all."""
    names = sorted(set[str]().union(*(p.slopes for p in parts)))
    value = np.concatenate([p.value for p in parts]) if parts else np.zeros(0)
    return Coefficient(
        value, {n: np.concatenate([p.slopes.get(n, np.zeros(len(p.value))) for p in parts]) for n in names}
    )
