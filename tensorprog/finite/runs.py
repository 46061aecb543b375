"""All examples through one network: in threads, and in blocks where they do not fit into memory together.

Runs go on side by side, stage by stage (`stages.py`): a Gram matrix needs the gradients of all examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import final

import numpy as np

from tensorprog.finite.forward import advance, begin
from tensorprog.finite.gram import CHUNK, gradient_gram
from tensorprog.finite.memory import blocks_for, cut
from tensorprog.finite.stages import kept, stages
from tensorprog.finite.state import Group, State
from tensorprog.finite.threads import parallel, team, workers
from tensorprog.finite.uses import Floats
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import integer
from tensorprog.ir.program import Program, Use
from tensorprog.ir.tables import count

MANY = 4096
"""Vectors in a family from which on examples are shared out to threads; BLAS has threads for few and long vectors."""

PART = 3072
"""About how many vectors of a family are then computed at once: they stay in the cache, and are enough for BLAS."""

Outputs = dict[str, list[Array]]
Grams = dict[str, Floats]


def run_all(runs: Runs, groups: Sequence[Group], samples: int, memory: int | None) -> tuple[Outputs, Grams]:
    """Outputs, part by part in the order of the groups, and the Gram matrices of all weights."""
    if memory is None:
        return runs.at_once(list(groups), samples)
    blocks, chunk = blocks_for(runs.program, runs.network, list(groups), runs.uses, samples, memory)
    sparing = replace(runs, chunk=min(chunk, runs.chunk))
    return sparing.at_once(blocks[0], samples) if len(blocks) == 1 else sparing.pair_by_pair(blocks, samples)


@final
@dataclass(frozen=True, slots=True)
class Runs:
    """How groups of examples are run: those that meet in a Gram matrix side by side, in threads."""

    program: Program
    uses: tuple[Use, ...]
    network: Network
    chunk: int = CHUNK

    def at_once(self, groups: list[Group], samples: int) -> tuple[Outputs, Grams]:
        """All groups together, stage by stage."""
        with team():
            return self._staged(groups, samples)

    def _staged(self, groups: list[Group], samples: int) -> tuple[Outputs, Grams]:
        keep = kept(self.program, self.uses)
        runs = [self._begun(group, keep) for group in groups]
        states = [state for parts in runs for state in parts]
        firsts = np.cumsum([0] + [self.samples([s.group]) for s in states[:-1]]).tolist()
        grams: Grams = {}
        for stage in stages(self.program, self.uses):
            parallel(partial(advance, keep=stage.held | stage.used, computed=stage.computed), states)
            for w in stage.weights:
                uses = [u for u in self.uses if u.weight == w]
                grams[w] = gradient_gram(uses, states, firsts, samples, self.chunk)
            for state in states:
                for name in state.values.keys() - stage.held:
                    del state.values[name]
                if state.turned is not None:
                    state.turned.clear()
        outputs = {o.name: [_output(parts, o.var) for parts in runs] for o in self.program.outputs}
        return outputs, {w: grams[w] for w in dict.fromkeys(u.weight for u in self.uses)}

    def pair_by_pair(self, blocks: list[list[Group]], samples: int) -> tuple[Outputs, Grams]:
        """Two blocks at a time; without uses of weights, one."""
        if not self.uses:
            alone = [self.at_once(block, 0)[0] for block in blocks]
            return {name: [a for outputs in alone for a in outputs[name]] for name in alone[0]}, {}
        grams = {w: np.zeros((samples, samples)) for w in dict.fromkeys(u.weight for u in self.uses)}
        starts = np.cumsum([0] + [self.samples(block) for block in blocks])
        numbers = [np.arange(a, b) for a, b in zip(starts, starts[1:], strict=False)]
        outputs: dict[str, dict[int, list[Array]]] = {o.name: {} for o in self.program.outputs}
        for i, j in combinations(range(len(blocks)), 2):
            both = np.concatenate([numbers[i], numbers[j]])
            found, parts = self.at_once(blocks[i] + blocks[j], len(both))
            for w, gram in parts.items():
                grams[w][np.ix_(both, both)] = gram
            for name, values in found.items():
                outputs[name] |= {i: values[: len(blocks[i])], j: values[len(blocks[i]) :]}
        return {name: [a for k in sorted(values) for a in values[k]] for name, values in outputs.items()}, grams

    def _begun(self, group: Group, keep: frozenset[str]) -> list[State]:
        """The runs of the parts of a group."""
        whole, parts = begin(self.program, self.network, group, keep), self.parts(group)
        turned: dict[str, Array] | None = {} if len(parts) > 1 else None
        return [replace(whole, group=part, values={}, turned=turned) for part in parts]

    def parts(self, group: Group) -> list[Group]:
        """The group, cut into as many parts for one thread as for another where that pays."""
        vectors, threads = self.vectors(group), workers()
        return cut(group, threads * max(1, round(vectors / (threads * PART))) if vectors >= MANY else 1)

    def vectors(self, group: Group) -> int:
        """The vectors, over all examples, of the family that takes the most memory."""
        env = {**self.network.env, **group.sizes}
        families = [(count(i.var.axes, env), integer(i.var.dim.size, env)) for i in self.program.instrs if i.var.dim]
        return group.examples * max(families, key=math.prod, default=(0, 0))[0]

    def samples(self, groups: list[Group]) -> int:
        """The rows of the kernel that groups have."""
        if not self.uses:
            return 0
        axes = self.uses[0].domain[: len(self.uses[0].out)]
        return sum(g.examples * count(axes, {**self.network.env, **g.sizes}) for g in groups)


def _output(parts: Sequence[State], var: str) -> Array:
    """An output of the parts of a group, [examples, elements]."""
    values = [np.swapaxes(state.values[var], 0, 1) for state in parts]
    return values[0] if len(values) == 1 else np.concatenate(values)
