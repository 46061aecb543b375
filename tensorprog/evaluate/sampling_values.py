"""The families of one group of examples while a program is sampled: drawn throughout (arrays), or in part (terms)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from tensorprog.evaluate.sampling_factor import Floats, Ints
from tensorprog.evaluate.sampling_moments import Integrals
from tensorprog.evaluate.sampling_nodes import as_terms
from tensorprog.evaluate.sampling_record import Recorded
from tensorprog.evaluate.sampling_sums import Sums
from tensorprog.evaluate.sampling_terms import (
    Block,
    Joined,
    NotIntegrable,
    Terms,
    U,
    classes_of,
    collected,
    function,
    is_gaussian,
    is_node,
    merged,
    nonzero,
    product,
    read,
    sampled,
)
from tensorprog.finite.forward import compute, scales
from tensorprog.finite.plan import Plan
from tensorprog.finite.products import take
from tensorprog.finite.state import Group, State
from tensorprog.finite.weights import Network
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Op, Sym
from tensorprog.ir.program import Data, Linear, MaxOver, Pointwise, operands
from tensorprog.ir.schedule import Step
from tensorprog.ir.tables import coefficients, count

Value = Floats | Terms


@final
@dataclass(frozen=True, slots=True)
class Values:
    """The values of group number `group`; those drawn in part are in `parts`, the others in `state`."""

    group: int
    state: State
    integrals: Integrals
    roles: Mapping[str, str]
    sums: Sums
    parts: dict[str, list[Block]] = field(default_factory=dict)

    def store(self, step: Step, value: Value) -> None:
        """Puts the elements of a step into their family."""
        if isinstance(value, tuple):
            held = self.parts.setdefault(step.instr.var.name, [])
            held += [Block(b.shape, step.elements[b.elem], b.nodes, b.coef) for b in value]
        elif len(step.elements) == count(step.instr.var.axes, self.state.env):
            self.state.values[step.instr.var.name] = value
        else:
            known = self.state.value(step.instr.var.name)
            if isinstance(value, Recorded) and not isinstance(known, Recorded):
                known = value.recorder.made(np.array, known)
                self.state.values[step.instr.var.name] = known
            known[step.elements] = value

    def forget(self, name: str) -> None:
        """Frees a family."""
        self.parts.pop(name, None)
        self.state.values.pop(name, None)

    def read(self, name: str, source: Ints) -> Terms:
        """The elements `source` (-1: zero) of a family, numbered by their position."""
        drawn: Terms = ()
        if name in self.state.values or name not in self.parts:
            values = self.integrals.arrays.call(_taken, self.state.value(name), source)
            drawn = nonzero(sampled(values[:, :, None] if values.ndim == 2 else values))
        return collected(drawn + read(self.parts.get(name, ()), source))

    def vectors(self, name: str, source: Ints) -> Terms:
        """`read`, with known vectors scaled so that the mean over their coordinates is their dot product.

        They never have as many coordinates as there are draws, so that the two cannot be confused.
        """
        dim = self.state.plan.program.var(name).dim
        terms = self.read(name, source)
        if dim is None or dim.wide:
            return terms
        return tuple(self._known(b) for b in terms)

    def _known(self, block: Block) -> Block:
        size = block.coef.shape[2]
        if size != self.integrals.draws:
            return block.scaled(np.full((1, 1), math.sqrt(size)))
        longer = np.pad(block.coef, ((0, 0), (0, 0), (0, 1))) * math.sqrt(size + 1)
        return Block(block.shape, block.elem, block.nodes, longer)

    def compute(self, step: Step) -> Value:
        """The elements of a step that is no product and no inner product."""
        op = step.instr.op
        if not any(name in self.parts for name in operands(op)):
            return self._whole(step)
        if isinstance(op, Linear):
            return self._gaussian(step, self._linear(step, op))
        if isinstance(op, Pointwise):
            return Pointwisely(self, step, op).value(op.fn)
        assert isinstance(op, MaxOver)
        raise NotIntegrable(classes_of(tuple(self.parts[op.operand])))

    def _whole(self, step: Step) -> Floats:
        """A step that reads nothing that is drawn in part."""
        op, state = step.instr.op, self.state
        if isinstance(op, Pointwise) and isinstance(left := self._without_zeros(step, op), ex.Num):
            return np.full(state.shape(len(step.elements), step.instr.var.dim), float(left.value))
        reads = {name: state.value(name) for name in operands(op)}
        inputs = state.group.inputs if isinstance(op, Data) else {"": np.empty(state.group.examples)}
        found: Floats = self.integrals.arrays.call(
            _computed, step, state.plan, state.network, state.group.sizes, inputs, reads
        )
        return found

    def _without_zeros(self, step: Step, op: Pointwise) -> Expr:
        """The function of those arguments that are not known to be zero, whatever is drawn."""
        zeros = {}
        for k, arg in enumerate(op.args):
            known = self.state.value(arg.var)
            if not (isinstance(known, Recorded) or known[self.state.plan.elements(step, arg)].any()):
                zeros[f"a{k}"] = ex.num(0)
        return ex.substitute(op.fn, zeros)

    # ------------------------------------------------------------ sums

    def _linear(self, step: Step, op: Linear) -> Terms:
        found: list[Block] = []
        for term in op.terms:
            table = self.state.plan.pairs(step, term.map, term.operand)
            coef = coefficients(term.coef, table, self.state.env)
            factor = np.asarray(scales(term, table, coef, self.state), np.float64) if term.scalars else coef[:, None]
            if term.operand is None:
                found += [Block(b.shape, table.target[b.elem], b.nodes, b.coef) for b in sampled(factor[:, :, None])]
                continue
            for b in self.read(term.operand, table.source):
                scaled = b.scaled(factor[b.elem])
                found.append(Block(b.shape, table.target[b.elem], b.nodes, scaled.coef))
        return merged(collected(found))

    def _gaussian(self, step: Step, terms: Terms) -> Value:
        """Sums of Gaussian variables of one class become nodes, or are drawn."""
        if self.roles[step.instr.var.name] != "G-var" or not is_gaussian(terms):
            return terms
        classes = classes_of(terms)
        if len(classes) > 1:
            raise Joined(classes)
        (of,) = classes
        if is_node(terms) and of not in self.sums.classes:
            return terms
        numbers = self.integrals.nodes(of, self.group).combined(terms, len(step.elements))
        return self.sums.draw(of, self.group, numbers) if of in self.sums.classes else as_terms(numbers, of)


class Pointwisely:
    """The value of an expression of families, of which some are drawn in part."""

    def __init__(self, values: Values, step: Step, op: Pointwise) -> None:
        state = values.state
        self.arrays, self.elements = values.integrals.arrays, len(step.elements)
        self.partial: dict[str, Terms] = {}
        self.env: dict[str, Any] = {**state.env, **{k: v[:, None, None] for k, v in state.plan.index(step).items()}}
        for k, arg in enumerate(op.args):
            source = state.plan.elements(step, arg)
            if arg.var in values.parts:
                self.partial[f"a{k}"] = values.read(arg.var, source)
                values.integrals.whole(self.partial[f"a{k}"])
            else:
                known = values.integrals.arrays.call(_taken, state.value(arg.var), source)
                self.env[f"a{k}"] = known if known.ndim == 3 else known[:, :, None]

    def value(self, e: Expr) -> Terms:
        """The value of `e`.  Raises NotIntegrable."""
        names = ex.symbols(e) & self.partial.keys()
        if not names:
            return sampled(self.arrays.call(_evaluated, e, self.env, self.elements))
        if isinstance(e, Sym):
            return self.partial[e.name]
        if ex.symbols(e) == names and len(names) == 1 and is_node(self.partial[min(names)]):
            return self._function(ex.substitute(e, {min(names): U}), self.partial[min(names)])
        assert isinstance(e, Op)
        if e.fn == "add":
            return merged(collected([b for a in e.args for b in self.value(a)]))
        if e.fn == "mul":
            return self._product(e.args)
        if e.fn == "pow" and (times := _whole(e.args[1])):
            return self._product((e.args[0],) * times)
        raise NotIntegrable(classes_of(tuple(b for name in names for b in self.partial[name])))

    def _product(self, factors: tuple[Expr, ...]) -> Terms:
        result = self.value(factors[0])
        for factor in factors[1:]:
            result = product(result, self.value(factor))
        return result

    def _function(self, fn: Expr, node: Terms) -> Terms:
        """fn of a node; elements without one are zero."""
        missing = np.setdiff1d(np.arange(self.elements), node[0].elem)
        rest: Terms = ()
        if len(missing):
            value = float(ex.evaluate(fn, {U.name: np.zeros(())}))
            (constant,) = sampled(np.full((len(missing), 1, 1), value))
            (constant,) = sampled(np.full((len(missing), 1, 1), value))
            rest = (Block((), missing, constant.nodes, constant.coef),)
        return function(fn, node) + rest


def _taken(values: Floats, source: Ints) -> Floats:
    return np.asarray(take(values, source), dtype=np.float64)


def _computed(
    step: Step, plan: Plan, network: Network, sizes: Mapping[str, int], inputs: dict[str, Floats],
    reads: dict[str, Floats],
) -> Floats:
    """The elements of a step that reads these families, or these inputs."""
    return np.asarray(compute(step, State(plan, network, Group(sizes, inputs), dict(reads))), dtype=np.float64)


def _evaluated(e: Expr, env: Mapping[str, Any], elements: int) -> Floats:
    found = np.asarray(ex.evaluate(e, env), dtype=np.float64)
    return np.broadcast_to(found, np.broadcast_shapes(found.shape, (elements, 1, 1)))


def _whole(exponent: Expr) -> int:
    """A whole exponent from 2 to 8, else 0."""
    value = exponent.value if isinstance(exponent, ex.Num) else 0
    return int(value) if value in range(2, 9) else 0
