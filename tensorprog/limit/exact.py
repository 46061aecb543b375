"""Exact limits: numbers and polynomials in the ratios of the widths, where the program is polynomial.

    for k in 1..5: z = W @ z + W.T @ z  ->  dot(z0, z_2k) / n = 1, 2, 5, 14, ...

The same equations as everywhere else (`moments.py`), evaluated with sympy for programs without index axes and
inputs whose nonlinearities are polynomials: products of Gaussians by Isserlis' theorem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.ir.program import Inner, Instr, Linear, MatMul, Pointwise, Program, Read
from tensorprog.limit.analyse import Limit, analyse
from tensorprog.limit.forms import QuadraticForms
from tensorprog.limit.moments import Gaussian, Group, MeanOf, MomentOf, Moments, Product, Side


class NotExact(Exception):
    """The limit is not a polynomial expression of the program's numbers."""


def exact_value(program: Program, output: str) -> Any:
    """The limit of a scalar output as a sympy expression in the ratios `(m/n)` of the widths.

    Raises NotExact where the program has inputs or axes, a nonlinearity that is no polynomial, or where the
    output does not become a number.
    """
    limit = analyse(program, output, symbolic=True)
    name = limit.output_var
    if limit.is_vector or name in limit.random or limit.powers[name] != 0 or program.inputs:
        raise NotExact
    if any(i.var.axes or not _is_polynomial(i) for i in limit.program.instrs):
        raise NotExact
    return _Exact(limit).scalar(name)


def _is_polynomial(instr: Instr) -> bool:
    """Whether a nonlinearity of vectors is a polynomial."""
    return not isinstance(instr.op, Pointwise) or instr.var.dim is None or _polynomial(instr.op.fn)


def _polynomial(fn: Expr) -> bool:
    if isinstance(fn, Num | Sym):
        return True
    if fn.fn == "pow":
        exponent = fn.args[1]
        whole = isinstance(exponent, Num) and exponent.value == int(exponent.value) and exponent.value >= 0
        return whole and _polynomial(fn.args[0])
    return fn.fn in {"add", "mul"} and all(map(_polynomial, fn.args))


