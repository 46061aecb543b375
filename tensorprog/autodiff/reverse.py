"""Reverse mode as a pass from IR to IR.

    h = W @ x            d.h = ...                       use dW += d.h (x) x
    y = erf(h)     ->    d.h = d.y * 2 * exp(-h^2) / sqrt(pi)
    f = dot(v, y)        d.y = d.f[] * v,   d.f = 1      use dv += d.v

Every family through which a trained weight reaches the output gets one adjoint family, the true derivative
`d.u[o, i] = d f[o] / d u[i]`.  A loop needs nothing special: its adjoints refer to each other as the states
do, with the shift reversed.  The program grows by a number of definitions proportional to its own length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import final

from tensorprog.autodiff.rules import Contribution, Frame, Scatter, Whole, contributions
from tensorprog.errors import fail
from tensorprog.ir.expr import ZERO, Expr, Sym, symbols
from tensorprog.ir.program import (
    Axis,
    Data,
    Differentiated,
    Input,
    Instr,
    Linear,
    Map,
    MatMul,
    Program,
    Term,
    Use,
    Var,
    identity,
    operands,
)


@lru_cache(maxsize=8)
def differentiate(program: Program, output: str) -> Differentiated:
    """`program` with the adjoints of `output`, and the uses of its trained weights.

    The adjoint of u is named `d.u`; its axes are the axes of the output (prefixed `o_`) and those of u.
    Families that no trained weight reaches, or whose derivative is structurally zero, have none.
    Raises TensorProgError when the output is a vector, or a nonlinearity on the way has no derivative.
    """
    root = program.var(program.output(output).var)
    if root.dim is not None:
        raise fail(f"output '{output}' is a vector and has no gradient", program.output(output).span,
                   "differentiate a scalar such as dot(v, h), or each element of a family of scalars")
    active = _active(program, root.name)
    frame = _frame(program, _output_axes(program, root), active)
    found = _walk(program, [root.name], frame)
    reached = {root.name} | {c.target for cs in found.values() for c in cs}
    order = [i.var.name for i in reversed(program.instrs) if i.var.name in reached & active]
    seeds = {root.name: _seed(frame)}
    instrs = [instr for name in order for instr in _adjoint(name, seeds, found, order, frame)]
    uses = tuple(u for i in program.instrs if i.var.name in order for u in _use(i, frame))
    return Differentiated(program.extended(tuple(instrs)), output, uses)


@final
@dataclass(frozen=True, slots=True)
class Seeded:
    """A program with adjoints; the adjoint of a root starts with an input, `seeds[root]`.

    `adjoints[source]` is the sum over roots of seed * d root / d source; a source without one reaches no root.
    """

    program: Program
    seeds: Mapping[str, str]
    adjoints: Mapping[str, str]


def seeded(program: Program, roots: Sequence[str], sources: Sequence[str]) -> Seeded:
    """`program`, which has finite dimensions and no weights, with the adjoints of sources for seeds of roots.

    Raises TensorProgError when a nonlinearity on the way has no derivative.
    """
    frame = _frame(program, (), _between(program, sources, roots))
    found = _walk(program, roots, frame)
    order = [i.var.name for i in reversed(program.instrs) if i.var.name in found]
    variables = {r: replace(program.var(r), name=frame.fresh(f"seed.{r}"), named=False) for r in roots if r in found}
    seeds = {r: Term(v.name, Map(v.axes, identity(v.axes), identity(v.axes))) for r, v in variables.items()}
    given = tuple(Input(v.name, v.axes, None if v.dim is None else v.dim.size) for v in variables.values())
    instrs = [Instr(v, Data(v.name)) for v in variables.values()]
    instrs += [instr for name in order for instr in _adjoint(name, seeds, found, order, frame)]
    longer = replace(program.extended(tuple(instrs)), inputs=program.inputs + given)
    names = {r: v.name for r, v in variables.items()}
    return Seeded(longer, names, {s: frame.adjoints[s] for s in sources if s in found})


# ---------------------------------------------------------------- which families


def _active(program: Program, root: str) -> frozenset[str]:
    """The families that a trained weight reaches and that reach the output."""
    trained = [i.var.name for i in program.instrs if isinstance(i.op, MatMul) and _trained(program, i.op)]
    return _between(program, trained, [root])


def _between(program: Program, sources: Iterable[str], roots: Iterable[str]) -> frozenset[str]:
    """The families that sources reach and that reach a root, these themselves among them."""
    readers: dict[str, list[str]] = {}
    for instr in program.instrs:
        for name in operands(instr.op):
            readers.setdefault(name, []).append(instr.var.name)
    below = _reach(sources, lambda name: readers.get(name, ()))
    above = _reach(roots, lambda name: operands(program.instr(name).op))
    return frozenset(below & above)


def _trained(program: Program, op: MatMul) -> bool:
    weight = program.weight(op.weight)
    return weight.lr != ZERO and weight.variance != ZERO


def _reach(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    seen, waiting = set(start), list(start)
    while waiting:
        new = [name for name in following(waiting.pop()) if name not in seen]
        seen.update(new)
        waiting.extend(new)
    return seen


def _frame(program: Program, out: tuple[Axis, ...], active: frozenset[str]) -> Frame:
    taken = {i.var.name for i in program.instrs}
    frame = Frame(program, out, {}, active, taken)
    adjoints = {i.var.name: frame.fresh(f"d.{i.var.name}") for i in program.instrs if i.var.name in active}
    return Frame(program, frame.out, adjoints, active, taken)


def _output_axes(program: Program, root: Var) -> tuple[Axis, ...]:
    """The axes of the output under names that no index, size or width has."""
    taken = _names(program)
    axes = []
    for axis in root.axes:
        name = f"o_{axis.index}"
        while name in taken:
            name = f"o_{name}"
        taken.add(name)
        axes.append(Axis(name, axis.extent))
    return tuple(axes)


def _names(program: Program) -> set[str]:
    axes = [a for i in program.instrs for a in i.var.axes]
    for instr in program.instrs:
        if isinstance(instr.op, MatMul):
            axes.extend(instr.op.map.domain)
        if isinstance(instr.op, Linear):
            axes.extend(a for t in instr.op.terms for a in t.map.domain)
    widths = {w.name for w in program.widths}
    return widths.union(*({a.index} | symbols(a.extent) for a in axes))


# ---------------------------------------------------------------- the walk


def _walk(program: Program, roots: Iterable[str], frame: Frame) -> dict[str, list[Contribution]]:
    """What every reached family adds to others, from the roots on; families in program order."""
    found: dict[str, list[Contribution]] = {}
    waiting = [root for root in roots if root in frame.active]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = contributions(program.instr(name), frame)
            waiting.extend(c.target for c in found[name])
    return found


def _adjoint(
    name: str, seeds: Mapping[str, Term], found: dict[str, list[Contribution]], order: Sequence[str], frame: Frame
) -> list[Instr]:
    """The definition of one adjoint, which starts with its seed, after the helpers that only it reads."""
    var = frame.adjoint(name)
    parts = [c for reader in order for c in found[reader] if c.target == name]
    if len(parts) == 1 and isinstance(parts[0], Whole) and name not in seeds:
        return [Instr(var, parts[0].op)]
    scattered = [c if isinstance(c, Scatter) else _scattered(c, var, frame) for c in parts]
    terms = [seeds[name]] if name in seeds else []
    terms += [c.term for c in scattered]
    return [h for c in scattered for h in c.helpers] + [Instr(var, Linear(tuple(terms)))]


def _seed(frame: Frame) -> Term:
    """d f[o] / d f[i] = [o == i]."""
    return Term(None, Map(frame.out, frame.here + frame.here, ()))


def _scattered(part: Whole, var: Var, frame: Frame) -> Scatter:
    """A contribution that is a family of its own, as a term of a sum."""
    helper = replace(var, name=frame.fresh(f"{var.name}.{part.reader}"), named=False)
    same: tuple[Expr, ...] = tuple(Sym(a.index) for a in var.axes)
    return Scatter(part.target, Term(helper.name, Map(var.axes, same, same)), (Instr(helper, part.op),))


# ---------------------------------------------------------------- the uses


def _use(instr: Instr, frame: Frame) -> list[Use]:
    """d f[o] / d W[k] += coef * row (x) column, for g[t] += coef W[k] h[s] or g[t] += coef W[k].T y[s]."""
    op = instr.op
    if not (isinstance(op, MatMul) and _trained(frame.program, op)):
        return []
    gradient = (frame.adjoints[instr.var.name], frame.here + op.map.target)
    operand = (op.operand, op.map.source)
    row, col = gradient, operand
    if op.transposed and op.operand is not None:
        row, col = (op.operand, op.map.source), gradient
    domain = frame.out + op.map.domain
    return [Use(op.weight, op.windex, domain, frame.here, row[0], row[1], col[0], col[1], op.coef)]
