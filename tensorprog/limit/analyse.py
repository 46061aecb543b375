"""IR with gradients -> the program of the limit: the Z of every vector, to leading order in the width.

In the limit program every MatMul is a purely Gaussian family (its hat Z), dot Z terms are ordinary terms of
sums, coefficients no longer contain widths, and what vanishes with the width is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import final

from tensorprog.autodiff import differentiate
from tensorprog.elaborate.driver import reachable
from tensorprog.errors import Diagnostic, TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.domain import check_gradients
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import (
    Differentiated,
    Dim,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    Pointwise,
    Program,
    Term,
    Use,
    Var,
    identity,
)
from tensorprog.limit.asymptotics import Power
from tensorprog.limit.independence import Verdict, verdict
from tensorprog.limit.inners import check_inners
from tensorprog.limit.orders import Orders
from tensorprog.limit.responses import Derivatives, Response, needed
from tensorprog.limit.simplify import Renaming, simplify


@final
@dataclass(frozen=True, slots=True)
class TrainedWeight:
    """The NTK part of one weight: scale * sum over pairs of `uses` of E[row row'] E[col col'], times n^power."""

    weight: str
    uses: tuple[Use, ...]
    scale: Expr
    power: Fraction


@final
@dataclass(frozen=True)
class Limit:
    """The limit of one output of a program.

    `program` is the limit program.  `gains` gives for every MatMul the factor of its covariance,
    `Cov(g, g') = gain * E[h h']`; `inners` for every Inner the factor of E[u v] (or, where the scalar
    stays `random`, of the covariance E[u v u' v']).  `powers` are those of the finite quantities.
    """

    source: Program
    differentiated: Differentiated | None
    output: str
    program: Program
    powers: Mapping[str, Power]
    roles: Mapping[str, str]
    random: frozenset[str]
    gains: Mapping[str, Expr]
    inners: Mapping[str, Expr]
    trained: tuple[TrainedWeight, ...]
    responses: tuple[Response, ...]
    orders: Orders
    verdict: Verdict
    notes: tuple[Diagnostic, ...]
    ntk_error: TensorProgError | None

    @property
    def output_var(self) -> str:
        """The family of the output."""
        return self.program.output(self.output).var

    @property
    def is_vector(self) -> bool:
        """Whether the output is a vector, whose kernel is E[Z Z']."""
        return self.program.var(self.output_var).dim is not None


def analyse(program: Program, output: str | None = None, symbolic: bool = False) -> Limit:
    """The limit of an output (the only one when no name is given).

    `symbolic` keeps the ratios of the widths as symbols instead of the numbers of the program.
    Raises TensorProgError when there is no such output or the limit diverges.
    """
    name = choose_output(program, output)
    own = frozenset(i.var.name for i in program.instrs)
    if program.var(program.output(name).var).dim is not None:
        span, hint = program.output(name).span, "its kernel is E[Z Z']; for an NTK add a readout: dot(v, h)"
        missing = fail("a vector output has no NTK", span, hint)
        return _assemble(program, name, missing, *with_responses(split_means(program), symbolic))
    differentiated = differentiate(program, name)
    try:
        check_gradients(differentiated.program, own)
        limit = _assemble(program, name, differentiated, *with_responses(split_means(differentiated.program), symbolic))
        check_inners(limit.program, limit.orders, own)
    except TensorProgError as missing:  # of the forward pass too, or of the backward pass alone
        limit = _assemble(program, name, missing, *with_responses(split_means(program), symbolic))
        check_inners(limit.program, limit.orders, own)
    return limit


def choose_output(program: Program, output: str | None) -> str:
    """The name of the output that is meant."""
    names = [o.name for o in program.outputs]
    if output is None and len(names) > 1:
        raise fail(
            f"the program has several outputs: {', '.join(names)}", program.outputs[1].span, "choose one by its name"
        )
    if output is not None and output not in names:
        raise fail(f"the program has no output '{output}'", program.span, "it has " + ", ".join(names))
    return output or names[0]


def split_means(program: Program) -> Program:
    """Biases with a mean become their mean plus a centred Gaussian."""
    shifted = {w.name: w.mean for w in program.weights if w.mean != ex.ZERO}
    instrs: list[Instr] = []
    for i in program.instrs:
        if isinstance(i.op, MatMul) and i.op.weight in shifted and i.op.operand is None:
            centred, axes = replace(i.var, name=f"{i.var.name}.0", named=False), identity(i.var.axes)
            constant = Term(None, Map(i.var.axes, axes, axes), ex.mul(shifted[i.op.weight], i.op.coef))
            instrs.append(Instr(centred, i.op))
            instrs.append(Instr(i.var, Linear((Term(centred.name, Map(i.var.axes, axes, axes)), constant))))
        else:
            instrs.append(i)
    return replace(program, instrs=tuple(instrs), weights=tuple(replace(w, mean=ex.ZERO) for w in program.weights))


def with_responses(program: Program, symbolic: bool) -> tuple[Program, Orders, list[Response]]:
    """The program with every dot Z term that no symmetry removes; new terms can call for more."""
    orders = Orders(program, symbolic)
    pairs: list[tuple[str, str]] = []
    expanded, responses = program, list[Response]()
    while True:
        more = [p for p in needed(expanded, orders) if p not in pairs]
        if not more:
            return expanded, orders, responses
        pairs += more
        derivatives = Derivatives(program, [(program.instr(a), program.instr(b)) for a, b in pairs])
        expanded, responses = derivatives.run(), derivatives.responses
        orders = Orders(expanded, symbolic)


def _assemble(
    source: Program,
    name: str,
    backward: Differentiated | TensorProgError,
    program: Program,
    orders: Orders,
    responses: list[Response],
) -> Limit:
    """The limit with the NTK of the differentiated program, or with the reason why there is none."""
    notes: list[Diagnostic] = []
    differentiated = backward if isinstance(backward, Differentiated) else None
    trained, ntk_error = ((), backward) if isinstance(backward, TensorProgError) else trained_weights(backward, orders)
    out = program.output(name).var
    check_output(source, out, orders, trained, notes)
    if differentiated is not None and differentiated.uses and not trained and ntk_error is None:
        hint = "learning rates larger by a power of n make it of order 1"
        message = "no weight moves the output in the limit: the NTK is zero"
        notes.append(Diagnostic(message, source.span, hint, "warning"))
    roots = [out] + [n for t in trained for u in t.uses for n in (u.row, u.col) if n is not None]
    reduced = reachable(tuple(leading_instr(i, orders) for i in program.instrs), roots)
    scalar_rows = {u.row for t in trained for u in t.uses if program.var(u.row).dim is None}
    whole = replace(program, instrs=reduced, outputs=(program.output(name),))
    small, renaming = simplify(whole, frozenset([out, *scalar_rows]))
    trained = tuple(replace(t, uses=tuple(map(renaming.use, t.uses))) for t in trained)
    roots = [out] + [n for t in trained for u in t.uses for n in (u.row, u.col) if n is not None]
    reduced = reachable(small.instrs, roots)
    kept = {i.var.name for i in reduced}
    return Limit(
        source,
        differentiated,
        name,
        replace(small, instrs=reduced),
        {n: orders.of[n].power for n in kept},
        {i.var.name: role(i, orders) for i in reduced},
        frozenset(n for n in kept if program.var(n).dim is None and orders.of[n].random),
        {i.var.name: orders.gain(i).coef for i in reduced if isinstance(i.op, MatMul)},
        {i.var.name: inner_scale(i, orders) for i in reduced if isinstance(i.op, Inner)},
        trained,
        tuple(_renamed(r, renaming) for r in responses if r.coefficient in kept),
        orders,
        verdict(source, program, responses, backward),
        tuple(notes),
        ntk_error,
    )


def _renamed(response: Response, renaming: Renaming) -> Response:
    return replace(response, target=renaming.name(response.target), leaf=renaming.name(response.leaf))


def leading_instr(instr: Instr, orders: Orders) -> Instr:
    """The definition to leading order: coefficients without widths, vanishing terms dropped."""
    power = orders.of[instr.var.name].power
    op = instr.op
    if power is None:
        return Instr(instr.var, Linear(()))
    match op:
        case Linear(terms=terms):
            kept = (t for t in terms if orders.term_power(t) == power)
            return Instr(instr.var, Linear(tuple(replace(t, coef=orders.leading(t.coef).coef) for t in kept)))
        case Pointwise(fn=fn, args=args):
            op = prune(orders.leading_pointwise(instr, fn, args).coef, args)
            return Instr(instr.var, _multiple(instr.var, op, orders) or op)
        case MatMul():
            return Instr(instr.var, replace(op, coef=orders.leading(op.coef).coef))
        case _:
            return instr


def prune(fn: Expr, args: tuple) -> Pointwise:  # type: ignore[type-arg]
    """The nonlinearity with only those arguments that it still has."""
    used = [k for k in range(len(args)) if f"a{k}" in ex.symbols(fn)]
    renamed: dict[str, Expr] = {f"a{k}": ex.Sym(f"a{new}") for new, k in enumerate(used)}
    return Pointwise(ex.substitute(fn, renamed), tuple(args[k] for k in used))


def _multiple(var: Var, op: Pointwise, orders: Orders) -> Linear | None:
    """A product of a scalar that stays random with numbers and fixed scalars, as a multiple of the first."""
    random = [f"a{k}" for k, a in enumerate(op.args) if orders.of[a.var].random]
    factors = op.fn.args if isinstance(op.fn, ex.Op) and op.fn.fn == "mul" else (op.fn,)
    if var.dim is not None or len(random) != 1 or ex.Sym(random[0]) not in factors:
        return None
    reads = {f"a{k}": a for k, a in enumerate(op.args)}
    fixed = [f for f in factors if f != ex.Sym(random[0])]
    numbers = [f for f in fixed if not ex.symbols(f) & reads.keys()]
    scalars = tuple(reads[f.name] for f in fixed if isinstance(f, ex.Sym) and f.name in reads)
    if len(scalars) + len(numbers) < len(fixed):
        return None
    map_ = Map(var.axes, identity(var.axes), reads[random[0]].index)
    return Linear((Term(reads[random[0]].var, map_, ex.mul(*numbers), scalars),))


def inner_scale(instr: Instr, orders: Orders) -> Expr:
    """What E[u v] (deterministic) or E[u v u' v'] (random) is multiplied with."""
    assert isinstance(instr.op, Inner)
    dim = orders.program.var(instr.op.left.var).dim
    coef = orders.leading(instr.op.coef).coef
    if dim is None or not dim.wide:
        return coef
    length = orders.leading(dim.size).coef
    return ex.mul(coef, coef, length) if _fresh_random(instr, orders) else ex.mul(coef, length)


def _fresh_random(instr: Instr, orders: Orders) -> bool:
    order = orders.of[instr.var.name]
    return order.random and order.characters.offset != 0


def role(instr: Instr, orders: Orders) -> str:
    """The role in the papers' words."""
    order = orders.of[instr.var.name]
    if order.power is None:
        return "zero"
    if order.data:
        return "data"
    if instr.var.dim is None:
        return "random scalar" if order.random else "deterministic scalar"
    if isinstance(instr.op, MatMul):
        return "G-var"
    return "G-var" if isinstance(instr.op, Linear) and _gaussian(instr, orders, set()) else "H-var"


def _gaussian(instr: Instr, orders: Orders, path: set[str]) -> bool:
    """Whether the family is a linear combination of Gaussian ones."""
    if isinstance(instr.op, MatMul):
        return True
    if not isinstance(instr.op, Linear):
        return False
    path = path | {instr.var.name}
    inner = [o for t in instr.op.terms for o in (t.operand,) if o is not None and o not in path]
    scalars_fixed = all(not orders.of[s.var].random for t in instr.op.terms for s in t.scalars)
    return scalars_fixed and all(_gaussian(orders.program.instr(o), orders, path) for o in inner)


def check_output(
    source: Program, out: str, orders: Orders, trained: tuple[TrainedWeight, ...], notes: list[Diagnostic]
) -> None:
    """Raises TensorProgError when the output diverges, or vanishes together with its NTK."""
    power = orders.of[out].power
    instr = orders.program.instr(out)
    if power is not None and power > 0:
        what, readout = f"the output grows like n^{_text(power)}", orders.misscaled_readout(out)
        if readout is not None and orders.misscaled() is None:
            raise fail(f"{what}: {readout[1]}", readout[0].span, readout[2])
        raise orders.explain(instr, what)
    guilty = orders.misscaled(grows=False) or orders.misscaled_readout(out)
    if power is None or power < 0:
        how = "is zero" if power is None else f"vanishes like n^{_text(power)}"
        if not trained and power is not None and guilty is not None:
            weight, message, hint = guilty
            raise fail(f"the output {how} as the width grows: {message}", weight.span, hint)
        notes.append(
            Diagnostic(f"the output {how} as the width grows: its NNGP is zero", instr.var.span, severity="warning")
        )
    elif guilty is not None:
        weight, message, hint = guilty
        notes.append(Diagnostic(message, weight.span, hint, severity="warning"))


def _text(power: Fraction) -> str:
    return f"({power})" if power < 0 or power.denominator != 1 else str(power)


def trained_weights(diff: Differentiated, orders: Orders) -> tuple[tuple[TrainedWeight, ...], TensorProgError | None]:
    """The weights that move the output in the limit; an error instead when the NTK diverges."""
    parts = []
    for name in dict.fromkeys(u.weight for u in diff.uses):
        part = _trained(name, tuple(u for u in diff.uses if u.weight == name), diff.program, orders)
        if part is None:
            continue
        if part.power > 0:
            weight = diff.program.weight(name)
            error = fail(
                f"the NTK diverges: the part of '{name.split('.')[0]}' grows like n^{_text(part.power)}",
                weight.span,
                f"its learning rate must be smaller by n^{_text(part.power)}",
            )
            return (), error
        if part.power == 0:
            parts.append(part)
    return tuple(parts), None


def _trained(name: str, uses: tuple[Use, ...], program: Program, orders: Orders) -> TrainedWeight | None:
    weight = program.weight(name)
    rate = orders.leading(weight.lr, weight)
    powers = [_use_power(u, program, orders) for u in uses]
    top = max((p for p in powers if p is not None), default=None)
    if top is None or rate.power is None:
        return None
    kept = tuple(replace(u, coef=orders.leading(u.coef).coef) for u, p in zip(uses, powers, strict=True) if p == top)
    lengths = [_length(d, orders) for d in (weight.rows, weight.cols)]
    return TrainedWeight(name, kept, ex.mul(rate.coef, *lengths), rate.power + 2 * top)


def _length(dim: Dim | None, orders: Orders) -> Expr:
    """The length of a wide dimension over the first width; finite sums are taken as they are."""
    return orders.leading(dim.size).coef if dim is not None and dim.wide else ex.ONE


def _use_power(use: Use, program: Program, orders: Orders) -> Power:
    total: Power = orders.leading(use.coef).power
    for name in (use.row, use.col):
        if name is None:
            continue
        power, dim = orders.of[name].power, program.var(name).dim
        half = Fraction(1, 2) if dim is not None and dim.wide else Fraction(0)
        total = None if total is None or power is None else total + power + half
    return total
