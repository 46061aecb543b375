"""The limit as a system of equations over pairs of runs and indices, for people to read.

    E[h[t] h'[s]] = E[W_s[t] W_s'[s]] + E[U_x[t] U_x'[s]] + E[b b']

Primes mark the second run.  The system is what `evaluate` computes, found by the same rules from the output
backwards, but for indices as symbols.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Op, Sym, show
from tensorprog.ir.program import Axis, Inner, Instr, Linear, MatMul, Program, Read, Term, Use, identity
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Gaussian, MeanOf, MomentOf, Moments, Product, Side, Unservable


@final
@dataclass(frozen=True, slots=True)
class Equation:
    """left = right, and a remark."""

    left: str
    right: str
    remark: str = ""


@final
@dataclass(frozen=True, slots=True)
class Derivation:
    """The equations of the kernels of one output, in the order in which they are computed."""

    forward: tuple[Equation, ...]
    scalars: tuple[Equation, ...]
    backward: tuple[Equation, ...]
    nngp: Equation | None
    ntk: tuple[Equation, ...]


def derive(limit: Limit) -> Derivation:
    """The system of equations of a limit."""
    writer = _Writer(limit)
    nngp = writer.output() if limit.is_vector or limit.output_var in limit.random else None
    scalars = tuple(writer.scalar(i) for i in limit.program.instrs if writer.is_number(i))
    forward = writer.drain()
    ntk = tuple(writer.trained(k) for k in range(len(limit.trained)))
    backward = writer.drain()
    return Derivation(tuple(forward), scalars, tuple(backward), nngp, ntk)


@dataclass
class _Writer:
    """Writes equations and remembers which moments they call for."""

    limit: Limit
    done: set[tuple[str, str]] = field(default_factory=set)
    waiting: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.moments = Moments(self.limit)
        self.program = self.limit.program

    def drain(self) -> list[Equation]:
        """The equations of everything that was called for, operands first."""
        found = []
        while self.waiting:
            found.append(self.equation(*self.waiting.pop(0)))
        return found[::-1]

    # ------------------------------------------------------------ names

    def moment(self, u: str, i: tuple[Expr, ...], v: str, j: tuple[Expr, ...]) -> str:
        """E[u[i] v'[j]], to be explained by an equation of its own."""
        if self.moments.vanishes(u, v):
            return "0"
        if self._is_data(u):
            return f"<{_element(u, i)}, {_element(v + chr(39), j)}>"
        if (u, v) not in self.done:
            self.done.add((u, v))
            self.waiting.append((u, v))
        return f"E[{_element(u, i)} {_element(v + chr(39), j)}]"

    def mean(self, u: str, i: tuple[Expr, ...], prime: str) -> str:
        """E[u[i]]"""
        return f"E[{_element(u + prime, i)}]"

    def _is_data(self, name: str) -> bool:
        dim = self.program.var(name).dim
        return dim is not None and not dim.wide

    # ------------------------------------------------------------ equations

    def equation(self, u: str, v: str) -> Equation:
        """E[u v'] by the rule that applies."""
        a, b = self.program.instr(u), self.program.instr(v)
        i, j = identity(a.var.axes), primed(identity(b.var.axes), b.var.axes)
        left = f"E[{_element(u, i)} {_element(v + chr(39), j)}]"
        if isinstance(a.op, Linear) and isinstance(b.op, Linear) and len(b.op.terms) > 1:
            return Equation(left, self._sum(a, a.op, lambda name, at: self._against_sum(name, at, b), False))
        if isinstance(a.op, Linear):
            return Equation(left, self._sum(a, a.op, lambda name, at: self._pair(name, at, v, j), False))
        if isinstance(b.op, Linear):
            return Equation(left, self._sum(b, b.op, lambda name, at: self._pair(u, i, name, at), True))
        if isinstance(a.op, MatMul) and isinstance(b.op, MatMul):
            return self._shared(left, a, b)
        try:
            products = self.moments.product(u, v)
        except Unservable as reason:
            return Equation(left, "by sampling", str(reason))
        tiers = sorted({g.expectation.tier for p in products for g in p.groups if isinstance(g, Gaussian)})
        return Equation(left, " + ".join(self._product(p) for p in products) or "0", ", ".join(tiers))

    def _against_sum(self, u: str | None, i: tuple[Expr, ...], b: Instr) -> str:
        """E[u b'] with the sum b written out."""
        assert isinstance(b.op, Linear)
        text = self._sum(b, b.op, lambda name, at: self._pair(u, i, name, at), True)
        return f"({text})" if " + " in text else text

    def _pair(self, u: str | None, i: tuple[Expr, ...], v: str | None, j: tuple[Expr, ...]) -> str:
        if u is None:
            return self.mean(v or "", j, "'")
        if v is None:
            return self.mean(u, i, "")
        return self.moment(u, i, v, j)

    def _sum(self, instr: Instr, op: Linear, pair, prime: bool) -> str:  # type: ignore[no-untyped-def]
        parts = [self._term(t, instr, pair, prime) for t in op.terms]
        return " + ".join(p for p in parts if p) or "0"

    def _term(self, term: Term, instr: Instr, pair, prime: bool) -> str:  # type: ignore[no-untyped-def]
        back, free, conditions = solve(term.map.target, term.map.domain, instr.var.axes)
        source = tuple(ex.substitute(e, back) for e in term.map.source) if term.operand is not None else ()
        coef = ex.substitute(term.coef, back)
        index = [tuple(ex.substitute(e, back) for e in s.index) for s in term.scalars]
        if prime:
            axes = instr.var.axes + free
            source, coef = primed(source, axes), primed((coef,), axes)[0]
            index = [primed(e, axes) for e in index]
            conditions = list(primed(tuple(conditions), axes))
            free = tuple(Axis(a.index + "'", a.extent) for a in free)
        inner = pair(term.operand, source)
        if inner == "0":
            return ""
        factors = [] if coef == ONE else [_wrapped(coef)]
        factors += [_element(s.var + ("'" if prime else ""), e) for s, e in zip(term.scalars, index, strict=True)]
        factors += [_condition(c) for c in conditions]
        return _over(free) + " * ".join([*factors, inner])

    def _shared(self, left: str, a: Instr, b: Instr) -> Equation:
        """gain * sum over the taps of E[h h']."""
        assert isinstance(a.op, MatMul) and isinstance(b.op, MatMul)
        gain = show(ex.mul(self.limit.gains[a.var.name], a.op.coef, b.op.coef))
        if a.op.operand is None or b.op.operand is None:
            return Equation(left, gain, f"weight {a.op.weight}")
        back, free, conditions = solve(a.op.map.target, a.op.map.domain, a.var.axes)
        i = tuple(ex.substitute(e, back) for e in a.op.map.source)
        other, _, _ = solve(b.op.map.target, b.op.map.domain, b.var.axes)
        own = {x.index for x in b.var.axes}
        j = tuple(
            primed((ex.substitute(e, other),), tuple(x for x in b.var.axes if x.index in own))[0]
            for e in b.op.map.source
        )
        inner = self.moment(a.op.operand, i, b.op.operand, j)
        factor = "" if gain == "1" else f"{gain} * "
        return Equation(
            left,
            f"{factor}{_over(free)}{''.join(f'{_condition(c)} * ' for c in conditions)}{inner}",
            f"weight {a.op.weight}",
        )

    def _product(self, p: Product) -> str:
        parts = [_wrapped(self._named(p.left, "")), _wrapped(self._named(p.right, "'"))]
        parts = [x for x in parts if x != "1"]
        for g in p.groups:
            if isinstance(g, MomentOf):
                j = primed(g.right.index, p.right.axes)
                parts.append(self.moment(g.left.var, g.left.index, g.right.var, j))
            elif isinstance(g, MeanOf):
                prime = "" if g.side == "left" else "'"
                parts.append(
                    self.mean(g.read.var, g.read.index if not prime else primed(g.read.index, p.right.axes), prime)
                )
            else:
                parts.append(self._gaussian(g, p))
        return " * ".join(parts) or "1"

    def _named(self, side: Side, prime: str) -> Expr:
        """The factor of a side with its elements by name."""
        names: dict[str, Expr] = {}
        for symbol, read in side.reads.items():
            index = primed(read.index, side.axes) if prime else read.index
            names[symbol] = Sym(_element(read.var + prime, index))
        return ex.substitute(side.fn, names)

    def _gaussian(self, g: Gaussian, p: Product) -> str:
        request = g.expectation.request
        names: dict[str, Expr] = {}
        for k, r in enumerate(g.left):
            names[f"l{k}"] = Sym(_element(r.var, r.index))
        for k, r in enumerate(g.right):
            names[f"r{k}"] = Sym(_element(r.var + "'", primed(r.index, p.right.axes)))
        for symbol, where, what in g.params:
            prime = "" if where == "left" else "'"
            names[symbol] = Sym(_element(what.var + prime, what.index)) if isinstance(what, Read) else what
        for a in g.left:
            for b in g.right:
                self.moment(a.var, a.index, b.var, primed(b.index, p.right.axes))
        sides = [show(ex.substitute(f, names)) for f in (request.left, request.right) if f != ONE]
        return f"E[{' * '.join(f'({s})' if ' + ' in s and len(sides) > 1 else s for s in sides)}]"

    # ------------------------------------------------------------ results

    def is_number(self, instr: Instr) -> bool:
        """Whether an inner product of the forward pass becomes deterministic."""
        forward = any(i.var.name == instr.var.name for i in self.limit.source.instrs) or instr.var.name.startswith("R.")
        wide = isinstance(instr.op, Inner) and not self._is_data(instr.op.left.var)
        return wide and forward and instr.var.name not in self.limit.random

    def scalar(self, instr: Instr) -> Equation:
        """A deterministic scalar as a mean on one run."""
        op = instr.op
        assert isinstance(op, Inner)
        left, u = _element(instr.var.name, identity(instr.var.axes)), _element(op.left.var, op.left.index)
        if op.right is None:
            inner = f"E[{u}]"
        else:
            inner = f"E[{u} {_element(op.right.var, op.right.index)}]"
            self.moment(op.left.var, op.left.index, op.right.var, op.right.index)
        scale = self.limit.inners[instr.var.name]
        return Equation(left, inner if scale == ONE else f"{show(scale)} * {inner}")

    def output(self) -> Equation:
        """The NNGP kernel of the output."""
        instr = self.program.instr(self.limit.output_var)
        i, j = identity(instr.var.axes), primed(identity(instr.var.axes), instr.var.axes)
        left = f"NNGP{_index((*i, *j))}"
        if self.limit.is_vector:
            return Equation(left, self.moment(instr.var.name, i, instr.var.name, j))
        return Equation(left, self._covariance(instr))

    def _covariance(self, instr: Instr) -> str:
        op = instr.op
        if (
            isinstance(op, Linear)
            and len(op.terms) == 1
            and op.terms[0].operand is not None
            and op.terms[0].coef == ONE
        ):
            return self._covariance(self.program.instr(op.terms[0].operand))
        if isinstance(op, Inner):
            scale = self.limit.inners[instr.var.name]
            products = self.moments.expectation(
                self.moments.inner(instr.var.name, "l"), self.moments.inner(instr.var.name, "r")
            )
            factor = "" if scale == ONE else f"{show(scale)} * "
            return factor + " + ".join(self._product(p) for p in products)
        name = _element(instr.var.name, identity(instr.var.axes))
        if isinstance(op, Linear):
            for t in op.terms:
                if t.operand is not None:
                    inner = self.program.instr(t.operand)
                    if isinstance(inner.op, Inner):
                        self._covariance(inner)
        return f"Cov({name}, {name}')"

    def trained(self, k: int) -> Equation:
        """The part of the NTK of one weight."""
        part = self.limit.trained[k]
        twins = [twin(self.program, u) for u in part.uses]
        scale = part.scale
        if all(t is not None for t in twins):
            scale = ex.div(scale, self.limit.gains[twins[0] or ""])
        pairs = [
            self._use_pair(a, b, s, t)
            for a, s in zip(part.uses, twins, strict=True)
            for b, t in zip(part.uses, twins, strict=True)
        ]
        factor = "" if scale == ONE else f"{show(scale)} * "
        text = " + ".join(p for p in pairs if p) or "0"
        return Equation(part.weight, f"{factor}({text})" if factor and len(pairs) > 1 else factor + text)

    def _use_pair(self, a: Use, b: Use, s: str | None, t: str | None) -> str:
        """E[row row'] times the sum of E[col col'] over taps, which is the moment of the products themselves."""
        if s is not None and t is not None:
            both_axes = self.program.var(a.row).axes, self.program.var(b.row).axes
            i, j = identity(both_axes[0]), primed(identity(both_axes[1]), both_axes[1])
            row, col = self.moment(a.row, i, b.row, j), self.moment(s, i, t, j)
            both = both_axes[0] + tuple(Axis(x.index + "'", x.extent) for x in both_axes[1])
            return "" if "0" in (row, col) else _over(both) + f"{row} * {col}"
        axes = b.domain
        row = (
            self.moment(a.row, a.row_index, b.row, primed(b.row_index, axes))
            if self.program.var(a.row).dim is not None
            else "1"
        )
        if row == "0":
            return ""
        parts = [row] if row != "1" else []
        if a.col is not None and b.col is not None:
            parts.append(self.moment(a.col, a.col_index, b.col, primed(b.col_index, axes)))
        tied = [f"[{show(x)} = {show(y)}]" for x, y in zip(a.windex, primed(b.windex, axes), strict=True)]
        both = a.domain + tuple(Axis(x.index + "'", x.extent) for x in b.domain)
        return _over(both) + " * ".join([*tied, *parts]) if parts else "1"


def twin(program: Program, use: Use) -> str | None:
    """The matrix product g = W h whose gradient dg (x) h a use is."""
    for i in program.instrs:
        op = i.op
        if (
            isinstance(op, MatMul)
            and use.col is not None
            and (op.weight, op.operand, op.windex) == (use.weight, use.col, use.windex)
            and (op.map.domain, op.map.target, op.map.source) == (use.domain, use.row_index, use.col_index)
            and op.coef == use.coef
            and not use.out
        ):
            return i.var.name
    return None


def solve(
    target: tuple[Expr, ...], domain: tuple[Axis, ...], axes: tuple[Axis, ...]
) -> tuple[dict[str, Expr], tuple[Axis, ...], list[Expr]]:
    """The domain's indices in those of the result; the free ones that are summed; conditions that remain."""
    back: dict[str, Expr] = {}
    conditions: list[Expr] = []
    for axis, e in zip(axes, target, strict=True):
        free = [a.index for a in domain if a.index in ex.symbols(e) and a.index not in back]
        free = [f for f in free if f not in ex.symbols(ex.add(e, ex.neg(Sym(f))))]
        if free:
            back[free[0]] = ex.add(Sym(axis.index), ex.neg(ex.add(e, ex.neg(Sym(free[0])))))
        else:
            conditions.append(ex.call("eq", ex.substitute(e, back), Sym(axis.index)))
    return back, tuple(a for a in domain if a.index not in back), conditions


def _condition(e: Expr) -> str:
    """[a = b], 1 where it holds and else 0."""
    return f"[{show(e.args[0])} = {show(e.args[1])}]" if isinstance(e, Op) and e.fn == "eq" else show(e)


def primed(index: tuple[Expr, ...], axes: tuple[Axis, ...]) -> tuple[Expr, ...]:
    """Index expressions of the second run."""
    names: dict[str, Expr] = {a.index: Sym(a.index + "'") for a in axes}
    return tuple(ex.substitute(e, names) for e in index)


def _element(name: str, index: tuple[Expr, ...]) -> str:
    return f"{name}{_index(index)}"


def _index(index: tuple[Expr, ...]) -> str:
    return f"[{', '.join(show(e) for e in index)}]" if index else ""


def _over(axes: tuple[Axis, ...]) -> str:
    return f"sum({', '.join(f'{a.index} < {show(a.extent)}' for a in axes)}) " if axes else ""


def _wrapped(e: Expr) -> str:
    text = show(e)
    return f"({text})" if " + " in text or " - " in text else text
