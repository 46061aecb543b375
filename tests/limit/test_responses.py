"""What a matrix product has in common with earlier products of the transpose (dot Z)."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tests.agreement.comparing import relative
from tests.oracles.duals import mean
from tests.writing import source_of

X = np.random.default_rng(1).standard_normal((3, 4))


def net_of(body: str, functions: str = ""):
    return tensorprog.load(functions + "\n" + source_of(body))


def values(body: str, functions: str = "") -> dict[str, float]:
    net = net_of(body, functions)
    return {o.name: float(net.value(output=o.name)[0]) for o in net.program.outputs}


# ---------------------------------------------------------------- which terms there are


def test_the_terms_of_a_tied_network():
    """W.T y remembers W U x through the mean slope of tanh, and the backward pass twice."""
    limit = net_of("""
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [n, n] ~ N(0, 1 / n)
weight v: [n] ~ N(0, 1 / n)
y = tanh(W @ (U @ x))
output dot(v, tanh(W.T @ y + U @ x))""").limit()
    forward = [r for r in limit.responses if r.product == "W_y"]
    assert [(r.target, r.leaf) for r in forward] == [("y", "W_U_x")]
    assert limit.program.var(forward[0].coefficient).dim is None
    assert limit.roles[forward[0].coefficient] == "deterministic scalar"
    assert len(limit.responses) == 3


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("y = W.T @ tanh(W @ x)", 1),
        ("y = W.T @ cos(W @ x)", 0),  # cos' is odd: its mean vanishes
        ("y = W.T @ relu(W @ x)", 1),
        ("y = R.T @ tanh(W @ x)", 0),  # another matrix
        ("y = W @ tanh(W @ x)", 0),  # no transpose
        ("y = W.T @ x", 0),
        ("y = W.T @ (u * tanh(W @ x))", 0),  # u is an independent sign
        ("y = W.T @ (u^2 * tanh(W @ x))", 1),
        ("g = W.T @ tanh(W @ x)\ny = W @ tanh(g)", 2),
    ],
)
def test_which_products_remember(body, count):
    head = "weight W: [n, n] ~ N(0, 1 / n) lr 0\nweight R: [n, n] ~ N(0, 1 / n) lr 0\n"
    head += "weight x: [n] ~ N(0, 1) lr 0\nweight u: [n] ~ N(0, 1) lr 0\n"
    used = "output avg(y^2 + u^2 + (R @ x)^2 + (W @ x)^2)"
    assert len(net_of(f"{head}{body}\n{used}").limit().responses) == count


# ---------------------------------------------------------------- what they are worth


@pytest.mark.parametrize(
    ("phi", "slope"),
    [
        ("tanh(u)", mean(lambda z: 1 - np.tanh(z) ** 2, 0.81)),
        ("relu(u)", 0.5),
        ("u^3", 3 * 0.81),
        ("u * cos(u)", mean(lambda z: np.cos(z) - z * np.sin(z), 0.81)),
        ("step(u)", 1 / np.sqrt(2 * np.pi * 0.81)),
    ],
)
def test_the_coefficient_is_the_mean_slope(phi, slope):
    """E[Z^x Z^{W.T phi(W x)}] = sw^2 E[x^2] E phi'(W x) (TP III Theorem 2.10; Stein's lemma)."""
    body = "weight W: [n, n] ~ N(0, 0.81 / n) lr 0\nweight x: [n] ~ N(0, 1) lr 0\ny = W.T @ phi(W @ x)\n"
    found = values(body + "output dot(x, y) / n", f"def phi(u) = {phi}")
    assert found["output"] == pytest.approx(0.81 * slope, rel=1e-9)


def test_two_earlier_products_are_told_apart():
    """y = W.T (p + 2 q), p = W a, q = W b: W.T y = sw^2 (a + 2 b) + noise, whatever p and q have in common."""
    body = """
weight W: [n, n] ~ N(0, 1 / n) lr 0
weight a: [n] ~ N(0, 1) lr 0
weight c: [n] ~ N(0, 1) lr 0
b = a / 2 + c
p = W @ a
q = W @ b
y = W.T @ (p + 2 * q + p^3 / 3)
output ya = dot(y, a) / n
output yc = dot(y, c) / n"""
    found = values(body)  # the slopes are 1 + p^2 -> 2 towards a, and 2 towards b
    assert (found["ya"], found["yc"]) == pytest.approx((2 + 1, 2), abs=1e-12)


LINEAR = """
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [n, n] ~ N(0, 1 / n)
weight v: [n] ~ N(0, 1 / n)
h = U @ x
g = W.T @ relu(h)
y = tanh(g)
z = relu(h) * y
output dot(v, tanh({}) + h)"""


def test_the_way_of_writing_a_sum_does_not_matter():
    """W (y + 2 z) = W y + 2 W z: other dot Z terms, the same limit (TP III Remark 2.11)."""
    together, apart = (net_of(LINEAR.format(s)) for s in ("W @ (y + 2 * z)", "W @ y + 2 * (W @ z)"))
    assert len(apart.limit().responses) != len(together.limit().responses)
    a, b = together.kernels(X), apart.kernels(X)  # the second needs six variables at once and is sampled
    assert a.ntk_se is None and np.linalg.norm(b.ntk_se) < 0.02 * np.linalg.norm(b.ntk)
    assert np.linalg.norm(a.nngp - b.nngp) < 3 * np.linalg.norm(b.nngp_se)
    assert np.linalg.norm(a.ntk - b.ntk) < 3 * np.linalg.norm(b.ntk_se)


def test_the_way_of_writing_a_sum_does_not_matter_for_numbers():
    body = """
