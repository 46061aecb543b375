"""Limit -> equations of moments, means and scalars, by the rules of `limit.moments`.

    E[h[t] h'[s']] = E[W_s[t] W_s'[s']] + E[U_x[t] U_x'[s']] + E[b b']

Each equation is written once, for generic indices: those of the first run by name, those of the second with a prime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tensorprog.derivation.algebra import add, function, product, total
from tensorprog.derivation.entangled import Entangled
from tensorprog.derivation.keys import Key, references
from tensorprog.derivation.notation import (
    ONE,
    ZERO,
    Element,
    Equation,
    Expectation,
    Function,
    Gram,
    Largest,
    Mean,
    Moment,
    Node,
    Scalar,
)
from tensorprog.derivation.relations import Index, Names, Solved, extents, guarded, meet, primed, run, solve, whole
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym
from tensorprog.ir.program import (
    Axis,
    Inner,
    Instr,
    Linear,
    MatMul,
    MaxOver,
    Pointwise,
    Read,
    Term,
    identity,
)
from tensorprog.limit.analyse import Limit
from tensorprog.limit.forms import QuadraticForms
from tensorprog.limit.moments import SUM_INSIDE, Gaussian, MeanOf, MomentOf, Moments, Side, Unservable
from tensorprog.limit.moments import Product as Groups

Pair = Callable[[str | None, Index], Node]
MOST_ENTANGLED = 3
"""Gaussian variables in one nonlinear function beyond which an equation is not worth reading."""
SUM_OF_SAMPLED = "a sum over sampled moments"
SQUARE = ex.power(Sym("l0"), ex.num(2))


class Writer:
    """Writes equations and remembers which others they call for."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.program = limit, limit.program
        self.moments = Moments(limit)
        self.entangled = Entangled(limit)
        self.place = {i.var.name: k for k, i in enumerate(limit.program.instrs)}
        self.equations: dict[Key, Equation] = {}
        self.waiting: list[Key] = []
        self.asked: set[Key] = set()
        self.sampled: dict[Key, str] = {}
        self.sizes = frozenset(w.name for w in limit.source.widths).union(
            *(ex.symbols(a.extent) for i in self.program.instrs for a in i.var.axes)
        )

    def run(self) -> None:
        """Write the equations of everything that is called for."""
        while self.waiting:
            key = self.waiting.pop(0)
            try:
                self.equations[key] = getattr(self, f"_write_{key[0]}")(*key[1:])
            except Unservable as reason:
                self.sampled[key] = str(reason)
        self._spread()

    def _spread(self) -> None:
        """A sum over something that is sampled is sampled itself; a product with a matrix keeps its rule."""
        while True:
            sums = [(k, e) for k, e in self.equations.items() if self._is_sum(k)]
            new = [k for k, e in sums if self.sampled.keys() & set(references(e.right))]
            if not new:
                return
            for key in new:
                del self.equations[key]
                self.sampled[key] = SUM_OF_SAMPLED

    def _is_sum(self, key: Key) -> bool:
        return key[0] != "scalar" and any(isinstance(self.program.instr(n).op, Linear) for n in key[1:])

    def _ask(self, *key: str) -> None:
        if key not in self.asked:
            self.asked.add(key)
            self.waiting.append(key)

    # ------------------------------------------------------------ references

    def moment(self, u: str, i: Index, v: str, j: Index, primes: tuple[bool, bool] = (False, True)) -> Node:
        """E[u[i] v'[j]]"""
        if self.moments.vanishes(u, v):
            return ZERO
        left, right = Element(u, i, primes[0]), Element(v, j, primes[1])
        if self._is_data(u):
            return Gram(left, right)
        self._ask("moment", u, v)
        return Moment(left, right)

    def mean(self, u: str, i: Index, prime: bool) -> Node:
        """E[u[i]]"""
        if self.moments.vanishes(u):
            return ZERO
        self._ask("mean", u)
        return Mean(Element(u, i, prime))

    def scalar(self, s: str, i: Index, prime: bool) -> Node:
        """A number of one run."""
        if not self.limit.orders.of[s].data and s not in self.limit.random:
            self._ask("scalar", s)
        return Element(s, i, prime)

    def _pair(self, u: str | None, i: Index, v: str | None, j: Index) -> Node:
        """The moment of two elements, where None is the vector of ones."""
        if u is None:
            return ONE if v is None else self.mean(v, j, True)
        return self.mean(u, i, False) if v is None else self.moment(u, i, v, j)

    def _is_data(self, name: str) -> bool:
        dim = self.program.var(name).dim
        return dim is not None and not dim.wide

    # ------------------------------------------------------------ moments

    def _write_moment(self, u: str, v: str) -> Equation:
        """E[u v'] by the rule that applies."""
        a, b = self.program.instr(u), self.program.instr(v)
        i, j = identity(a.var.axes), primed(b.var.axes)
        left = Moment(Element(u, i), Element(v, j, True))
        names = self._names(a.var.axes, b.var.axes)
        first, second = self._expanded(a, b)
        if first and isinstance(a.op, Linear):
            rest = b if second else None

            def beside(n: str | None, at: Index) -> Node:
                return self._pair(n, at, v, j) if rest is None else self._against(n, at, rest, j, names)

            return Equation(left, self._linear(a, a.op, i, names, False, beside))
        if second and isinstance(b.op, Linear):
            return Equation(left, self._linear(b, b.op, j, names, True, lambda n, at: self._pair(u, i, n, at)))
        if isinstance(a.op, MatMul) and isinstance(b.op, MatMul):
            return Equation(left, self._shared(a, a.op, i, b, b.op, j, names))
        return Equation(left, self._groups(self._products(u, v)))

    def _names(self, *axes: tuple[Axis, ...]) -> Names:
        own = [a.index for side in axes for a in side]
        return Names(self.sizes.union(own, (f"{x}'" for x in own)))

    def _expanded(self, a: Instr, b: Instr) -> tuple[bool, bool]:
        """Which of two sums to write out: both of the same, else what has no name in the source, else the later one."""
        first, second = isinstance(a.op, Linear), isinstance(b.op, Linear)
        if not (first and second) or a.var.name == b.var.name:
            return first, second
        if a.var.named != b.var.named:
            return not a.var.named, not b.var.named
        later = self.place[a.var.name] > self.place[b.var.name]
        return later, not later

    def _against(self, name: str | None, at: Index, b: Instr, j: Index, names: Names) -> Node:
        """E[name b'] with the sum b written out."""
        assert isinstance(b.op, Linear)
        return self._linear(b, b.op, j, names, True, lambda n, k: self._pair(name, at, n, k))

    def _linear(self, instr: Instr, op: Linear, place: Index, names: Names, prime: bool, pair: Pair) -> Node:
        return add(*(self._term(t, instr, place, names, prime, pair) for t in op.terms))

    def _term(self, t: Term, instr: Instr, place: Index, names: Names, prime: bool, pair: Pair) -> Node:
        """coef * scalars * pair(operand), summed over what the result does not fix."""
        source = () if t.operand is None else tuple(zip(t.map.source, self._extents(t.operand), strict=True))
        found = solve(t.map.target, t.map.domain, place, extents(instr.var.axes), names, prime, source)
        inner = pair(t.operand, found.at(t.map.source) if t.operand is not None else ())
        scalars = [self.scalar(s.var, found.at(s.index), prime) for s in t.scalars]
        coef = Scalar(found.at((t.coef,))[0])
        return total(found.ranges, product(coef, *scalars, *found.conditions, inner))

    def _extents(self, name: str) -> Index:
        return extents(self.program.var(name).axes)

    def _shared(self, a: Instr, p: MatMul, i: Index, b: Instr, q: MatMul, j: Index, names: Names) -> Node:
        """gain * sum over the taps with the same element of the weight of E[h h']."""
        if p.weight != q.weight or p.transposed != q.transposed:
            return ZERO
        left = self._taps(a, p, i, names, False)
        right = self._taps(b, q, j, names, True)
        inner = self._pair(p.operand, left.at(p.map.source), q.operand, right.at(q.map.source))
        gain = Scalar(ex.mul(self.limit.gains[a.var.name], *left.at((p.coef,)), *right.at((q.coef,))))
        return meet(left, right, left.at(p.windex), right.at(q.windex), product(gain, inner))

    def _taps(self, instr: Instr, op: MatMul, place: Index, names: Names, prime: bool) -> Solved:
        read = () if op.operand is None else tuple(zip(op.map.source, self._extents(op.operand), strict=True))
        return solve(op.map.target, op.map.domain, place, extents(instr.var.axes), names, prime, read)

    def _value(self, instr: Instr, place: Index, prime: bool) -> Node:
        """One coordinate of a variable as a function of others."""
        if not isinstance(instr.op, Pointwise):
            return Element(instr.var.name, place, prime)
        back = dict(zip((x.index for x in instr.var.axes), place, strict=True))
        args = tuple((f"a{k}", self._read(a, back, prime)) for k, a in enumerate(instr.op.args))
        return Function(ex.substitute(instr.op.fn, back), args)

    def _read(self, read: Read, back: Mapping[str, Expr], prime: bool) -> Node:
        index = tuple(ex.substitute(e, back) for e in read.index)
        if self.program.var(read.var).dim is None:
            return self.scalar(read.var, index, prime)
        return Element(read.var, index, prime)

    # ------------------------------------------------------------ products of independent groups

    def _products(self, u: str, v: str | None) -> tuple[Groups, ...]:
        """E[u v'] by independent groups.  Raises Unservable, too, where it would be too long to be read."""
        count = max(self.entangled.count(n) for n in (u, v) if n is not None)
        if count > MOST_ENTANGLED:
            raise Unservable(f"a nonlinearity of {count} Gaussian variables is too long to be written out")
        products = self.moments.product(u, v)
        axes = [() if n is None else self.program.var(n).axes for n in (u, v)]
        for p in products:
            forms = any(isinstance(g, QuadraticForms) for g in p.groups)
            if forms or (len(p.left.axes), len(p.right.axes)) != (len(axes[0]), len(axes[1])):
                raise Unservable(SUM_INSIDE)
        return products

    def _groups(self, products: tuple[Groups, ...], primes: tuple[bool, bool] = (False, True)) -> Node:
        return add(*(self._product(p, primes) for p in products))

    def _product(self, p: Groups, primes: tuple[bool, bool]) -> Node:
        sides = {"left": (p.left, primes[0]), "right": (p.right, primes[1])}
        parts = [self._factor(side, prime) for side, prime in sides.values()]
        for g in p.groups:
            if isinstance(g, MomentOf):
                i, j = run(g.left.index, p.left.axes, primes[0]), run(g.right.index, p.right.axes, primes[1])
                parts.append(self.moment(g.left.var, i, g.right.var, j, primes))
            elif isinstance(g, MeanOf):
                side, prime = sides[g.side]
                parts.append(self.mean(g.read.var, run(g.read.index, side.axes, prime), prime))
            elif isinstance(g, Gaussian):
                parts.append(self._gaussian(g, p, primes))
        return product(*parts)

    def _factor(self, side: Side, prime: bool) -> Node:
        """What stands in front of the expectations of a side: conditions, numbers, scalars."""
        conditions, rest = guarded(run((side.fn,), side.axes, prime)[0])
        factors = rest.args if isinstance(rest, ex.Op) and rest.fn == "mul" else (rest,)
        return product(*conditions, *(self._number(f, side, prime) for f in factors))

    def _number(self, body: Expr, side: Side, prime: bool) -> Node:
        reads = {s: r for s, r in side.reads.items() if s in ex.symbols(body)}
        if not reads:
            return Scalar(body)
        return function(
            body, {s: self.scalar(r.var, run(r.index, side.axes, prime), prime) for s, r in reads.items()}
        )

    def _gaussian(self, g: Gaussian, p: Groups, primes: tuple[bool, bool]) -> Node:
        """E of the functions of Gaussian elements; calls for their moments and means."""
        axes = {"left": (p.left.axes, primes[0]), "right": (p.right.axes, primes[1])}
        left = [(r.var, run(r.index, *axes["left"])) for r in g.left]
        right = [(r.var, run(r.index, *axes["right"])) for r in g.right]
        if not right and g.expectation.request.left == SQUARE:
            return self.moment(*left[0], *left[0], (primes[0], primes[0]))
        for u, _ in left + right:
            self.mean(u, (), False)
            for w, _ in left + right:
                self.moment(u, (), w, ())
        names: dict[str, Node] = {f"l{k}": Element(u, i, primes[0]) for k, (u, i) in enumerate(left)}
        names |= {f"r{k}": Element(u, i, primes[1]) for k, (u, i) in enumerate(right)}
        for symbol, where, what in g.params:
            read = Read("", (what,)) if not isinstance(what, Read) else what
            index = run(read.index, *axes[where])
            names[symbol] = self.scalar(read.var, index, axes[where][1]) if read.var else Scalar(index[0])
        request = g.expectation.request
        factors = tuple(function(f, names) for f in (request.left, request.right) if f != ex.ONE)
        centred = all(self.moments.vanishes(u) for u, _ in left + right)
        return Expectation(factors, (g, centred))

    # ------------------------------------------------------------ means and scalars

    def _write_mean(self, u: str) -> Equation:
        instr = self.program.instr(u)
        i = identity(instr.var.axes)
        left = Mean(Element(u, i))
        if isinstance(instr.op, Linear):
            names = self._names(instr.var.axes)

            def pair(n: str | None, at: Index) -> Node:
                return ONE if n is None else self.mean(n, at, False)

            return Equation(left, self._linear(instr, instr.op, i, names, False, pair))
        return Equation(left, self._groups(self._products(u, None)))

    def _write_scalar(self, s: str) -> Equation:
        instr = self.program.instr(s)
        i = identity(instr.var.axes)
        left, op = Element(s, i), instr.op
        if isinstance(op, Inner):
            if op.right is None:
                inner = self.mean(op.left.var, op.left.index, False)
            else:
                inner = self.moment(op.left.var, op.left.index, op.right.var, op.right.index, (False, False))
            return Equation(left, product(Scalar(self.limit.inners[s]), inner))
        if isinstance(op, Linear):
            names = self._names(instr.var.axes)

            def pair(n: str | None, at: Index) -> Node:
                return ONE if n is None else self.scalar(n, at, False)

            return Equation(left, self._linear(instr, op, i, names, False, pair))
        if isinstance(op, MaxOver):
            window = self.program.var(op.operand).axes[-op.over :]
            body = self.scalar(op.operand, i + identity(window), False)
            return Equation(left, Largest(tuple(map(whole, identity(window), window)), body))
        return Equation(left, self._value(instr, i, False))
