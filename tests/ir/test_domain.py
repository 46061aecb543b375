"""Nonlinearities that have Gaussian moments, those that have none, and those whose slopes have none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import tensorprog

PROGRAM = """
def phi(u) = {phi}

program one():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, phi(W @ x))
"""
X = np.array([[1.0, 0.3], [0.5, -0.7]])


BOUNDED = ["exp(u - u^2)", "exp(-u^2 + u) * erf(2*u + 1)", "exp(1 + u - u^4/3)", "exp(-(u - 1)^2)"]


@pytest.mark.parametrize("phi", BOUNDED)
def test_exponentials_that_are_bounded(phi):
    """A polynomial that falls on both sides has a maximum; the constant function bounds the kernel (Cauchy-Schwarz)."""
    kernels = tensorprog.load(PROGRAM.format(phi=phi)).kernels(X)
    u = np.linspace(-9, 9, 20001)
    top = np.max(eval(phi.replace("^", "**"), {"exp": np.exp, "erf": special.erf, "u": u}) ** 2)
    assert np.all(kernels.nngp <= top) and np.all(np.linalg.eigvalsh(kernels.ntk) > 0)


@pytest.mark.parametrize("phi", ["exp(u^2/20)", "exp(u^2 - u)", "exp(u^3)", "exp(-u^3)", "exp(u^4 - 9*u)"])
def test_exponentials_that_grow(phi):
    """Whether the moments exist would depend on the variance, or they do not exist."""
    with pytest.raises(tensorprog.TensorProgError, match="grows too fast"):
        tensorprog.load(PROGRAM.format(phi=phi))


@pytest.mark.parametrize("phi", ["sqrt(abs(u))", "relu(u)^0.5", "sign(u)*sqrt(abs(u))"])
def test_slopes_without_variance(phi):
    """E[f'(u)^2] is infinite: there is an NNGP and no NTK, and the reason is told."""
    net = tensorprog.load(PROGRAM.format(phi=phi))
    assert net.kernels(X).ntk is None and net.kernels(X).nngp is not None
    with pytest.raises(tensorprog.TensorProgError, match="divides by a quantity"):
        net.ntk(X)


@pytest.mark.parametrize("phi", ["relu(u)^1.5", "abs(u)^0.75", "sqrt(1 + u^2)", "u/(1 + abs(u))", "log(1 + u^2)"])
def test_slopes_with_variance(phi):
    """What is steep, but square-integrable, keeps its NTK, as |u|^(-1/4), the slope of |u|^(3/4)."""
    assert tensorprog.load(PROGRAM.format(phi=phi)).limit().ntk_error is None
