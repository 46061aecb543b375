"""Inner products of gradients from the uses of a weight, without any gradient of a matrix per example at once.

The gradient of f[o] for one example with respect to a weight element is a sum of dyads, one for every use,
row_p (x) col_p.  Hence

    <d f / d W, d f' / d W> = sum over pairs of uses p, p' of <row_p, row_p'> <col_p, col_p'>

For a fully connected network this is one product of two Gram matrices, for which the gradient is never formed.  With P
uses in one example it costs P^2 (n1 + n2) for a pair of examples; where P is large (the pixels of a convolution) it is
cheaper to add up the dyads, P n1 n2 for one example: a matrix product of the rows with the columns, a few columns of
the weight at a time.  `gradient_gram` takes whichever is cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from tensorprog.finite.dyads import dyad_gram
from tensorprog.finite.products import mix, take
from tensorprog.finite.state import State
from tensorprog.finite.sums import inner_products, summed_gram
from tensorprog.finite.uses import Floats, Gather, Side, entries_of_all, pair_cost, pattern_of, sum_cost
from tensorprog.finite.weights import Array
from tensorprog.ir.program import Use

CHUNK = 1 << 23
"""Numbers held at once."""

def gradient_gram(
    uses: Sequence[Use], states: Sequence[State], firsts: Sequence[int], samples: int, chunk: int = CHUNK
) -> Floats:
    """G[a, b] = <d f_a / d W, d f_b / d W> over all elements of one weight W, [samples, samples].

    Samples are the pairs (example, output element); those of group g are numbered from `firsts[g]`,
    example by example.  About three times `chunk` numbers are held at once.
    """
    entries = [e for use in uses for e in entries_of_all(use, states, firsts)]
    patterns = [pattern_of(e) for e in entries]
    sides = [Side(e, p) for e, p in zip(entries, patterns, strict=True) if p is not None]
    if len(uses) > 1 or len(sides) < len(entries):
        return dyad_gram(entries, samples)
    if all(s.single for s in sides):
        return _concatenated(sides, samples, chunk)
    if pair_cost(sides) <= sum_cost(sides, samples):
        return _paired(sides, samples, chunk)
    return summed_gram(sides, samples, chunk)


# ---------------------------------------------------------------- vectors that are met once


def _concatenated(sides: Sequence[Side], samples: int, chunk: int) -> Floats:
    """The gradient is the rows themselves."""
    gram = np.zeros((samples, samples))
    elements = sorted({g.element for s in sides for g in s.pattern.gathers})
    n1 = sides[0].dims[0]
    width = max(1, chunk // (samples * n1))
    for a in range(0, len(elements), width):
        part = elements[a : a + width]
        gradients = np.zeros((samples, len(part), n1), dtype=sides[0].row_family.dtype)
        for s in sides:
            mine = [g for g in s.pattern.gathers if part[0] <= g.element <= part[-1]]
            to = np.searchsorted(part, [g.element for g in mine])
            at = np.array([g.at[0] for g in mine], dtype=np.int64)
            coef = np.array([g.coef[0] for g in mine])
            for o, rows in enumerate(s.pattern.rows):
                taken = mix(np.arange(len(at)), rows[at], coef, len(at), s.row_family)
                gradients[s.samples(o), to] = taken.transpose(1, 0, 2)
        gram += inner_products(gradients.reshape(samples, -1))
    return gram


# ---------------------------------------------------------------- by pairs


def _paired(sides: Sequence[Side], samples: int, chunk: int) -> Floats:
    """Sums over pairs of uses of the products of inner products, one weight element after the other."""
    gram = np.zeros((samples, samples))
    for k, left in enumerate(sides):
        for right in sides[k:]:
            others = {g.element: g for g in right.pattern.gathers}
            for g in left.pattern.gathers:
                if g.element in others:
                    _add_pairs(gram, (left, g), (right, others[g.element]), chunk)
    return gram


def _add_pairs(gram: Floats, left: tuple[Side, Gather], right: tuple[Side, Gather], chunk: int) -> None:
    """Adds the block of two groups, and the transposed one."""
    (s, g), (t, h) = left, right
    size = max(1, chunk // max(1, s.examples * len(s.pattern.rows) * t.examples * h.at.size * len(t.pattern.rows)))
    if size >= len(g.at):
        block = _pair_block(_vectors(s, g, slice(None)), None if s is t else _vectors(t, h, slice(None)))
    else:
        others = _vectors(t, h, slice(None))
        parts = (_pair_block(_vectors(s, g, slice(a, a + size)), others) for a in range(0, len(g.at), size))
        block = reduce(np.add, parts)
    for o in range(len(s.pattern.rows)):
        for p in range(len(t.pattern.rows)):
            part = block[o, :, p]
            gram[s.samples(o), t.samples(p)] += part
            if s is not t:
                gram[t.samples(p), s.samples(o)] += part.T


Vectors = tuple[Array, Array | None]
"""Rows [O, P, examples, n1] with the coefficients, and columns [O or 1, P, examples, n2]."""


def _vectors(s: Side, g: Gather, uses: slice) -> Vectors:
    at, outputs = g.at[uses], len(s.pattern.rows)
    flat = s.pattern.rows[:, at].ravel()
    rows = mix(np.arange(len(flat)), flat, np.tile(g.coef[uses], outputs), len(flat), s.row_family)
    cols = s.col_family()
    if cols is not None:
        cols = take(cols, g.cols[:, uses].ravel())
        cols = cols.reshape(len(g.cols), len(at), *cols.shape[1:])
    return rows.reshape(outputs, len(at), *rows.shape[1:]), cols


def _pair_block(left: Vectors, right: Vectors | None) -> Array:
    """[O, examples, O', examples']; `right` None stands for the left again."""
    products = _inner(left[0], left[0] if right is None else right[0])
    cols, others = left[1], left[1] if right is None else right[1]
    if cols is not None and others is not None:
        products *= _inner(cols, others)
    if products.shape[1] == products.shape[4] == 1:
        return products[:, 0, :, :, 0]
    total: Array = products.sum(axis=(1, 4))
    return total


def _inner(left: Array, right: Array) -> Array:
    """[O, P, examples, O', P', examples'] inner products of [O, P, examples, dim] with the like."""
    a = left.reshape(-1, left.shape[-1])
    b = a if left is right else right.reshape(-1, right.shape[-1])
    products: Array = a @ b.T  # BLAS computes one triangle where b is a
    return products.reshape(*left.shape[:3], *right.shape[:3])
