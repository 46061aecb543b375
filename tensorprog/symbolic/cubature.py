"""E f(x) for functions of two to four Gaussian arguments that do not separate, by iterated quadrature.

The law is whitened (`whiten`), the integrals are nested, outermost first.  A level on which the remaining integrand
is smooth is a Gauss-Hermite rule; on others Gauss-Legendre panels end at the bends (`arrangement`).  All levels are
refined together, entry by entry, until two rules agree; what does not settle within the budget keeps its difference
as error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import numpy as np
from scipy.special import ndtr

from tensorprog.ir.expr import Expr, evaluate
from tensorprog.symbolic.arrangement import Planes, arrange
from tensorprog.symbolic.orthant import EPS, ROOT_2PI, Array
from tensorprog.symbolic.planes import Bends, bends
from tensorprog.symbolic.rounding import cancels, doubt
from tensorprog.symbolic.whiten import alike, roots

ORDERS = ((10, 5), (16, 7), (24, 11), (36, 16), (54, 24), (80, 36), (120, 54))
"""(Gauss-Hermite, Gauss-Legendre per panel) of the refinements."""
TYPICAL = 3  # the refinement that most integrands need
REACHES = (7.5, 10.0, 14.0, 20.0, 30.0, 37.0)  # there the density is 1e-298
ACCEPT = 4e-10  # relative error that is good enough
FLOOR = 1e-14  # the same, relative to E |f|
SMOOTH, CURVED = 0.5, 4.0
"""The error of the finer of two rules, of their difference: they converge geometrically, or hardly better than 1/n."""
LASTING = 1e-3  # of a difference stays in doubt after one more refinement
ROUNDING = 5e-14  # relative to E |f|: of weights, nodes and sums
PANEL = 5.0  # deviations
GROWTH = 2.0  # of f from the last two deviations before the cut to what is beyond
LINES = 1024  # integrated at a time
BUDGET = 4e9  # evaluations for one request: about a minute

VALUE, MASS, EDGE, BEFORE = range(4)  # E f, E |f|, and E |f| within the last two deviations before the cut


def cubature(
    e: Expr,
    args: tuple[str, ...],
    mean: list[Array],
    cov: list[list[Array]],
    params: Mapping[str, Any],
    budget: float = BUDGET,
) -> tuple[Array, Array]:
    """E e(x), x ~ N(mean, cov), and error estimates; singular covariances reduce the dimension.

    Entries that `budget` evaluations in all do not settle keep a large or infinite error.
    """
    n = len(args)
    shape = np.broadcast_shapes(*(m.shape for m in mean), *(c.shape for row in cov for c in row))
    means = np.stack([np.broadcast_to(m, shape).ravel() for m in mean], axis=-1)
    covs = np.stack([np.broadcast_to(c, shape).ravel() for row in cov for c in row], axis=-1).reshape(-1, n, n)
    env = {k: float(np.asarray(v).reshape(-1)[0]) for k, v in params.items()}
    root, chosen = roots(covs)
    value, error = np.empty(len(means)), np.empty(len(means))
    integrand = _Integrand(e, args, env, bends(e, args, env))
    for rank, at in alike(chosen):
        value[at], error[at] = _refined(integrand, means[at], root[at], rank, budget * len(at) / len(means))
        if rank and cancels(e):
            error[at] += EPS * _doubted(integrand, means[at], root[at], rank)
    return value.reshape(shape), error.reshape(shape)


@final
@dataclass(frozen=True, slots=True)
class _Integrand:
    """A function of `args` on arrays."""

    e: Expr
    args: tuple[str, ...]
    env: Mapping[str, float]
    bends: Bends

    def __call__(self, columns: Sequence[Array]) -> Array:
        """Values at coordinates that broadcast."""
        values = evaluate(self.e, {**self.env, **dict(zip(self.args, columns, strict=True))})
        return np.asarray(values, dtype=float)


@final
@dataclass(frozen=True, slots=True)
class _Doubt:
    """What rounding may move an integrand by."""

    f: _Integrand

    def __call__(self, columns: Sequence[Array]) -> Array:
        """Values at coordinates that broadcast."""
        return doubt(self.f.e, {**self.f.env, **dict(zip(self.f.args, columns, strict=True))})


def _doubted(f: _Integrand, mean: Array, root: Array, rank: int) -> Array:
    """E of the doubt, by a coarse rule."""
    levels = arrange(f.bends.planes, mean, root, rank)
    return np.asarray(_Nested(_Doubt(f), levels, mean, root, ORDERS[0], REACHES[1]).sums()[MASS])


def _refined(f: _Integrand, mean: Array, root: Array, rank: int, budget: float) -> tuple[Array, Array]:
    """Values and errors for N laws of one rank."""
    if rank == 0:
        value = np.broadcast_to(f(list(mean.T)), len(mean))
        return np.array(value), np.zeros(len(mean))
    value, error = np.zeros(len(mean)), np.full(len(mean), np.inf)
    left = np.arange(len(mean))
    for reach in REACHES:
        v, e, cut, spent = _converged(f, mean[left], root[left], rank, reach, budget)
        better = e <= error[left]
        value[left], error[left] = np.where(better, v, value[left]), np.where(better, e, error[left])
        budget -= spent
        left = left[cut]
        if not len(left):
            break
    return value, error


def _converged(
    f: _Integrand, mean: Array, root: Array, rank: int, reach: float, budget: float
) -> tuple[Array, Array, Array, float]:
    """Values, errors, where the cut at `reach` matters, and evaluations made."""
    size = len(mean)
    sums, gap, error = np.zeros((4, size)), np.full(size, np.inf), np.full(size, np.inf)
    left, spent, share = np.arange(size), 0.0, 1.0
    for step, order in enumerate(ORDERS):
        levels = arrange(f.bends.planes, mean[left], root[left], rank)
        nested = _Nested(f, levels, mean[left], root[left], order, reach)
        if spent + nested.cost() * share * len(left) > budget:
            break
        new = nested.sums()
        share = nested.count / (nested.cost() * len(left))
        spent += nested.count
        change = np.where(np.isfinite(new[VALUE]), np.abs(new[VALUE] - sums[VALUE, left]), np.inf)
        if step:  # two rules may agree by accident: one step back counts too
            lasting = np.maximum(change, LASTING * gap[left]) if step > 1 else change
            error[left] = lasting * (CURVED if f.bends.curved else SMOOTH)
        gap[left], sums[:, left] = change, new
        good = error <= np.maximum(ACCEPT * np.abs(sums[VALUE]), FLOOR * sums[MASS])
        left = left[~good[left]] if step > 1 else left
        if not len(left):
            break
    beyond = _beyond(sums, reach)
    cut = beyond > np.maximum(ACCEPT * np.abs(sums[VALUE]), FLOOR * sums[MASS])
    unseen = sums[MASS] == 0  # nothing is known of the size of f
    beyond = np.where(unseen & (reach < REACHES[-1]), np.exp(-0.5 * reach**2), beyond)
    return sums[VALUE], error + beyond + ROUNDING * sums[MASS], cut | unseen, spent


def typical_cost(e: Expr, args: tuple[str, ...], params: Sequence[str]) -> float:
    """Evaluations per entry for 8 digits at unit variances and correlations 1/2."""
    env = dict.fromkeys(params, 1.0)
    n = len(args)
    root, _ = roots((0.5 * np.eye(n) + 0.5)[None])
    f = _Integrand(e, args, env, bends(e, args, env))
    mean = np.zeros((1, n))
    return _Nested(f, arrange(f.bends.planes, mean, root, n), mean, root, ORDERS[TYPICAL], REACHES[0]).cost()


def _beyond(sums: Array, reach: float) -> Array:
    """E |f| beyond the cut, continued from the last two deviations before it.

    By their ratio, for functions that grow, and by the larger of the mean sizes of f there: a wave may be small in one.
    """
    edge, before = sums[EDGE], sums[BEFORE]
    ratio = np.divide(edge, before, out=np.ones_like(edge), where=before > 2 * edge)
    continued = np.where(edge > 0, edge * np.minimum(ratio / (1 - np.minimum(ratio, 0.5)), 1.0), 0.0)
    inner, middle, outer = (float(ndtr(-r)) for r in (reach - 2, reach - 1, reach))
    size = np.maximum(edge / (middle - outer), before / (inner - middle))
    return np.asarray(np.maximum(continued, GROWTH * size * outer))


class _Nested:
    """The iterated integrals of N laws of one rank with rules of one order."""

    def __init__(
        self,
        f: _Integrand | _Doubt,
        levels: list[Planes],
        mean: Array,
        root: Array,
        order: tuple[int, int],
        reach: float,
    ) -> None:
        self.f, self.levels, self.mean, self.root, self.reach = f, levels, mean, root, reach
        self.hermite, self.legendre = _hermite(order[0]), _legendre(order[1])
        self.count = 0.0

    def cost(self) -> float:
        """Evaluations per law at most, known before any is made."""
        panels = int(np.ceil(2 * self.reach / PANEL))
        sizes = [
            (panels + p.most_breaks()) * len(self.legendre[0]) if p.sharp else len(self.hermite[0]) for p in self.levels
        ]
        return float(np.prod(sizes))

    def sums(self) -> Array:
        """[4, N]"""
        size = len(self.mean)
        return self._integrate(0, self.mean, np.zeros((size, 0)), np.arange(size))

    def _integrate(self, level: int, x: Array, z: Array, owner: Array) -> Array:
        """The integrals over the coordinates from `level` on: [4, L] at x [L, n] and z [L, level] of laws `owner`."""
        parts = [
            self._block(level, x[i : i + LINES], z[i : i + LINES], owner[i : i + LINES])
            for i in range(0, len(owner), LINES)
        ]
        return np.concatenate(parts, axis=1)

    def _block(self, level: int, x: Array, z: Array, owner: Array) -> Array:
        if self.levels[level].sharp:
            line, nodes, weights = self._panels(self.levels[level].breaks(z, owner, self.reach), len(owner))
        else:
            nodes, weights = (np.broadcast_to(t, (len(owner), t.size)) for t in self.hermite)
            line = np.arange(len(owner))
        inner = self._innermost if level == len(self.levels) - 1 else self._outer
        sums = inner(level, x[line], z[line], owner[line], nodes, weights)
        if len(line) == len(owner):
            return sums
        return np.stack([np.bincount(line, weights=s, minlength=len(owner)) for s in sums])

    def _panels(self, breaks: Array, size: int) -> tuple[Array, Array, Array]:
        """The line [P], nodes [P, p] and weights [P, p] of all panels."""
        steps = np.linspace(-self.reach, self.reach, int(np.ceil(2 * self.reach / PANEL)) + 1)
        ends = np.sort(np.concatenate([np.broadcast_to(steps[:, None], (len(steps), size)), breaks]), axis=0)
        length = np.diff(ends, axis=0)
        panel, line = np.nonzero(length > 1e-15)
        half = 0.5 * length[panel, line]
        nodes = (ends[panel, line] + half)[:, None] + half[:, None] * self.legendre[0]
        return line, nodes, half[:, None] * self.legendre[1] * np.exp(-0.5 * nodes**2) / ROOT_2PI

    def _outer(self, level: int, x: Array, z: Array, owner: Array, nodes: Array, weights: Array) -> Array:
        """Weighted sums of the inner integrals."""
        k = nodes.shape[1]
        points = x[:, None] + self.root[owner, None, :, level] * nodes[:, :, None]
        outer = np.concatenate([np.repeat(z, k, axis=0), nodes.reshape(-1, 1)], axis=1)
        found = self._integrate(level + 1, points.reshape(-1, x.shape[1]), outer, np.repeat(owner, k))
        found = found.reshape(4, -1, k)
        edge, before = self._near_cut(level, nodes)
        found[EDGE] += found[MASS] * edge
        found[BEFORE] += found[MASS] * before
        return np.asarray(np.einsum("slk,lk->sl", found, weights))

    def _innermost(self, level: int, x: Array, z: Array, owner: Array, nodes: Array, weights: Array) -> Array:
        slopes = self.root[owner, :, level]
        moved = np.any(slopes != 0, axis=0)
        columns = [x[:, i, None] + slopes[:, i, None] * nodes if moved[i] else x[:, i, None] for i in range(x.shape[1])]
        self.count += nodes.size
        weighted = self.f(columns) * weights
        sums = np.zeros((4, len(x)))
        sums[VALUE] = weighted.sum(axis=1)
        weighted = np.abs(weighted)
        sums[MASS] = weighted.sum(axis=1)
        if self.levels[level].sharp:
            edge, before = self._near_cut(level, nodes)
            sums[EDGE], sums[BEFORE] = (weighted * edge).sum(axis=1), (weighted * before).sum(axis=1)
        return sums

    def _near_cut(self, level: int, nodes: Array) -> tuple[Array, Array]:
        """Which nodes are in the last deviation before the cut, and in the one before."""
        far = np.abs(nodes) - self.reach
        cut = self.levels[level].sharp
        return cut & (far > -1), cut & (far > -2) & (far <= -1)


@cache
def _hermite(order: int) -> tuple[Array, Array]:
    """Nodes and weights of the standard normal law; negligible weights are left out."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    keep = w > 1e-20 * w.sum()
    return x[keep], w[keep] / w.sum()


@cache
def _legendre(order: int) -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(order)
    return x, w
