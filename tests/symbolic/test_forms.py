"""Powers of quadratic forms: published values, adaptive integration, and laws without full rank or of odd scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import integrate

from tensorprog.errors import TensorProgError
from tensorprog.finite.threads import parallel
from tensorprog.ir.expr import ONE, ZERO, Expr, Sym, call
from tensorprog.symbolic.expectation import Request
from tensorprog.symbolic.forms import Asked, Mixture, mixture, together
from tensorprog.symbolic.tilted import Form
from tests.oracles.batchnorm import centred, forward_cross, forward_same

RNG = np.random.default_rng(5)


def planned(left: Expr, right: Expr = ONE, linear: int = 0) -> Mixture:
    args = (("l",) if left != ONE else (), ("r",) if right != ONE else ())
    found = mixture(Request(left, args[0], right, args[1]), left, args[0], right, args[1], linear)
    assert found is not None
    return found


def integrated(f: Mixture, cov: Any, forms: list[Form], places: list[Any]) -> tuple[Any, float]:
    """One expectation by itself."""
    return together(cov, [Asked(f, forms, places)], parallel)[0]


RELU = planned(call("max", Sym("l"), ZERO), call("max", Sym("r"), ZERO))


def both(b: int, power: float = 0.5, lost: float = 0.0) -> list[Form]:
    first = np.repeat([1.0, 0.0], b)
    return [Form(power, first, 0.0, lost), Form(power, 1 - first, 0.0, lost)]


@pytest.mark.parametrize("b", [3, 6, 12])
def test_relu_of_normalized_batches(b: int) -> None:
    x = RNG.normal(size=(2 * b, 7))
    cov, here = centred(x @ x.T, b), np.arange(b)
    value, error = integrated(RELU, cov, both(b), [here, b + here])
    np.testing.assert_allclose(b * value, forward_cross(x @ x.T, b), rtol=1e-9)
    assert error < 1e-10 * np.max(value)
    own = cov[:b, :b]
    value, error = integrated(RELU, own, [Form(0.5, np.ones(b), 0.0, 0.0)] * 2, [here, here])
    np.testing.assert_allclose(b * value, forward_same((x @ x.T)[:b, :b]), rtol=1e-9)
    assert error < 1e-10 * np.max(value)


@pytest.mark.parametrize("variance", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("n", [3, 4, 9, 60])
def test_inverse_powers_of_a_chi_square(n: int, variance: float) -> None:
    """E |x|^-1 = Gamma((n - 1) / 2) / (sqrt 2 Gamma(n / 2)), E |x|^-2 = 1 / (n - 2) in n dimensions."""
    for power, expected in ((0.5, math.gamma((n - 1) / 2) / math.gamma(n / 2) / math.sqrt(2)), (1.0, 1 / (n - 2))):
        value, error = integrated(planned(ONE), variance * np.eye(n), [Form(power, np.ones(n), 0.0, 2 * power)], [])
        assert value * variance**power == pytest.approx(expected, rel=1e-11)
        assert error <= 1e-10 * value


def test_a_constant_beside_the_form() -> None:
    """E x_i^2 / (c + |x|^2) in two dimensions is half of a one-dimensional integral."""
    c = 0.3
    value, _ = integrated(planned(ONE, linear=2), np.eye(2), [Form(1.0, np.ones(2), c, 0.0)], [np.arange(2)] * 2)
    expected = integrate.quad(lambda s: 0.25 * s / (s + c) * math.exp(-s / 2), 0, 200, epsabs=1e-13)[0]
    np.testing.assert_allclose(value, expected * np.eye(2), atol=1e-11)


def test_linear_arguments_come_out() -> None:
    """Against draws."""
    b, power = 4, 1.5
    root = RNG.normal(size=(2 * b, 6))
    cov, here = root @ root.T, np.arange(b)
    ramp = call("max", Sym("l"), ZERO)
    with_linear = planned(ramp, call("max", Sym("r"), ZERO), 2)
    value, _ = integrated(with_linear, cov, both(b, power, 1.0), [here, b + here, here, b + here])
    squares = planned(ramp, ONE, 1)
    alone, _ = integrated(squares, cov[:b, :b], [Form(power, np.ones(b), 0.0, 1.0)], [here, here])
    draws = RNG.normal(size=(400_000, 6)) @ root.T
    left, right = draws[:, :b], draws[:, b:]
    f = [np.maximum(u, 0) / np.sum(u**2, axis=1, keepdims=True) ** power for u in (left, right)]
    for i, j, k, m in ((0, 1, 2, 3), (1, 1, 1, 1), (3, 0, 0, 2)):
        samples = f[0][:, i] * f[1][:, j] * left[:, k] * right[:, m]
        assert abs(samples.mean() - value[i, j, k, m]) < 5 * samples.std() / math.sqrt(len(samples))
        samples = f[0][:, i] * left[:, k]
        assert abs(samples.mean() - alone[i, k]) < 5 * samples.std() / math.sqrt(len(samples))


@pytest.mark.parametrize("threads", [1, 3])
def test_expectations_of_one_law_are_what_each_is_alone(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of all kinds, arguments of all kinds, one part or many, one thread or more."""
    monkeypatch.setattr("tensorprog.finite.threads.workers", lambda: threads)
    monkeypatch.setattr("tensorprog.symbolic.forms.CHUNK", 1 << 18 if threads == 1 else 1 << 13)
    b = 5
    x = RNG.normal(size=(2 * b, 7))
    cov, here = centred(x @ x.T, b), np.arange(b)
    there = b + here
    step = planned(call("step", Sym("l")), call("step", Sym("r")))
    ramps = planned(call("max", Sym("l"), ZERO), call("max", Sym("r"), ZERO), 2)
    asked = [
        Asked(RELU, both(b), [here, there]),
        Asked(step, both(b, 0.5, 1.0), [here, there]),
        Asked(ramps, both(b, 1.5, 1.0), [here, there, here, there]),
        Asked(RELU, both(b, 0.8, 0.6), [here[1:3], there[2:]]),
        Asked(step, both(b, 0.5, 1.0), [here, there]),
    ]
    for group in (asked[:3], asked):
        for (value, error), a in zip(together(cov, group, parallel), group, strict=True):
            alone, _ = integrated(a.expectation, cov, a.forms, a.places)
            np.testing.assert_allclose(value, alone, rtol=0, atol=1e-10 * np.max(np.abs(alone)))
            assert error <= 1e-10 * np.max(np.abs(alone))


