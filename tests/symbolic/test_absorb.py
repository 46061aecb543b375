"""Parameters that are affine maps of the argument."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.ir.expr import ONE, ZERO, differentiate, evaluate
from tensorprog.symbolic.absorb import absorb


@pytest.mark.parametrize(
    "text", ["tanh((u-m)/s)", "max((u-m)/s*g+b,0)", "(u-m)/s*sigmoid((u-m)/s)", "sigmoid((u-m)/sqrt(v))", "abs(g*u)"]
)
@pytest.mark.parametrize("order", [0, 1])
def test_function_and_derivative(tools, text, order):
    """No parameter is left, and the identity holds with slopes of both signs."""
    e = tools.parse(text)
    e = differentiate(e, "u") if order else e
    found = absorb(e, "u")
    assert found.slope != ONE or found.offset != ZERO
    for sign in (1.0, -1.0):
        params = {"m": 0.4, "s": sign * 0.7, "g": sign * 1.3, "b": -0.2, "v": 1.7}
        u = np.linspace(-2, 2, 9) + 0.01
        slope, w = found.law(u, params)
        value = slope**found.power * evaluate(found.function, {"u": w})
        assert value == pytest.approx(np.asarray(evaluate(e, {**params, "u": u})), rel=1e-12)


@pytest.mark.parametrize("text", ["max(u,0)+p*min(u,0)", "p*tanh(u)", "tanh(p*u)+tanh(q*u)", "abs(p)*tanh(p*u)"])
def test_other_parameters_stay(tools, text):
    """Slopes of a leaky relu, gains, two different maps, a gain that is no power of the slope."""
    e = tools.parse(text)
    found = absorb(e, "u")
    assert found.function == e and found.slope == ONE


@pytest.mark.parametrize("text", ["tanh((u-m)/s)", "max((u-m)/s,0)", "step(u-m)/s"])
def test_expectations_of_normalized_arguments(tools, text):
    """Per-entry mean and deviation, as after a layer normalization, against brute force on the plain function."""
    params = {"m": np.array([0.2, -0.1, 0.0]), "s": np.array([1.1, 0.6, -0.8])}
    law = (1.3, 0.7, 0.3, 0.4, -0.8)
    moments = tools.moments(*(np.full(3, x) for x in law))
    value, error = tools.pair(text, text).evaluate(moments, params)
    plain = {"tanh((u-m)/s)": "tanh(u)", "max((u-m)/s,0)": "max(u,0)", "step(u-m)/s": "step(u)"}[text]
    f = tools.parse(plain)
    for k in range(3):
        m, s = params["m"][k], params["s"][k]
        scale, factor = (1.0, s**-2) if text.startswith("step") else (1 / s, 1.0)
        a, b, c = (x * scale**2 for x in law[:3])
        means = [(x - m) * scale for x in law[3:]]
        assert float(value[k]) == pytest.approx(factor * tools.brute_pair(f, f, a, b, c, *means), rel=1e-10)
    assert np.all(error < 1e-10)


def test_parameters_outside_the_map_stay(tools):
    """A leaky relu of a normalized argument keeps its leak."""
    found = absorb(tools.parse("max((u-m)/s,0)+p*min((u-m)/s,0)"), "u")
    assert found.function == tools.parse("max(u,0)+p*min(u,0)")
