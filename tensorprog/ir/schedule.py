"""The order in which the elements of a program can be computed, once sizes are known.

Families that do not depend on themselves are one step each.  Families that form a loop are cut into
wavefronts: all elements whose operands are ready make a step, so that a recurrence over T time steps
becomes O(T) steps whatever else its axes are, forwards or backwards, along time or along a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.errors import fail
from tensorprog.ir.program import Data, Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Program, operands
from tensorprog.ir.tables import Ints, Sizes, count, distinct, map_table, read_table, shape

FEW = 16
"""Nodes of a level up to which they are visited one by one."""


@final
@dataclass(frozen=True, slots=True)
class Step:
    """Compute these elements of `instr.var`; `elements` ascend."""

    instr: Instr
    elements: Ints


def schedule(program: Program, sizes: Sizes) -> tuple[Step, ...]:
    """Steps that compute every element of every family after what it reads.

    Raises TensorProgError when an element depends on itself, or reads a state that was never assigned.
    """
    steps: list[Step] = []
    for group in components(program.instrs):
        check_assigned(group, program, sizes)
        if len(group) == 1 and group[0].var.name not in operands(group[0].op):
            steps.append(Step(group[0], np.arange(count(group[0].var.axes, sizes))))
        else:
            steps.extend(_wavefronts(group, program, sizes))
    return tuple(steps)


def components(instrs: Sequence[Instr]) -> list[list[Instr]]:
    """The strongly connected groups of definitions, operands first; program order within a group."""
    number = {instr.var.name: k for k, instr in enumerate(instrs)}
    edges = [(number[name], k) for k, instr in enumerate(instrs) for name in operands(instr.op) if name in number]
    labels = _strong_labels(len(instrs), edges)
    members: dict[int, list[int]] = {}
    for k, label in enumerate(labels):
        members.setdefault(int(label), []).append(k)
    return [[instrs[k] for k in members[label]] for label in _topological(labels, edges, members)]


def _strong_labels(size: int, edges: list[tuple[int, int]]) -> list[int]:
    """The strongly connected component of every node: Kosaraju's two passes."""
    onward: list[list[int]] = [[] for _ in range(size)]
    back: list[list[int]] = [[] for _ in range(size)]
    for a, b in edges:
        onward[a].append(b)
        back[b].append(a)
    labels = [-1] * size
    for root in reversed(_finishing_order(onward)):
        waiting = [root] if labels[root] < 0 else []
        while waiting:
            node = waiting.pop()
            labels[node] = root
            waiting += [other for other in back[node] if labels[other] < 0]
    return labels


def _finishing_order(onward: list[list[int]]) -> list[int]:
    """The nodes in the order in which a depth-first search leaves them."""
    seen, order = [False] * len(onward), list[int]()
    for root in range(len(onward)):
        path = [(root, iter(onward[root]))] if not seen[root] else []
        seen[root] = True
        while path:
            other = next((k for k in path[-1][1] if not seen[k]), None)
            if other is None:
                order.append(path.pop()[0])
            else:
                seen[other] = True
                path.append((other, iter(onward[other])))
    return order


