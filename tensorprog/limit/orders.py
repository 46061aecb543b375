"""Order of magnitude and sign symmetry of every variable: one walk over the program, repeated in loops.

MatMul   W h           power(h) + (power of Var(W) * length of h) / 2
Linear   sum of terms  the largest power; terms of a lower one vanish in the limit
Inner    <u, v>        power(u) + power(v) + 1, or + 1/2 where the mean vanishes by symmetry: a Gaussian scalar
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from tensorprog.errors import TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr
from tensorprog.ir.program import Data, Inner, Instr, Linear, MatMul, MaxOver, Pointwise, Program, Read, Term, Weight
from tensorprog.ir.schedule import components
from tensorprog.limit.asymptotics import Diverges, Leading, Power, leading, leading_function, ratios
from tensorprog.limit.parity import CONSTANT, Characters, function_characters

MAX_ROUNDS = 24


@final
@dataclass(frozen=True, slots=True)
class Order:
    """A variable is Z * n^power (None: zero); `characters` are its sign symmetries.

    `random` marks scalars that stay random in the limit, and `data` what is known from the inputs alone.
    """

    power: Power
    characters: Characters = CONSTANT
    random: bool = False
    data: bool = False


NOTHING = Order(None)


class Orders:
    """The orders of all variables of a program."""

    def __init__(self, program: Program, symbolic: bool = False) -> None:
        self.program = program
        self.ratios = ratios(program, symbolic)
        self.groups: dict[str, int] = {}
        self.of: dict[str, Order] = {i.var.name: NOTHING for i in program.instrs}
        for group in components(program.instrs):
            self._settle(group)

    def _settle(self, group: list[Instr]) -> None:
        for _ in range(MAX_ROUNDS):
            before = [self.of[i.var.name] for i in group]
            for instr in group:
                self.of[instr.var.name] = self._order(instr)
            if before == [self.of[i.var.name] for i in group]:
                return
        worst = max(group, key=lambda i: self.of[i.var.name].power or Fraction(-99))
        raise self.explain(worst, f"'{plain(worst)}' grows with the width in every iteration of its loop")

    def _order(self, instr: Instr) -> Order:
        op = instr.op
        match op:
            case Data():
                return Order(Fraction(0), data=True)
            case MatMul():
                return self._matmul(instr, op)
            case Linear(terms=terms):
                return self._linear(terms)
            case Pointwise(fn=fn, args=args):
                return self._pointwise(instr, fn, args)
            case MaxOver(operand=h):
                inner = self.of[h]
                return Order(inner.power, inner.characters.any(), inner.random, inner.data)
            case Inner(left=u, right=v, coef=coef):
                return self._inner(instr, u, v, coef)

    def group(self, name: str) -> int:
        """The bit of a group of Gaussian variables."""
        return 1 << self.groups.setdefault(name, len(self.groups))

    def gain(self, instr: Instr) -> Leading:
        """Var(W) times the length of the operand: Cov(hat Z^{Wh}, hat Z^{Wh'}) = gain * E[Z^h Z^h']."""
        op = instr.op
        assert isinstance(op, MatMul)
        weight = self.program.weight(op.weight)
        length = (weight.rows if op.transposed else weight.cols) if op.operand is not None else None
        size = ex.ONE if length is None or not length.wide else length.size
        return self.leading(ex.mul(weight.variance, size), weight)

    def leading(self, e: Expr, weight: Weight | None = None) -> Leading:
        """The leading order of a size expression in the widths."""
        try:
            return leading(e, self.ratios)
        except ValueError as error:
            raise fail(
                f"'{error}' is not a power of the width",
                weight.span if weight else None,
                "write variances and rates as powers, for example sw^2 / n",
            ) from None

    def _matmul(self, instr: Instr, op: MatMul) -> Order:
        operand = Order(Fraction(0)) if op.operand is None else self.of[op.operand]
        gain, weight = self.gain(instr), self.program.weight(op.weight)
        coef = self.leading(op.coef)
        name = f"{op.weight}{'.T' if op.transposed else ''}"
        scalar = instr.var.dim is None
        if operand.power is None or gain.power is None or coef.power is None:
            power: Power = None
        else:
            power = operand.power + gain.power / 2 + coef.power
        characters = Characters(self.group(name))
        mean = self.leading(weight.mean, weight)
        if mean.power is not None and op.operand is None:
            power = mean.power if power is None else max(power, mean.power)
            characters = characters.any()
        return Order(power, characters, random=scalar and power is not None)

    def term_power(self, term: Term) -> Power:
        """The power of one term of a sum."""
        total = self.leading(term.coef).power
        for name in [*(s.var for s in term.scalars), *([term.operand] if term.operand else [])]:
            power = self.of[name].power
            total = None if total is None or power is None else total + power
        return total

    def _linear(self, terms: tuple[Term, ...]) -> Order:
        powers = [self.term_power(t) for t in terms]
        top = max((p for p in powers if p is not None), default=None)
        if top is None:
            return NOTHING
        kept = [t for t, p in zip(terms, powers, strict=True) if p == top]
        parts = [self._term_characters(t) for t in kept]
        characters = parts[0]
        for p in parts[1:]:
            characters = characters.plus(p)
        orders = [self.of[n] for t in kept for n in [*(s.var for s in t.scalars), *([t.operand] if t.operand else [])]]
        return Order(top, characters, any(o.random for o in orders), bool(orders) and all(o.data for o in orders))

    def _term_characters(self, term: Term) -> Characters:
        result = CONSTANT if term.operand is None else self.of[term.operand].characters
        for s in term.scalars:
            result = result.times(self.of[s.var].characters)
        return result

    def _pointwise(self, instr: Instr, fn: Expr, args: tuple[Read, ...]) -> Order:
        orders = {f"a{k}": self.of[a.var] for k, a in enumerate(args)}
        lead = self.leading_pointwise(instr, fn, args)
        if lead.power is None:
            return NOTHING
        characters = function_characters(lead.coef, {k: o.characters for k, o in orders.items()})
        used = [o for k, o in orders.items() if k in ex.symbols(lead.coef)]
        return Order(lead.power, characters, any(o.random for o in used), bool(used) and all(o.data for o in used))

    def leading_pointwise(self, instr: Instr, fn: Expr, args: tuple[Read, ...]) -> Leading:
        """The nonlinearity to leading order in its arguments."""
        powers: Mapping[str, Power] = {f"a{k}": self.of[a.var].power for k, a in enumerate(args)}
        try:
            return leading_function(fn, powers, self.ratios)
        except Diverges as error:
            raise self.explain(instr, f"an argument of {error.fn} grows like n^{_power(error.power)}") from None

    def _inner(self, instr: Instr, u: Read, v: Read | None, coef: Expr) -> Order:
        factor, left = self.leading(coef).power, self.of[u.var]
        right = Order(Fraction(0), data=left.data) if v is None else self.of[v.var]
        dim = self.program.var(u.var).dim
        if factor is None or left.power is None or right.power is None:
            return NOTHING
        power = factor + left.power + right.power
        if dim is None or not dim.wide:
            return Order(power, CONSTANT, data=True)
        characters = left.characters.times(right.characters)
        if characters.has_mean:
            return Order(power + 1, CONSTANT, left.random or right.random)
        name = f"<{instr.var.name}>"
        return Order(power + Fraction(1, 2), Characters(self.group(name)), random=True)

    # ------------------------------------------------------------ messages

    def explain(self, instr: Instr, what: str) -> TensorProgError:
        """The error for something that grows or vanishes, at the weight that is scaled wrongly if one is."""
        guilty = self.misscaled()
        if guilty is not None:
            weight, message, hint = guilty
            return fail(f"{what}: {message}", weight.span, hint)
        return fail(f"the limit does not exist: {what}", instr.var.span, "rescale it by a power of the width")

    def misscaled(self, grows: bool = True) -> tuple[Weight, str, str] | None:
        """A weight whose products do not stay of order 1, with the power it has and the power it needs."""
        for instr in self.program.instrs:
            if not isinstance(instr.op, MatMul) or instr.op.transposed or (instr.op.operand is None and not grows):
                continue
            gain = self.gain(instr).power
            if gain is not None and (gain > 0) == grows and gain != 0:
                weight = self.program.weight(instr.op.weight)
                has = self.leading(weight.variance, weight).power or Fraction(0)
                needs = has - gain
                verb = "grow" if grows else "vanish"
                return (
                    weight,
                    f"the variance of '{weight.name.split('.')[0]}' is of order {_order(has)}, so its products "
                    f"{verb} like n^{_power(gain / 2)}",
                    f"a variance of order {_order(needs)} keeps them of order 1",
                )
        return None

    def misscaled_readout(self, output: str) -> tuple[Weight, str, str] | None:
        """A weight vector whose inner product with a vector of order 1 makes the output grow or vanish."""
        waiting, seen = [output], {output}
        while waiting:
            instr = self.program.instr(waiting.pop())
            if isinstance(instr.op, Linear):
                plain_terms = [t for t in instr.op.terms if self.leading(t.coef).power == 0]
                new = {t.operand for t in plain_terms if t.operand is not None} - seen
                waiting, seen = waiting + sorted(new), seen | new
            elif isinstance(instr.op, Inner) and instr.op.right is not None and self.leading(instr.op.coef).power == 0:
                power, reads = self.of[instr.var.name].power, (instr.op.left.var, instr.op.right.var)
                for name, other in (reads, reads[::-1]):
                    op = self.program.instr(name).op
                    if power and isinstance(op, MatMul) and op.operand is None and not self.of[other].power:
                        return self._readout_fault(self.program.weight(op.weight), power)
        return None

    def _readout_fault(self, weight: Weight, power: Fraction) -> tuple[Weight, str, str]:
        has = self.leading(weight.variance, weight).power or Fraction(0)
        return (
            weight,
            f"the variance of '{weight.name.split('.')[0]}' is of order {_order(has)}, so its inner product "
            f"{'grows' if power > 0 else 'vanishes'} like n^{_power(power)}",
            f"a variance of order {_order(has - 2 * power)} keeps it of order 1",
        )


def plain(instr: Instr) -> str:
    """The name of a variable as the user wrote it."""
    name = instr.var.name
    return name.removeprefix("d.").split(".")[0]


def _power(power: Fraction) -> str:
    return str(power) if power.denominator == 1 and power >= 0 else f"({power})"


def _order(power: Fraction) -> str:
    return "1" if power == 0 else f"n^{_power(power)}"
