"""Sums of Gaussian families that are drawn as one: of W h + U x + b only the sum is needed, one number for three.

The members of such a class are never drawn.  They are nodes (`sampling_nodes`), whose covariances are known, and
so are their sums; a sum is drawn when it is computed, conditional on the sums of its class before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from tensorprog.evaluate.sampling_factor import Draws, Family, Floats, Ints
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_terms import Class


class Sums:
    """The sums drawn so far, of every class in `classes`."""

    def __init__(
        self, classes: Collection[Class], integrals: Integrals, samples: int,
        draws: Sequence[Draws],
    ) -> None:
        self.classes, self.integrals, self.samples, self.draws = classes, integrals, samples, draws
        self.known: dict[Class, Sum] = {}

    def draw(self, of: Class, group: int, numbers: Ints) -> Floats:
        """The nodes `numbers` of a class in a group, [elements, examples, M]."""
        examples = self.integrals.examples[group]
        if self.integrals.dry:
            return np.ones((len(numbers), examples, self.integrals.runs * self.samples))
        known = self.known.setdefault(of, Sum(of, self.integrals, self.samples))
        rows = self.integrals.nodes(of, group).rows(numbers)
        return known.draw(group, rows, self.draws).reshape(len(numbers), examples, -1)


class Sum:
    """The sums of one class: which rows of which group were drawn."""

    def __init__(self, of: Class, integrals: Integrals, samples: int) -> None:
        self.of, self.integrals = of, integrals
        self.family = integrals.arrays.made(Family, samples, integrals.runs)
        self.known: list[tuple[int, Ints]] = []

    def draw(self, group: int, rows: Ints, draws: Sequence[Draws]) -> Floats:
        """[rows, M]"""
        nodes = self.integrals.nodes(self.of, group)
        own = nodes.covariance(rows, nodes, rows)
        before = [nodes.covariance(rows, self.integrals.nodes(self.of, g), known) for g, known in self.known]
        cross = np.concatenate([own[:, :, :0], *before], axis=2)
        self.known.append((group, rows))
        drawn: Floats = self.integrals.arrays.call(Family.extend, self.family, own, cross, draws)
        return drawn + nodes.mean[rows][:, None]
