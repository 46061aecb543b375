"""Leading coefficients in 1/width beside those that are known by hand.

Linear, L hidden layers: |W u|^2 = |u|^2 (1 + e), n Var e = 2, and so for every backward step; the part of one weight in
the NTK has the e of all layers before it and those of all steps after it, which are independent to leading order.
"""

import numpy as np
import pytest

import tensorprog
from tensorprog.finite.convergence import convergence

X = np.random.default_rng(3).standard_normal((2, 4))
K = X @ X.T / 4


def network(phi="", layers=1):
    deeper = "".join(f"    weight W{k}: [n, n] ~ N(0, {'2' if phi else '1'} / n)\n    h = {phi}(W{k} @ h)\n"
                     for k in range(1, layers))
    return tensorprog.load("program p():\n    width n = 64\n    input x: [d]\n    weight U: [n, d] ~ N(0, 1 / d)\n"
                           f"    weight v: [n] ~ N(0, 1 / n)\n    h = {phi}(U @ x)\n{deeper}    output dot(v, h)\n")


def study(net, kind, widths, seeds, x=X):
    draws = {w: [d.quantity(kind) for d in net.simulate(x, w, range(10_000 * w, 10_000 * w + seeds))] for w in widths}
    return convergence(getattr(net, kind)(x), draws)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_every_entry_for_one_linear_layer(kind):
    """NNGP = <U x, U x'> / n,  NTK = NNGP + |v|^2 <x, x'> / d:  n Var = k11 k22 + k12^2, and 2 k12^2 more."""
    found = study(network(), kind, (16, 32, 64), 300)
    exact = np.outer(np.diag(K), np.diag(K)) + (3 if kind == "ntk" else 1) * K**2
    assert (np.abs(found.variance.entries - exact) < 4 * found.variance.errors).all()
    assert (found.variance.errors < 0.5 * exact).all()
    total, limit = exact.sum(), np.sum(found.limit**2)
    assert abs(found.variance.size.value - total / limit) < 4 * found.variance.size.error
    assert (np.abs(found.bias.entries) < 4 * found.bias.errors).all()  # the mean is exact at every width


@pytest.mark.parametrize(("phi", "layers", "expected"), [("", 2, 20 / 9), ("", 3, 7 / 2), ("relu", 1, 3)])
def test_the_variance_of_tangent_kernels(phi, layers, expected):
    """n Var K / K^2 = 2 L (2 L + 1) / (3 (L + 1)) for linear networks.

    For one layer of relus K = sum of z^2 + q g^2 over the units with z > 0, z^2 and q g^2 of the law q chi^2 each:
    the second moment of one is q^2 8 / 2, the mean q, so that n Var K / K^2 = 3.
    """
    found = study(network(phi, layers), "ntk", (32, 64, 128), 300, X[:1])
    assert abs(found.variance.size.value - expected) < 4 * found.variance.size.error < 4 * 0.25 * expected


def test_the_bias_of_a_squared_average():
    """avg(h^2) = q chi^2 / n, whose square is q^2 (1 + 2/n) in the mean, exactly, and 8 q^4 / n in the variance."""
    text = "program p():\n    width n = 64\n    input x: [d]\n    weight U: [n, d] ~ N(0, 1 / d)\n    output "
    net = tensorprog.load(text + "avg((U @ x)^2)^2\n")
    draws = {w: [d.outputs for d in net.simulate(X, w, range(9999 * w, 9999 * w + 1000), want=())] for w in (8, 16)}
    found, square = convergence(net.value(X), draws), np.diag(K) ** 2
    assert np.allclose(net.value(X), square)
    assert (np.abs(found.bias.entries - 2 * square) < 4 * found.bias.errors).all()
    assert (found.bias.errors < 0.3 * square).all()
    assert abs(found.bias.size.value - 2) < 4 * found.bias.size.error < 1.2
