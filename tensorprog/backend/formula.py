"""Expectations as scalar code: recordings of their formulas, and what of them depends on one run only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy import special

from tensorprog.backend.trace import FOLD, NotTraceable, Scalar, Traced
from tensorprog.errors import TensorProgError
from tensorprog.ir import expr as ex
from tensorprog.symbolic.bounded import Bounded
from tensorprog.symbolic.expectation import Closed, Expectation, Moved
from tensorprog.symbolic.law import Law
from tensorprog.symbolic.orthant import product_error

Pair = tuple[int, int]


@final
@dataclass(frozen=True, slots=True)
class Arguments:
    """First and second moments of the arguments (left, then right) and the parameters, recorded.

    mean [k + m], second [k + m][k + m]: values or inputs of a recorder; `sizes` is (k, m).
    """

    mean: tuple[Scalar, ...]
    second: tuple[tuple[Scalar, ...], ...]
    params: Mapping[str, Scalar]
    sizes: Pair

    @property
    def cov(self) -> list[list[Scalar]]:
        """Covariances."""
        n = range(len(self.mean))
        return [[self.second[i][j] - self.mean[i] * self.mean[j] for j in n] for i in n]


def recorded(expectation: Expectation, at: Arguments) -> tuple[Scalar, Scalar]:
    """Value and error estimate; the error is infinite where an entry needs more than its formula.  NotTraceable."""
    try:
        return _recorded(expectation, list(at.mean), at.cov, at.params, at.sizes)
    except TensorProgError as error:
        raise NotTraceable(error.diagnostics[0].message) from None


def _recorded(
    e: Expectation, mean: list[Scalar], cov: list[list[Scalar]], params: Mapping[str, Scalar], sizes: Pair
) -> tuple[Scalar, Scalar]:
    if isinstance(e, Bounded):
        return _recorded(e.inner, mean, cov, params, sizes)
    if isinstance(e, Moved):
        return _moved(e, mean, cov, params, sizes)
    if not isinstance(e, Closed):
        raise NotTraceable(e.tier)
    value, error = e.sums.on(Law(mean, cov), params)
    if e.backup is not None:  # a jump at a constant argument
        for i in range(len(mean)):
            error = np.where(cov[i][i] == 0, np.inf, error) if isinstance(cov[i][i], Traced) else error
    return value, error


def _moved(
    e: Moved, mean: list[Scalar], cov: list[list[Scalar]], params: Mapping[str, Scalar], sizes: Pair
) -> tuple[Scalar, Scalar]:
    """The inner formula at the moved law (`absorb`)."""
    slopes = [_float(ex.evaluate(x.slope, params)) for x in (e.left, e.right)]
    shifts = [_float(ex.evaluate(x.offset, params)) for x in (e.left, e.right)]
    side = [0] * sizes[0] + [1] * sizes[1]
    n = range(len(side))
    moved = [slopes[side[i]] * mean[i] + shifts[side[i]] for i in n]
    wide = [[slopes[side[i]] * slopes[side[j]] * cov[i][j] for j in n] for i in n]
    value, error = _recorded(e.inner, moved, wide, params, sizes)
    factor = slopes[0] ** e.left.power * slopes[1] ** e.right.power
    return factor * value, abs(factor) * error


def _float(value: Any) -> Scalar:
    return value if isinstance(value, Traced) else float(value)


# ---------------------------------------------------------------- reading recordings


def ordered(values: Sequence[Scalar], known: frozenset[int] = frozenset()) -> list[Traced]:
    """The nodes that values need, operands first; nodes whose id is `known` and what only they need are left out."""
    seen: set[int] = set(known)
    found: list[Traced] = []

    def visit(start: Traced) -> None:
        waiting = [(start, False)]
        while waiting:
            node, ready = waiting.pop()
            if ready:
                found.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                waiting.append((node, True))
                waiting.extend((a, False) for a in reversed(node.args) if isinstance(a, Traced))

    for value in values:
        if isinstance(value, Traced):
            visit(value)
    return found


def rooted(values: Sequence[Scalar], known: frozenset[int]) -> list[Traced]:
    """The arguments of angles that take a root of what is not `known`."""
    angles = (n for n in ordered(values, known) if n.op in ("turn", "atan2"))
    found = (a for n in angles for a in n.args if isinstance(a, Traced))
    return list({id(a): a for a in found if any(n.op == "sqrt" for n in ordered([a], known))}.values())


def is_nonnegative(value: Scalar) -> bool:
    """Whether it cannot be negative, as far as that can be seen."""
    if not isinstance(value, Traced):
        return bool(value >= 0)
    if value.op in ("mul", "div", "add", "min"):
        return all(map(is_nonnegative, value.args))
    if value.op in ("where", "max"):
        return all(map(is_nonnegative, value.args[1:])) or (value.op == "max" and is_nonnegative(value.args[0]))
    return value.op in ("sqrt", "abs", "exp", "ndtr")


def frontier(values: Sequence[Scalar], inputs: frozenset[str]) -> list[Traced]:
    """The largest parts of a recording that depend on some of the inputs only."""
    found: dict[int, Traced] = {}
    nodes = ordered(values)
    for node in nodes:
        if node.inputs <= inputs:
            continue
        found.update({id(a): a for a in _nodes(node) if a.inputs <= inputs})
    found.update({id(v): v for v in values if isinstance(v, Traced) and v.inputs <= inputs})
    return list(found.values())


def _nodes(node: Traced) -> Iterator[Traced]:
    return (a for a in node.args if isinstance(a, Traced))


def interpreted(nodes: Sequence[Traced], inputs: Mapping[str, Any]) -> list[Any]:
    """The values of nodes on arrays."""
    values: dict[int, Any] = {}
    for node in ordered(nodes):
        if node.op == "input":
            values[id(node)] = inputs[node.args[0]]
        else:
            args = [values[id(a)] if isinstance(a, Traced) else a for a in node.args]
            values[id(node)] = ARRAYS[node.op](*args)
    return [values[id(n)] for n in nodes]


ARRAYS: dict[str, Any] = {
    **{op: FOLD[op] for op in ("add", "sub", "mul", "neg", "abs", "gt", "lt", "ge", "le", "eq", "ne")},
    "div": np.divide,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "sign": np.sign,
    "max": np.maximum,
    "min": np.minimum,
    "where": np.where,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "atan2": np.arctan2,
    "turn": np.arctan2,
    "copysign": np.copysign,
    "residue": product_error,
    "erf": special.erf,
    "ndtr": special.ndtr,
    "owens_t": special.owens_t,
}

