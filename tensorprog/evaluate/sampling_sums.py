"""Sums of Gaussian families that are drawn as one: of W h + U x + b only the sum is needed, one number for three.

The members of such a class are never drawn.  They are nodes (`sampling_nodes`), whose covariances are known, and
so are their sums; a sum is drawn when it is computed, conditional on the sums of its class before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from tensorprog.evaluate.sampling_factor import Factor, Floats, Ints
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_terms import Class


class Sums:
    """The sums drawn so far, of every class in `classes`."""

    def __init__(
        self, classes: Collection[Class], integrals: Integrals, samples: int,
        draws: Callable[[Factor], Callable[[int], Floats]],
    ) -> None:
        self.classes, self.integrals, self.samples, self.draws = classes, integrals, samples, draws
        self.known: dict[Class, Family] = {}

    def draw(self, of: Class, group: int, numbers: Ints) -> Floats:
        """The nodes `numbers` of a class in a group, [elements, examples, M]."""
        examples = self.integrals.examples[group]
        if self.integrals.dry:
            return np.ones((len(numbers), examples, self.samples))
        family = self.known.setdefault(of, Family(of, self.integrals, self.samples))
        rows = self.integrals.nodes(of, group).rows(numbers)
        return family.draw(group, rows, self.draws(family.factor)).reshape(len(numbers), examples, self.samples)


class Family:
    """The sums of one class, and of which rows of which group the innovations are."""

    def __init__(self, of: Class, integrals: Integrals, samples: int) -> None:
        self.of, self.integrals = of, integrals
        self.factor = Factor(samples)
        self.groups: Ints = np.zeros(0, dtype=np.int64)
        self.pivots: Ints = np.zeros(0, dtype=np.int64)

    def draw(self, group: int, rows: Ints, draws: Callable[[int], Floats]) -> Floats:
        """[rows, M]"""
        nodes = self.integrals.nodes(self.of, group)
        values, chosen = self.factor.extend(nodes.covariance(rows, nodes, rows), self._cross(group, rows), draws)
        self.groups = np.append(self.groups, np.full(len(chosen), group))
        self.pivots = np.append(self.pivots, rows[chosen])
        return values + nodes.mean[rows][:, None]

    def _cross(self, group: int, rows: Ints) -> Floats:
        """The covariance with the pivots."""
        nodes, cross = self.integrals.nodes(self.of, group), np.zeros((len(rows), len(self.pivots)))
        for g in np.unique(self.groups).tolist():
            columns = np.flatnonzero(self.groups == g)
            cross[:, columns] = nodes.covariance(rows, self.integrals.nodes(self.of, g), self.pivots[columns])
        return cross
