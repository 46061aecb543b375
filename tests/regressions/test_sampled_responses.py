"""Dot Z coefficients that are sampled as regressions read all leaves of their target, also those last read before."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog

HEAD = """program p():
    width n = 64
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
"""

TWO_LEAVES = """    y = W.T @ sign(W @ (U @ x)) + U @ x
    z = W @ sign(y)
    output W.T @ {phi}(z) + U @ x
"""


@pytest.mark.parametrize("phi", ["sign", "step"])
def test_two_leaves_agree_with_simulation(phi: str) -> None:
    net = tensorprog.load(HEAD + TWO_LEAVES.format(phi=phi))
    x = np.array([[0.5, -1.0, 0.25, 1.0]])
    sampled = net.kernels(x, tier="sampling")
    draws = [float(d.nngp[0, 0]) for d in net.simulate(x, 600, range(24)) if d.nngp is not None]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(float(sampled.nngp[0, 0]) - np.mean(draws)) < 4 * error + 0.01 * np.mean(draws)


def test_smooth_step_is_the_limit_of_step() -> None:
    """The regression at a step is near the derivative of a steep smooth function in its place."""
    x = np.array([[0.5, -1.0, 0.25, 1.0], [1.0, 0.5, 0.0, -0.5]])
    body = "    y = W.T @ tanh(W @ (U @ x))\n    z = W @ tanh(y)\n    output W.T @ {}\n"
    step = tensorprog.load(HEAD + body.format("step(z)")).kernels(x, tier="sampling")
    steep = tensorprog.load(HEAD + body.format("normcdf(30 * z)")).kernels(x, tier="sampling")
    np.testing.assert_allclose(step.nngp, steep.nngp, rtol=0.02)
