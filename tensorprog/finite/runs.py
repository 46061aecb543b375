"""All examples through one network: in threads, and in blocks where they do not fit into memory together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from tensorprog.finite.forward import Group, State, run
from tensorprog.finite.gram import CHUNK, gradient_gram
from tensorprog.finite.memory import blocks_for, cut
from tensorprog.finite.threads import parallel, workers
from tensorprog.finite.uses import Floats
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.program import Program, Use
from tensorprog.ir.tables import count

MANY = 4096
"""Vectors in a family from which on examples are shared out to threads; BLAS has threads for few and long vectors."""

Outputs = dict[str, list[Array]]
Grams = dict[str, Floats]


def run_all(runs: Runs, groups: Sequence[Group], samples: int, memory: int | None) -> tuple[Outputs, Grams]:
    """Outputs, part by part in the order of the groups, and the Gram matrices of all weights."""
    if memory is None:
        return runs.at_once(list(groups), samples)
    blocks, chunk = blocks_for(runs.program, runs.network, list(groups), runs.keep, samples, memory)
    sparing = replace(runs, chunk=min(chunk, runs.chunk))
    return sparing.at_once(blocks[0], samples) if len(blocks) == 1 else sparing.pair_by_pair(blocks, samples)


@final
@dataclass(frozen=True, slots=True)
class Runs:
    """How groups of examples are run: one after the other in threads, those that meet in a Gram matrix kept."""

    program: Program
    uses: tuple[Use, ...]
    network: Network
    keep: Collection[str]
    chunk: int = CHUNK

    def at_once(self, groups: list[Group], samples: int) -> tuple[Outputs, Grams]:
        """All groups together."""
        states = self.states(groups)
        return self.outputs(states), self.grams(states, samples)

    def pair_by_pair(self, blocks: list[list[Group]], samples: int) -> tuple[Outputs, Grams]:
        """Two blocks at a time; without uses of weights, one."""
        outputs: Outputs = {o.name: [] for o in self.program.outputs}
        grams = {w: np.zeros((samples, samples)) for w in dict.fromkeys(u.weight for u in self.uses)}
        starts = np.cumsum([0] + [self.samples(block) for block in blocks])
        numbers = [np.arange(a, b) for a, b in zip(starts, starts[1:], strict=False)]
        for i, block in enumerate(blocks):
            left = self.states(block)
            for name, parts in self.outputs(left).items():
                outputs[name].extend(parts)
            for j in range(i + 1, len(blocks) if grams else 0):
                both = np.concatenate([numbers[i], numbers[j]])
                for w, gram in self.grams(left + self.states(blocks[j]), len(both)).items():
                    grams[w][np.ix_(both, both)] = gram
        return outputs, grams

    def states(self, groups: list[Group]) -> list[State]:
        """Runs of the groups, cut into a part for each thread where that pays."""
        parts = [part for g in groups for part in cut(g, workers() if self.vectors(g) >= MANY else 1)]
        return parallel(lambda part: run(self.program, self.network, part, self.keep), parts)

    def vectors(self, group: Group) -> int:
        """The vectors of the largest family, over all examples."""
        env = {**self.network.env, **group.sizes}
        families = (count(i.var.axes, env) for i in self.program.instrs if i.var.dim is not None)
        return group.examples * max(families, default=0)

    def outputs(self, states: list[State]) -> Outputs:
        """The outputs of every state, [examples, elements]."""
        return {o.name: [np.swapaxes(s.values[o.var], 0, 1) for s in states] for o in self.program.outputs}

    def samples(self, groups: list[Group]) -> int:
        """The rows of the kernel that groups have."""
        if not self.uses:
            return 0
        axes = self.uses[0].domain[: len(self.uses[0].out)]
        return sum(g.examples * count(axes, {**self.network.env, **g.sizes}) for g in groups)

    def grams(self, states: list[State], samples: int) -> Grams:
        """<d f / d W, d f' / d W> for every weight."""
        firsts = np.cumsum([0] + [self.samples([s.group]) for s in states[:-1]]).tolist()
        weights = dict.fromkeys(u.weight for u in self.uses)
        return {w: gradient_gram([u for u in self.uses if u.weight == w], states, firsts, samples, self.chunk)
                for w in weights}
