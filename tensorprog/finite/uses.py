"""The uses of a weight at given sizes: which elements of which families make up its gradient.

    d f[out] / d W[element] += coef * row[row] (x) col[col]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.forward import weight_elements
from tensorprog.finite.state import State
from tensorprog.finite.weights import Array
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Use
from tensorprog.ir.tables import Ints, Table, count, flat_index, grid

Floats = NDArray[np.float64]

PASS = 40
"""Multiplications in a matrix product that take the time of one number of an array of products."""


@final
@dataclass(frozen=True, slots=True)
class Entries:
    """The uses of a weight in one group: which output element, weight element, row and column; with a factor.

    The samples (example, output element) of the group are numbered from `first`, example by example.
    """

    state: State
    use: Use
    first: int
    out: Ints
    element: Ints
    row: Ints
    col: Ints
    coef: Floats

    @property
    def outputs(self) -> int:
        """The elements of the output in one example."""
        return count(self.use.domain[: len(self.use.out)], self.state.env)


@final
@dataclass(frozen=True, slots=True)
class Gather:
    """What meets one weight element: coef[p] * row[rows[o, at[p]]] (x) col[cols[o, p]] for every output element o.

    `cols` is [1, P] where the columns are the same for all of them, else [O, P].
    """

    element: int
    at: Ints
    cols: Ints
    coef: Floats


@final
@dataclass(frozen=True, slots=True)
class Pattern:
    """Entries that repeat for every output element: `rows` [O, R] are the rows of each, every one once."""

    rows: Ints
    gathers: tuple[Gather, ...]


@final
@dataclass(frozen=True, slots=True)
class Side:
    """The uses of one weight in one group of examples, in a pattern."""

    entries: Entries
    pattern: Pattern

    @property
    def row_family(self) -> Array:
        """The rows, [elements, examples, n1] (n1 = 1 for a weight that is a number)."""
        values = self.entries.state.values[self.entries.use.row]
        return values if values.ndim == 3 else values[:, :, None]

    def col_family(self) -> Array | None:
        """The columns, [elements, examples, n2]; None stands for the number 1."""
        return None if self.entries.use.col is None else self.entries.state.values[self.entries.use.col]

    @property
    def examples(self) -> int:
        """The examples of the group."""
        return self.entries.state.group.examples

    @property
    def single(self) -> bool:
        """Whether the weight is a vector (or a number) of which every element is met once."""
        return self.entries.use.col is None and all(len(g.at) == 1 for g in self.pattern.gathers)

    def samples(self, o: int, examples: slice = slice(None)) -> slice:
        """The numbers of the samples with output element o."""
        outputs = len(self.pattern.rows)
        start, stop, _ = examples.indices(self.examples)
        first = self.entries.first + o
        return slice(first + start * outputs, first + stop * outputs, outputs)

    @property
    def dims(self) -> tuple[int, int]:
        """Rows and columns of the weight."""
        cols = self.col_family()
        return self.row_family.shape[-1], 1 if cols is None else cols.shape[-1]


def pair_cost(sides: Sequence[Side]) -> float:
    """Multiplications of the way by pairs, half of them saved by symmetry."""
    n1, n2 = sides[0].dims
    met: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
    for s in sides:
        for g in s.pattern.gathers:
            met[g.element] += len(g.at) * s.examples * np.array([len(s.pattern.rows), len(g.cols)], dtype=float)
    return float(sum(uses**2 @ [n1 / 2 + PASS, n2 / 2] for uses in met.values()))


def sum_cost(sides: Sequence[Side], samples: int) -> float:
    """Multiplications of the way by sums, the Gram matrix of so many samples included."""
    n1, n2 = sides[0].dims
    elements = len({g.element for s in sides for g in s.pattern.gathers})
    sums = sum(s.examples * len(s.pattern.rows) * (float(np.ptp(g.at)) + 1 + PASS)
               for s in sides for g in s.pattern.gathers)
    return n1 * n2 * (sums + samples**2 / 2 * elements)


def entries_of(use: Use, state: State, first: int) -> Entries:
    """The elements of the domain of a use at which everything is inside its family."""
    out, element, row, col, coef = state.plan.kept(("entries", use), lambda: _entries(use, state))
    return Entries(state, use, first, out, element, row, col, coef)


def entries_of_all(use: Use, states: Sequence[State], firsts: Sequence[int]) -> list[Entries]:
    """`entries_of` for several groups; those of the same sizes share the elements."""
    found = {id(s.plan): entries_of(use, s, 0) for s in {id(s.plan): s for s in states}.values()}
    return [replace(found[id(s.plan)], state=s, first=first) for s, first in zip(states, firsts, strict=True)]


def _entries(use: Use, state: State) -> tuple[Ints, Ints, Ints, Ints, Floats]:
    env, program = state.env, state.plan.program
    index, length = grid(use.domain, env), count(use.domain, env)
    out_axes = use.domain[: len(use.out)]

    def find(at: tuple[Any, ...], axes: tuple[Any, ...]) -> Ints:
        return flat_index(at, axes, {**env, **index}, env, length)

    out, row = find(use.out, out_axes), find(use.row_index, program.var(use.row).axes)
    col = np.zeros(length, dtype=np.int64) if use.col is None else find(use.col_index, program.var(use.col).axes)
    keep = (out >= 0) & (row >= 0) & (col >= 0)
    inside = {name: values[keep] for name, values in index.items()}
    element = weight_elements(use.windex, use.weight, Table(out[keep], row[keep], inside), state)
    return out[keep], element, row[keep], col[keep], _factors(use, inside, env, int(keep.sum()))


def _factors(use: Use, index: Mapping[str, Ints], env: Mapping[str, Any], length: int) -> Floats:
    value = np.asarray(evaluate(use.coef, {**env, **index}), dtype=np.float64)
    return np.broadcast_to(value, (length,))


def pattern_of(entries: Entries) -> Pattern | None:
    """The pattern of the entries; None where they differ between output elements, or a row meets an element twice."""
    return entries.state.plan.kept(("pattern", id(entries.out)), lambda: _pattern(entries))


def _pattern(entries: Entries) -> Pattern | None:
    outputs = entries.outputs
    order = np.argsort(entries.out, kind="stable")
    if not len(order) or len(order) % outputs:
        return None
    shape = outputs, len(order) // outputs
    out, element, row, col = (a[order].reshape(shape) for a in (entries.out, entries.element, entries.row, entries.col))
    coef = entries.coef[order].reshape(shape)
    _, first, at = np.unique(row[0], return_index=True, return_inverse=True)
    rows = row[:, first]
    same = (out == np.arange(outputs)[:, None]).all() and (element == element[0]).all() and (coef == coef[0]).all()
    if not same or (rows[:, at] != row).any() or len(np.unique(element[0] * len(first) + at)) < len(at):
        return None
    cols = col[:1] if (col == col[0]).all() else col
    return Pattern(rows, tuple(_gathers(element[0], at, cols, coef[0])))


def _gathers(element: Ints, at: Ints, cols: Ints, coef: Floats) -> list[Gather]:
    order = np.lexsort((at, element))
    cuts = np.flatnonzero(np.diff(element[order])) + 1
    return [Gather(int(element[p[0]]), at[p], cols[:, p], coef[p]) for p in np.split(order, cuts)]
