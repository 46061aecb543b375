"""The closed form as a formula, for the person who reads it: the rules of `closed` once more, on symbols (sympy).

One argument in each run, zero mean:  a = Var l, b = Var r, c = Cov(l, r);  or one run with variance a.
Phi is the normal distribution function, Phi2(h, k, rho) that of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from tensorprog.ir.expr import Expr, Num, Sym
from tensorprog.symbolic.gates import Group
from tensorprog.symbolic.poly import Linear

if TYPE_CHECKING:
    from tensorprog.symbolic.law import Gates
    from tensorprog.symbolic.poly import Powers

NAMES = {"add": "Add", "mul": "Mul", "pow": "Pow", "max": "Max", "min": "Min", "abs": "Abs", "step": "Heaviside"}


def closed_text(left: Sequence[Group], right: Sequence[Group], sizes: tuple[int, int]) -> str:
    """The formula at zero mean, or a count of its terms when it has several arguments or waves under polynomials."""
    terms = len(left) * len(right)
    if max(sizes) > 1 or sum(sizes) == 0:
        return f"closed form: {terms} Gaussian moments under at most two half-lines"
    import sympy as sp

    a, b = sp.symbols("a b", positive=True)
    c = sp.Symbol("c", real=True)
    cov = sp.Matrix([[a, c], [c, b]])[: sum(sizes), : sum(sizes)]
    total = sum(_pair(sp, cov, x, y) for x, y in product(left, right))
    return str(sp.simplify(total)).replace("**", "^")


def _pair(sp: Any, cov: Any, x: Group, y: Group) -> Any:
    """E of one product of groups; waves as real parts of complex tilts."""
    waves = [(g.wave, offset) for g, offset in ((x, 0), (y, len(x.knots))) if g.wave is not None]
    total = 0
    for signs in product((1, -1), repeat=len(waves)):
        weights, phase = sp.zeros(cov.rows, 1), sp.Integer(1)
        for sign, (wave, offset) in zip(signs, waves, strict=True):
            row, const = _affine(sp, wave.form, offset, cov.rows)
            weights += sp.I * sign * row
            phase *= sp.exp(sp.I * sign * (const - wave.quarter * sp.pi / 2)) / 2
        total += phase * _tilted(sp, cov, x, y, weights)
    return sp.re(sp.expand_complex(total)) if waves else total


def _tilted(sp: Any, cov: Any, x: Group, y: Group, weights: Any) -> Any:
    """Completing the square: precision + Q, mean = new cov * w, mass = sqrt(det new / det old) exp(w cov w / 2)."""
    n = cov.rows
    quadratic = sp.zeros(n, n)
    for g, offset in ((x, 0), (y, len(x.knots))):
        for powers, coefficient in g.exponent:
            if sum(powers) == 2:
                quadratic[offset, offset] -= 2 * _sympy(sp, coefficient)
            else:
                weights[offset] += _sympy(sp, coefficient)
    growth = sp.eye(n) + cov * quadratic
    new = (growth.inv() * cov).applyfunc(sp.simplify)
    mass = sp.exp((weights.T * new * weights)[0] / 2) / sp.sqrt(sp.factor(growth.det()))
    return mass * _gated(sp, list(new * weights), new, x, y)


def _gated(sp: Any, mean: list[Any], cov: Any, x: Group, y: Group) -> Any:
    """The law of centred variables and other gates; then Stein's recursion."""
    n = cov.rows
    rows, consts, noise, gates = [], [], [], []
    for i, knot in enumerate((*x.knots, *y.knots)):
        flip = _sympy(sp, knot.flip)
        rows.append(flip * sp.eye(n)[i, :])
        consts.append(-flip * _sympy(sp, knot.origin))
        noise.append(0)
        gates += [(i, knot.kind)] if knot.kind else []
    for gate, offset in [(g, 0) for g in x.others] + [(g, len(x.knots)) for g in y.others]:
        row, const = _affine(sp, gate.form, offset, n)
        gates.append((len(rows), gate.kind))
        rows.append(row.T)
        consts.append(const)
        noise.append(int(gate.soft))
    images = sp.Matrix.vstack(*rows)
    law = [sum(r[j] * mean[j] for j in range(n)) + k for r, k in zip(rows, consts, strict=True)]
    wide = images * cov * images.T + sp.diag(*noise)
    pad = (0,) * (len(rows) - n)
    return sum(
        _sympy(sp, u) * _sympy(sp, v) * _expect(sp, law, wide, (*p, *q, *pad), tuple(gates))
        for (p, u), (q, v) in product(x.poly, y.poly)
    )


