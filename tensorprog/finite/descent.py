"""The gradient of a loss in the weights of a finite network, and steps along it.

    d L / d W  =  sum over uses, examples and outputs of  (d L / d f) row (x) col          (uses: see `gram.py`)
    d W / d t  =  -lr(W) d L / d W

with the learning rates of the program, so that outputs move by the empirical tangent kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.forward import run
from tensorprog.finite.state import Group, State
from tensorprog.finite.uses import Entries, entries_of
from tensorprog.finite.weights import Array, Network
from tensorprog.ir.expr import evaluate
from tensorprog.ir.program import Differentiated
from tensorprog.ir.tables import count

Floats = NDArray[np.float64]
Weights = Mapping[str, Array]


def states_of(what: Differentiated, network: Network, groups: Sequence[Group], gradients: bool) -> list[State]:
    """Runs of all groups, which keep the outputs and (`gradients`) what gradients are made of."""
    uses = what.uses if gradients else ()
    keep = {what.program.output(what.output).var}
    keep |= {u.row for u in uses} | {u.col for u in uses if u.col is not None}
    return [run(what.program, network, g, keep) for g in groups]


def outputs_of(what: Differentiated, states: Sequence[State]) -> Floats:
    """The outputs [rows], group by group, example by example, element by element."""
    var = what.program.output(what.output).var
    return np.concatenate([np.asarray(s.values[var], dtype=np.float64).T.ravel() for s in states])


def weight_velocity(what: Differentiated, network: Network, states: Sequence[State], slopes: Floats) -> Weights:
    """d W / d t for d L / d f = `slopes` [rows], by the name of every trained weight."""
    firsts = _firsts(what, states)
    velocity = {use.weight: np.zeros_like(network.values[use.weight]) for use in what.uses}
    for use in what.uses:
        rate = float(evaluate(what.program.weight(use.weight).lr, network.env))
        for state, first in zip(states, firsts, strict=True):
            _descend(velocity[use.weight], entries_of(use, state, first), slopes, rate)
    return velocity


def _firsts(what: Differentiated, states: Sequence[State]) -> list[int]:
    """Where the rows of each group begin."""
    axes = what.program.var(what.program.output(what.output).var).axes
    ends = np.cumsum([s.group.examples * count(axes, s.env) for s in states])
    return [0, *(int(e) for e in ends[:-1])]


def _descend(velocity: Array, e: Entries, slopes: Floats, rate: float) -> None:
    """Subtracts rate * sum of slope coef row (x) col from every element of one weight."""
    examples = e.state.group.examples
    at = slopes[e.first : e.first + examples * e.outputs].reshape(examples, e.outputs).T
    for k in np.unique(e.element):
        mine = np.flatnonzero(e.element == k)
        scale = (rate * e.coef[mine, None] * at[e.out[mine]]).astype(velocity.dtype)
        rows = e.state.values[e.use.row][e.row[mine]]
        if e.use.col is None:
            velocity[k] -= np.einsum("pe...,pe->...", rows, scale)
            continue
        cols = e.state.values[e.use.col][e.col[mine]]
        velocity[k] -= _outer(rows * (scale if rows.ndim == 2 else scale[:, :, None]), cols, velocity[k].shape)


def _outer(rows: Array, cols: Array, shape: tuple[int, ...]) -> Array:
    """sum of row (x) col over the first two axes."""
    flat = rows.shape[0] * rows.shape[1]
    product: Array = rows.reshape(flat, -1).T @ cols.reshape(flat, -1)
    return product.reshape(shape)


def advance(network: Network, velocity: Callable[[Network], Weights], step: float, flow: bool) -> Network:
    """One step of Euler (gradient descent) or of Runge and Kutta (gradient flow) in the weights."""
    first = velocity(network)
    if not flow:
        return _moved(network, [(step, first)])
    second = velocity(_moved(network, [(step / 2, first)]))
    third = velocity(_moved(network, [(step / 2, second)]))
    fourth = velocity(_moved(network, [(step, third)]))
    return _moved(network, [(step / 6, first), (step / 3, second), (step / 3, third), (step / 6, fourth)])


def _moved(network: Network, parts: Sequence[tuple[float, Weights]]) -> Network:
    values = dict(network.values)
    for scale, weights in parts:
        for name, direction in weights.items():
            values[name] = values[name] + values[name].dtype.type(scale) * direction
    return replace(network, values=values)
