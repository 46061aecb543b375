"""Gaussian expectations with negative powers of quadratic forms, as after a normalization by a norm of Gaussians.

    q = c + sum_j w_j x_j^2,   w_j >= 0,   x ~ N(0, S):
    E[f q^-p q'^-p'] = 1 / (Gamma(p) Gamma(p')) int int t^(p-1) t'^(p'-1) E[f exp(-t q - t' q')] dt dt'

Under the weight the law is Gaussian again: S (I + 2 D S)^-1 with mass det(I + 2 D S)^(-1/2) exp(-t c - t' c'),
D = diag(t w + t' w') (completing the square).  A node asks for expectations of f alone, which closed forms serve,
for all elements at once (Yang et al., A mean field theory of batch normalization, arXiv 1902.08129).

Arguments that f is linear in come out by Stein's lemma, E[z F(x)] = sum_a Cov(z, x_a) E[dF / dx_a].

Expectations of one law, with several powers of the same forms, are integrated together: what takes time are covariances
under the nodes and expectations of the same few functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.ir.expr import ONE, ZERO, Expr, differentiate
from tensorprog.symbolic.expectation import Expectation, Moments, Request, plan
from tensorprog.symbolic.half_line import Nodes
from tensorprog.symbolic.tilted import Form, Law, joined, representatives

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Hit = tuple[int, int]
Operand = tuple[tuple[int, ...], Array]
Cores = dict[tuple[Hashable, ...], Array]
Over = Callable[[Sequence[Ints]], list[Array]]
Share = Callable[[Over, Sequence[Sequence[Ints]]], list[list[Array]]]

REFINED = 3
"""So many rules, of which each has half the step of the one before."""
ENOUGH, SAFETY = 1e-10, 10.0
"""The relative error that is asked for, and the factor with which it is estimated from twice the digits."""
CHUNK = 1 << 18
"""Numbers of an array that a thread has in hand."""
SHARES = 4
"""Threads have no more than so many shares of the nodes, each with sums of its own."""
MOST_WORK = 1 << 31


@final
@dataclass(frozen=True, slots=True)
class Term:
    """Covariances of pairs of linear arguments, of linear with other arguments, times E of a derivative (None: 1)."""

    pairs: tuple[Hit, ...]
    hits: tuple[Hit, ...]
    core: Expectation | None

    def axes(self, core: int) -> list[tuple[int, ...]]:
        """The arguments of the derivative, which are the first `core`, and of every covariance."""
        return [*([] if self.core is None else [tuple(range(core))]), *self.hits, *self.pairs]


@final
@dataclass(frozen=True, slots=True)
class Mixture:
    """E[product of linear arguments * left(l..) * right(r..) * powers of forms], arguments in the order of `args`.

    `request` is the whole expectation, for reports.
    """

    request: Request
    sizes: tuple[int, int]
    terms: tuple[Term, ...]
    tier: str = "quadrature"

    def describe(self) -> str:
        """What the quadrature does."""
        return "negative powers of quadratic forms as integrals over tilted Gaussian laws"

    def add(
        self, total: Array, cov: Array, masses: Array, coarse: int, places: Sequence[Ints], cores: Cores
    ) -> None:
        """Add nodes to `total` [2, elements..]: the coarse nodes, which are the first, and the others.

        `cores` are the expectations that are known under the nodes.
        """
        for term in self.terms:
            operands = self._operands(term, cov, places, cores)
            for half, few in enumerate((slice(0, coarse), slice(coarse, None))):
                total[half] += _weighted(masses[few], [(axes, x[few]) for axes, x in operands])

    def numbers(self, places: Sequence[Ints]) -> int:
        """The most numbers for a node that are in an array (see `_weighted`)."""
        several = [1]
        for term in self.terms:
            *others, last = term.axes(sum(self.sizes)) or [()]
            several += [math.prod(len(places[a]) for a in axes) for axes in (set().union(*others), last)]
        return max(several)

    def _operands(self, term: Term, cov: Array, places: Sequence[Ints], cores: Cores) -> list[Operand]:
        """The factors of a term, [nodes, elements of some arguments], and the numbers of these arguments."""
        core = places[: sum(self.sizes)]
        operands = [_between(cov, places[i], places[j]) for i, j in term.hits + term.pairs]
        if term.core is not None:
            key = id(term.core), *(p.tobytes() for p in core)
            if key not in cores:
                cores[key] = self._core(term.core, cov, core)
            operands.insert(0, cores[key])
        return list(zip(term.axes(len(core)), operands, strict=True))

    def _core(self, expectation: Expectation, cov: Array, places: Sequence[Ints]) -> Array:
        """[nodes, elements of every argument of the functions]"""
        k, n = self.sizes[0], len(places)

        def block(rows: range, cols: range) -> Array:
            parts = [_spread(cov, places, i, j) for i in rows for j in cols]
            common = np.broadcast_shapes(*(p.shape for p in parts)) if parts else (1,) * (n + 1)
            stacked = np.array([np.broadcast_to(p, common) for p in parts])
            return stacked.reshape(len(rows), len(cols), *common)

        left, right = range(k), range(k, n)
        flat = (1,) * (n + 1)
        moments = Moments(
            np.zeros((k, *flat)), block(left, left), np.zeros((n - k, *flat)), block(right, right), block(left, right)
        )
        value, _ = expectation.evaluate(moments, {})
        return np.broadcast_to(value, (len(cov), *(len(p) for p in places)))


def mixture(
    whole: Request, left: Expr, left_args: tuple[str, ...], right: Expr, right_args: tuple[str, ...], linear: int
) -> Mixture | None:
    """The expectation of left * right * `linear` more arguments; None where a derivative has no formula."""
    terms: list[Term] = []
    args = left_args + right_args
    for pairs, hits in _stein(tuple(range(len(args), len(args) + linear)), len(args)):
        f, g = left, right
        for _, a in hits:
            f, g = (differentiate(f, args[a]), g) if a < len(left_args) else (f, differentiate(g, args[a]))
        if ZERO in (f, g):
            continue
        core = None if not args else plan(Request(f, left_args, g, right_args))
        if core is None and (f, g) != (ONE, ONE):
            return None
        terms.append(Term(pairs, hits, core))
    return Mixture(whole, (len(left_args), len(right_args)), tuple(terms))


def _stein(linear: tuple[int, ...], core: int) -> Iterator[tuple[tuple[Hit, ...], tuple[Hit, ...]]]:
    """How every linear argument meets another one or a function."""
    if not linear:
        yield (), ()
        return
    z, rest = linear[0], linear[1:]
    for k, other in enumerate(rest):
        for pairs, hits in _stein(rest[:k] + rest[k + 1 :], core):
            yield ((z, other), *pairs), hits
    for a in range(core):
        for pairs, hits in _stein(rest, core):
            yield pairs, ((z, a), *hits)


def _weighted(mass: Array, operands: Sequence[tuple[tuple[int, ...], Array]]) -> Array:
    """sum over nodes of mass * product of operands: all but one are multiplied, then matrices for all common axes."""
    if not operands:
        return np.asarray(mass.sum())
    *others, (own, last) = operands
    left = sorted({a for axes, _ in others for a in axes})
    product = mass.reshape(-1, *(1,) * len(left))
    for axes, x in others:
        product = product * _aligned(x, axes, left)
    common = [a for a in left if a in own]
    rows, cols = [a for a in left if a not in own], [a for a in own if a not in left]
    one = product.transpose([1 + left.index(a) for a in common + rows] + [0])
    two = last.transpose([1 + own.index(a) for a in common] + [0] + [1 + own.index(a) for a in cols])
    batch, high, wide = one.shape[: len(common)], one.shape[len(common) : -1], two.shape[len(common) + 1 :]
    found = one.reshape(*batch, math.prod(high), len(mass)) @ two.reshape(*batch, len(mass), math.prod(wide))
    return found.reshape(batch + high + wide).transpose(np.argsort(common + rows + cols))


def _aligned(x: Array, axes: tuple[int, ...], among: Sequence[int]) -> Array:
    """[nodes, axes] with an axis for each of `among`, in order."""
    x = x.transpose([0, *(1 + k for k in np.argsort(axes))])
    sizes = dict(zip(sorted(axes), x.shape[1:], strict=True))
    return x.reshape(len(x), *(sizes.get(a, 1) for a in among))


def _between(cov: Array, rows: Ints, cols: Ints) -> Array:
    return cov[:, rows[:, None], cols[None, :]]


def _spread(cov: Array, places: Sequence[Ints], i: int, j: int) -> Array:
    """The covariances of two arguments along their axes."""
    shape = [1] * len(places)
    shape[i], shape[j] = len(places[i]), len(places[j])
    if i == j:
        return cov[:, places[i], places[i]].reshape(-1, *shape)
    block = _between(cov, places[min(i, j)], places[max(i, j)])
    return block.reshape(-1, *shape)


# ---------------------------------------------------------------- integrals of one law


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """An expectation with its forms and the elements of every argument: of left, of right, linear ones."""

    expectation: Mixture
    forms: Sequence[Form]
    places: Sequence[Ints]


def together(cov: Array, asked: Sequence[Asked], share: Share) -> list[tuple[Array, float]]:
    """[elements of every argument] and the largest absolute error of each, for the covariance [N, N] of all elements.

    One differs from another in the powers of its forms, not in the forms.  What takes too many nodes has an infinite
    error.  Raises TensorProgError where an expectation diverges.
    `share` is `map` for lists of nodes, maybe on several threads.

    Steps are halved until the errors are small: a trapezoidal rule doubles its digits each time.
    """
    first = representatives(cov)
    kept = np.unique(first)
    number = np.searchsorted(kept, first)
    law = Law.of(cov[np.ix_(kept, kept)], [joined(a.forms, number, len(kept)) for a in asked])
    places = [[number[p] for p in a.places] for a in asked]
    found = [(np.full([len(p) for p in own], np.nan), math.inf) for own in places]
    for refined in range(REFINED):
        left = [k for k, (value, error) in enumerate(found) if not error <= ENOUGH * _size(value)]
        if not left:
            break
        rule = law.rule(refined)
        served = [(k, asked[k].expectation, places[k]) for k in left if _work(rule, places[k]) <= MOST_WORK]
        for (k, _, _), (rough, rest) in zip(served, _sums(law, rule, served, share), strict=True):
            found[k] = _judged(rough, rest, 2 ** len(law.means))
    return found


def _work(rule: Nodes, places: Sequence[Ints]) -> int:
    return len(rule.points) * math.prod(map(len, places))


def _judged(rough: Array, rest: Array, times: int) -> tuple[Array, float]:
    """The value and its error, from the sums over the coarse nodes and over the others."""
    value = rough + rest
    size, change = _size(value), _size(times * rough - value)
    return value, max(change * min(1.0, SAFETY * change / size) if size else change, 1e-14 * size)


def _size(value: Array) -> float:
    return float(np.max(np.abs(value), initial=0.0))


def _sums(law: Law, rule: Nodes, asked: Sequence[tuple[int, Mixture, Sequence[Ints]]], share: Share) -> list[Array]:
    """[2, elements..] of every expectation, which is the one of the given number in the law (see `Mixture.add`)."""
    masses = law.masses(rule.points) * rule.weights
    counted = np.flatnonzero(law.counted(rule.points, masses))

    def over(parts: Sequence[Ints]) -> list[Array]:
        totals = [np.zeros([2, *map(len, places)]) for _, _, places in asked]
        for part in parts:
            cov, coarse, cores = law.tilted(rule.points[part]), int(np.searchsorted(part, rule.coarse)), Cores()
            for total, (k, mixture, places) in zip(totals, asked, strict=True):
                mixture.add(total, cov, masses[k, part], coarse, places, cores)
        return totals

    numbers = max([law.size**2, *(mixture.numbers(places) for _, mixture, places in asked)])
    count = math.ceil(len(counted) * numbers / CHUNK) or 1
    parts = np.array_split(counted, count if count == 1 else SHARES * math.ceil(count / SHARES))
    shares = share(over, [parts[k::SHARES] for k in range(min(SHARES, len(parts)))])
    return [reduce(np.add, sums) for sums in zip(*shares, strict=True)]
