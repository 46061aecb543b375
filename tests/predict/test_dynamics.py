"""Linear dynamics against an integrator of scipy, against iteration, and at their ends."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from tensorprog.errors import TensorProgError
from tensorprog.predict.dynamics import LOSSES, Schedule, check_targets, linear_dynamics

RNG = np.random.default_rng(0)
N, M = 5, 3
ROOT = RNG.standard_normal((N + M, 12))
KERNEL = (ROOT @ ROOT.T / 12)[:, :N]
Y = np.array([1.0, -1.0, -1.0, 1.0, 1.0])
START = 0.3 * RNG.standard_normal(N + M)
COUNTS = (0, 1, 7, 40)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_gradient_flow(loss):
    found = linear_dynamics(KERNEL, Y, START, LOSSES[loss], Schedule(0.2, COUNTS, flow=True))
    exact = solve_ivp(lambda t, f: -KERNEL @ LOSSES[loss].slope(f[:N], Y) / N, (0, 8), START, rtol=1e-11, atol=1e-12,
                      t_eval=[0.2 * k for k in COUNTS]).y.T
    np.testing.assert_allclose(found, exact, atol=1e-8 if loss == "squared" else 1e-5)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_gradient_descent(loss):
    f, looks = START, {}
    for k in range(41):
        looks[k] = f
        f = f - 0.5 * KERNEL @ LOSSES[loss].slope(f[:N], Y) / N
    found = linear_dynamics(KERNEL, Y, START, LOSSES[loss], Schedule(0.5, COUNTS, flow=False))
    np.testing.assert_allclose(found, [looks[k] for k in COUNTS], atol=1e-12)


def test_the_end_is_kernel_regression():
    found = linear_dynamics(KERNEL, Y, START, LOSSES["squared"], Schedule(1e6, (1,), flow=True))[0]
    np.testing.assert_allclose(found, START + KERNEL @ np.linalg.solve(KERNEL[:N], Y - START[:N]), atol=1e-9)


def test_a_singular_kernel():
    late = Schedule(1.0, (300,), flow=True)
    found = linear_dynamics(np.ones((4, 4)), np.array([1.0, 1, 0, 0]), np.zeros(4), LOSSES["squared"], late)
    np.testing.assert_allclose(found[0], 0.5, atol=1e-12)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_slope_is_the_derivative(name):
    f, loss = np.linspace(-3, 3, N), LOSSES[name]
    numeric = (loss.value(f + 1e-6, Y) - loss.value(f - 1e-6, Y)) / 2e-6
    np.testing.assert_allclose(loss.slope(f, Y), numeric, atol=1e-8)


def test_targets():
    with pytest.raises(TensorProgError, match="-1 and 1"):
        check_targets(LOSSES["logistic"], np.array([0.0, 1.0]))
    with pytest.raises(TensorProgError, match="NaN"):
        check_targets(LOSSES["squared"], np.array([np.nan]))