def _expect(sp: Any, mean: list[Any], cov: Any, powers: Powers, gates: Gates) -> Any:
    """See `law.Law`."""
    point = next((g for g in gates if g[1] == "D"), None)
    if point is not None:
        if powers[point[0]]:
            return 0
        rest = tuple(g for g in gates if g != point)
        return _height(sp, mean, cov, point[0]) * _expect(sp, *_given(sp, mean, cov, point[0]), powers, rest)
    if not any(powers):
        return _probability(sp, mean, cov, gates)
    return _stein(sp, mean, cov, powers, gates)


def _stein(sp: Any, mean: list[Any], cov: Any, powers: Powers, gates: Gates) -> Any:
    i = next(k for k, p in enumerate(powers) if p)
    rest = _less(powers, i)
    total = mean[i] * _expect(sp, mean, cov, rest, gates) if mean[i] != 0 else 0
    for j, p in enumerate(rest):
        if p:
            total += p * cov[i, j] * _expect(sp, mean, cov, _less(rest, j), gates)
    for g, kind in gates:
        if not rest[g] and cov[i, g] != 0:
            inner = _expect(sp, *_given(sp, mean, cov, g), rest, tuple(x for x in gates if x[0] != g))
            total += (2 if kind == "S" else 1) * cov[i, g] * _height(sp, mean, cov, g) * inner
    return total


def _less(powers: Powers, i: int) -> Powers:
    return tuple(p - (k == i) for k, p in enumerate(powers))


def _height(sp: Any, mean: list[Any], cov: Any, i: int) -> Any:
    return sp.exp(-(mean[i] ** 2) / (2 * cov[i, i])) / sp.sqrt(2 * sp.pi * cov[i, i])


def _given(sp: Any, mean: list[Any], cov: Any, i: int) -> tuple[list[Any], Any]:
    n = range(len(mean))
    column = [cov[j, i] / cov[i, i] for j in n]
    means = [mean[j] - column[j] * mean[i] if mean[i] != 0 else mean[j] for j in n]
    return means, sp.Matrix(len(mean), len(mean), lambda j, k: sp.factor(cov[j, k] - column[j] * cov[i, k]))


def _probability(sp: Any, mean: list[Any], cov: Any, gates: Gates) -> Any:
    if not gates:
        return sp.Integer(1)
    h = [mean[i] / sp.sqrt(cov[i, i]) for i, _ in gates]
    if len(gates) == 1:
        return _half(sp, h[0]) if gates[0][1] == "H" else 2 * _half(sp, h[0]) - 1
    (i, first), (j, second) = gates
    rho = cov[i, j] / sp.sqrt(sp.factor(cov[i, i] * cov[j, j]))
    if h == [0, 0]:
        arc = sp.asin(rho) / (2 * sp.pi)
        return {("H", "H"): sp.Rational(1, 4) + arc, ("S", "S"): 4 * arc}.get((first, second), 2 * arc)
    both = sp.Function("Phi2")(*h, rho)
    if first == second == "H":
        return both
    if first == second == "S":
        return 4 * both - 2 * _half(sp, h[0]) - 2 * _half(sp, h[1]) + 1
    return 2 * both - _half(sp, h[0] if first == "H" else h[1])


def _half(sp: Any, h: Any) -> Any:
    return sp.Rational(1, 2) if h == 0 else sp.Function("Phi")(sp.simplify(h))


def _affine(sp: Any, form: Linear, offset: int, n: int) -> tuple[Any, Any]:
    row = sp.zeros(n, 1)
    for i in form.support:
        row[offset + i] = _sympy(sp, form.coefs[i])
    return row, _sympy(sp, form.const)


def _sympy(sp: Any, e: Expr) -> Any:
    """A coefficient as a sympy expression; floats as the simple numbers that they round."""
    if isinstance(e, Num):
        exact = sp.Rational(e.value.numerator, e.value.denominator) if not isinstance(e.value, float) else None
        return exact if exact is not None else sp.nsimplify(e.value, [sp.pi, sp.sqrt(2)], tolerance=1e-15)
    if isinstance(e, Sym):
        return sp.Symbol(e.name, real=True)
    args = [_sympy(sp, a) for a in e.args]
    name = NAMES.get(e.fn, e.fn)
    return (getattr(sp, name, None) or sp.Function(name))(*args)


