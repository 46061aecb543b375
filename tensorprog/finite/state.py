"""A group of examples, and a run of a program for all of them at once: the families computed so far.

Families are held as [elements, examples, dim] (scalars [elements, examples]), so that the elements of a
wavefront are contiguous and an index map is a sparse matrix acting on the first axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from tensorprog.finite.plan import Plan
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import integer
from tensorprog.ir.program import Dim
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import count


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Examples of equal sizes.  `inputs[name]` is [examples, elements, dim], or [examples, elements] for numbers."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, Array]

    @property
    def examples(self) -> int:
        """The number of examples."""
        for values in self.inputs.values():
            return len(values)
        return 1


@final
@dataclass(frozen=True, slots=True)
class State:
    """A run: its plan, its weights, its examples and the families computed so far.

    Runs side by side may share the transposes of weights (`turned`).
    """

    plan: Plan
    network: Network
    group: Group
    values: dict[str, Array] = field(default_factory=dict)
    turned: dict[str, Array] | None = None

    @property
    def env(self) -> Mapping[str, Any]:
        """The sizes of this group and the widths."""
        return self.plan.env

    def zeros(self, elements: int, dim: Dim | None) -> Array:
        """That many elements of a family of this dimension, zero."""
        return np.zeros(self.shape(elements, dim), dtype=self.network.dtype)

    def shape(self, elements: int, dim: Dim | None) -> tuple[int, ...]:
        """The shape of so many elements of a family of this dimension."""
        return (elements, self.group.examples) + (() if dim is None else (integer(dim.size, self.env),))

    def store(self, step: Step, result: Array) -> None:
        """Puts the elements of a step into their family."""
        if len(step.elements) == count(step.instr.var.axes, self.env):
            self.values[step.instr.var.name] = result
        else:
            self.value(step.instr.var.name)[step.elements] = result

    def value(self, name: str) -> Array:
        """A family; what is not computed yet is zero (the elements of a loop come one wavefront at a time)."""
        if name not in self.values:
            var = self.plan.program.var(name)
            self.values[name] = self.zeros(count(var.axes, self.env), var.dim)
        return self.values[name]
