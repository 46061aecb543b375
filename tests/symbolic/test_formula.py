"""Formulas as text: equal to the numbers that the closed form gives."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from scipy.stats import multivariate_normal, norm

from tensorprog.ir.expr import Op, Sym
from tensorprog.symbolic.formula import closed_formula

TEXTS = ["max(u,0)", "step(u)", "sign(u)", "abs(u)", "erf(u)", "u*normcdf(u)", "sin(u)", "exp(-u^2)", "exp(u)", "u^2-1"]


@pytest.mark.parametrize("text", TEXTS)
def test_formula_has_the_value(tools, text):
    """The printed formula, read again, at a = 1.3, b = 0.7, c = 0.4."""
    p = tools.pair(text, text)
    formula = sp.sympify(p.describe().split("   with ")[0].replace("^", "**"))
    assert {str(s) for s in formula.free_symbols} <= {"a", "b", "c", "theta"}
    value, _ = p.evaluate(tools.moments(1.3, 0.7, 0.4), {})
    at = {"a": 1.3, "b": 0.7, "c": 0.4, "theta": np.arccos(0.4 / np.sqrt(1.3 * 0.7))}
    assert float(formula.subs(at)) == pytest.approx(float(value), rel=1e-11)


SHAPES = {
    "max(u,0)": "sqrt(a*b)/(2*pi)*(sin(theta) + (pi - theta)*cos(theta))",
    "step(u)": "(pi - theta)/(2*pi)",
    "max(u,0)^2": "a*b/(2*pi)*(3*sin(theta)*cos(theta) + (pi - theta)*(1 + 2*cos(theta)^2))",
    "abs(u)": "sqrt(a*b)/pi*(2*sin(theta) + (pi - 2*theta)*cos(theta))",
    "sign(u)": "1 - 2*theta/pi",
    "erf(u)": "2/pi*asin(2*c/sqrt((1 + 2*a)*(1 + 2*b)))",
    "sin(u)": "exp(-(a + b)/2)*sinh(c)",
    "cos(u)": "exp(-(a + b)/2)*cosh(c)",
    "exp(u)": "exp((a + b)/2 + c)",
    "exp(-u^2)": "1/sqrt((1 + 2*a)*(1 + 2*b) - 4*c^2)",
    "u^2": "a*b + 2*c^2",
}
"""Degrees 0, 1, 2: Cho and Saul, Kernel methods for deep learning (2009); erf: Williams, Computing with infinite
networks (1997); cosines: Rahimi and Recht (2007); the others are Gaussian integrals of a line."""


@pytest.mark.parametrize("text", SHAPES)
def test_formulas_have_the_published_shapes(tools, text):
    """Equal as formulas, and not longer than those of the papers (but for the order of terms)."""
    a, b, theta = sp.symbols("a b theta", positive=True)
    names = {"a": a, "b": b, "theta": theta, "c": sp.Symbol("c", real=True)}
    printed = sp.sympify(tools.pair(text, text).describe().split("   with ")[0].replace("^", "**"), locals=names)
    wanted = sp.sympify(SHAPES[text].replace("^", "**"), locals=names)
    assert sp.simplify(sp.nsimplify(printed) - wanted) == 0
    assert sp.count_ops(printed) <= sp.count_ops(wanted) + 6


@pytest.mark.parametrize("text", ["max(u,0)", "erf(u)", "sin(u)", "exp(u)", "u^3", "step(u)", "exp(-u^2)"])
def test_formulas_at_other_means(tools, text):
    """E[f(u) f(v)] at means 0.4 and -0.3, with Phi and Phi2 as scipy has them."""
    p = tools.pair(text, text)
    formula = closed_formula(p.sums.left, p.sums.right, (1, 1), False)
    value, _ = p.evaluate(tools.moments(1.3, 0.7, 0.4, 0.4, -0.3), {})
    at = {"a": 1.3, "b": 0.7, "c": 0.4, "m": 0.4, "n": -0.3}
    assert value_of(formula, at) == pytest.approx(float(value), rel=1e-7)


def value_of(e, at):
    """The value of a formula."""
    if not isinstance(e, Op):
        return float(at[e.name]) if isinstance(e, Sym) else float(e.value)
    args = [value_of(x, at) for x in e.args]
    if e.fn == "Phi":
        return norm.cdf(args[0])
    if e.fn == "Phi2":
        return multivariate_normal(cov=[[1, args[2]], [args[2], 1]], abseps=1e-12, releps=1e-12).cdf(args[:2])
    plain = {"add": sum, "mul": np.prod, "pow": lambda x: x[0] ** x[1], "asin": lambda x: np.arcsin(x[0])}
    return float(plain[e.fn](args)) if e.fn in plain else float(getattr(np, e.fn)(*args))


def test_mean_of_one_run(tools):
    """E gelu = a / sqrt(2 pi (1 + a))."""
    formula = sp.sympify(tools.mean("u*normcdf(u)").describe())
    assert float(formula.subs("a", 2.0)) == pytest.approx(2 / np.sqrt(6 * np.pi), rel=1e-12)


def test_quadrature_says_what_it_does(tools):
    """No formula, but a method."""
    assert "Hermite" in tools.pair("tanh(u)", "tanh(u)").describe()
