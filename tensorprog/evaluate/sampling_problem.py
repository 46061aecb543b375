"""What is sampled, whatever the draws: the program, its plans, and the split into drawn and integrated matrices."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.evaluate.sampling_inners import Laws, is_fresh
from tensorprog.evaluate.sampling_moments import Errors
from tensorprog.evaluate.sampling_output import leaves_of, output_covariance, roots_of, vector_moments
from tensorprog.evaluate.sampling_plan import plan_of
from tensorprog.evaluate.sampling_products import not_finite
from tensorprog.evaluate.sampling_program import Sampler, sampler
from tensorprog.evaluate.sampling_record import DIRECT, Direct, Recorder, Recording, Unrecordable, plain
from tensorprog.evaluate.sampling_run import Draw, Split, Streams, directions, matrices_of, streams
from tensorprog.evaluate.sampling_tangent import drawn_tangent, tangent
from tensorprog.evaluate.sampling_terms import Joined, Matrix, NotIntegrable
from tensorprog.finite.plan import Plan
from tensorprog.finite.state import Group, State
from tensorprog.finite.threads import workers
from tensorprog.finite.weights import Network
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Inner, MatMul
from tensorprog.ir.tables import count
from tensorprog.limit.analyse import Limit, TrainedWeight
from tensorprog.symbolic.expectation import Expectation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Found = dict[str, Floats]
Seed = np.random.SeedSequence

WORTH = 16.0
"""So many times longer a replicate may take than when everything is drawn, for its smaller variance."""

NUMBERS, ALL_NUMBERS = 1 << 26, 1 << 27
"""Numbers that the Gaussian families of a replicate may hold, and those of the replicates on all threads."""

COPIES = 4
"""About the times that the coefficients of partly drawn values are held at once."""

TOGETHER = 1 << 17
"""The most draws of replicates that are computed as one: arrays that fit no cache cost more than what is saved."""

TURNED = 256
"""The most innovations that are turned, which costs two operations for each pair of them and draw."""

RECORDING = Lock()
"""One thread records, the others wait, and replay."""

OVERHEAD = 0.03
"""About the seconds of a replicate for a program with little to compute."""


@final
@dataclass(frozen=True, slots=True)
class Replicate:
    """Kernels and scalars, or an "output" that was drawn, of one independent draw; the expectations that were
    integrated, directions for others."""

    found: Found
    integrated: tuple[tuple[Expectation, float], ...]
    turn: Floats | None


@final
@dataclass(slots=True)
class Known:
    """What depends on sizes alone: plans by the number of draws, the split, and how much is held for a draw; what has
    been recorded of replicates by their numbers and the split, if that can be, each with how much it holds."""

    plans: dict[int, tuple[Sampler, tuple[Plan, ...]]] = field(default_factory=dict)
    split: Split | None = None
    widest: int = 0
    recordable: bool = True
    recordings: dict[Hashable, tuple[Recording, int]] = field(default_factory=dict)


class Problem:
    """What has to be computed for one limit and data set.

    With `integrate`, matrices whose Gaussian families enter through formulas and quadratures are not drawn.  `kept` is
    what earlier problems of the limit have found.
    """

    def __init__(
        self, limit: Limit, dataset: Dataset, want: tuple[str, ...], integrate: bool, kept: dict[Hashable, Known]
    ) -> None:
        self.limit, self.dataset, self.want, self.integrate = limit, dataset, want, integrate
        self.sizes = dataset.sizes()
        self.trained = limit.trained if "ntk" in want else ()
        self.groups = tuple(Group(g.sizes, g.batch) for g in dataset.groups)
        self.order = _order(limit, dataset)
        self.laws = Laws(limit, self.sizes)
        self.turn: Floats | None = None
        sizes = tuple((tuple(sorted(g.sizes.items())), g.examples) for g in self.groups)
        self.known = kept.setdefault((want, integrate, sizes), Known())
        self.inside = frozenset(n for t in self.trained for u in t.uses for n in (u.row, u.col) if n is not None)
        self.leaves = self._leaves()
        self.roots = self.inside | self._output_roots()
        program = self.plans(1)[0].program
        self.random = any(self._draws(i.var.name) for i in program.instrs)
        everything = Split(matrices_of(program), {})
        if self.known.split is None:
            self.known.split = self._split(everything) if integrate else everything
        self.split, self.widest = self.known.split, self.known.widest

    @property
    def exact(self) -> bool:
        """Whether nothing is drawn."""
        return not (self.random or self.split.every_drawn)

    @property
    def turns(self) -> bool:
        """Whether directions can be learned: for few innovations, of whole arguments, and scalars that are not random.

        Where members of a sum are drawn one by one, the order of drawing says nothing of what matters.
        """
        whole = self.integrate and all(len(self.split.of(m)) == 1 for m in self.split.drawn)
        return whole and not self.random and 0 < self._directions() <= TURNED

    @property
    def longest(self) -> int:
        """Samples of a replicate that fit into memory, a power of two; 1 where no vector is drawn."""
        if not self.split.every_drawn:
            return 1
        return 1 << min(17, max(10, (NUMBERS // self._rows_held()).bit_length() - 1))

    def abreast(self, samples: int) -> int:
        """Replicates of so many samples that fit into memory side by side."""
        return max(1, ALL_NUMBERS // (samples * self._rows_held()))

    def together(self, samples: int) -> int:
        """Replicates of so many samples that are computed as one: their families are held at once."""
        if not self.separable:
            return 1
        return max(1, min(TOGETHER // samples, ALL_NUMBERS // self.held(samples) // workers()))

    def held(self, samples: int) -> int:
        """The numbers in all families of vectors of a replicate."""
        plans = zip(self.plans(1)[1], self.groups, strict=True)
        wide = [i for i in self.plans(1)[0].program.instrs if i.var.dim is not None and i.var.dim.wide]
        return samples * max(1, sum(count(i.var.axes, plan.env) * g.examples for plan, g in plans for i in wide))

    @property
    def separable(self) -> bool:
        """Whether replicates can be computed as one: nothing in them but the kernels is a number of one replicate.

        Other numbers are the same for all of them if they are no means over draws, and not drawn.
        """
        numbers = (i.op for i in self.plans(1)[0].program.instrs if i.var.dim is None)
        return self.leaves is not None and not any(isinstance(op, Inner | MatMul) for op in numbers)

    def _rows_held(self) -> int:
        """Numbers that a replicate holds for each sample."""
        return max(1, self._directions(), COPIES * self.widest)

    def _directions(self) -> int:
        plans, roles = self.plans(1)[1], self.limit.roles
        return sum(directions(p, g.examples, self.split, roles) for p, g in zip(plans, self.groups, strict=True))

    def draw_also(self, matrices: frozenset[Matrix]) -> None:
        """These cannot be integrated."""
        self.split, self.turn = self.split.with_drawn(matrices), None

    def _leaves(self) -> frozenset[str] | None:
        """The leaves of an output that need not be drawn: linear in random scalars that nothing else reads."""
        leaves = leaves_of(self.limit)
        if leaves is None:
            return None
        chosen = sampler(self.limit, self.inside | roots_of(self.limit), 1)
        return None if leaves & {i.var.name for i in chosen.program.instrs} else leaves

    def _output_roots(self) -> frozenset[str]:
        if self.limit.output_var in self.limit.random and "nngp" not in self.want:
            return frozenset()
        return roots_of(self.limit) if self.leaves else frozenset([self.limit.output_var])

    def _draws(self, name: str) -> bool:
        instr = self.limit.program.instr(name)
        return is_fresh(self.limit, name) or (isinstance(instr.op, MatMul) and instr.var.dim is None)

    def plans(self, samples: int) -> tuple[Sampler, tuple[Plan, ...]]:
        """The program that is sampled and its plan for every group."""
        if samples not in self.known.plans:
            chosen = sampler(self.limit, self.roots, samples)
            self.known.plans[samples] = chosen, tuple(plan_of(chosen, g.sizes) for g in self.groups)
        return self.known.plans[samples]

    # ------------------------------------------------------------ drawn or integrated

    def _split(self, everything: Split) -> Split:
        """As few drawn matrices as possible, found by dry runs; all of them where that would take too long."""
        split, seconds = self._possible(Split(frozenset(), {}))
        if not (split.every_drawn or self.random):
            return split
        plain, longer = self._possible(split.with_drawn(everything.drawn - split.every_drawn))
        return split if seconds <= WORTH * longer else plain

    def _possible(self, split: Split) -> tuple[Split, float]:
        """The split with as little more drawn as has to be, and about the seconds of a replicate."""
        while True:
            try:
                return split, self._dry(split)
            except NotIntegrable as failed:
                split = split.with_drawn(failed.matrices)
            except Joined as met:
                split = split.with_joined(met.matrices)

    def _dry(self, split: Split) -> float:
        """About the seconds that a replicate takes.  Raises NotIntegrable, Joined."""
        one = tuple(Group(g.sizes, {name: a[:1] for name, a in g.inputs.items()}) for g in self.groups)
        draw = self._draw(one, split, streams(2, 1, [Seed(0)], None), dry=True)
        examples = sum(g.examples for g in self.groups) / len(self.groups)
        self.known.widest = math.ceil(draw.integrals.widest * examples)
        return OVERHEAD + draw.integrals.seconds * examples**2

    # ------------------------------------------------------------ replicates

    def replicates(self, samples: int, seeds: Sequence[Seed]) -> list[Replicate]:
        """Independent draws, side by side.  Raises NotIntegrable when a quadrature turns out not to be accurate."""
        numbers = streams(samples, self._directions(), seeds, self.turn)
        try:
            found, errors = self._found(numbers)
        except Unrecordable:
            self.known.recordable = False
            return self.replicates(samples, seeds)
        if not all(np.isfinite(value).all() for value in found.values()):
            raise not_finite(self.limit.program.instr(self.limit.output_var))
        wanted = {name: value for name, value in found.items() if name in (*self.want, "scalar", "output")}
        order = self.order
        rows = {n: v[:, order] if v.ndim == 2 else v[:, order[:, None], order] for n, v in wanted.items()}
        turn = numbers.innovations[0].backwards() if self.turn is None and self.turns else None
        integrated = tuple(errors.values())
        return [Replicate({name: v[r] for name, v in rows.items()}, integrated, turn) for r in range(len(seeds))]

    def _found(self, numbers: Streams) -> tuple[Found, Errors]:
        """The kernels of these draws, by the operations of draws like them where there is a recording."""
        if not (self.separable and self.known.recordable):
            draw = self._draw(self.groups, self.split, numbers)
            self.widest = draw.integrals.widest
            return self._kernels(draw), draw.integrals.errors
        key = numbers.samples, len(numbers.innovations), self.split.drawn, self.split.sums
        with RECORDING:
            if key not in self.known.recordings:
                return self._recorded(key, numbers)
        recording, self.widest = self.known.recordings[key]
        inputs = [array for g in self.groups for array in g.inputs.values()]
        errors: Errors = {}
        found: Found = recording.replay(*inputs, errors, numbers.draws)
        return found, errors

    def _recorded(self, key: Hashable, numbers: Streams) -> tuple[Found, Errors]:
        """The same, recorded.  Raises Unrecordable."""
        recorder = Recorder()
        groups = [Group(g.sizes, {name: recorder.given(a) for name, a in g.inputs.items()}) for g in self.groups]
        draw = self._draw(groups, self.split, numbers, arrays=recorder)
        result, self.widest = recorder.call(dict, self._kernels(draw)), draw.integrals.widest
        self.known.recordings[key] = recorder.recording(result), self.widest
        return plain(result), plain(draw.integrals.errors)

    def _draw(
        self, groups: Sequence[Group], split: Split, numbers: Streams, dry: bool = False, arrays: Direct = DIRECT
    ) -> Draw:
        plans = self.plans(numbers.samples * len(numbers.innovations))
        network = Network(dict(self.sizes), {}, {}, np.dtype(np.float64))
        states = [State(plan, network, g) for plan, g in zip(plans[1], groups, strict=True)]
        draw = Draw(self.limit, plans[0], self.laws, split, states, numbers, dry, arrays)
        draw.run(self.roots)
        if dry:
            self._kernels(draw)
        return draw

    def _kernels(self, draw: Draw) -> Found:
        found = self._output(draw)
        if "ntk" in self.want and not self.limit.is_vector:
            found["ntk"] = self._ntk(draw)
        return found

    def _output(self, draw: Draw) -> Found:
        name = self.limit.output_var
        if name in self.limit.random and "nngp" not in self.want:
            return {}
        if self.limit.is_vector:
            return {"nngp": vector_moments(name, draw.groups, draw.integrals)[None]}
        power = self.limit.powers[name]
        size = sum(self._rows(draw))
        if power is None or power < 0:
            return {"nngp": np.zeros((draw.integrals.runs, size, size))}
        if self.leaves is not None:
            return {"nngp": output_covariance(self.limit, self.leaves, draw.groups, self.laws, draw.integrals)}
        numbers = np.concatenate([values.state.value(name).T.ravel() for values in draw.groups])
        return {"output" if name in self.limit.random else "scalar": numbers[None]}

    def _rows(self, draw: Draw) -> list[int]:
        """The number of samples of every group: outputs of all examples."""
        axes = self.limit.program.var(self.limit.output_var).axes
        return [count(axes, v.state.env) * v.state.group.examples for v in draw.groups]

    def _ntk(self, draw: Draw) -> Floats:
        sizes = self._rows(draw)
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        total: Floats = draw.integrals.arrays.zeros(draw.integrals.runs, sum(sizes), sum(sizes))
        for trained in self.trained:
            total += self._part(trained, draw, firsts, sum(sizes))
        return total

    def _part(self, trained: TrainedWeight, draw: Draw, firsts: list[int], samples: int) -> Floats:
        """The part of a weight; drawn vectors have a faster way than moment by moment."""
        weight = self.limit.program.weight(trained.weight)
        scale = float(evaluate(trained.scale, self.sizes))
        names = {n for u in trained.uses for n in (u.row, u.col)}
        if draw.integrals.dry or any(names & values.parts.keys() for values in draw.groups):
            return scale * tangent(trained.uses, draw.groups, firsts, samples, draw.integrals)
        wide = sum(d is not None and d.wide for d in (weight.rows, weight.cols))
        found = drawn_tangent(trained.uses, draw.groups, firsts, samples, draw.integrals)
        return scale / float(draw.samples) ** wide * found


def _order(limit: Limit, dataset: Dataset) -> Ints:
    """For every row of the result, in the order of the data set, where it stands group by group."""
    axes = limit.program.var(limit.output_var).axes
    keys = [np.repeat(g.rows, count(axes, g.sizes)) for g in dataset.groups]
    order: Ints = np.argsort(np.concatenate(keys), kind="stable")
    return order
