"""The numpy meaning of the IR: every family of a program, for all examples of a group at once.

Families are held as [elements, examples, dim] (scalars [elements, examples]), so that the elements of a
wavefront are contiguous and an index map is a sparse matrix acting on the first axis.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from tensorprog.errors import fail
from tensorprog.finite.dense import inner_products, rectangle, weighted_sums
from tensorprog.finite.plan import plan
from tensorprog.finite.products import Pairs, grouped, mix, mixing, products, take, taking
from tensorprog.finite.state import Group, State
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import evaluate, integer, symbols
from tensorprog.ir.program import (
    Data,
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
from tensorprog.ir.tables import Ints, Table, coefficients, flat_index, shape

PART = 1 << 16
"""Numbers of a family that a function is applied to at once: what it computes in between stays in the cache."""


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
    state = begin(program, network, group, names)
    advance(state, names, names | {i.var.name for i in program.instrs})
    return state


def begin(program: Program, network: Network, group: Group, keep: Collection[str]) -> State:
    """A run that will compute what `keep` needs, and has computed nothing."""
    return State(plan(needed(program, keep), {**network.env, **group.sizes}), network, group)


def advance(state: State, keep: Collection[str], computed: Collection[str]) -> None:
    """Computes the families `computed`; what is read the last time there is freed unless it is in `keep`."""
    steps = tuple(step for step in state.plan.steps if step.instr.var.name in computed)
    fresh = state.plan.kept("fresh", lambda: _fresh(state.plan.program))
    for step, dying in zip(steps, last_uses(steps, keep), strict=True):
        state.store(step, compute(step, state, fresh.intersection(dying)))
        for name in dying:
            state.values.pop(name, None)
    for name in computed:
        if name in keep:
            state.value(name)


def _fresh(program: Program) -> frozenset[str]:
    """Families of which no other is a view: products with a weight that one operation reads, and once."""
    reads = Counter(name for instr in program.instrs for name in operands(instr.op))
    return frozenset(i.var.name for i in program.instrs
                     if isinstance(i.op, MatMul) and i.op.operand is not None and reads[i.var.name] == 1)


def needed(program: Program, keep: Collection[str]) -> Program:
    """The program without the definitions on which `keep` does not depend."""
    seen, waiting = set(keep), list(keep)
    while waiting:
        new = set(operands(program.instr(waiting.pop()).op)) - seen
        seen |= new
        waiting.extend(new)
    return replace(program, instrs=tuple(i for i in program.instrs if i.var.name in seen))


def last_uses(steps: tuple[Step, ...], keep: Collection[str]) -> list[list[str]]:
    """After each step, the families that are dead; those of `keep` never are."""
    last: dict[str, int] = {}
    for k, step in enumerate(steps):
        for name in (step.instr.var.name, *operands(step.instr.op)):
            last[name] = k
    dying: list[list[str]] = [[] for _ in steps]
    for name, k in last.items():
        if name not in keep:
            dying[k].append(name)
    return dying


# ---------------------------------------------------------------- operations


def compute(step: Step, state: State, spent: Collection[str] = ()) -> Array:
    """The elements of one step, perhaps in the memory of families of which it is the last to read (`spent`)."""
    match step.instr.op:
        case Data(input=name):
            value = np.asarray(state.group.inputs[name], dtype=state.network.dtype)
            elements = np.swapaxes(value, 0, 1)
            whole = len(step.elements) == len(elements)  # never the user's own memory, of which an example is a view
            return np.array(elements, order="C") if whole else np.ascontiguousarray(elements)[step.elements]
        case MatMul():
            return _matmul(step.instr.op, step, state)
        case Linear(terms=terms):
            return _linear(terms, step, state, spent)
        case Pointwise():
            return _pointwise(step.instr.op, step, state, spent)
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
    weight = state.network.values[op.weight]
    if op.operand is None:
        return _copies(op, step, state, weight)
    pairs, operand = _pairs(op, step, state), np.ascontiguousarray(state.value(op.operand))
    return products(len(step.elements), pairs, operand, weight if op.transposed else _turned(op.weight, weight, state))


def _turned(name: str, weight: Array, state: State) -> Array:
    """The transposes of the matrices of a weight; copied where several parts of a group share the copy, for BLAS is
    slower with what is not in order."""
    if state.turned is None:
        return weight.swapaxes(1, 2)
    if name not in state.turned:
        state.turned[name] = np.ascontiguousarray(weight.swapaxes(1, 2))
    return state.turned[name]


def _pairs(op: MatMul, step: Step, state: State) -> tuple[Pairs, ...]:
    def found() -> tuple[Pairs, ...]:
        table = state.plan.pairs(step, op.map, op.operand)
        element = weight_elements(op.windex, op.weight, table, state)
        return grouped(element, table.target, table.source, coefficients(op.coef, table, state.env))

    return state.plan.kept(("pairs", id(step)), found)


def _copies(op: MatMul, step: Step, state: State, weight: Array) -> Array:
    """The sums of a weight that is a vector or a number: the same for all examples, so one copy of each."""
    table = state.plan.pairs(step, op.map, None)
    element = weight_elements(op.windex, op.weight, table, state)
    sums = mix(table.target, element, coefficients(op.coef, table, state.env), len(step.elements), weight)
    return np.broadcast_to(sums[:, None], (len(sums), state.group.examples, *sums.shape[1:]))


def _linear(terms: tuple[Term, ...], step: Step, state: State, spent: Collection[str]) -> Array:
    """The sum of the terms; a view of an operand where it is one."""
    parts = (_term(term, step, state) for term in terms)
    first = next(parts, None)
    if first is None:
        return state.zeros(len(step.elements), step.instr.var.dim)
    second = next(parts, None)
    if second is None:
        return first
    result = np.add(first, second, out=_room([(terms[0].operand, first)], first.shape, state, spent))
    for part in parts:
        result += part
    return result


def _term(term: Term, step: Step, state: State) -> Array:
    """One term for every element of the step, perhaps a view."""
    size, dim = len(step.elements), step.instr.var.dim
    operand = None if term.operand is None else state.value(term.operand)
    if not term.scalars and operand is not None:
        return _mixing(term, step, state, operand)(operand)
    table = state.plan.pairs(step, term.map, term.operand)
    coef = coefficients(term.coef, table, state.env)
    scale = scales(term, table, coef, state)
    if operand is not None and operand.ndim == 3:
        return _scaled_sum(state.zeros(size, dim), table, scale, operand)
    scaled = scale if operand is None else scale * operand[table.source]
    sums = mix(table.target, np.arange(len(table)), np.ones(len(table)), size, scaled)
    return sums if dim is None else np.broadcast_to(sums[:, :, None], (*sums.shape, integer(dim.size, state.env)))


def _room(
    reads: Iterable[tuple[str | None, Array]], shape: tuple[int, ...], state: State, spent: Collection[str]
) -> Array | None:
    """A value that was read from one of the families `spent`, the whole of it as it stands, to be written over."""
    for name, value in reads:
        if name is not None and name in spent and value.shape == shape and value.strides == state.values[name].strides:
            return value
    return None


def _mixing(term: Term, step: Step, state: State, operand: Array) -> Callable[[Array], Array]:
    def found() -> Callable[[Array], Array]:
        table = state.plan.pairs(step, term.map, term.operand)
        coef = coefficients(term.coef, table, state.env).astype(operand.dtype)
        return mixing(table.target, table.source, coef, len(step.elements), len(operand))

    return state.plan.kept(("mixing", id(step), id(term), operand.dtype), found)


def scales(term: Term, table: Table, coef: Array, state: State) -> Array:
    """coef times the scalars of every pair, [pairs, examples]."""
    scale = np.repeat(coef.astype(state.network.dtype)[:, None], state.group.examples, axis=1)
    for scalar in term.scalars:
        scale *= take(state.value(scalar.var), state.plan.find(scalar, table.index, len(table)))
    return scale


def _scaled_sum(result: Array, table: Table, scale: Array, operand: Array) -> Array:
    """result[target, e] += scale[pair, e] * operand[source, e] for vectors, from zero."""
    if len(table) == len(result) and (table.target == np.arange(len(result))).all():
        return np.multiply(scale[:, :, None], take(operand, table.source), out=result)
    pairs = rectangle(table.target, table.source)
    if pairs.filled:
        result[pairs.rows] = weighted_sums(pairs, scale, operand)
        return result
    for e in range(result.shape[1]):
        matrix = csr_matrix((scale[:, e], (table.target, table.source)), shape=(len(result), len(operand)))
        result[:, e] += matrix @ operand[:, e]
    return result


def _pointwise(op: Pointwise, step: Step, state: State, spent: Collection[str]) -> Array:
    def found() -> tuple[list[Callable[[Array], Array]], dict[str, Ints]]:
        index = state.plan.index(step).items()
        return ([taking(state.plan.elements(step, read)) for read in op.args],
                {name: v for name, v in index if name in symbols(op.fn)})

    takes, index = state.plan.kept(("reads", id(step)), found)
    values = [taken(state.value(read.var)) for taken, read in zip(takes, op.args, strict=True)]
    shape = state.shape(len(step.elements), step.instr.var.dim)
    result = _room(((read.var, value) for read, value in zip(op.args, values, strict=True)), shape, state, spent)
    if result is None:
        result = np.empty(shape, dtype=state.network.dtype)
    for part in _parts(result):
        env = dict(state.env)
        for name, numbers in index.items():
            env[name] = numbers[part[0]].reshape(-1, *[1] * (result.ndim - 1)).astype(result.dtype)
        for k, value in enumerate(values):
            env[f"a{k}"] = value[part] if value.ndim == result.ndim else value[part][:, :, None]
        result[part] = _evaluate(op, step, env)
    return result


def _parts(family: Array) -> Iterator[tuple[slice, slice]]:
    """Elements and examples of a family, about PART numbers at a time."""
    elements, examples = family.shape[:2]
    size = max(1, math.prod(family.shape[2:]))
    columns = min(examples, max(1, PART // size))
    rows = max(1, PART // max(1, columns * size))
    for a in range(0, elements, rows):
        for b in range(0, examples, columns):
            yield slice(a, a + rows), slice(b, b + columns)


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
    left = state.plan.elements(step, op.left)
    if op.right is None:
        result = take(state.value(op.left.var), left).sum(-1)
    else:
        right = state.plan.elements(step, op.right)
        result = _inner_products(left, right, state.value(op.left.var), state.value(op.right.var))
    coef = np.asarray(evaluate(op.coef, {**state.env, **state.plan.index(step)}), dtype=result.dtype)
    scaled: Array = result * (coef[:, None] if coef.ndim else coef)
    return scaled


def _inner_products(left: Ints, right: Ints, u: Array, v: Array) -> Array:
    """<u[left[k]], v[right[k]]> for every example; zero where an index is -1."""
    inside = (left >= 0) & (right >= 0)
    pairs = rectangle(left[inside], right[inside])
    result = np.zeros((len(left), u.shape[1]), dtype=u.dtype)
    if pairs.filled:
        result[inside] = inner_products(pairs, u, v)
        return result
    for k, e in _parts(np.broadcast_to(u[:1], (len(left), *u.shape[1:])) if len(u) else result):
        np.einsum("ked,ked->ke", take(u[:, e], left[k]), take(v[:, e], right[k]), out=result[k, e])
    return result
