"""Gaussian expectations with negative powers of quadratic forms, as after a normalization by a norm of Gaussians.

    q = c + sum_j w_j x_j^2,   w_j >= 0,   x ~ N(0, S):
    E[f q^-p q'^-p'] = 1 / (Gamma(p) Gamma(p')) int int t^(p-1) t'^(p'-1) E[f exp(-t q - t' q')] dt dt'

Under the weight the law is Gaussian again: S (I + 2 D S)^-1 with mass det(I + 2 D S)^(-1/2) exp(-t c - t' c'),
D = diag(t w + t' w') (completing the square).  A node asks for expectations of f alone, which closed forms serve,
for all elements at once (Yang et al., A mean field theory of batch normalization, arXiv 1902.08129).

Arguments that f is linear in come out by Stein's lemma, E[z F(x)] = sum_a Cov(z, x_a) E[dF / dx_a].

Equal elements are one, and equal forms join to one power: a batch against itself is a single integral.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.ir.expr import ONE, ZERO, Expr, differentiate
from tensorprog.symbolic.expectation import Expectation, Moments, Request, plan
from tensorprog.symbolic.half_line import Nodes, nodes

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Hit = tuple[int, int]

SAME = 1e-13
"""The variance of a difference, relative to the variances, below which two elements are one."""
CUT = 8 * float(np.finfo(float).eps)
"""Eigenvalues below this, times the number of elements, are rounding."""
RANK = 1e-12
"""Eigenvalues of correlations below this are no directions in which a form could be different from zero."""
REFINED = 3
"""So many rules, of which each has half the step of the one before."""
ENOUGH, SAFETY = 1e-10, 10.0
"""The relative error that is asked for, and the factor with which it is estimated from twice the digits."""
NEGLIGIBLE = 1e-15
"""Nodes with less of the whole are left out."""
CHUNK, LARGE = 1 << 21, 1 << 24
"""Numbers of covariances, and of terms, that are in memory at a time."""
MOST_WORK = 1 << 31


@final
@dataclass(frozen=True, slots=True)
class Form:
    """(constant + sum_j weights_j x_j^2)^(-power), and `lost`: with all other factors it is of degree -lost in x."""

    power: float
    weights: Array
    constant: float
    lost: float


@final
@dataclass(frozen=True, slots=True)
class Term:
    """Covariances of pairs of linear arguments, of linear with other arguments, times E of a derivative (None: 1)."""

    pairs: tuple[Hit, ...]
    hits: tuple[Hit, ...]
    core: Expectation | None


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

    def evaluate(self, cov: Array, forms: Sequence[Form], places: Sequence[Ints]) -> tuple[Array, float]:
        """[elements of every argument] and the largest absolute error.

        `cov` [N, N] of all elements, `places` the elements of every argument: of left, of right, linear ones.
        Raises TensorProgError where the expectation diverges.
        """
        first = _representatives(cov)
        kept = np.unique(first)
        number = np.searchsorted(kept, first)
        joined = _joined([_moved(f, number, len(kept)) for f in forms])
        law = _Law.of(cov[np.ix_(kept, kept)], joined)
        return self._integral(law, [number[p] for p in places])

    def _integral(self, law: _Law, places: Sequence[Ints]) -> tuple[Array, float]:
        """Steps are halved until the error is small: a trapezoidal rule doubles its digits each time."""
        value, error = np.full([len(p) for p in places], np.nan), math.inf
        for refined in range(REFINED):
            rule = law.rule(refined)
            if len(rule.points) * value.size > MOST_WORK:
                break
            rough, rest = self._sum(law, rule, places)
            value = rough + rest
            size = float(np.max(np.abs(value), initial=0.0))
            change = float(np.max(np.abs(2 ** len(law.forms) * rough - value), initial=0.0))
            error = max(change * min(1.0, SAFETY * change / size) if size else change, 1e-14 * size)
            if error <= ENOUGH * size:
                break
        return value, error

    def _sum(self, law: _Law, rule: Nodes, places: Sequence[Ints]) -> Array:
        """[2, elements..]: over the coarse nodes, and over the others."""
        total = np.zeros([2, *(len(p) for p in places)])
        chunk = max(1, CHUNK // len(law.bases[0].root) ** 2)
        for k in range(0, len(rule.points), chunk):
            cov, mass = law.tilted(rule.points[k : k + chunk])
            mass = mass * rule.weights[k : k + chunk]
            counted = np.flatnonzero(mass * law.spread(cov) > NEGLIGIBLE * law.scale)
            if not len(counted):
                continue
            for part in np.array_split(counted, -(-len(counted) * total.size // LARGE)):
                coarse = int(np.searchsorted(part, rule.coarse - k))
                for term in self.terms:
                    operands = self._operands(term, cov[part], places)
                    for half, few in enumerate((slice(0, coarse), slice(coarse, None))):
                        total[half] += _weighted(mass[part][few], [(axes, x[few]) for axes, x in operands])
        return total

    def _operands(self, term: Term, cov: Array, places: Sequence[Ints]) -> list[tuple[tuple[int, ...], Array]]:
        """The factors of a term, [nodes, elements of some arguments], and the numbers of these arguments."""
        core = sum(self.sizes)
        first = [] if term.core is None else [(tuple(range(core)), self._core(term.core, cov, places[:core]))]
        return first + [((i, j), _between(cov, places[i], places[j])) for i, j in term.hits + term.pairs]

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


def _representatives(cov: Array) -> Ints:
    """For every element the first that is equal to it."""
    variance = np.diag(cov)
    apart = variance[:, None] + variance - cov - cov.T
    return np.asarray(np.argmax(apart <= SAME * (variance[:, None] + variance), axis=1), dtype=np.int64)


def _moved(form: Form, number: Ints, size: int) -> Form:
    weights = np.zeros(size)
    np.add.at(weights, number, form.weights)
    return Form(form.power, weights, form.constant, form.lost)


def _joined(forms: Sequence[Form]) -> tuple[Form, ...]:
    """Powers of one form are one power."""
    found: list[Form] = []
    for f in forms:
        for k, g in enumerate(found):
            if np.allclose(f.weights, g.weights, rtol=SAME, atol=0) and math.isclose(f.constant, g.constant):
                found[k] = Form(f.power + g.power, g.weights, g.constant, f.lost + g.lost)
                break
        else:
            found.append(f)
    return tuple(found)


@final
@dataclass(frozen=True, slots=True)
class _Basis:
    """cov = root root^T in coordinates in which the form `first` is a sum of squares with the weights `squares`.

    `others` [forms, r, r] are all forms, that of `first` left out.
    """

    root: Array
    squares: Array
    others: Array

    @staticmethod
    def of(root: Array, weights: Array, first: int) -> _Basis:
        """Turned so that the coordinates in which a form is zero are exact."""
        _, values, turn = np.linalg.svd(root * np.sqrt(weights[first])[:, None])
        squares = np.zeros(root.shape[1])
        squares[: len(values)] = np.where(values**2 > CUT * len(root) * values[0] ** 2, values**2, 0.0)
        turned = root @ turn.T
        turned[np.ix_(weights[first] > 0, squares == 0)] = 0.0
        others = np.array([turned.T @ (w[:, None] * turned) for w in weights])
        others[first] = 0.0
        return _Basis(turned, squares, others)

    def tilted(self, first: Array, points: Array) -> tuple[Array, Array]:
        """Covariances and log det^(-1/2) at t [nodes, forms], of which `first` is that of the first form."""
        m = np.tensordot(2 * points, self.others, 1)
        n = np.arange(len(self.squares))
        m[:, n, n] += 1 + 2 * first[:, None] * self.squares
        lower = np.linalg.cholesky(m)
        half = np.linalg.solve(lower, np.broadcast_to(self.root.T, (len(m), *self.root.T.shape)))
        log = -np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
        return np.swapaxes(half, 1, 2) @ half, log


@final
@dataclass(frozen=True, slots=True)
class _Law:
    """N(0, cov) with forms of the given means; nodes reach up to `high` in log t.

    A node uses the basis of the form that weighs most there, so that the factorization is graded.
    """

    forms: tuple[Form, ...]
    means: tuple[float, ...]
    bases: tuple[_Basis, ...]
    high: float

    @staticmethod
    def of(cov: Array, forms: tuple[Form, ...]) -> _Law:
        """Raises TensorProgError where a form vanishes or the integral diverges."""
        deviation = np.sqrt(np.diag(cov))
        unit = np.where(deviation > 0, deviation, 1.0)
        values, vectors = np.linalg.eigh(cov / unit[:, None] / unit)
        kept = values > CUT * len(cov) * values[-1]
        root = unit[:, None] * vectors[:, kept] * np.sqrt(values[kept])
        means = tuple(float(f.constant + f.weights @ np.diag(cov)) for f in forms)
        if min(means) <= 0:
            raise fail("the expectation diverges: a quadratic form is zero, as is the variance of equal examples")
        weights = np.array([f.weights for f in forms])
        bases = tuple(_Basis.of(root, weights, k) for k in range(len(forms)))
        return _Law(forms, means, bases, _highest(root, forms, means))

    @property
    def scale(self) -> float:
        """The size of the expectation."""
        return float(math.prod(m ** (-0.5 * f.lost) for f, m in zip(self.forms, self.means, strict=True)))

    def spread(self, cov: Array) -> Array:
        """How large the functions are under laws [nodes, N, N]."""
        variances, total = np.diagonal(cov, axis1=1, axis2=2), np.ones(len(cov))
        for f in self.forms:
            total = total * (variances @ f.weights) ** (f.power - 0.5 * f.lost)
        return total

    def rule(self, refined: int) -> Nodes:
        """The nodes of the widest steps, halved so often."""
        return nodes([(f.power, m) for f, m in zip(self.forms, self.means, strict=True)], self.high, refined)

    def tilted(self, points: Array) -> tuple[Array, Array]:
        """Covariances [nodes, N, N] and masses at t [nodes, forms]."""
        size = len(self.bases[0].root)
        cov, log = np.empty((len(points), size, size)), -points @ np.array([f.constant for f in self.forms])
        most = np.argmax(points * self.means, axis=1)
        for k, basis in enumerate(self.bases):
            rows = np.flatnonzero(most == k)
            cov[rows], more = basis.tilted(points[rows, k], points[rows])
            log[rows] += more
        return cov, np.exp(log)


def _highest(root: Array, forms: tuple[Form, ...], means: tuple[float, ...]) -> float:
    """Where in log t the integrand has fallen far enough.  Raises TensorProgError where it does not fall."""
    slowest, smallest = math.inf, 1.0
    for size in range(1, len(forms) + 1):
        for chosen in combinations(range(len(forms)), size):
            if any(forms[k].constant > 0 for k in chosen):
                continue
            rows = np.concatenate([root * np.sqrt(forms[k].weights / means[k])[:, None] for k in chosen])
            values = np.linalg.svd(rows, compute_uv=False) ** 2
            values = values[values > RANK * values[0]]
            excess = 0.5 * (len(values) - sum(forms[k].lost for k in chosen))
            if excess <= 0:
                raise fail(
                    "the expectation diverges: a negative power of a quadratic form of too few independent variables,"
                    f" here {len(values)}",
                    hint="behind a normalization over a batch, gradients have a second moment from 4 examples"
                    " (and dimensions) on",
                )
            slowest, smallest = min(slowest, excess), min(smallest, float(values[-1]))
    exponential = min((f.constant / m for f, m in zip(forms, means, strict=True) if f.constant > 0), default=math.inf)
    high = 0.0 if slowest == math.inf else 36 / slowest - math.log(smallest)
    return max(high, 0.0 if exponential == math.inf else math.log(40 / exponential))