def _topological(labels: Sequence[int], edges: list[tuple[int, int]], members: dict[int, list[int]]) -> list[int]:
    """Group labels, operands first; among those that are ready the one that stands first in the program."""
    import heapq

    waiting: dict[int, set[int]] = {label: set() for label in members}
    readers: dict[int, set[int]] = {label: set() for label in members}
    for a, b in edges:
        if labels[a] != labels[b]:
            waiting[int(labels[b])].add(int(labels[a]))
            readers[int(labels[a])].add(int(labels[b]))
    ready = [(members[label][0], label) for label, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    order = []
    while ready:
        _, label = heapq.heappop(ready)
        order.append(label)
        for reader in readers[label]:
            waiting[reader].discard(label)
            if not waiting[reader]:
                heapq.heappush(ready, (members[reader][0], reader))
    return order


def dependencies(instr: Instr, program: Program, sizes: Sizes) -> list[tuple[str, Ints, Ints]]:
    """(family, elements of the result, elements of the family that they read), in-range reads only."""
    op, axes = instr.op, instr.var.axes
    found: list[tuple[str, Ints, Ints]] = []

    def read(name: str, index: tuple, domain: tuple, target: Ints | None = None) -> None:  # type: ignore[type-arg]
        source = read_table(index, domain, program.var(name).axes, sizes)
        target = np.arange(len(source)) if target is None else target
        keep = (source >= 0) & (target >= 0)
        found.append((name, target[keep], source[keep]))

    match op:
        case MatMul(operand=h, map=m) if h is not None:
            table = map_table(m, axes, program.var(h).axes, sizes)
            found.append((h, table.target, table.source))
        case Linear(terms=terms):
            for term in terms:
                if term.operand is not None:
                    table = map_table(term.map, axes, program.var(term.operand).axes, sizes)
                    found.append((term.operand, table.target, table.source))
                target = read_table(term.map.target, term.map.domain, axes, sizes)
                for s in term.scalars:
                    read(s.var, s.index, term.map.domain, target)
        case Pointwise(args=args):
            for a in args:
                read(a.var, a.index, axes)
        case MaxOver(operand=h, over=over):
            window = int(np.prod(shape(program.var(h).axes[-over:], sizes)))
            source = np.arange(count(program.var(h).axes, sizes))
            found.append((h, source // max(1, window), source))
        case Inner(left=u, right=v):
            read(u.var, u.index, axes)
            if v is not None:
                read(v.var, v.index, axes)
        case Data() | MatMul():
            pass
    return found


def _wavefronts(group: list[Instr], program: Program, sizes: Sizes) -> list[Step]:
    counts = [count(i.var.axes, sizes) for i in group]
    start = dict(zip((i.var.name for i in group), np.concatenate([[0], np.cumsum(counts)[:-1]]), strict=True))
    edges = [
        (start[name] + source, start[i.var.name] + target)
        for i in group
        for name, target, source in dependencies(i, program, sizes)
        if name in start
    ]
    level = levels(sum(counts), edges)
    if (level < 0).any():
        stuck = next(i for i in group if (level[start[i.var.name] :][: count(i.var.axes, sizes)] < 0).any())
        raise fail(
            f"'{stuck.var.name}' depends on itself: an element is needed to compute the same element",
            stuck.var.span,
            "a loop may only read what earlier iterations assigned",
        )
    steps = []
    for depth in range(int(level.max(initial=-1)) + 1):
        for instr, size in zip(group, counts, strict=True):
            first = start[instr.var.name]
            elements = np.flatnonzero(level[first : first + size] == depth)
            if len(elements):
                steps.append(Step(instr, elements))
    return steps


def levels(size: int, edges: list[tuple[Ints, Ints]]) -> Ints:
    """The length of the longest path to every node; -1 on and behind a cycle."""
    none = np.zeros(0, dtype=np.int64)
    source, target = (np.concatenate([none, *(e[k] for e in edges)]) for k in (0, 1))
    target = target[np.argsort(source, kind="stable")]
    outgoing = np.bincount(source, minlength=size)
    start = np.cumsum(outgoing) - outgoing
    missing = np.bincount(target, minlength=size)
    level = np.full(size, -1, dtype=np.int64)
    frontier, depth = np.flatnonzero(missing == 0), 0
    single = start.data, (start + outgoing).data, target.data, missing.data
    while len(frontier):
        level[frontier] = depth
        depth += 1
        if len(frontier) <= FEW:
            frontier = np.array(_released(frontier.tolist(), *single), dtype=np.int64)
            continue
        counts = outgoing[frontier]
        reached = target[np.repeat(start[frontier] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())]
        np.subtract.at(missing, reached, 1)
        candidates = distinct(reached, size)
        frontier = candidates[missing[candidates] == 0]
    return level


def _released(
    nodes: list[int], start: memoryview, end: memoryview, target: memoryview, missing: memoryview
) -> list[int]:
    """The nodes of which nothing but `nodes` was missing; their edges are target[start:end]."""
    found = []
    for node in nodes:
        for k in range(start[node], end[node]):
            reached = target[k]
            missing[reached] -= 1
            if missing[reached] == 0:
                found.append(reached)
    return found


def check_assigned(group: list[Instr], program: Program, sizes: Sizes) -> None:
    """Every element of a user-assigned family is assigned exactly once."""
    for instr in group:
        if not (isinstance(instr.op, Linear) and instr.op.assigned):
            continue
        hits = np.zeros(count(instr.var.axes, sizes), dtype=np.int64)
        for term in instr.op.terms:
            target = read_table(term.map.target, term.map.domain, instr.var.axes, sizes)
            np.add.at(hits, target[target >= 0], 1)
        if (hits != 1).any():
            element = np.unravel_index(int(np.flatnonzero(hits != 1)[0]), shape(instr.var.axes, sizes))
            what = "never assigned" if hits.min() == 0 else "assigned twice"
            place = f"{instr.var.name.split('.')[0]}[{', '.join(map(str, element))}]"
            raise fail(f"{place} is {what}", instr.var.span, "assign every index of the family once")
