"""Point masses: derivatives of steps."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.errors import TensorProgError

LAW = (1.3, 0.7, 0.3, 0.4, -0.8)


def smoothed(text, h):
    """dirac as a narrow Gaussian."""
    return text.replace("dirac(u)", f"(exp(-u^2/(2*{h}^2))/({h}*sqrt(2*pi)))")


@pytest.mark.parametrize("left", ["dirac(u)", "dirac(u)*cos(u)+step(u)*tanh(u)", "dirac(u)*exp(u)"])
@pytest.mark.parametrize("right", ["max(u,0)", "tanh(u)", "dirac(u)*(u+2)+erf(u)", "sin(u)+1"])
@pytest.mark.parametrize("prefer", [None, "quadrature"])
def test_limit_of_narrow_bumps(tools, left, right, prefer):
    """E with dirac is the limit of narrow Gaussians (Richardson from two widths)."""
    value, _ = tools.pair(left, right, prefer).evaluate(tools.moments(*LAW), {})
    narrow = [
        float(tools.pair(smoothed(left, h), smoothed(right, h), "quadrature").evaluate(tools.moments(*LAW), {})[0])
        for h in (0.02, 0.01)
    ]
    assert float(value) == pytest.approx((4 * narrow[1] - narrow[0]) / 3, rel=1e-6)


def test_density_of_two_points(tools):
    """E dirac(u) dirac(v) = 1 / (2 pi sqrt(ab - c^2)) at zero mean."""
    value, _ = tools.pair("dirac(u)", "dirac(2*u)").evaluate(tools.moments(2.0, 0.5, -0.6), {})
    assert float(value) == pytest.approx(0.5 / (2 * np.pi * np.sqrt(1 - 0.36)), rel=1e-13)


def test_point_and_step_at_one_place(tools):
    """dirac(u) step(u) counts half, as the derivative of step^2 / 2."""
    value, _ = tools.pair("dirac(u)*step(u)", "1+u-u").evaluate(tools.moments(2.0, 0.5, 0.3), {})
    assert float(value) == pytest.approx(0.5 / np.sqrt(4 * np.pi), rel=1e-13)


@pytest.mark.parametrize("prefer", [None, "quadrature"])
def test_two_steps_at_correlation_one_diverge(tools, prefer):
    """The NTK of sign or step does not exist."""
    p = tools.pair("dirac(u)", "dirac(u)", prefer)
    with pytest.raises(TensorProgError, match="diverges"):
        p.evaluate(tools.moments(1.0, 1.0, 1.0), {})


@pytest.mark.parametrize("text", ["dirac(u)^2", "dirac(u)*dirac(2*u)"])
def test_squares_of_points_diverge(tools, text):
    """Within one run already."""
    with pytest.raises(TensorProgError, match="diverges"):
        tools.pair(text, "u")


def test_growing_exponentials_diverge(tools):
    """E exp(u^2) exp(v^2) at variance 1."""
    with pytest.raises(TensorProgError, match="diverges"):
        tools.pair("exp(u^2)", "1+u").evaluate(tools.moments(1.0, 1.0, 0.2), {})