weight W: [n, n] ~ N(0, 1 / n) lr 0
weight x: [n] ~ N(0, 1) lr 0
g = W.T @ x
y = tanh(g)
z = g^3 + x
s = {}
output a = avg(s^2)
output b = dot(s, x) / n
output c = dot(W.T @ s, g) / n"""
    together, apart = values(body.format("W @ (y + 2 * z)")), values(body.format("W @ y + 2 * (W @ z)"))
    assert together == pytest.approx(apart, rel=1e-9)
    assert together["b"] == pytest.approx(mean(lambda u: 1 - np.tanh(u) ** 2, 1.0) + 6, rel=1e-9)


# ---------------------------------------------------------------- axes and loops against programs written out

FAMILY = """
weight K[3]: [n, n] ~ N(0, 1 / (3 * n)) lr 0
weight x[5]: [n] ~ N(0, 1) lr 0
h[i in 5] = x[i]
g[i in 5] = sum(p in 0..2) K[p] @ h[i + p - 1]
y[i in 5] = sum(p in 0..2) K[p].T @ tanh(g[i - p + 1])
output a = avg(y[2]^2)
output b = dot(y[1], x[2]) / n
output c = dot(y[2], y[2] - x[2]) / n"""


def written_out() -> str:
    lines = [f"weight K_{p}: [n, n] ~ N(0, 1 / (3 * n)) lr 0" for p in range(3)]
    lines += [f"weight x_{i}: [n] ~ N(0, 1) lr 0" for i in range(5)]
    for i in range(5):
        taps = [f"K_{p} @ x_{i + p - 1}" for p in range(3) if 0 <= i + p - 1 < 5]
        lines.append(f"g_{i} = " + " + ".join(taps))
    for i in range(5):
        taps = [f"K_{p}.T @ tanh(g_{i - p + 1})" for p in range(3) if 0 <= i - p + 1 < 5]
        lines.append(f"y_{i} = " + " + ".join(taps))
    lines += ["output a = avg(y_2^2)", "output b = dot(y_1, x_2) / n", "output c = dot(y_2, y_2 - x_2) / n"]
    return "\n".join(lines)


def test_a_convolution_and_its_transpose_over_axes():
    """A family of matrices used at shifted places, and transposed, is the same program written out."""
    whole, parts = values(FAMILY), values(written_out())
    assert whole["a"] == pytest.approx(parts["a"], rel=1e-9)
    assert whole["b"] == pytest.approx(parts["b"], abs=1e-12)
    assert whole["c"] == pytest.approx(parts["c"], rel=1e-9)


def test_a_loop_with_a_matrix_and_its_transpose():
    """The hat and dot parts of a recurrence over an axis of the data, against the unrolled loop."""
    head = """
input x[{T}]: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [n, n] ~ N(0, 1 / n)
weight v: [n] ~ N(0, 1 / n)
s = zeros(n)
"""
    body = "s = W @ s / 2 + W.T @ s / 3 + U @ x[{t}]\n"
    loop = head.format(T="T") + "for t in T:\n    " + body.format(t="t") + "output dot(v, s)"
    flat = head.format(T="4") + "".join(body.format(t=t) for t in range(4)) + "output dot(v, s)"
    x = np.random.default_rng(2).standard_normal((2, 4, 3))
    a, b = net_of(loop).kernels(x), net_of(flat).kernels(x)
    assert relative(a.nngp, b.nngp) < 1e-13 and relative(a.ntk, b.ntk) < 1e-13


# ---------------------------------------------------------------- what cannot be differentiated


def test_a_maximum_over_an_axis_between_a_matrix_and_its_transpose():
    body = "weight K[2]: [n, n] ~ N(0, 1 / n) lr 0\nweight x: [n] ~ N(0, 1) lr 0\ng[i in 2] = K[i] @ x\n"
    with pytest.raises(TensorProgError, match="maximum over an axis between a matrix and its transpose"):
        net_of(body + "output avg((K[0].T @ max(i in 0..1) g[i])^2)").limit()


def test_a_slope_that_has_no_slope_costs_the_ntk_alone():
    """The NTK of avg((W.T step(W x))^2) needs the derivative of a point mass; its value does not."""
    net = net_of("weight W: [n, n] ~ N(0, 1 / n)\nweight x: [n] ~ N(0, 1)\noutput avg((W.T @ step(W @ x))^2)")
    assert net.value()[0] == pytest.approx(0.5 + 1 / (2 * np.pi), rel=1e-12)
    with pytest.raises(TensorProgError, match="a derivative that does not exist"):
        net.ntk()
    assert "there is no backward pass" in net.limit().verdict.reason
