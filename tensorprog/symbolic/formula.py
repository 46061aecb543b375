"""The closed form as a formula, for the person who reads it: the rules of `closed` once more, on symbols (sympy).

With one argument in each run:  a = Var l, b = Var r, c = Cov(l, r), and means m, n where they are not zero; with one
run the variance a.  Shapes are the usual ones: with theta = acos(c / sqrt(a b)) where half-lines of the variables
themselves meet, as in the arc-cosine kernels.  Phi is the normal distribution function, Phi2, Phi3, ... that of
several variables: thresholds first, then correlations row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Op, Sym
from tensorprog.symbolic.gates import Group
from tensorprog.symbolic.poly import Linear

if TYPE_CHECKING:
    from tensorprog.symbolic.law import Gates
    from tensorprog.symbolic.poly import Powers

NAMES = {"add": "Add", "mul": "Mul", "pow": "Pow", "max": "Max", "min": "Min", "abs": "Abs", "step": "Heaviside"}
MOST_PAIRS = 8
"""Products of groups beyond which a formula is too long; half as many with means."""
LONGEST = 160
"""Operations of a formula beyond which it is not worth reading."""


def closed_text(left: Sequence[Group], right: Sequence[Group], sizes: tuple[int, int]) -> str:
    """The formula at zero mean as text, or a count of its terms when it is too long."""
    found = closed_formula(tuple(left), tuple(right), sizes, True)
    if found is None:
        return f"closed form: {len(left) * len(right)} Gaussian moments under half-lines"
    angle = "   with theta = acos(c / sqrt(a * b))" if "theta" in ex.symbols(found) else ""
    return ex.show(found) + angle


@lru_cache(maxsize=256)
def closed_formula(
    left: tuple[Group, ...], right: tuple[Group, ...], sizes: tuple[int, int], centred: bool
) -> Expr | None:
    """E[left right] in a, b, c (theta = acos(c / sqrt(a b)) where that is shorter), m, n unless `centred`.

    None when there are several arguments in a run, waves under gates, or the formula is too long to be read.
    """
    if max(sizes) > 1 or sum(sizes) == 0 or len(left) * len(right) > (MOST_PAIRS if centred else MOST_PAIRS // 2):
        return None
    if any((x.wave or y.wave) and x.kinds + y.kinds for x, y in product(left, right)):
        return None
    import sympy as sp

    a, b = sp.symbols("a b", positive=True)
    c, m, n = sp.symbols("c m n", real=True)
    cov = sp.Matrix([[a, c], [c, b]])[: sum(sizes), : sum(sizes)]
    mean = [sp.Integer(0)] * 2 if centred else [m, n]
    total = sum(_pair(sp, mean[: sum(sizes)], cov, x, y) for x, y in product(left, right))
    if sp.count_ops(total) > 6 * LONGEST:
        return None
    shaped = _shaped(sp, sp.sympify(total)) if centred else sp.factor_terms(total)
    return None if sp.count_ops(shaped) > LONGEST else _expression(sp, shaped)


# ---------------------------------------------------------------- one product of groups


def _pair(sp: Any, mean: list[Any], cov: Any, x: Group, y: Group) -> Any:
    """E of one product of groups; waves as real parts of complex tilts."""
    waves = [(g.wave, offset) for g, offset in ((x, 0), (y, len(x.knots))) if g.wave is not None]
    total = 0
    for signs in product((1, -1), repeat=len(waves)):
        weights, phase = sp.zeros(cov.rows, 1), sp.Integer(1)
        for sign, (wave, offset) in zip(signs, waves, strict=True):
            row, const = _affine(sp, wave.form, offset, cov.rows)
            weights += sp.I * sign * row
            phase *= sp.exp(sp.I * sign * (const - wave.quarter * sp.pi / 2)) / 2
        total += phase * _tilted(sp, mean, cov, x, y, weights)
    return sp.re(sp.expand_complex(total)) if waves else total


def _tilted(sp: Any, mean: list[Any], cov: Any, x: Group, y: Group, weights: Any) -> Any:
    """Completing the square:  G = 1 + cov Q,  new cov = G^-1 cov,  new mean = G^-1 (mean + cov w),

    mass = det G^(-1/2) exp(w.mean + w cov w / 2 - (mean + cov w) Q G^-1 (mean + cov w) / 2).
    """
    n = cov.rows
    quadratic = sp.zeros(n, n)
    for g, offset in ((x, 0), (y, len(x.knots))):
        for powers, coefficient in g.exponent:
            if sum(powers) == 2:
                quadratic[offset, offset] -= 2 * _sympy(sp, coefficient)
            else:
                weights[offset] += _sympy(sp, coefficient)
    growth = sp.eye(n) + cov * quadratic
    inverse = growth.inv().applyfunc(sp.factor) if quadratic != sp.zeros(n, n) else growth
    new = (inverse * cov).applyfunc(sp.factor)
    moved = sp.Matrix(mean) + cov * weights
    square = (weights.T * (sp.Matrix(mean) + cov * weights / 2) - moved.T * quadratic * inverse * moved / 2)[0]
    mass = sp.exp(sp.factor(sp.expand(square))) / sp.sqrt(sp.factor(growth.det()))
    return mass * _gated(sp, list((inverse * moved).applyfunc(sp.factor)), new, x, y)


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
    """P of half-lines; a sign is 2 step - 1."""
    sign = next((g for g in gates if g[1] == "S"), None)
    if sign is not None:
        rest = tuple(g for g in gates if g != sign)
        half = tuple((i, "H") if (i, kind) == sign else (i, kind) for i, kind in gates)
        return 2 * _probability(sp, mean, cov, half) - _probability(sp, mean, cov, rest)
    places = [i for i, _ in gates]
    h = [mean[i] / sp.sqrt(cov[i, i]) for i in places]
    rho = [
        cov[i, j] / sp.sqrt(sp.factor(cov[i, i] * cov[j, j])) for k, i in enumerate(places) for j in places[k + 1 :]
    ]
    return _orthant(sp, h, rho)


def _orthant(sp: Any, h: list[Any], rho: list[Any]) -> Any:
    """P(x_i < h_i for all i), elementary where all h are zero and there are at most three."""
    if not h:
        return sp.Integer(1)
    if len(h) == 1:
        return _half(sp, h[0])
    if len(h) <= 3 and not any(h):
        return sp.Rational(1, 2 ** len(h)) + sum(sp.asin(r) for r in rho) / (len(h) - 1) / (2 * sp.pi)
    return sp.Function(f"Phi{len(h)}")(*h, *rho)


def _half(sp: Any, h: Any) -> Any:
    return sp.Rational(1, 2) if h == 0 else sp.Function("Phi")(sp.factor_terms(h))


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


# ---------------------------------------------------------------- the usual shapes


def _shaped(sp: Any, total: Any) -> Any:
    """The formula in the angle between the variables where they meet half-lines, else in their covariance."""
    a, b = sp.symbols("a b", positive=True)
    c = sp.Symbol("c", real=True)
    if total.has(sp.asin(c / sp.sqrt(a * b)), sp.sqrt(a * b - c**2)):
        return _angular(sp, total, a, b, c)
    if total.has(sp.exp(c - a / 2 - b / 2), sp.exp(-c - a / 2 - b / 2)):
        return _hyperbolic(sp, total, a, b, c)
    return _gathered(sp, total)


def _gathered(sp: Any, total: Any) -> Any:
    """Roots of one base, terms with the same root or function together, common factors in front."""
    if not total.has(sp.Function):
        return sp.factor_terms(sp.factor(total))
    half = [x for x in total.atoms(sp.Pow) if x.exp.is_Rational and not x.exp.is_Integer]
    total = sp.expand(total.subs({x: sp.factor(sp.together(x.base)) ** x.exp for x in half}), deep=False)
    roots = [x for x in total.atoms(sp.Pow) if x.exp.is_Rational and not x.exp.is_Integer and x.base.is_Add]
    atoms = {x: sp.Dummy() for x in [*total.atoms(sp.Function), *roots]}
    collected = sp.collect(sp.expand(total.subs(atoms)), list(atoms.values()), sp.factor)
    return sp.factor_terms(collected.subs({d: x for x, d in atoms.items()}))


def _hyperbolic(sp: Any, total: Any, a: Any, b: Any, c: Any) -> Any:
    """exp(c) and exp(-c) as cosh c + sinh c and cosh c - sinh c."""
    grown = sp.Symbol("grown", positive=True)
    e = sp.expand(total, power_exp=True).subs(sp.exp(c), grown)
    e = e.replace(lambda x: x.is_Pow and x.base == grown, lambda x: (sp.cosh(c) - sp.sinh(c)) ** -x.exp)
    e = e.subs(grown, sp.cosh(c) + sp.sinh(c))
    return sp.powsimp(sp.factor_terms(sp.expand(e, power_exp=False)), combine="exp")


def _angular(sp: Any, total: Any, a: Any, b: Any, c: Any) -> Any:
    """c = sqrt(a b) cos theta, sqrt(a b - c^2) = sqrt(a b) sin theta, asin(c / sqrt(a b)) = pi / 2 - theta."""
    alpha, beta, sine, theta = sp.symbols("alpha beta sine theta", positive=True)
    cosine = sp.Symbol("cosine", real=True)
    e = total.subs(c, alpha * beta * cosine).subs({a: alpha**2, b: beta**2})
    e = e.replace(sp.asin, lambda x: sp.pi / 2 - theta if x == cosine else sp.asin(x))

    def root(base: Any, power: Any) -> Any:
        rest = sp.cancel(base / (1 - cosine**2))
        return (rest * sine**2) ** power if not rest.has(cosine) else base**power

    e = e.replace(lambda x: x.is_Pow and x.has(cosine), lambda x: root(x.base, x.exp))
    e = sp.expand(e)
    rooted = any(x.base == sp.pi and not x.exp.is_Integer for x in e.atoms(sp.Pow))
    above, below = (e, 1) if rooted else sp.fraction(sp.together(e))
    above = sp.collect(sp.factor_terms(sp.expand(above)), [cosine**k for k in range(6, 0, -1)], sp.factor)
    factors = sp.Mul.make_args(sp.factor_terms(above))
    e = sp.Mul(*(sp.collect(sp.expand(f), [cosine**k for k in range(6, 0, -1)], sp.factor) for f in factors)) / below
    return e.subs({sine: sp.sin(theta), cosine: sp.cos(theta), alpha: sp.sqrt(a), beta: sp.sqrt(b)})


def _expression(sp: Any, e: Any) -> Expr:
    """A sympy expression as one of the IR; roots of products are joined."""
    if e.is_Symbol:
        return Sym(e.name)
    if e == sp.pi:
        return ex.PI
    if e.is_Rational:
        return ex.num(Fraction(int(e.p), int(e.q)))
    if e.is_Float:
        return ex.num(float(e))
    args = tuple(_expression(sp, x) for x in e.args)
    if e == sp.E:
        return Op("exp", (ex.ONE,))
    if e.is_Add:
        return Op("add", args)
    if e.is_Mul:
        return _product(args)
    if e.is_Pow:
        return Op("pow", args)
    return Op(type(e).__name__, args)


def _product(args: tuple[Expr, ...]) -> Expr:
    for exponent in (ex.HALF, ex.num(-Fraction(1, 2))):
        roots = [x.args[0] for x in args if isinstance(x, Op) and x.fn == "pow" and x.args[1] == exponent]
        if len(roots) > 1:
            rest = tuple(x for x in args if not (isinstance(x, Op) and x.fn == "pow" and x.args[1] == exponent))
            args = (*rest, Op("pow", (Op("mul", tuple(roots)), exponent)))
    return args[0] if len(args) == 1 else Op("mul", args)
