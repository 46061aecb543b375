"""How many examples fit into an amount of memory: what a run holds at once, from the sizes of its families."""

from __future__ import annotations

import math

import numpy as np

from tensorprog.errors import fail, spoken
from tensorprog.finite.forward import last_uses, needed
from tensorprog.finite.plan import Plan, plan
from tensorprog.finite.stages import kept, stages
from tensorprog.finite.state import Group
from tensorprog.finite.weights import Network
from tensorprog.ir.expr import integer
from tensorprog.ir.program import Program, Use, Var
from tensorprog.ir.tables import count


def live_bytes(program: Program, network: Network, group: Group, uses: tuple[Use, ...]) -> int:
    """The most that a run holds for one example, views counted as if they were copies."""
    chosen = plan(needed(program, kept(program, uses)), {**network.env, **group.sizes})
    held: dict[str, int] = {}
    most = 0
    for stage in stages(program, uses):
        steps = tuple(step for step in chosen.steps if step.instr.var.name in stage.computed)
        for step, dying in zip(steps, last_uses(steps, stage.held | stage.used), strict=True):
            held[step.instr.var.name] = _numbers(step.instr.var, chosen)
            most = max(most, sum(held.values()))
            for name in dying:
                held.pop(name, None)
        held = {name: numbers for name, numbers in held.items() if name in stage.held}
    return most * network.dtype.itemsize


def _numbers(var: Var, chosen: Plan) -> int:
    return count(var.axes, chosen.env) * (1 if var.dim is None else integer(var.dim.size, chosen.env))


def blocks_for(
    program: Program, network: Network, groups: list[Group], uses: tuple[Use, ...], samples: int, memory: int
) -> tuple[list[list[Group]], int]:
    """Examples in blocks of which two can be held, in order, and the numbers that a Gram matrix may use besides.

    Raises TensorProgError when two examples do not fit beside the weights and the kernels.
    """
    weights = sum(v.nbytes for v in network.values.values())
    kernels = 8 * samples**2 * (3 + len(program.weights))
    free = memory - weights - kernels
    chunk = max(1, free // (16 * network.dtype.itemsize))
    costs = [live_bytes(program, network, g, uses) for g in groups]
    room = (free // 2) // 3
    if free <= 0 or max(costs) > room:
        least = weights + kernels + 6 * max(costs)
        raise fail(f"{spoken(memory)} are too little: weights, kernels and two examples take {spoken(least)}",
                   hint="give more memory, or fewer examples or a smaller width")
    if sum(c * g.examples for c, g in zip(costs, groups, strict=True)) <= 2 * room:
        return [groups], chunk
    parts = [part for g, c in zip(groups, costs, strict=True) for part in cut(g, math.ceil(g.examples * c / room))]
    return [[part] for part in parts], chunk


def cut(group: Group, parts: int) -> list[Group]:
    """The examples of a group in so many parts of nearly equal length, in order; none is empty."""
    if parts <= 1 or group.examples <= 1:
        return [group]
    edges = np.linspace(0, group.examples, min(parts, group.examples) + 1).astype(int)
    return [Group(group.sizes, {name: value[a:b] for name, value in group.inputs.items()})
            for a, b in zip(edges, edges[1:], strict=False)]
