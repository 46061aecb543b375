"""The numpy meaning of the IR: every family of a program, for all examples of a group at once.

Families are held as [elements, examples, dim] (scalars [elements, examples]), so that the elements of a
wavefront are contiguous and an index map is a sparse matrix acting on the first axis.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.errors import fail
from tensorprog.finite.plan import Plan, plan
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import evaluate, integer
from tensorprog.ir.program import (
    Data,
    Dim,
    Inner,
    Linear,
    MatMul,
    MaxOver,
    Pointwise,
    Program,
    Term,
    operands,
)
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import Ints, Table, coefficients, count, flat_index, shape

CHUNK = 1 << 22
"""Numbers held at once by operations that would otherwise copy their operands once per element."""


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Examples of equal sizes.  `inputs[name]` is [examples, elements, dim], or [examples, elements] for numbers."""

    sizes: Mapping[str, int]
    inputs: Mapping[str, Array]

    @property
    def examples(self) -> int:
        """The number of examples."""
        return next((len(a) for a in self.inputs.values()), 1)


def forward(program: Program, network: Network, group: Group, keep: Collection[str] | None = None) -> dict[str, Array]:
    """The families named by `keep` (None: all), as [examples, elements, dim]; scalars [examples, elements].

    What `keep` does not need is not computed, and a family that it does not name is freed after its last use.
    Raises TensorProgError when a weight family is read outside its range, or a gradient does not exist.
    """
    values = run(program, network, group, keep).values
    return {name: np.swapaxes(value, 0, 1) for name, value in values.items()}


def run(program: Program, network: Network, group: Group, keep: Collection[str] | None = None) -> State:
    """`forward` with its indices and in the layout of this module, [elements, examples, dim]."""
    names = {i.var.name for i in program.instrs} if keep is None else set(keep)
    state = State(plan(needed(program, names), {**network.env, **group.sizes}), network, group)
    for step, dying in zip(state.plan.steps, _last_uses(state.plan.steps, names), strict=True):
        state.store(step, compute(step, state))
        for name in dying:
            state.values.pop(name, None)
    for name in names:
        state.value(name)
    return state


def needed(program: Program, keep: Collection[str]) -> Program:
    """The program without the definitions on which `keep` does not depend."""
    seen, waiting = set(keep), list(keep)
    while waiting:
        new = set(operands(program.instr(waiting.pop()).op)) - seen
        seen |= new
        waiting.extend(new)
    return replace(program, instrs=tuple(i for i in program.instrs if i.var.name in seen))


def _last_uses(steps: tuple[Step, ...], keep: Collection[str]) -> list[list[str]]:
    """After each step, the families that are dead."""
    last: dict[str, int] = {}
    for k, step in enumerate(steps):
        for name in (step.instr.var.name, *operands(step.instr.op)):
            last[name] = k
    dying: list[list[str]] = [[] for _ in steps]
    for name, k in last.items():
        if name not in keep:
            dying[k].append(name)
    return dying


@final
@dataclass(frozen=True, slots=True)
class State:
    """A run: its plan, its weights, its examples and the families computed so far."""

    plan: Plan
    network: Network
    group: Group
    values: dict[str, Array] = field(default_factory=dict)

    @property
    def env(self) -> Mapping[str, Any]:
        """The sizes of this group and the widths."""
        return self.plan.env

    def zeros(self, elements: int, dim: Dim | None) -> Array:
        """That many elements of a family of this dimension, zero."""
        shape = (elements, self.group.examples) + (() if dim is None else (integer(dim.size, self.env),))
        return np.zeros(shape, dtype=self.network.dtype)

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


def take(values: Array, source: Ints) -> Array:
    """`values[source]`, with zero where `source` is -1."""
    if len(source) == len(values) and (source == np.arange(len(source))).all():
        return values
    if len(values) == 0:
        return np.zeros((len(source), *values.shape[1:]), dtype=values.dtype)
    taken: Array = values[source]
    if (source < 0).any():
        taken[source < 0] = 0
    return taken


# ---------------------------------------------------------------- operations


def compute(step: Step, state: State) -> Array:
    """The elements of one step."""
    match step.instr.op:
        case Data(input=name):
            value = np.asarray(state.group.inputs[name], dtype=state.network.dtype)
            return np.ascontiguousarray(np.swapaxes(value, 0, 1))[step.elements]
        case MatMul():
            return _matmul(step.instr.op, step, state)
        case Linear(terms=terms):
            result = state.zeros(len(step.elements), step.instr.var.dim)
            for term in terms:
                _add_term(term, step, state, result)
            return result
        case Pointwise():
            return _pointwise(step.instr.op, step, state)
        case MaxOver():
            return _max_over(step.instr.op, step, state)
        case Inner():
            return _inner(step.instr.op, step, state)


def weight_elements(op_windex: tuple[Any, ...], weight: str, table: Table, state: State) -> Ints:
    """Which element of the weight family every pair uses.  TensorProgError where it is outside the family."""
    declared = state.plan.program.weight(weight)
    element = flat_index(op_windex, declared.axes, {**state.env, **table.index}, state.network.env, len(table))
    if (element < 0).any():
        raise fail(f"weight {weight} is read outside its range", declared.span)
    return element


def _matmul(op: MatMul, step: Step, state: State) -> Array:
    table = state.plan.pairs(step, op.map, op.operand)
    element = weight_elements(op.windex, op.weight, table, state)
    coef = coefficients(op.coef, table, state.env)
    result = state.zeros(len(step.elements), step.instr.var.dim)
    for k in np.unique(element):
        mine = element == k
        matrix = state.network.values[op.weight][k]
        if op.operand is None:
            sums = np.bincount(table.target[mine], coef[mine], len(result)).astype(result.dtype)
            result += np.multiply.outer(sums, matrix)[:, None]
        else:
            matrix = matrix if op.transposed else matrix.T
            _add_product(result, table.target[mine], table.source[mine], coef[mine], state.value(op.operand), matrix)
    return result


