"""Formulas as text: equal to the numbers that the closed form gives."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

TEXTS = ["max(u,0)", "step(u)", "sign(u)", "abs(u)", "erf(u)", "u*normcdf(u)", "sin(u)", "exp(-u^2)", "exp(u)", "u^2-1"]


@pytest.mark.parametrize("text", TEXTS)
def test_formula_has_the_value(tools, text):
    """The printed formula, read again, at a = 1.3, b = 0.7, c = 0.4."""
    p = tools.pair(text, text)
    formula = sp.sympify(p.describe().replace("^", "**"))
    assert {str(s) for s in formula.free_symbols} <= {"a", "b", "c"}
    value, _ = p.evaluate(tools.moments(1.3, 0.7, 0.4), {})
    assert float(formula.subs({"a": 1.3, "b": 0.7, "c": 0.4})) == pytest.approx(float(value), rel=1e-11)


def test_relu_is_the_arc_cosine_kernel(tools):
    """(sqrt(ab - c^2) + c (pi/2 + asin(c / sqrt(ab)))) / (2 pi)"""
    a, b, c = sp.symbols("a b c", positive=True)
    wanted = (sp.sqrt(a * b - c**2) + c * (sp.pi / 2 + sp.asin(c / sp.sqrt(a * b)))) / (2 * sp.pi)
    text = tools.pair("max(u,0)", "max(u,0)").describe()
    formula = sp.sympify(text.replace("^", "**"), locals={"a": a, "b": b, "c": c})
    assert sp.simplify(formula - wanted) == 0
    assert len(text) < 80


def test_mean_of_one_run(tools):
    """E gelu = a / sqrt(2 pi (1 + a))."""
    formula = sp.sympify(tools.mean("u*normcdf(u)").describe())
    assert float(formula.subs("a", 2.0)) == pytest.approx(2 / np.sqrt(6 * np.pi), rel=1e-12)


def test_quadrature_says_what_it_does(tools):
    """No formula, but a method."""
    assert "Hermite" in tools.pair("tanh(u)", "tanh(u)").describe()
