"""What is known of one example, as rows of a matrix [rows, examples]: slots of its own tape, and functions of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.backend.formula import interpreted
from tensorprog.backend.series import COUNT, Marginal, SeriesRows
from tensorprog.backend.trace import Traced
from tensorprog.ir import expr as ex
from tensorprog.ir.tables import Ints
from tensorprog.tape.blocks import Factor, Key
from tensorprog.tape.execute import Run

Floats = NDArray[np.float64]


class Recipe(Protocol):
    """How some rows are made."""

    def fill(self, rows: Floats, run: Run) -> None:
        """Writes its rows; those of earlier recipes are there."""


@final
@dataclass(frozen=True, slots=True)
class SlotRows:
    """The slots of a key."""

    start: int
    key: Key
    size: int

    def fill(self, rows: Floats, run: Run) -> None:
        """See `Recipe`."""
        rows[self.start : self.start + self.size] = run.values.get(self.key, 0.0)


@final
@dataclass(frozen=True, slots=True)
class FormulaRows:
    """Nodes of a recording at many arguments: row start + node * entries + entry."""

    start: int
    nodes: Sequence[Traced]
    inputs: Mapping[str, Ints]
    entries: int

    def fill(self, rows: Floats, run: Run) -> None:
        """See `Recipe`."""
        values = interpreted(self.nodes, {name: rows[at] for name, at in self.inputs.items()})
        for k, value in enumerate(values):
            rows[self.start + k * self.entries : self.start + (k + 1) * self.entries] = value


@final
@dataclass(frozen=True, slots=True)
class FactorRows:
    """The values of a factor, one row an entry."""

    start: int
    factor: Factor
    inputs: Mapping[str, Ints]
    entries: int

    def fill(self, rows: Floats, run: Run) -> None:
        """See `Recipe`."""
        env: dict[str, Any] = {name: rows[at] for name, at in self.inputs.items()}
        env |= {name: number[:, None] for name, number in self.factor.numbers.items()}
        rows[self.start : self.start + self.entries] = ex.evaluate(self.factor.fn, env)


@final
@dataclass
class Rows:
    """The rows of one side in the making."""

    sizes: Mapping[Key, int]
    recipes: list[Recipe] = field(default_factory=list)
    count: int = 0
    known: dict[Any, int] = field(default_factory=dict)

    def slots(self, key: Key, at: Ints) -> Ints:
        """The rows of slots of the tape of the run; a key without slots is zero."""
        if key not in self.known:
            size = self.sizes.get(key, 1)
            self.known[key] = self._add(size, lambda start: SlotRows(start, key, size))
        return self.known[key] + at

    def formulas(self, nodes: Sequence[Traced], inputs: Mapping[str, Ints], entries: int) -> list[Ints]:
        """The rows of nodes, [entries] each."""
        start = self._add(len(nodes) * entries, lambda at: FormulaRows(at, nodes, inputs, entries))
        return [start + k * entries + np.arange(entries) for k in range(len(nodes))]

    def series(
        self, marginal: Marginal, mean: Ints | float, second: Ints, params: Mapping[str, Ints | float], entries: int
    ) -> int:
        """The first row of the series of a function at many arguments."""
        return self._add(COUNT * entries, lambda at: SeriesRows(at, marginal, mean, second, params, entries))

    def factor(self, factor: Factor, entries: int) -> Ints:
        """The rows of a factor."""
        inputs = {name: self.slots(key, at) for name, (_, key, at) in factor.scalars.items()}
        return self._add(entries, lambda at: FactorRows(at, factor, inputs, entries)) + np.arange(entries)

    def _add(self, size: int, recipe: Any) -> int:
        start = self.count
        self.recipes.append(recipe(start))
        self.count += size
        return start

    def matrix(self, run: Run, examples: int) -> Floats:
        """The rows for the examples of a run."""
        rows = np.zeros((max(1, self.count), examples))
        for recipe in self.recipes:
            recipe.fill(rows, run)
        return rows