def _add_product(result: Array, target: Ints, source: Ints, coef: Array, operand: Array, matrix: Array) -> None:
    """result[target] += coef * operand[source] @ matrix, multiplying as few vectors as possible."""
    targets, to = np.unique(target, return_inverse=True)
    sources, at = np.unique(source, return_inverse=True)
    if len(targets) < len(sources):
        product = _product(mix(to, source, coef, len(targets), operand), matrix)
    else:
        product = mix(to, at, coef, len(targets), _product(take(operand, sources), matrix))
    if len(targets) == len(result):
        result += product
    else:
        result[targets] += product


def _product(vectors: Array, matrix: Array) -> Array:
    product: Array = vectors.reshape(-1, vectors.shape[-1]) @ matrix
    return product.reshape(*vectors.shape[:-1], matrix.shape[-1])


def mix(target: Ints, source: Ints, coef: Array, size: int, operand: Array) -> Array:
    """y[target] += coef * operand[source] from zero, over the first axis: a sparse matrix product."""
    if len(target) == size and (target == np.arange(size)).all():
        taken = take(operand, source)
        scale = coef.astype(operand.dtype)
        return taken if (scale == 1).all() else taken * scale.reshape(-1, *[1] * (taken.ndim - 1))
    matrix = csr_matrix((coef.astype(operand.dtype), (target, source)), shape=(size, len(operand)))
    mixed: Array = matrix @ operand.reshape(len(operand), math.prod(operand.shape[1:]))
    return mixed.reshape(size, *operand.shape[1:])


def _add_term(term: Term, step: Step, state: State, result: Array) -> None:
    table = state.plan.pairs(step, term.map, term.operand)
    coef = coefficients(term.coef, table, state.env)
    operand = None if term.operand is None else state.value(term.operand)
    if not term.scalars and operand is not None:
        result += mix(table.target, table.source, coef, len(result), operand)
        return
    scale = scales(term, table, coef, state)
    if operand is None or operand.ndim == 2:
        products = scale if operand is None else scale * operand[table.source]
        sums = mix(table.target, np.arange(len(table)), np.ones(len(table)), len(result), products)
        result += sums if result.ndim == 2 else sums[:, :, None]
    else:
        _add_scaled(result, table, scale, operand)


def scales(term: Term, table: Table, coef: Array, state: State) -> Array:
    """coef times the scalars of every pair, [pairs, examples]."""
    scale = np.repeat(coef.astype(state.network.dtype)[:, None], state.group.examples, axis=1)
    for scalar in term.scalars:
        scale *= take(state.value(scalar.var), state.plan.find(scalar, table.index, len(table)))
    return scale


def _add_scaled(result: Array, table: Table, scale: Array, operand: Array) -> None:
    """result[target, e] += scale[pair, e] * operand[source, e] for vectors."""
    if len(table) == len(result) and (table.target == np.arange(len(result))).all():
        result += scale[:, :, None] * take(operand, table.source)
        return
    for e in range(result.shape[1]):
        matrix = csr_matrix((scale[:, e], (table.target, table.source)), shape=(len(result), len(operand)))
        result[:, e] += matrix @ operand[:, e]


def _pointwise(op: Pointwise, step: Step, state: State) -> Array:
    result = state.zeros(len(step.elements), step.instr.var.dim)
    index = state.plan.index(step)
    for part in _parts(len(result), result[:1].size):
        env = dict(state.env)
        for name, values in index.items():
            env[name] = values[part].reshape(-1, *[1] * (result.ndim - 1)).astype(result.dtype)
        for k, read in enumerate(op.args):
            value = take(state.value(read.var), state.plan.elements(step, read)[part])
            env[f"a{k}"] = value if value.ndim == result.ndim else value[:, :, None]
        result[part] = _evaluate(op, step, env)
    return result


def _parts(length: int, size: int) -> list[slice]:
    """Slices of `length` elements of that size, so that about CHUNK numbers are held at once."""
    rows = max(1, CHUNK // max(1, size))
    return [slice(start, min(start + rows, length)) for start in range(0, length, rows)]


def _evaluate(op: Pointwise, step: Step, env: Mapping[str, Any]) -> Any:
    try:
        return evaluate(op.fn, env)
    except ValueError as error:
        raise fail(f"'{step.instr.var.name}' cannot be simulated: {error}", step.instr.var.span,
                   "a step function has no gradient at finite width") from error


def _max_over(op: MaxOver, step: Step, state: State) -> Array:
    operand = state.value(op.operand)
    window = int(np.prod(shape(state.plan.axes(op.operand)[-op.over :], state.env)))
    if window == 0:
        raise fail(f"'{step.instr.var.name}' is a maximum over nothing", step.instr.var.span)
    blocks = operand.reshape(-1, window, *operand.shape[1:])
    chosen: Array = blocks[step.elements].max(axis=1)
    return chosen


def _inner(op: Inner, step: Step, state: State) -> Array:
    result = state.zeros(len(step.elements), None)
    for part in _parts(len(result), state.value(op.left.var)[:1].size):
        left = take(state.value(op.left.var), state.plan.elements(step, op.left)[part])
        if op.right is None:
            result[part] = left.sum(-1)
        else:
            right = take(state.value(op.right.var), state.plan.elements(step, op.right)[part])
            result[part] = np.einsum("ked,ked->ke", left, right)
    coef = np.asarray(evaluate(op.coef, {**state.env, **state.plan.index(step)}), dtype=result.dtype)
    scaled: Array = result * (coef[:, None] if coef.ndim else coef)
    return scaled
