"""Second moments of values that are drawn in part.

    E[Z Z'] = sum over pairs of terms of mean(coef coef') * product over classes of E[fn(u) fn'(u')]

The means are over draws, the expectations of functions of integrated nodes are closed forms or quadratures at the
covariances of the nodes.  `dry` runs find out what can be integrated, and about how many seconds it takes for a pair
of examples, without computing anything; `widest` is the largest number of coefficients that were held at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.evaluate.sampling_factor import Floats, Ints
from tensorprog.evaluate.sampling_nodes import Nodes, Rows
from tensorprog.evaluate.sampling_record import Direct, Recorded
from tensorprog.evaluate.sampling_terms import Block, Class, Matrix, NotIntegrable, Pile, Stacks, Terms, U, classes_of
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Sym
from tensorprog.limit.parity import Characters, function_characters
from tensorprog.symbolic.expectation import Expectation, Moments, Request, plan

Errors = dict[Request, tuple[Expectation, float]]
CHUNK = 1 << 24
FEW = 1 << 14
"""Entries up to which a matrix of sums is multiplied as it is, zeros and all."""

UNCERTAIN = 1e-6
"""Relative error of a quadrature from which the class is drawn instead."""

PAIR, QUADRATURE = 4e-7, 2e-4
"""About the seconds that a pair of terms (over a few thousand draws) and a quadrature take."""


class Integrals:
    """The integrated classes of one run: their nodes in every group, the covariances, the error estimates."""

    def __init__(
        self, examples: Sequence[int], dry: bool, sums: Collection[Class], samples: int, runs: int, arrays: Direct
    ) -> None:
        self.examples, self.dry, self.sums, self.runs, self.draws = examples, dry, sums, runs, runs * samples
        self.arrays = arrays
        self.rows: dict[Matrix, Rows] = {}
        self.known: dict[tuple[Class, int], Nodes] = {}
        self.errors: Errors = arrays.given({})
        self.grams: dict[Hashable, Floats] = {}
        self.stored: dict[Hashable, Pile] = {}
        self.stacks = Stacks(arrays)
        self.means: dict[Hashable, Floats] = {}
        self.seconds = 0.0
        self.widest = 0

    def nodes(self, of: Class, group: int) -> Nodes:
        """The nodes of a class in a group."""
        if (of, group) not in self.known:
            self.known[of, group] = Nodes(self.examples[group], self.rows, self.runs, self.arrays)
        return self.known[of, group]

    # ------------------------------------------------------------ second moments

    def moment(self, left: Terms, n: int, g: int, right: Terms, m: int, h: int) -> Floats:
        """E[Z Z'] of n elements in group g and m elements in group h, [runs, n * examples, m * examples'].

        Raises NotIntegrable where a member of a sum is needed by itself.
        """
        self.whole(left + right)
        self.widest = max(self.widest, sum(math.prod(b.coef.shape[:2]) for b in right if b.coef.shape[2] > 1))
        total: Floats = self.arrays.zeros(self.runs, n * self.examples[g], m * self.examples[h])
        for b in right:
            for a in left:
                if not self._vanishes(a, b):
                    self._add(total, a, g, b, h)
        return total

    def whole(self, terms: Terms) -> None:
        """Raises NotIntegrable for the classes of which only sums are drawn."""
        members = classes_of(terms).intersection(self.sums)
        if members:
            raise NotIntegrable(members)

    def appended(self, old: Hashable, new: Hashable, terms: Terms, more: Terms, shift: int) -> Terms:
        """The terms and more terms at elements from `shift` on, once for all matrices that use the same vectors."""
        if new not in self.stored:
            pile = self.stored.pop(old, None) or Pile(terms, self.stacks)
            pile.add(tuple(Block(b.shape, b.elem + shift, b.nodes, b.coef) for b in more))
            self.stored[new] = pile
        return self.stored[new].terms

    def shared(self, key: Hashable, compute: Callable[[], Floats]) -> Floats:
        """A matrix of moments that several matrices ask for."""
        if key not in self.grams:
            self.grams[key] = compute()
        return self.grams[key]

    def _vanishes(self, a: Block, b: Block) -> bool:
        """Whether the functions of some class, whose nodes have no mean, are odd together."""
        fns, others = dict(a.shape), dict(b.shape)
        return any(_odd(fns.get(c, ONE), others.get(c, ONE)) and self._centred(c) for c in fns.keys() | others.keys())

    def _centred(self, of: Class) -> bool:
        return all(not nodes.mean.any() for (c, _), nodes in self.known.items() if c == of)

    def _add(self, total: Floats, a: Block, g: int, b: Block, h: int) -> None:
        step = max(1, CHUNK // max(1, self.runs * self.examples[g] * len(b.elem) * self.examples[h]))
        for start in range(0, len(a.elem), step):
            part = np.arange(start, min(start + step, len(a.elem)))
            piece = a if len(part) == len(a.elem) else a.picked(part, a.elem[part])
            product = self._term_moments(piece, g, b, h)
            left, right = (_sums(elem, self.examples[k], size) for elem, k, size in (
                (piece.elem, g, total.shape[1]), (b.elem, h, total.shape[2])))
            total += self.arrays.call(summed, left, product, right)

    def _term_moments(self, a: Block, g: int, b: Block, h: int) -> Floats:
        e, f = self.examples[g], self.examples[h]
        self.seconds += PAIR * len(a.elem) * len(b.elem)
        result = self._mean_product(a.coef, e, b.coef, f)
        fns, others = dict(a.shape), dict(b.shape)
        for c in sorted(fns.keys() | others.keys(), key=sorted):
            i = a.nodes[:, a.classes.index(c)] if c in fns else None
            j = b.nodes[:, b.classes.index(c)] if c in others else None
            result = result * self._expectation(c, (fns.get(c), i, g), (others.get(c), j, h))
        return result

    def _mean_product(self, a: Floats, e: int, b: Floats, f: int) -> Floats:
        """See below; what was recorded is not done again for the same coefficients."""

        def compute() -> Floats:
            found: Floats = self.arrays.call(mean_product, a, e, b, f, self.runs, self.draws)
            return found

        if not (isinstance(a, Recorded) and isinstance(b, Recorded)):
            return compute()
        key = a.number, e, b.number, f
        if key not in self.means:
            self.means[key] = compute()
        return self.means[key]

    def mean(self, terms: Terms, n: int, g: int) -> Floats:
        """E[Z] of a single run, [n, examples]."""
        one = (Block((), np.zeros(1, dtype=np.int64), np.zeros((1, 0), dtype=np.int64), np.ones((1, 1, 1))),)
        (found,) = self.moment(terms, n, g, one, 1, g)
        values: Floats = found.reshape(n, self.examples[g], -1)[:, :, 0]
        return values

    # ------------------------------------------------------------ functions of nodes

    def _expectation(
        self, of: Class, left: tuple[Expr | None, Ints | None, int], right: tuple[Expr | None, Ints | None, int]
    ) -> Floats:
        """E[fn(u) fn'(u')], [runs, terms * examples, terms' * examples'], or a row or column without one of them."""
        (f, i, g), (k, j, h) = left, right
        if f is None or i is None:
            assert k is not None and j is not None
            return self._single(of, k, j, h)[..., None, :]
        if k is None or j is None:
            return self._single(of, f, i, g)[..., :, None]
        us, at = np.unique(i, return_inverse=True)
        vs, to = np.unique(j, return_inverse=True)
        values = self._pairs(of, f, us, g, k, vs, h)
        if len(us) == len(i) == 1 and len(vs) == len(j) == 1:
            return values
        e, d = self.examples[g], self.examples[h]
        rows, cols = ((k[:, None] * n + np.arange(n)).ravel() for k, n in ((at, e), (to, d)))
        spread: Floats = values[:, rows[:, None], cols]
        return spread

    def _pairs(self, of: Class, f: Expr, us: Ints, g: int, k: Expr, vs: Ints, h: int) -> Floats:
        one, two = self.nodes(of, g), self.nodes(of, h)
        rows, cols = one.rows(us), two.rows(vs)
        if self.dry:
            tier = _planned(of, f, k).tier
            self.seconds += QUADRATURE * len(us) * len(vs) if tier == "quadrature" else 0.0
            return np.ones((1, len(rows), len(cols)))
        covariance = one.covariance(rows, two, cols)
        if f == U and k == U:
            return covariance + one.mean[rows][:, None] * two.mean[cols]
        laws = one.mean[rows], one.variance[:, rows], two.mean[cols], two.variance[:, cols], covariance
        return self._evaluate(of, _planned(of, f, k), _pair_moments, *laws)

    def _single(self, of: Class, f: Expr, us: Ints, g: int) -> Floats:
        nodes = self.nodes(of, g)
        rows = nodes.rows(us)
        if f == U or self.dry:
            _planned(of, f, ONE)
            return nodes.mean[rows]
        return self._evaluate(of, _planned(of, f, ONE), _single_moments, nodes.mean[rows], nodes.variance[:, rows])

    def _evaluate(self, of: Class, expectation: Expectation, law: Callable[..., Moments], *numbers: Floats) -> Floats:
        found: Floats = self.arrays.call(_evaluated, self.errors, of, expectation, law, *numbers)
        return found


def _evaluated(
    errors: Errors, of: Class, expectation: Expectation, law: Callable[..., Moments], *numbers: Floats
) -> Floats:
    """The expectation under the law of these numbers.  Raises NotIntegrable where it is not accurate."""
    value, error = expectation.evaluate(law(*numbers), {})
    worst, size = float(np.max(error, initial=0.0)), float(np.max(np.abs(value), initial=0.0))
    if not worst <= UNCERTAIN * size:
        raise NotIntegrable([of])
    known = errors.get(expectation.request, (expectation, 0.0))[1]
    errors[expectation.request] = expectation, max(known, worst)
    return np.asarray(value, dtype=np.float64)


def _pair_moments(mean: Floats, variance: Floats, other: Floats, others: Floats, covariance: Floats) -> Moments:
    """The law of all pairs of nodes: means [rows], [columns], variances and covariances of every run."""
    return Moments(mean[None, None, :, None], variance[None, None, :, :, None],
                   other[None, None, None, :], others[None, None, :, None], covariance[None, None])


def _single_moments(mean: Floats, variance: Floats) -> Moments:
    """The law of nodes by themselves: means [rows], variances [runs, rows]."""
    return Moments(mean[None, None], variance[None, None], np.zeros((0, *variance.shape)),
                   np.zeros((0, 0, *variance.shape)), np.zeros((1, 0, *variance.shape)))


@lru_cache(maxsize=4096)
def _odd(f: Expr, k: Expr) -> bool:
    odd = {U.name: Characters(1)}
    return not function_characters(f, odd).times(function_characters(k, odd)).has_mean


def _planned(of: Class, f: Expr, k: Expr) -> Expectation:
    found = _plan(f, k)
    if found is None:
        raise NotIntegrable([of])
    return found


@lru_cache(maxsize=4096)
def _plan(f: Expr, k: Expr) -> Expectation | None:
    right = ex.substitute(k, {U.name: Sym("r0")})
    return plan(Request(ex.substitute(f, {U.name: Sym("l0")}), ("l0",), right, () if k == ONE else ("r0",)))


def mean_product(a: Floats, e: int, b: Floats, f: int, runs: int, draws: int) -> Floats:
    """The mean of coef coef' [terms, examples or 1, draws of all runs, coordinates, or 1] over draws.

    [runs or 1, terms * examples, terms' * examples'], for `e` and `f` examples.
    """
    a, b = _by_run(a, runs, draws), _by_run(b, runs, draws)
    if math.prod(a.shape[2:]) == 1 or math.prod(b.shape[2:]) == 1:
        left, right = (_spread(x.mean(axis=3, keepdims=True), n) for x, n in ((a, e), (b, f)))
        return left * right.swapaxes(1, 2)
    left, right = _spread(a, e), _spread(b, f)
    result: Floats = left @ right.swapaxes(1, 2)
    result /= left.shape[2]
    return result


def _by_run(coef: Floats, runs: int, draws: int) -> Floats:
    """[terms, examples, runs, draws] of what is drawn, [terms, examples, 1, coordinates] of known numbers."""
    return coef.reshape(*coef.shape[:2], runs if coef.shape[2] == draws else 1, -1)


def _spread(coef: Floats, examples: int) -> Floats:
    """[runs, terms * examples, draws] of [terms, examples or 1, runs, draws]."""
    terms, _, runs, draws = coef.shape
    spread: Floats = np.broadcast_to(coef, (terms, examples, runs, draws)).reshape(-1, runs, draws).swapaxes(0, 1)
    return spread


def _sums(elem: Ints, examples: int, rows: int) -> csr_matrix | Floats | None:
    """What adds up rows (term, example) to rows (element, example); None where these are the same."""
    if len(elem) * examples == rows and (elem == np.arange(len(elem))).all():
        return None
    row = (elem[:, None] * examples + np.arange(examples)).ravel()
    mix = csr_matrix((np.ones(len(row)), (row, np.arange(len(row)))), shape=(rows, len(row)))
    return mix.toarray() if mix.shape[0] * mix.shape[1] <= FEW else mix


def summed(left: csr_matrix | Floats | None, values: Floats, right: csr_matrix | Floats | None) -> Floats:
    """left @ values @ right.T of every run."""
    if left is not None:
        values = np.stack([left @ v for v in values])
    return values if right is None else np.stack([(right @ v.T).T for v in values])
