"""The closed forms on the pages have the values that the engine computes, at random covariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from tensorprog.derivation.expectations import formula_of, nodes
from tensorprog.derivation.notation import Expectation
from tensorprog.ir.expr import Op, Sym
from tensorprog.symbolic.expectation import Moments
from tests.derivation.reading import EXAMPLES, derivation

SEVERAL_OUTPUTS = ("amp", "marchenko_pastur", "semicircle")
CASES = [(p.stem, {}) for p in sorted(EXAMPLES.glob("*.tp")) if p.stem not in SEVERAL_OUTPUTS]
CASES += [("mlp", {"phi": phi}) for phi in ("erf", "gelu", "sin", "abs", "leaky_relu", "hard_tanh", "elu", "gaussian")]


@pytest.mark.parametrize(("name", "params"), CASES)
def test_printed_forms_have_the_value(name, params):
    rng = np.random.default_rng(5)
    found = derivation(name, **params)
    for node in nodes(found):
        if isinstance(node, Expectation) and node.law is not None:
            gaussian, centred = node.law
            formula = formula_of(gaussian, centred)
            if formula is not None:
                check(gaussian.expectation, formula, centred, rng)


def check(expectation, formula, centred, rng):
    """The formula against the engine at three random laws."""
    pair = bool(expectation.request.right_args)
    for _ in range(3):
        a, b = rng.uniform(0.2, 3, 2)
        c = np.sqrt(a * b) * rng.uniform(-0.95, 0.95)
        m, n = (0.0, 0.0) if centred else rng.normal(size=2)
        one = np.array([n]), np.array([[b]]), np.array([[c]])
        none = np.zeros(0), np.zeros((0, 0)), np.zeros((1, 0))
        wanted, _ = expectation.evaluate(Moments(np.array([m]), np.array([[a]]), *(one if pair else none)), {})
        at = {"a": a, "b": b, "c": c, "m": m, "n": n, "theta": np.arccos(c / np.sqrt(a * b))}
        assert value_of(formula, at) == pytest.approx(float(wanted), rel=1e-7, abs=1e-10)


def value_of(e, at):
    """The value of a formula; Phi and Phi2 as scipy has them."""
    if not isinstance(e, Op):
        return float(at[e.name]) if isinstance(e, Sym) else float(e.value)
    args = [value_of(x, at) for x in e.args]
    rules = {
        "add": lambda *x: sum(x),
        "mul": lambda *x: np.prod(x),
        "pow": lambda x, y: x**y,
        "Phi": norm.cdf,
        "Phi2": lambda h, k, rho: multivariate_normal(cov=[[1, rho], [rho, 1]], abseps=1e-12, releps=1e-12).cdf([h, k]),
        "asin": np.arcsin,
    }
    return float(rules[e.fn](*args) if e.fn in rules else getattr(np, e.fn)(*args))