class _Exact:
    """Exact moments of one limit, each computed once."""

    def __init__(self, limit: Limit) -> None:
        self.limit, self.moments = limit, Moments(limit)
        self.known: dict[tuple[str, ...], Any] = {}

    def scalar(self, name: str) -> Any:
        """The value of a deterministic scalar."""
        return self._once(("scalar", name), lambda: self._scalar(self.limit.program.instr(name)))

    def moment(self, u: str, v: str) -> Any:
        """E[Z^u Z^v]"""
        if self.moments.vanishes(u, v):
            return _integer(0)
        u, v = sorted((u, v))
        return self._once(("moment", u, v), lambda: self._moment(u, v))

    def mean(self, u: str) -> Any:
        """E[Z^u]"""
        if self.moments.vanishes(u):
            return _integer(0)
        return self._once(("mean", u), lambda: self._mean(u))

    def _once(self, key: tuple[str, ...], compute: Any) -> Any:
        if key not in self.known:
            import sympy

            self.known[key] = sympy.expand(compute())
        return self.known[key]

    def _scalar(self, instr: Instr) -> Any:
        op = instr.op
        if isinstance(op, Inner):
            scale = to_sympy(self.limit.inners[instr.var.name])
            return scale * (self.mean(op.left.var) if op.right is None else self.moment(op.left.var, op.right.var))
        if isinstance(op, Linear):
            return self._sum(op, lambda name: _integer(1) if name is None else self.scalar(name))
        if isinstance(op, Pointwise):
            return to_sympy(op.fn, {f"a{k}": self.scalar(a.var) for k, a in enumerate(op.args)})
        raise NotExact

    def _sum(self, op: Linear, value: Any) -> Any:
        total = _integer(0)
        for t in op.terms:
            product = to_sympy(t.coef) * value(t.operand)
            for s in t.scalars:
                product *= self.scalar(s.var)
            total += product
        return total

    def _moment(self, u: str, v: str) -> Any:
        a, b = (self.limit.program.instr(n).op for n in (u, v))
        for op, other in ((a, v), (b, u)):
            if isinstance(op, Linear):
                return self._sum(op, lambda name, o=other: self.mean(o) if name is None else self.moment(name, o))
        if isinstance(a, MatMul) and isinstance(b, MatMul):
            inner = _integer(1) if a.operand is None or b.operand is None else self.moment(a.operand, b.operand)
            return to_sympy(ex.mul(self.limit.gains[u], a.coef, b.coef)) * inner
        return self._products(self.moments.product(u, v))

    def _mean(self, u: str) -> Any:
        op = self.limit.program.instr(u).op
        if isinstance(op, Linear):
            return self._sum(op, lambda name: _integer(1) if name is None else self.mean(name))
        return self._products(self.moments.product(u, None))

    def _products(self, products: Sequence[Product]) -> Any:
        total = _integer(0)
        for p in products:
            value = self._factor(p.left) * self._factor(p.right)
            for g in p.groups:
                value *= self._group(g)
            total += value
        return total

    def _factor(self, side: Side) -> Any:
        return to_sympy(side.fn, {s: self.scalar(r.var) for s, r in side.reads.items() if s in ex.symbols(side.fn)})

    def _group(self, group: Group) -> Any:
        if isinstance(group, MomentOf):
            return self.moment(group.left.var, group.right.var)
        if isinstance(group, MeanOf):
            return self.mean(group.read.var)
        if isinstance(group, QuadraticForms):
            raise NotExact
        return self._isserlis(group)

    def _isserlis(self, group: Gaussian) -> Any:
        """E of a polynomial of Gaussians, monomial by monomial."""
        import sympy

        request = group.expectation.request
        reads: list[Read] = [*group.left, *group.right]
        symbols = sympy.symbols(f"g0:{len(reads)}")
        names = dict(zip((*request.left_args, *request.right_args), symbols, strict=True))
        names |= {s: self.scalar(w.var) if isinstance(w, Read) else to_sympy(w) for s, _, w in group.params}
        try:
            polynomial = sympy.Poly(to_sympy(request.left, names) * to_sympy(request.right, names), *symbols)
        except sympy.PolynomialError:
            raise NotExact from None
        total = _integer(0)
        for powers, coefficient in polynomial.terms():
            which = [r.var for r, p in zip(reads, powers, strict=True) for _ in range(p)]
            total += coefficient * self._monomial(which)
        return total

    def _monomial(self, which: list[str]) -> Any:
        """E of a product of Gaussians: mean of the first times the rest, plus all pairings of the first."""
        if not which:
            return _integer(1)
        first, rest = which[0], which[1:]
        total = self.mean(first) * self._monomial(rest)
        for k, other in enumerate(rest):
            covariance = self.moment(first, other) - self.mean(first) * self.mean(other)
            total += covariance * self._monomial(rest[:k] + rest[k + 1 :])
        return total


def _integer(value: int) -> Any:
    import sympy

    return sympy.Integer(value)


def to_sympy(e: Expr, names: dict[str, Any] | None = None) -> Any:
    """The expression in sympy; functions that are no polynomials raise NotExact."""
    import sympy

    if isinstance(e, Num):
        if isinstance(e.value, float):
            return sympy.Float(e.value)
        return sympy.Rational(e.value.numerator, e.value.denominator)
    if isinstance(e, Sym):
        return names[e.name] if names and e.name in names else sympy.Symbol(e.name, positive=True)
    args = [to_sympy(a, names) for a in e.args]
    if e.fn == "add":
        return sympy.Add(*args)
    if e.fn == "mul":
        return sympy.Mul(*args)
    if e.fn == "pow":
        return args[0] ** args[1]
    raise NotExact
