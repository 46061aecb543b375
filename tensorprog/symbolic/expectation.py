"""E[f(l) g(r)] over jointly Gaussian arguments: the request, and who serves it.

Tier 1, "closed": a finite formula derived by rules (`closed`).  Tier 2, "quadrature": deterministic numerical
integration with an error estimate (`quadrature`).  What neither serves is left to sampling (None).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, final

from tensorprog.ir.expr import Expr
from tensorprog.symbolic.closed import Sums, closed_sums
from tensorprog.symbolic.moments import Moments
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.pieces import NotClosed

__all__ = ["Expectation", "Moments", "Request", "plan"]


@final
@dataclass(frozen=True, slots=True)
class Request:
    """E[left(l1, ..., lk) * right(r1, ..., rm)].

    `left_args`, `right_args` are the symbols that are Gaussian in each run; all other symbols are parameters
    (arrays given per entry).  A one-run mean E[left] has right = ONE and no right arguments.
    """

    left: Expr
    left_args: tuple[str, ...]
    right: Expr
    right_args: tuple[str, ...]


class Expectation(Protocol):
    """A way to compute one request."""

    @property
    def tier(self) -> str:
        """ "closed" or "quadrature" """

    def describe(self) -> str:
        """The closed form, or what the quadrature does."""

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """The values and an estimate of their absolute errors, of the common shape of the moments.

        Raises TensorProgError where the expectation diverges.
        """


@final
@dataclass(frozen=True, slots=True)
class Closed:
    """Tier 1."""

    request: Request
    sums: Sums
    tier: str = "closed"

    def describe(self) -> str:
        """The closed form."""
        return "closed"

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """See `Expectation.evaluate`."""
        return self.sums.evaluate(moments, params)


@lru_cache(maxsize=4096)
def plan(request: Request, prefer: str | None = None) -> Expectation | None:
    """The best tier that can serve `request`, or the one that `prefer` names; None when it cannot."""
    try:
        return Closed(request, closed_sums(request.left, request.left_args, request.right, request.right_args))
    except NotClosed:
        return None