def test_copies_and_equal_batches() -> None:
    """Two equal batches give what one gives; a copy of an element has the values of the element."""
    x = RNG.normal(size=(5, 6))
    x[4] = x[1]
    cov, here = centred(x @ x.T, 5), np.arange(5)
    twice = np.tile(cov, (2, 2))
    one, _ = integrated(RELU, cov, [Form(0.5, np.ones(5), 0.0, 0.0)] * 2, [here, here])
    two, _ = integrated(RELU, twice, both(5), [here, 5 + here])
    np.testing.assert_allclose(two, one, rtol=1e-12)
    np.testing.assert_allclose(one[4], one[1], rtol=1e-13)


def test_batches_of_different_scales() -> None:
    """The normalized outputs do not depend on the scales of the batches."""
    x = RNG.normal(size=(8, 5))
    scales = np.repeat([1e-7, 1e6], 4)
    here = np.arange(4)
    plain, _ = integrated(RELU, centred(x @ x.T, 4), both(4), [here, 4 + here])
    scaled, _ = integrated(RELU, centred((x @ x.T) * np.outer(scales, scales), 4), both(4), [here, 4 + here])
    np.testing.assert_allclose(scaled, plain, rtol=1e-10)


def test_nearly_equal_examples() -> None:
    """Spreads over many orders of magnitude cost nodes, not digits; by the integral over t."""
    for s in (1e-2, 1e-5):
        found, error = integrated(planned(ONE), np.diag([1.0, s**2, s**2]), [Form(0.5, np.ones(3), 0.0, 1.0)], [])

        def inner(t: float, s: float = s) -> float:
            return math.exp(0.5 * t) / math.sqrt(math.pi * (1 + 2 * math.exp(t))) / (1 + 2 * s**2 * math.exp(t))

        expected = integrate.quad(inner, -70, 90, limit=500, epsabs=1e-13, epsrel=1e-13)[0]
        assert found == pytest.approx(expected, rel=1e-10) and error < 1e-9 * expected


def test_divergence_is_an_error() -> None:
    with pytest.raises(TensorProgError, match="diverges"):
        integrated(planned(ONE), np.eye(2), [Form(1.0, np.ones(2), 0.0, 2.0)], [])
    with pytest.raises(TensorProgError, match="is zero"):
        integrated(planned(ONE), np.zeros((3, 3)), [Form(0.5, np.ones(3), 0.0, 1.0)], [])
