"""What a run needs to know about indices: it depends on sizes, not on weights, and is shared by all seeds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, final

import numpy as np

from tensorprog.ir.program import Axis, Map, Program, Read
from tensorprog.ir.schedule import Step, schedule
from tensorprog.ir.tables import Ints, Sizes, Table, count, flat_index, grid, map_table

T = TypeVar("T")


@final
@dataclass(frozen=True)
class Plan:
    """The steps of a program at given sizes (`env`: sizes and widths), and the index tables met so far."""

    program: Program
    env: Mapping[str, Any]
    steps: tuple[Step, ...]
    _tables: dict[Any, Table] = field(default_factory=dict)
    _sources: dict[Any, Ints] = field(default_factory=dict)
    _kept: dict[Any, Any] = field(default_factory=dict)

    def kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What was computed under this key before; it must depend on the program, the sizes and the key alone."""
        if key not in self._kept:
            self._kept[key] = compute()
        found: T = self._kept[key]
        return found

    def axes(self, name: str | None) -> tuple[Axis, ...]:
        """The axes of a family; None is the number 1."""
        return () if name is None else self.program.var(name).axes

    def pairs(self, step: Step, map_: Map, operand: str | None) -> Table:
        """The pairs of a map whose target is computed in this step, targets numbered within the step."""
        key = (id(step), map_, operand)
        if key not in self._tables:
            self._tables[key] = _restricted(self._whole(step, map_, operand), step, self.env)
        return self._tables[key]

    def _whole(self, step: Step, map_: Map, operand: str | None) -> Table:
        key = (step.instr.var.name, map_, operand)
        if key not in self._tables:
            one_sided = Map(map_.domain, map_.target, map_.source if operand is not None else ())
            self._tables[key] = map_table(one_sided, step.instr.var.axes, self.axes(operand), self.env)
        return self._tables[key]

    def index(self, step: Step) -> dict[str, Ints]:
        """The indices of the elements of a step, by name."""
        return {name: values[step.elements] for name, values in grid(step.instr.var.axes, self.env).items()}

    def elements(self, step: Step, read: Read) -> Ints:
        """Which element of a family every element of a step reads; -1 outside the family."""
        key = (id(step), read)
        if key not in self._sources:
            self._sources[key] = self.find(read, self.index(step), len(step.elements))
        return self._sources[key]

    def find(self, read: Read, index: Mapping[str, Ints], length: int) -> Ints:
        """Which element of a family is read at index expressions in `index`; -1 outside the family."""
        return flat_index(read.index, self.axes(read.var), {**self.env, **index}, self.env, length)


def plan(program: Program, env: Mapping[str, Any]) -> Plan:
    """The plan of a program; runs of the same program at the same sizes and widths share one."""
    return _plan(program, tuple(sorted(env.items())))


@lru_cache(maxsize=8)
def _plan(program: Program, items: tuple[tuple[str, Any], ...]) -> Plan:
    env = dict(items)
    return Plan(program, env, schedule(program, env))


def _restricted(table: Table, step: Step, env: Sizes) -> Table:
    position = np.full(count(step.instr.var.axes, env), -1)
    position[step.elements] = np.arange(len(step.elements))
    target = position[table.target]
    keep = target >= 0
    return Table(target[keep], table.source[keep], {k: v[keep] for k, v in table.index.items()})
