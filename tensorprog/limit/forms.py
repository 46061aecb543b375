"""Quadratic forms of Gaussian families in the moments: which variables they are, and how powers of them factor out.

A *form* is q[i] = sum_j c_ij G[j]^2 over Gaussian families.  Powers of q and of q + number are positive, and positive
factors come out of positively homogeneous functions:

    max(a / s, 0) = max(a, 0) / s,    step(a / s) = step(a),    s > 0.

What is left are products of linear arguments, homogeneous functions of few Gaussian elements and powers of forms,
whose expectations `symbolic/forms.py` integrates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, ZERO, Expr, Num, Op, Sym
from tensorprog.ir.program import Axis, Linear, Pointwise, Program, Read
from tensorprog.symbolic.forms import Mixture

SQUARE = ex.power(Sym("a0"), ex.num(2))
KEEPING = frozenset(["max", "min", "abs"])
"""f(c a) = c f(a) for c > 0."""
FORGETTING = frozenset(["step", "sign"])
"""f(c a) = f(a) for c > 0."""


class NotHomogeneous(Exception):
    """A function from which the powers of forms do not come out."""


@final
@dataclass(frozen=True, slots=True)
class FormPower:
    """(scale * form + constant)^(-power)"""

    form: Read
    power: float
    scale: float
    constant: float


@final
@dataclass(frozen=True, slots=True)
class FormSide:
    """One run: the arguments of its function, those it is linear in, the power of its form.

    `degree`: the function and the linear arguments together are homogeneous of this degree.
    """

    axes: tuple[Axis, ...]
    args: tuple[Read, ...]
    linear: tuple[Read, ...]
    power: FormPower | None
    degree: int


@final
@dataclass(frozen=True, slots=True)
class QuadraticForms:
    """An expectation of few Gaussian elements and of whole Gaussian families, which enter through quadratic forms."""

    expectation: Mixture
    left: FormSide
    right: FormSide


def squared(program: Program, name: str, gaussian: Callable[[str], bool]) -> tuple[Read, ...] | None:
    """The elements G[..] of every term of a form sum c G^2, in the indices of the terms; None: it is no form."""
    instr = program.instr(name)
    if not isinstance(instr.op, Linear) or instr.var.dim is None or not instr.op.terms:
        return None
    found: list[Read] = []
    for term in instr.op.terms:
        inner = None if term.operand is None else program.instr(term.operand)
        if inner is None or term.scalars or not isinstance(inner.op, Pointwise) or inner.op.fn != SQUARE:
            return None
        (read,) = inner.op.args
        if not gaussian(read.var):
            return None
        back = dict(zip((a.index for a in inner.var.axes), term.map.source, strict=True))
        found.append(Read(read.var, tuple(ex.substitute(e, back) for e in read.index)))
    return tuple(found)


def has_free_axis(program: Program, name: str) -> bool:
    """Whether a sum runs over more than the indices of its variable."""
    op = program.instr(name).op
    return isinstance(op, Linear) and any(len(t.map.domain) > len(t.map.target) for t in op.terms)


# ---------------------------------------------------------------- positive factors


def positive_factor(e: Expr, forms: frozenset[str]) -> tuple[Expr, Expr]:
    """(c, rest) with e = c * rest, c > 0 made of powers of forms and numbers."""
    if _is_positive(e, forms):
        return e, ONE
    if not isinstance(e, Op):
        return ONE, e
    parts = [positive_factor(a, forms) for a in e.args]
    if e.fn == "mul":
        return _product(c for c, _ in parts), ex.mul(*(r for _, r in parts))
    if e.fn == "pow" and isinstance(e.args[1], Num):
        inner, rest = positive_factor(e.args[0], forms)
        return _power(inner, e.args[1]), ex.power(rest, e.args[1])
    common = _common([c for (c, _), a in zip(parts, e.args, strict=True) if a != ZERO])
    if common is None or e.fn not in KEEPING | FORGETTING | {"add"}:
        return ONE, e
    rests = tuple(ZERO if a == ZERO else r for (_, r), a in zip(parts, e.args, strict=True))
    return (ONE if e.fn in FORGETTING else common), ex.rebuild(e.fn, rests)


def _common(factors: list[Expr]) -> Expr | None:
    return factors[0] if factors and all(f == factors[0] for f in factors) else None


def _is_positive(e: Expr, forms: frozenset[str]) -> bool:
    if isinstance(e, Num):
        return e.value > 0
    if isinstance(e, Sym):
        return e.name in forms
    if e.fn == "pow":
        return isinstance(e.args[1], Num) and _is_positive(e.args[0], forms)
    return e.fn in ("add", "mul") and all(_is_positive(a, forms) for a in e.args)


def _product(factors: Iterable[Expr]) -> Expr:
    return ex.mul(*(_power(f, ONE) for f in factors))


def _power(e: Expr, exponent: Expr) -> Expr:
    """e^exponent for positive e: powers of powers are joined."""
    if isinstance(e, Op) and e.fn == "mul":
        return ex.mul(*(_power(a, exponent) for a in e.args))
    if isinstance(e, Op) and e.fn == "pow":
        return _power(e.args[0], ex.mul(e.args[1], exponent))
    return ex.power(e, exponent)


def form_power(positive: Expr, reads: dict[str, Read]) -> tuple[float, FormPower | None]:
    """The number and the negative power of one form that a positive factor is.  Raises NotHomogeneous."""
    number, found = 1.0, []
    for factor in positive.args if isinstance(positive, Op) and positive.fn == "mul" else (positive,):
        if isinstance(factor, Num):
            number *= float(factor.value)
            continue
        base, exponent = factor.args if isinstance(factor, Op) and factor.fn == "pow" else (factor, ONE)
        found.append(_form_power(base, exponent, reads))
    if len(found) > 1:
        raise NotHomogeneous
    return number, found[0] if found else None


def _form_power(base: Expr, exponent: Expr, reads: dict[str, Read]) -> FormPower:
    names = sorted(ex.symbols(base))
    if not isinstance(exponent, Num) or exponent.value >= 0 or len(names) != 1:
        raise NotHomogeneous
    at = [ex.substitute(base, {names[0]: ex.num(v)}) for v in (0, 1, 2)]
    if not all(isinstance(v, Num) for v in at):
        raise NotHomogeneous
    zero, one, two = (float(v.value) for v in at if isinstance(v, Num))
    if abs(two - 2 * one + zero) > 1e-15 * abs(two):
        raise NotHomogeneous
    return FormPower(reads[names[0]], -float(exponent.value), one - zero, zero)


# ---------------------------------------------------------------- the rest


def split_linear(e: Expr, atoms: Iterable[str]) -> tuple[Expr, tuple[str, ...]]:
    """(f, names): e = f * the product of the names, which do not occur in f; a step times its argument is a maximum."""
    factors = list(e.args) if isinstance(e, Op) and e.fn == "mul" else [e]
    linear: list[str] = []
    for name in atoms:
        meeting = [f for f in factors if name in ex.symbols(f)]
        if Sym(name) not in meeting:
            continue
        factors = [f for f in factors if f not in meeting]
        if len(meeting) == 1:
            linear.append(name)
        else:
            meeting.remove(Sym(name))
            factors.append(_times(Sym(name), ex.mul(*meeting)))
    return ex.mul(*factors), tuple(linear)


def _times(name: Sym, e: Expr) -> Expr:
    """name * e with name * step(name) = max(name, 0), so that it has derivatives."""
    if isinstance(e, Op) and e.fn == "add":
        return ex.add(*(_times(name, a) for a in e.args))
    factors = list(e.args) if isinstance(e, Op) and e.fn == "mul" else [e]
    for sign, fn in ((ONE, "max"), (ex.MINUS_ONE, "min")):
        gate = Op("step", (ex.mul(sign, name),))
        if gate in factors:
            factors.remove(gate)
            return ex.mul(ex.call(fn, name, ZERO), *factors)
    return ex.mul(name, e)


def degree(e: Expr) -> int:
    """The degree of a positively homogeneous expression.  Raises NotHomogeneous for others."""
    if isinstance(e, Sym):
        return 1
    if isinstance(e, Num):
        return 0
    if e.fn == "pow" and isinstance(e.args[1], Num) and e.args[1].value == int(e.args[1].value) > 0:
        return int(e.args[1].value) * degree(e.args[0])
    degrees = [degree(a) for a in e.args if a != ZERO]
    if e.fn == "mul":
        return sum(degrees)
    if e.fn in KEEPING | FORGETTING | {"add"} and len(set(degrees)) == 1:
        return 0 if e.fn in FORGETTING else degrees[0]
    raise NotHomogeneous
