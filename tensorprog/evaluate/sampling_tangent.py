"""The NTK part of one weight from second moments of the rows and columns of its uses.

    sum over pairs of uses with the same element of the weight of coef coef' E[row row'] E[col col']
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.evaluate.sampling_factor import Floats, Ints
from tensorprog.evaluate.sampling_moments import CHUNK, Integrals, summed
from tensorprog.evaluate.sampling_values import Values
from tensorprog.finite.gram import gradient_gram
from tensorprog.finite.plan import Plan
from tensorprog.finite.state import Group, State
from tensorprog.finite.uses import Entries, entries_of
from tensorprog.finite.weights import Network
from tensorprog.ir.program import Use
from tensorprog.ir.tables import count


def tangent(
    uses: Sequence[Use], groups: Sequence[Values], firsts: Sequence[int], samples: int, integrals: Integrals
) -> Floats:
    """[runs, samples, samples], the samples of group g (example by example, outputs inside) from `firsts[g]` on."""
    total: Floats = integrals.arrays.zeros(integrals.runs, samples, samples)
    entries = [
        (values, entries_of(use, values.state, first))
        for use in uses
        for values, first in zip(groups, firsts, strict=True)
    ]
    for (values, a), (others, b) in itertools.combinations_with_replacement(entries, 2):
        for element in np.intersect1d(a.element, b.element):
            part = _part(values, a, others, b, int(element), samples, integrals)
            total += part if a is b else part + part.swapaxes(1, 2)
    return total


def _part(
    values: Values, a: Entries, others: Values, b: Entries, element: int, samples: int, integrals: Integrals
) -> Floats:
    """The pairs of uses of one element of the weight."""
    p, q = np.flatnonzero(a.element == element), np.flatnonzero(b.element == element)
    e, f = values.state.group.examples, others.state.group.examples
    size = max(1, CHUNK // (e * f * len(q)))
    total: Floats = integrals.arrays.zeros(integrals.runs, samples, samples)
    right = _summing(others, b, q, samples)
    for k in range(0, len(p), size):
        part = p[k : k + size]
        moments = _moments((values, a.use.row, a.row[part]), (others, b.use.row, b.row[q]), integrals)
        if a.use.col is not None and b.use.col is not None:
            moments = moments * _moments((values, a.use.col, a.col[part]), (others, b.use.col, b.col[q]), integrals)
        total += integrals.arrays.call(summed, _summing(values, a, part, samples), moments, right)
    return total


def _moments(left: tuple[Values, str, Ints], right: tuple[Values, str, Ints], integrals: Integrals) -> Floats:
    """E[Z Z'] of elements of two families, each computed once, [runs, uses * examples, uses' * examples']."""
    (values, u, i), (others, v, j) = left, right
    rows, at = np.unique(i, return_inverse=True)
    cols, to = np.unique(j, return_inverse=True)
    found = integrals.moment(
        values.vectors(u, rows), len(rows), values.group, others.vectors(v, cols), len(cols), others.group
    )
    e, f = integrals.examples[values.group], integrals.examples[others.group]
    left_rows, right_rows = ((k[:, None] * n + np.arange(n)).ravel() for k, n in ((at, e), (to, f)))
    picked: Floats = found[:, left_rows[:, None], right_rows]
    return picked


def _summing(values: Values, entries: Entries, which: Ints, samples: int) -> csr_matrix:
    """Adds rows (use, example) up to samples, with the coefficients of the uses."""
    examples = values.state.group.examples
    outputs = count(entries.use.domain[: len(entries.use.out)], values.state.env)
    sample = (entries.first + np.arange(examples) * outputs + entries.out[which][:, None]).ravel()
    coef = np.repeat(entries.coef[which], examples)
    return csr_matrix((coef, (sample, np.arange(len(sample)))), shape=(samples, len(sample)))


# ---------------------------------------------------------------- vectors that are drawn throughout


def drawn_tangent(
    uses: Sequence[Use], groups: Sequence[Values], firsts: Sequence[int], samples: int, integrals: Integrals
) -> Floats:
    """`tangent` as inner products of the gradients, which is faster than moment by moment."""
    names = {n for u in uses for n in (u.row, u.col) if n is not None}
    reads = [{n: values.state.value(n) for n in names} for values in groups]
    known = [(values.state.plan, values.state.network, values.state.group) for values in groups]
    found: Floats = integrals.arrays.call(_grams, uses, known, reads, firsts, samples, integrals.runs)
    return found


def _grams(
    uses: Sequence[Use], groups: Sequence[tuple[Plan, Network, Group]], reads: Sequence[dict[str, Floats]],
    firsts: Sequence[int], samples: int, runs: int,
) -> Floats:
    """The inner products of every run."""
    found = []
    for r in range(runs):
        states = [
            State(plan, network, group, {n: _of_run(plan, n, v, r, runs) for n, v in read.items()})
            for (plan, network, group), read in zip(groups, reads, strict=True)
        ]
        found.append(gradient_gram(uses, states, firsts, samples))
    return np.stack(found)


def _of_run(plan: Plan, name: str, values: Floats, run: int, runs: int) -> Floats:
    """The draws of one run; known numbers are those of all."""
    dim = plan.program.var(name).dim
    if dim is None or not dim.wide:
        return values
    draws = values.shape[2] // runs
    return values[:, :, run * draws : (run + 1) * draws]
