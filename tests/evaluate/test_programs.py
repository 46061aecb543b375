"""What programs can say about weights and outputs, against kernels known otherwise."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tests.agreement.comparing import EXAMPLES, relative
from tests.oracles.duals import ERF, pairwise
from tests.writing import source_of

X = np.random.default_rng(5).standard_normal((4, 3))
GRAM = X @ X.T / 3
HEAD = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)"
VALUE, SLOPE = pairwise(ERF.value, GRAM), pairwise(ERF.slope, GRAM)
def net_of(out="dot(v, erf(U @ x))", more="", u="~ N(0, 1 / d)", v="~ N(0, 1 / n)"):
    """Two layers of erf, with changes."""
    lines = ["input x: [d]", f"weight U: [n, d] {u}", f"weight v: [n] {v}", *more.split("\n"), f"output {out}"]
    return tensorprog.load(source_of("\n".join(lines)))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_the_network_itself():
    found = net_of().kernels(X)
    close(found.nngp, VALUE)
    close(found.ntk, VALUE + SLOPE * GRAM)


# ---------------------------------------------------------------- learning rates


@pytest.mark.parametrize(
    ("u", "v", "expected"),
    [
        ("~ N(0, 1 / d) lr 0", "~ N(0, 1 / n)", VALUE),
        ("~ N(0, 1 / d)", "~ N(0, 1 / n) lr 0", SLOPE * GRAM),
        ("~ N(0, 1 / d) lr 3 / d", "~ N(0, 1 / n) lr 5 / n", 5 * VALUE + 3 * SLOPE * GRAM),
        ("~ N(0, 1 / d) lr 1", "~ N(0, 1 / n) lr 1 / n", VALUE + 3 * SLOPE * GRAM),  # d = 3
    ],
)
def test_learning_rates(u, v, expected):
    found = net_of(u=u, v=v).kernels(X)
    close(found.ntk, expected)
    close(found.nngp, VALUE)


def test_a_network_that_learns_nothing_has_no_tangent_kernel_but_zero():
    found = net_of(u="~ N(0, 1 / d) lr 0", v="~ N(0, 1 / n) lr 0").kernels(X)
    assert found.ntk is not None and not found.ntk.any()


def test_the_kernel_is_the_sum_of_the_parts_of_its_weights():
    text = (EXAMPLES / "resnet.tp").read_text()
    places = [line for line in text.split("\n") if "weight" in line]
    whole, total = tensorprog.load(text).ntk(X), 0
    for trained in places:
        frozen = "\n".join(line + " lr 0" if line in places and line != trained else line for line in text.split("\n"))
        total = total + tensorprog.load(frozen).ntk(X)
    assert relative(total, whole) < 1e-13


# ---------------------------------------------------------------- laws of weights


def test_an_output_bias():
    found = net_of("dot(v, erf(U @ x)) + c", "weight c ~ N(0, 0.3)").kernels(X)
    close(found.nngp, VALUE + 0.3)
    close(found.ntk, VALUE + SLOPE * GRAM + 0.3)
    close(net_of("dot(v, erf(U @ x)) + c", "weight c ~ N(0, 0.3) lr 2").ntk(X), VALUE + SLOPE * GRAM + 2)


def test_an_output_bias_that_is_read_twice():
    found = net_of("dot(v, erf(U @ x)) + 2 * c + c", "weight c ~ N(0, 0.3)").kernels(X)
    close(found.nngp, VALUE + 9 * 0.3)
    close(found.ntk, VALUE + SLOPE * GRAM + 9 * 0.3)


def test_biases_with_a_mean():
    """b ~ N(m, s) is m plus b ~ N(0, s)."""
    shifted = net_of("dot(v, erf(U @ x + b))", "weight b: [n] ~ N(-0.7, 0.2)").kernels(X)
    centred = net_of("dot(v, erf(U @ x + b - 0.7))", "weight b: [n] ~ N(0, 0.2)").kernels(X)
    close(shifted.nngp, centred.nngp)
    close(shifted.ntk, centred.ntk)
    assert relative(shifted.nngp, VALUE) > 0.2


def test_a_matrix_with_a_mean_is_refused():
    with pytest.raises(TensorProgError, match="mean 0"):
        net_of(u="~ N(1, 1 / d)").limit()


def test_a_weight_of_variance_zero_is_not_there():
    found = net_of("dot(v, erf(U @ x + b)) + c", "weight b: [n] ~ N(0, 0)\nweight c ~ N(0, 0)").kernels(X)
    close(found.nngp, VALUE)
    close(found.ntk, VALUE + SLOPE * GRAM)


def test_two_readouts_through_one_weight_and_through_two():
    """dot(v, h) + dot(v, g) has the cross terms, dot(v, h) + dot(w, g) has not."""
    more = "weight R: [n, d] ~ N(0, 1 / d)\nweight w: [n] ~ N(0, 1 / n)\nh = erf(U @ x)\ng = erf(U @ x + R @ x)"
    one, two = (net_of(f"dot(v, h) + dot({w}, g)", more).nngp(X) for w in "vw")
    second = pairwise(ERF.value, 2 * GRAM)
    d = np.diag(GRAM)
    cross = ERF.value(d[:, None], 2 * d[None, :], GRAM)
    close(two, VALUE + second)
    close(one, VALUE + second + cross + cross.T)


# ---------------------------------------------------------------- outputs


def test_an_output_with_an_axis():
    """All states of a recurrence: the last entries are rnn.tp, and their mean over steps rnn_average.tp."""
    head = (EXAMPLES / "rnn_average.tp").read_text()
    text = head.replace("output dot(v, mean(t in 1..T) h[t])", "output f[t in T] = dot(v, h[t + 1])")
    assert text != head
    x = np.random.default_rng(6).standard_normal((3, 4, 2))
    found = tensorprog.load(text).kernels(x)
    assert found.ntk.shape == (3, 4, 3, 4)
    last, average = (tensorprog.load(EXAMPLES / f"{name}.tp").kernels(x) for name in ("rnn", "rnn_average"))
    for kind in ("nngp", "ntk"):
        k = getattr(found, kind)
        close(k[:, -1, :, -1], getattr(last, kind))
        close(k.mean(axis=(1, 3)), getattr(average, kind))
        np.testing.assert_array_equal(k, k.transpose(2, 3, 0, 1))


def test_several_outputs():
    """Each by its name is the program that has it alone."""
    more = "h = erf(U @ x)\noutput f = dot(v, h)\noutput q = avg(h^2)\noutput g = dot(v, h^3)"
    net = tensorprog.load(source_of(f"{HEAD}\n{more}"))
    close(net.nngp(X, output="f"), VALUE)
    close(net.ntk(X, output="g"), net_of("dot(v, erf(U @ x)^3)").ntk(X))
    close(net.value(X, output="q"), np.diag(VALUE))
    with pytest.raises(TensorProgError, match="several outputs: f, q, g"):
        net.nngp(X)
    with pytest.raises(TensorProgError, match="no output 'z'"):
        net.nngp(X, output="z")


def test_a_vector_output():
    """E[Z^h Z^h'], no NTK."""
    net = tensorprog.load(source_of("input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\noutput h = erf(U @ x)"))
    found = net.kernels(X)
    close(found.nngp, VALUE)
    assert found.ntk is None
    with pytest.raises(TensorProgError, match="a vector output has no NTK"):
        net.ntk(X)


def test_a_vector_output_over_an_axis():
    text = "input x[T]: [d]\nweight U: [n, d] ~ N(0, 1 / d)\noutput h[t in T] = erf(U @ x[t])"
    net = tensorprog.load(source_of(text))
    x = np.random.default_rng(7).standard_normal((2, 3, 4))
    flat = x.reshape(6, 4)
    close(net.nngp(x).reshape(6, 6), pairwise(ERF.value, flat @ flat.T / 4))


def test_a_number_has_no_nngp():
    net = tensorprog.load(source_of("input x: [d]\nweight U: [n, d] ~ N(0, 1 / d) lr n / d\noutput avg(erf(U @ x)^2)"))
    with pytest.raises(TensorProgError, match="a number in the limit"):
        net.nngp(X)
    close(net.value(X), np.diag(VALUE))
    assert net.ntk(X).shape == (4, 4)


def test_several_inputs_and_outputs_of_the_data_alone():
    """A number given with each example scales the output; there is nothing random in it."""
    text = source_of("input a[2]\ninput x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
                     "output a[0] * dot(v, erf(U @ x)) + a[1]")
    a = np.array([[2.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    found = tensorprog.load(text).kernels({"a": a, "x": X})
    close(found.nngp, np.outer(a[:, 0], a[:, 0]) * VALUE)
    close(found.ntk, np.outer(a[:, 0], a[:, 0]) * (VALUE + SLOPE * GRAM))


# ---------------------------------------------------------------- shared weights


def test_one_matrix_for_two_layers():
    """h_2 = W phi(h_1), h_3 = W phi(h_2): with odd phi the tied NNGP is the untied one (TP0 Cor. D.11)."""
    body = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n{}\n"
    body += "output dot(v, erf({} @ erf(W @ erf(U @ x))))"
    one = "weight W: [n, n] ~ N(0, 1 / n)"
    tied = tensorprog.load(source_of(body.format(one, "W"))).kernels(X)
    free = tensorprog.load(source_of(body.format(f"{one}\nweight R: [n, n] ~ N(0, 1 / n)", "R"))).kernels(X)
    close(tied.nngp, free.nngp)
    close(tied.ntk, free.ntk)


def test_one_matrix_on_two_inputs():
    """W x + W y = W (x + y)."""
    body = "input x: [d]\ninput y: [d]\nweight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
    body += "output dot(v, erf({}))"
    data = {"x": X, "y": X[::-1] / 2}
    two, one = (tensorprog.load(source_of(body.format(s))).kernels(data) for s in ("W @ x + W @ y", "W @ (x + y)"))
    close(two.nngp, one.nngp)
    close(two.ntk, one.ntk)
