"""E[f(l) g(r)] over jointly Gaussian arguments: the request, and who serves it.

Tier 1, "closed": a finite formula derived by rules (`closed`).  Tier 2, "quadrature": deterministic numerical
integration with an error estimate (`quadrature`).  What neither serves is left to sampling (None).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, final

import numpy as np

from tensorprog.ir.expr import ONE, ZERO, Expr, Sym, show, substitute, symbols
from tensorprog.symbolic.absorb import Absorbed, absorb
from tensorprog.symbolic.closed import Sums, closed_sums
from tensorprog.symbolic.formula import closed_text
from tensorprog.symbolic.moments import Moments
from tensorprog.symbolic.orthant import Array
from tensorprog.symbolic.pieces import NotClosed
from tensorprog.symbolic.points import collected
from tensorprog.symbolic.quadrature import Quadrature, quadrature

CANCELLED = 1e-10  # relative error from which quadrature is asked
NESTED = 1e-8  # the same in more than two variables, where quadrature is slow and no better than this
MANY = 2000  # entries

__all__ = ["Expectation", "Expected", "Moments", "Request", "plan"]


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


def with_values(request: Request, values: Mapping[str, Expr]) -> Request:
    """The request with parameters replaced."""
    left, right = (substitute(e, values) for e in (request.left, request.right))
    return Request(left, request.left_args, right, request.right_args)


class Expected(Protocol):
    """What is said about a request."""

    @property
    def request(self) -> Request:
        """What is computed."""

    @property
    def tier(self) -> str:
        """ "closed" or "quadrature" """

    def describe(self) -> str:
        """The closed form, or what the quadrature does."""


class Expectation(Expected, Protocol):
    """A way to compute one request."""

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """The values and an estimate of their absolute errors, of the common shape of the moments.

        Raises TensorProgError where the expectation diverges.
        """


@final
@dataclass(frozen=True, slots=True)
class Closed:
    """Tier 1.  Entries where the formula cancels are taken from `backup`, the quadrature of the same request.

    Many entries of a formula with more than two half-lines, an integral each, go the other way round: quadrature first,
    a Hermite series, and the formula where that does not settle them to the same accuracy.
    """

    request: Request
    sums: Sums
    backup: Quadrature | None
    tier: str = "closed"

    def describe(self) -> str:
        """The closed form at zero mean (see `formula`)."""
        return closed_text(self.sums.left, self.sums.right, self.sums.sizes)

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """See `Expectation.evaluate`."""
        if self.is_slow and np.prod(moments.shape) > MANY:
            return self._by_quadrature(moments, params)
        return self._by_formula(moments, params)

    @property
    def is_slow(self) -> bool:
        """Whether a Hermite series takes a small part of the time of the formula."""
        return self.sums.most_gates > 2 and self.sums.sizes == (1, 1) and self.backup is not None

    def _by_quadrature(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        assert self.backup is not None
        value, error = self.backup.evaluate(moments, params)
        lost = ~(error <= CANCELLED * np.abs(value))
        if np.any(lost):
            value[lost], error[lost] = self._by_formula(picked(moments, lost), picked_params(params, lost))
        return value, error

    def _by_formula(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        value, error = self.sums.evaluate(moments, params)
        constant = np.broadcast_to(_without_variance(moments), value.shape)
        allowed = CANCELLED if sum(self.sums.sizes) <= 2 else NESTED
        lost = constant | ~(error <= allowed * np.abs(value)) | ~np.isfinite(value)
        if self.backup is None or not np.any(lost):
            return value, error
        v, e = self.backup.evaluate(picked(moments, lost), picked_params(params, lost))
        better = constant[lost] | ~(error[lost] <= e)
        value[lost], error[lost] = np.where(better, v, value[lost]), np.where(better, e, error[lost])
        return value, error


def _without_variance(moments: Moments) -> Array:
    """Where an argument is constant: there a jump takes its value, not the mean of both sides."""
    constant = np.zeros((), dtype=bool)
    for i in range(sum(moments.sizes)):
        constant = constant | (moments.cov(i, i) == 0)
    return constant


def picked(moments: Moments, mask: Array) -> Moments:
    """The entries that a mask of the common shape marks, flat."""

    def pick(x: Array, lead: int) -> Array:
        if not x.size:  # no argument on one side: its trailing shape counts all the same
            return np.zeros((*x.shape[:lead], np.count_nonzero(mask)))
        return np.asarray(np.broadcast_to(x, x.shape[:lead] + mask.shape)[..., mask])

    parts = ((moments.mean_l, 1), (moments.cov_ll, 2), (moments.mean_r, 1), (moments.cov_rr, 2), (moments.cov_lr, 2))
    return Moments(*(pick(x, lead) for x, lead in parts))


def picked_params(params: Mapping[str, Any], mask: Array) -> dict[str, Any]:
    """The parameters at these entries."""
    return {k: v if np.size(v) == 1 else np.broadcast_to(v, mask.shape)[mask] for k, v in params.items()}


@final
@dataclass(frozen=True, slots=True)
class Numerical:
    """Tier 2."""

    request: Request
    rule: Quadrature
    tier: str = "quadrature"

    def describe(self) -> str:
        """What the quadrature does."""
        return self.rule.describe()

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """See `Expectation.evaluate`."""
        return self.rule.evaluate(moments, params)


@final
@dataclass(frozen=True, slots=True)
class Moved:
    """An expectation whose parameters are affine maps of the arguments: `inner` at the moved moments."""

    request: Request
    left: Absorbed
    right: Absorbed
    inner: Expectation

    @property
    def tier(self) -> str:
        """The tier of the inner expectation."""
        return self.inner.tier

    def describe(self) -> str:
        """The inner description, and the maps."""
        maps = [
            f"{side} argument {show(x.slope)} * u + {show(x.offset)}"
            for side, x in (("left", self.left), ("right", self.right))
            if (x.slope, x.offset) != (ONE, ZERO)
        ]
        return f"{self.inner.describe()}  at the law of the {', '.join(maps)}"

    def evaluate(self, moments: Moments, params: Mapping[str, Any]) -> tuple[Array, Array]:
        """See `Expectation.evaluate`."""
        slope, mean = self.left.law(moments.mean_l, params)
        other, mean_r = self.right.law(moments.mean_r, params) if len(moments.mean_r) else (np.ones(()), moments.mean_r)
        moved = Moments(
            mean, slope**2 * moments.cov_ll, mean_r, other**2 * moments.cov_rr, slope * other * moments.cov_lr
        )
        value, error = self.inner.evaluate(moved, params)
        factor = slope**self.left.power * other**self.right.power
        return factor * value, np.abs(factor) * error


@lru_cache(maxsize=4096)
def plan(request: Request, prefer: str | None = None) -> Expectation | None:
    """The best tier that can serve `request`, or the one that `prefer` names; None when it cannot.

    Raises TensorProgError when the expectation does not exist (the square of a point mass).
    """
    request = Request(*_collected(request.left, request.left_args), *_collected(request.right, request.right_args))
    if len(request.left_args) == 1 and len(request.right_args) <= 1:
        left = absorb(request.left, request.left_args[0])
        right = absorb(request.right, request.right_args[0]) if request.right_args else Absorbed(request.right)
        if (left.function, right.function) != (request.left, request.right):
            inner = _plan(Request(left.function, request.left_args, right.function, request.right_args), prefer)
            return None if inner is None else Moved(request, left, right, inner)
    return _plan(request, prefer)


def _collected(e: Expr, args: tuple[str, ...]) -> tuple[Expr, tuple[str, ...]]:
    return (collected(e, args[0]) if len(args) == 1 else e), args


def _plan(request: Request, prefer: str | None) -> Expectation | None:
    numerical = _quadrature(request)
    if prefer != "quadrature":
        try:
            sums = closed_sums(request.left, request.left_args, request.right, request.right_args)
            # what a polynomial loses by cancellation, quadrature loses too
            return Closed(request, sums, None if sums.polynomial else numerical)
        except NotClosed:
            pass
    if numerical is None or prefer == "closed":
        return None
    return Numerical(request, numerical)


def _quadrature(request: Request) -> Quadrature | None:
    """Right arguments get names of their own; parameters keep theirs."""
    taken = symbols(request.left) | symbols(request.right)
    fresh = {a: _fresh(a, taken) for a in request.right_args}
    right = substitute(request.right, {a: Sym(b) for a, b in fresh.items()})
    try:
        return quadrature(request.left, request.left_args, right, tuple(fresh.values()))
    except NotClosed:
        return None


def _fresh(name: str, taken: frozenset[str]) -> str:
    while name in taken:
        name += "'"
    return name
