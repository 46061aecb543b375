"""The numpy meaning of the IR: every family of a program, for all examples of a group at once.

Families are held as [elements, examples, dim] (scalars [elements, examples]), so that the elements of a
wavefront are contiguous and an index map is a sparse matrix acting on the first axis.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.errors import fail
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import evaluate, integer
from tensorprog.ir.program import (
    Data,
    Dim,
    Inner,
    Linear,
    Map,
    MatMul,
    MaxOver,
    Pointwise,
    Program,
    Read,
    Term,
    operands,
)
from tensorprog.ir.schedule import Step, schedule
from tensorprog.ir.tables import Ints, Table, coefficients, count, flat_index, grid, map_table, shape

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
    values = run(program, network, group, keep)
    return {name: np.swapaxes(value, 0, 1) for name, value in values.items()}


def run(program: Program, network: Network, group: Group, keep: Collection[str] | None = None) -> dict[str, Array]:
    """`forward` in the layout of this module, [elements, examples, dim]."""
    names = {i.var.name for i in program.instrs} if keep is None else set(keep)
    program = needed(program, names)
    state = State(program, network, group)
    steps = schedule(program, state.env)
    for step, dying in zip(steps, _last_uses(steps, names), strict=True):
        state.store(step, compute(step, state))
        for name in dying:
            del state.values[name]
    return state.values


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
@dataclass(frozen=True)
class State:
    """The families computed so far, and the index tables of the definitions met so far."""

    program: Program
    network: Network
    group: Group
    values: dict[str, Array] = field(default_factory=dict)
    tables: dict[tuple[str, str | None, Map], Table] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, Any]:
        """The sizes of this group and the widths."""
        return {**self.network.env, **self.group.sizes}

    def shape(self, elements: int, dim: Dim | None) -> tuple[int, ...]:
        """The shape of that many elements of a family."""
        return (elements, self.group.examples) + (() if dim is None else (integer(dim.size, self.env),))

    def zeros(self, elements: int, dim: Dim | None) -> Array:
        """That many elements of a family, zero."""
        return np.zeros(self.shape(elements, dim), dtype=self.network.dtype)

    def store(self, step: Step, result: Array) -> None:
        """Puts the elements of a step into their family."""
        var = step.instr.var
        total = count(var.axes, self.env)
        if len(step.elements) == total:
            self.values[var.name] = result
            return
        if var.name not in self.values:
            self.values[var.name] = self.zeros(total, var.dim)
        self.values[var.name][step.elements] = result

    def pairs(self, map_: Map, step: Step, operand: str | None) -> Table:
        """The pairs of a map whose target is computed in this step, targets numbered within the step."""
        if operand is None:
            map_ = Map(map_.domain, map_.target, ())
        key = (step.instr.var.name, operand, map_)
        if key not in self.tables:
            source = () if operand is None else self.program.var(operand).axes
            self.tables[key] = map_table(map_, step.instr.var.axes, source, self.env)
        table = self.tables[key]
        position = np.full(count(step.instr.var.axes, self.env), -1)
        position[step.elements] = np.arange(len(step.elements))
        target = position[table.target]
        keep = target >= 0
        return Table(target[keep], table.source[keep], {k: v[keep] for k, v in table.index.items()})

    def gather(self, read: Read, index: Mapping[str, Ints], length: int) -> Array:
        """The elements read at index expressions in `index`, one per entry; zero outside the family."""
        env = self.env
        source = flat_index(read.index, self.program.var(read.var).axes, {**env, **index}, env, length)
        return take(self.values[read.var], source)


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
    declared = state.program.weight(weight)
    element = flat_index(op_windex, declared.axes, {**state.env, **table.index}, state.network.env, len(table))
    if (element < 0).any():
        raise fail(f"weight {weight} is read outside its range", declared.span)
    return element


def _matmul(op: MatMul, step: Step, state: State) -> Array:
    table = state.pairs(op.map, step, op.operand)
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
            _add_product(result, table.target[mine], table.source[mine], coef[mine], state.values[op.operand], matrix)
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
    mixed: Array = matrix @ operand.reshape(len(operand), -1)
    return mixed.reshape(size, *operand.shape[1:])


def _add_term(term: Term, step: Step, state: State, result: Array) -> None:
    table = state.pairs(term.map, step, term.operand)
    coef = coefficients(term.coef, table, state.env)
    operand = None if term.operand is None else state.values[term.operand]
    if not term.scalars and operand is not None:
        result += mix(table.target, table.source, coef, len(result), operand)
        return
    scale = _scales(term, table, coef, state)
    if operand is None or operand.ndim == 2:
        products = scale if operand is None else scale * operand[table.source]
        sums = mix(table.target, np.arange(len(table)), np.ones(len(table)), len(result), products)
        result += sums if result.ndim == 2 else sums[:, :, None]
    else:
        _add_scaled(result, table, scale, operand)


def _scales(term: Term, table: Table, coef: Array, state: State) -> Array:
    """coef times the scalars of every pair, [pairs, examples]."""
    scale = np.repeat(coef.astype(state.network.dtype)[:, None], state.group.examples, axis=1)
    for scalar in term.scalars:
        scale *= state.gather(scalar, table.index, len(table))
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
    var = step.instr.var
    index = {name: values[step.elements] for name, values in grid(var.axes, state.env).items()}
    result = state.zeros(len(step.elements), var.dim)
    rows = max(1, CHUNK // max(1, result[:1].size))
    for start in range(0, len(result), rows):
        part = slice(start, start + rows)
        result[part] = _pointwise_values(op, {k: v[part] for k, v in index.items()}, result[part], step, state)
    return result


def _pointwise_values(op: Pointwise, index: Mapping[str, Ints], like: Array, step: Step, state: State) -> Any:
    env: dict[str, Any] = state.env
    for name, values in index.items():
        env[name] = values.reshape(-1, *[1] * (like.ndim - 1)).astype(like.dtype)
    for k, read in enumerate(op.args):
        value = state.gather(read, index, len(like))
        env[f"a{k}"] = value if value.ndim == like.ndim else value[:, :, None]
    try:
        return evaluate(op.fn, env)
    except ValueError as error:
        raise fail(f"'{step.instr.var.name}' cannot be simulated: {error}", step.instr.var.span,
                   "a step function has no gradient at finite width") from error


def _max_over(op: MaxOver, step: Step, state: State) -> Array:
    operand = state.values[op.operand]
    window = int(np.prod(shape(state.program.var(op.operand).axes[-op.over :], state.env)))
    if window == 0:
        raise fail(f"'{step.instr.var.name}' is a maximum over nothing", step.instr.var.span)
    blocks = operand.reshape(-1, window, *operand.shape[1:])
    chosen: Array = blocks[step.elements].max(axis=1)
    return chosen


def _inner(op: Inner, step: Step, state: State) -> Array:
    var = step.instr.var
    index = {name: values[step.elements] for name, values in grid(var.axes, state.env).items()}
    result = state.zeros(len(step.elements), None)
    rows = max(1, CHUNK // max(1, state.values[op.left.var][:1].size))
    for start in range(0, len(result), rows):
        part = {k: v[start : start + rows] for k, v in index.items()}
        length = len(result[start : start + rows])
        left = state.gather(op.left, part, length)
        right = None if op.right is None else state.gather(op.right, part, length)
        result[start : start + rows] = left.sum(-1) if right is None else np.einsum("ked,ked->ke", left, right)
    coef = np.asarray(evaluate(op.coef, {**state.env, **index}), dtype=result.dtype)
    scaled: Array = result * (coef[:, None] if coef.ndim else coef)
    return scaled
