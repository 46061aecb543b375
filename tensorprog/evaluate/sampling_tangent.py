"""The NTK part of one weight from second moments of the rows and columns of its uses.

    sum over pairs of uses with the same element of the weight of coef coef' E[row row'] E[col col']
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.evaluate.sampling_factor import Floats, Ints
from tensorprog.evaluate.sampling_moments import CHUNK, Integrals
from tensorprog.evaluate.sampling_values import Values
from tensorprog.finite.uses import Entries, entries_of
from tensorprog.ir.program import Use
from tensorprog.ir.tables import count


def tangent(
    uses: Sequence[Use], groups: Sequence[Values], firsts: Sequence[int], samples: int, integrals: Integrals
) -> Floats:
    """[samples, samples], the samples of group g (example by example, outputs inside) numbered from `firsts[g]`."""
    total = np.zeros((samples, samples))
    entries = [
        (values, entries_of(use, values.state, first))
        for use in uses
        for values, first in zip(groups, firsts, strict=True)
    ]
    for (values, a), (others, b) in itertools.combinations_with_replacement(entries, 2):
        for element in np.intersect1d(a.element, b.element):
            part = _part(values, a, others, b, int(element), samples, integrals)
            total += part if a is b else part + part.T
    return total


def _part(
    values: Values, a: Entries, others: Values, b: Entries, element: int, samples: int, integrals: Integrals
) -> Floats:
    """The pairs of uses of one element of the weight."""
    p, q = np.flatnonzero(a.element == element), np.flatnonzero(b.element == element)
    e, f = values.state.group.examples, others.state.group.examples
    size = max(1, CHUNK // (e * f * len(q)))
    total = np.zeros((samples, samples))
    right = _summing(others, b, q, samples)
    for k in range(0, len(p), size):
        part = p[k : k + size]
        moments = _moments((values, a.use.row, a.row[part]), (others, b.use.row, b.row[q]), integrals)
        if a.use.col is not None and b.use.col is not None:
            moments *= _moments((values, a.use.col, a.col[part]), (others, b.use.col, b.col[q]), integrals)
        total += _summing(values, a, part, samples) @ (right @ moments.T).T
    return total


def _moments(left: tuple[Values, str, Ints], right: tuple[Values, str, Ints], integrals: Integrals) -> Floats:
    """E[Z Z'] of elements of two families, each computed once, [uses * examples, uses' * examples']."""
    (values, u, i), (others, v, j) = left, right
    rows, at = np.unique(i, return_inverse=True)
    cols, to = np.unique(j, return_inverse=True)
    (found,) = integrals.moment(
        values.vectors(u, rows), len(rows), values.group, others.vectors(v, cols), len(cols), others.group
    )
    e, f = integrals.examples[values.group], integrals.examples[others.group]
    left_rows, right_rows = ((k[:, None] * n + np.arange(n)).ravel() for k, n in ((at, e), (to, f)))
    picked: Floats = found[left_rows][:, right_rows]
    return picked


def _summing(values: Values, entries: Entries, which: Ints, samples: int) -> csr_matrix:
    """Adds rows (use, example) up to samples, with the coefficients of the uses."""
    examples = values.state.group.examples
    outputs = count(entries.use.domain[: len(entries.use.out)], values.state.env)
    sample = (entries.first + np.arange(examples) * outputs + entries.out[which][:, None]).ravel()
    coef = np.repeat(entries.coef[which], examples)
    return csr_matrix((coef, (sample, np.arange(len(sample)))), shape=(samples, len(sample)))


