"""Families that are known from the inputs alone, and their derivatives: x -> F(x), dx -> J dx, g -> J' g.

F is the part of a program before its first weights.  J' is its reverse mode, a program again; J is the reverse mode of
that in its seeds, in which it is linear: the derivative of <J' g, dx> by g.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.autodiff import seeded
from tensorprog.dataset import Group
from tensorprog.finite import Group as FiniteGroup
from tensorprog.finite import draw, forward
from tensorprog.ir.program import Data, Program
from tensorprog.limit.analyse import Limit

Floats = NDArray[np.float64]
Families = Mapping[str, Floats]


@final
@dataclass(frozen=True, slots=True)
class Known:
    """The families of a program that are known from the inputs: [examples, elements, dim] or [examples, elements]."""

    program: Program

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [i.var.name for i in self.program.instrs]

    def of(self, group: Group) -> dict[str, Floats]:
        """Their values; those of inputs are the data itself."""
        inputs = {name: group.batch[source] for name, source in self._sources.items()}
        return inputs | _run(self.program, group, {}, [name for name in self.names if name not in inputs])

    def pushed(self, group: Group, direction: Families) -> dict[str, Floats]:
        """Their derivatives along a direction of the inputs.  Raises TensorProgError where there is none."""
        back = seeded(self.program, self.names, list(self._sources))
        forth = seeded(back.program, list(back.adjoints.values()), list(back.seeds.values()))
        given = {forth.seeds[a]: direction[self._sources[s]] for s, a in back.adjoints.items()}
        found = _run(forth.program, group, given, list(forth.adjoints.values()))
        return {f: found[forth.adjoints[seed]] for f, seed in back.seeds.items()}

    def pulled(self, group: Group, slopes: Families) -> dict[str, Floats]:
        """The gradient by inputs of a function with these gradients by the families; see `pushed`."""
        back = seeded(self.program, self.names, list(self._sources))
        found = _run(back.program, group, {s: slopes[f] for f, s in back.seeds.items()}, list(back.adjoints.values()))
        result = {name: np.zeros_like(x) for name, x in group.batch.items()}
        for source, adjoint in back.adjoints.items():
            result[self._sources[source]] += found[adjoint]
        return result

    @property
    def _sources(self) -> dict[str, str]:
        """The families that are inputs, and which."""
        return {i.var.name: i.op.input for i in self.program.instrs if isinstance(i.op, Data)}


def known(limit: Limit) -> Known:
    """What a limit knows from the inputs."""
    program = limit.program
    instrs = tuple(i for i in program.instrs if limit.orders.of[i.var.name].data)
    return Known(replace(program, weights=(), instrs=instrs, outputs=()))


def _run(program: Program, group: Group, given: Families, names: Sequence[str]) -> dict[str, Floats]:
    if not names:
        return {}
    network = draw(program, group.sizes, {w.name: 1 for w in program.widths}, 0, np.float64)
    found = forward(program, network, FiniteGroup(group.sizes, {**group.batch, **given}), names)
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}
