"""Powers of the width: of numbers, of programs in several parametrizations, and what is said when they do not fit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.ir import expr as ex
from tensorprog.limit.asymptotics import Diverges, leading, leading_function, ratios
from tests.writing import program_of, source_of

HALF = Fraction(1, 2)
N, M, U, V = ex.Sym("n"), ex.Sym("m"), ex.Sym("u"), ex.Sym("v")
WIDTHS = {"n": ex.ONE, "m": ex.num(3)}
X = np.random.default_rng(0).standard_normal((3, 4))


def net_of(body: str):
    return tensorprog.load(source_of(body))


def refused(body: str) -> tuple[str, str, str]:
    """The message, the text under the caret and the hint of the error of the limit of a program."""
    text = source_of(body)
    with pytest.raises(TensorProgError) as error:
        tensorprog.load(text).limit()
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.span is not None
    return diagnostic.message, text[diagnostic.span.start : diagnostic.span.end], diagnostic.hint or ""


# ---------------------------------------------------------------- numbers and nonlinearities


@pytest.mark.parametrize(
    ("e", "coef", "power"),
    [
        (ex.num(5), ex.num(5), 0),
        (N, ex.ONE, 1),
        (ex.mul(ex.num(2), M, N), ex.num(6), 2),
        (ex.div(ex.ONE, M), ex.num(Fraction(1, 3)), -1),
        (ex.add(ex.power(N, ex.num(2)), N), ex.ONE, 2),
        (ex.add(N, M), ex.num(4), 1),
        (ex.power(N, ex.num(HALF)), ex.ONE, HALF),
        (ex.div(N, ex.add(N, ex.ONE)), ex.ONE, 0),
    ],
)
def test_the_leading_order_of_a_number(e, coef, power):
    found = leading(e, WIDTHS)
    assert (ex.evaluate(found.coef, {}), found.power) == (pytest.approx(ex.evaluate(coef, {})), power)


def test_only_powers_of_the_width_are_orders():
    assert leading(ex.ZERO, WIDTHS).power is None
    with pytest.raises(ValueError, match="log"):
        leading(ex.call("log", N), WIDTHS)


@pytest.mark.parametrize(
    ("fn", "powers", "power"),
    [
        (ex.call("max", U, ex.ZERO), {"u": 1}, 1),  # relu scales with its argument
        (ex.call("step", U), {"u": -1}, 0),
        (ex.call("sign", U), {"u": 2}, 0),
        (ex.call("tanh", U), {"u": 0}, 0),
        (ex.call("tanh", U), {"u": -HALF}, -HALF),  # tanh is its slope near 0
        (ex.call("cos", U), {"u": -HALF}, 0),  # and cos is 1
        (ex.mul(U, V), {"u": -HALF, "v": HALF}, 0),
        (ex.add(U, V), {"u": -HALF, "v": 0}, 0),
        (ex.power(U, ex.num(2)), {"u": -HALF}, -1),
        (ex.power(U, ex.MINUS_ONE), {"u": HALF}, -HALF),
    ],
)
def test_the_leading_order_of_a_nonlinearity(fn, powers, power):
    found = leading_function(fn, {k: Fraction(p) for k, p in powers.items()}, WIDTHS)
    assert found.power == power


def test_the_leading_function_is_what_is_left_at_large_widths():
    """max(u / n + v, 0) + tanh(u / sqrt(n)) -> max(v, 0)."""
    powers = {"u": Fraction(0), "v": Fraction(0)}
    fn = ex.add(ex.call("max", ex.add(ex.div(U, N), V), ex.ZERO), ex.call("tanh", ex.div(U, ex.power(N, ex.num(HALF)))))
    assert leading_function(fn, powers, WIDTHS).coef == ex.call("max", V, ex.ZERO)


@pytest.mark.parametrize("name", ["tanh", "exp", "erf", "cos"])
def test_bounded_domains_do_not_stretch(name):
    with pytest.raises(Diverges):
        leading_function(ex.call(name, U), {"u": HALF}, WIDTHS)


def test_ratios_of_widths():
    program = program_of("width m = 3 * n\nwidth k = 2\nweight W: [m, n] ~ N(0, 1 / n)\nweight c: [k] ~ N(0, 1 / k)\n"
                         "weight x: [n] ~ N(0, 1)\noutput a = avg((W @ x)^2)\noutput b = dot(c, c)")
    assert {k: ex.evaluate(r, {}) for k, r in ratios(program).items()} == {"n": 1, "m": 3, "k": 0.25}
    assert ex.show(ratios(program, symbolic=True)["m"]) == "(m/n)"


# ---------------------------------------------------------------- parametrizations

NET = """
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)   lr {u}
weight W: [n, n] ~ N(0, 1 / n)   lr {w}
weight v: [n]    ~ N(0, 1 / {q}) lr {v}
output dot(v, tanh(W @ tanh(U @ x)))"""


@pytest.mark.parametrize(
    ("rates", "output", "trained"),
    [
        ({"u": "1 / d", "w": "1 / n", "v": "1 / n", "q": "n"}, 0, {"U", "W", "v"}),  # NTK parametrization
        ({"u": "n", "w": "1", "v": "1 / n", "q": "n^2"}, -HALF, {"U", "W", "v"}),  # muP
        ({"u": "1", "w": "1 / n^2", "v": "1 / n", "q": "n"}, 0, {"U", "v"}),  # W moves too little to count
        ({"u": "0", "w": "0", "v": "1 / n", "q": "n"}, 0, {"v"}),  # random features
        ({"u": "1 / n", "w": "1 / n^2", "v": "1 / n^2", "q": "n"}, 0, set()),
    ],
    ids=["ntk", "mup", "slow", "features", "frozen"],
)
def test_which_weights_are_trained(rates, output, trained):
    limit = net_of(NET.format(**rates)).limit()
    assert limit.powers[limit.output_var] == output
    assert {t.weight for t in limit.trained} == trained and all(t.power == 0 for t in limit.trained)


def test_mup_is_a_rescaled_ntk_parametrization():
    """Its tangent kernel in the limit: W moves n times faster through gradients that are n times smaller."""
    plain = net_of(NET.format(u="1 / d", w="1 / n", v="1 / n", q="n")).kernels(X)
    mup = net_of(NET.format(u="n / d", w="1", v="1 / n", q="n^2")).kernels(X)
    np.testing.assert_allclose(mup.ntk, plain.ntk, rtol=1e-12)
    assert not mup.nngp.any() and plain.nngp.all()


def test_a_rate_that_is_too_large_is_named():
    net = net_of(NET.format(u="1", w="1", v="1 / n", q="n"))
    assert net.nngp(X).shape == (3, 3)
    with pytest.raises(TensorProgError, match=r"the NTK diverges: the part of 'W' grows like n\^1") as error:
        net.ntk(X)
    assert "smaller by n^1" in str(error.value) and "weight W" in str(error.value)


def test_mean_field():
    """avg(phi(h)) is a number; at rates of order 1 its NTK vanishes like 1/n, at rates of order n it is finite."""
    body = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d) lr {}\noutput avg(relu(U @ x))"
    small, large = net_of(body.format("1 / d")).limit(), net_of(body.format("n / d")).limit()
    assert small.powers[small.output_var] == 0 and small.output_var not in small.random
    assert not small.trained and {t.weight for t in large.trained} == {"U"}


def test_the_ratio_of_widths_enters_only_with_the_transpose():
    body = """width m = {r} * n
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [m, n] ~ N(0, 1 / n)
weight R: [n, m] ~ N(0, 1 / m)
weight v: [n] ~ N(0, 1 / n)
h = U @ x
output dot(v, tanh({back}))"""
    fresh = [net_of(body.format(r=r, back="R @ tanh(W @ h)")).kernels(X) for r in (1, 3)]
    np.testing.assert_allclose(fresh[0].ntk, fresh[1].ntk, rtol=1e-12)
    np.testing.assert_allclose(fresh[0].nngp, fresh[1].nngp, rtol=1e-12)
    tied = [net_of(body.format(r=r, back="W.T @ tanh(W @ h)")).nngp(X) for r in (1, 3)]
    assert np.abs(tied[0] - tied[1]).max() > 0.1


def test_concat_weighs_its_parts_by_their_widths():
    body = """width m = {} * n
input x: [d]
weight U: [n, d] ~ N(0, 1 / d)
weight W: [m, d] ~ N(0, 4 / d)
g = concat(U @ x, W @ x)
weight v: [dim(g)] ~ N(0, 1 / dim(g))
output dot(v, g)"""
    for r in (1, 3):
        np.testing.assert_allclose(net_of(body.format(r)).nngp(X), (1 + 4 * r) / (1 + r) * X @ X.T / 4, rtol=1e-12)


# ---------------------------------------------------------------- what is said

HEAD = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"


def test_a_matrix_of_order_one():
    message, under, hint = refused(HEAD + "weight W: [n, n] ~ N(0, 2)\noutput dot(v, relu(W @ relu(U @ x)))")
    assert "the variance of 'W' is of order 1, so its products grow like n^(1/2)" in message
    assert under == "weight W: [n, n] ~ N(0, 2)" and "n^(-1)" in hint


def test_a_matrix_of_order_one_within_a_bounded_function():
    message, under, _ = refused(HEAD + "weight W: [n, n] ~ N(0, 2)\noutput dot(v, erf(W @ relu(U @ x)))")
    assert "an argument of erf grows like n^(1/2)" in message and under == "weight W: [n, n] ~ N(0, 2)"


def test_a_matrix_of_order_one_in_a_loop():
    body = "input x[T]: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\nweight W: [n, n] ~ N(0, 2)\n"
    body += "s = zeros(n)\nfor t in T:\n    s = W @ s + U @ x[t]\noutput dot(v, s)"
    message, under, _ = refused(body)
    assert "in every iteration of its loop" in message and under == "weight W: [n, n] ~ N(0, 2)"


def test_a_matrix_that_is_too_small():
    message, under, hint = refused(HEAD + "weight W: [n, n] ~ N(0, 1 / n^2)\noutput dot(v, relu(W @ (U @ x)))")
    assert "the output vanishes like n^(-1/2)" in message and "vanish like n^(-1/2)" in message
    assert under == "weight W: [n, n] ~ N(0, 1 / n^2)" and "n^(-1)" in hint


@pytest.mark.parametrize(
    ("variance", "verb", "power"), [("1", "grows", "n^(1/2)"), ("1 / n^2", "vanishes", "n^(-1/2)")]
)
def test_a_readout_that_does_not_scale(variance, verb, power):
    text = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\n"
    message, under, hint = refused(text + f"weight v: [n] ~ N(0, {variance})\noutput dot(v, relu(U @ x))")
    assert f"the output {verb} like {power}" in message and "the variance of 'v'" in message
    assert f"its inner product {verb} like {power}" in message
    assert under == f"weight v: [n] ~ N(0, {variance})" and "n^(-1)" in hint


def test_a_sum_in_place_of_a_mean():
    message, under, hint = refused(HEAD + "h = U @ x\noutput dot(v, h * dot(h, h))")
    assert "the output grows like n^1" in message and under.startswith("dot(v, ") and "rescale" in hint


def test_a_logarithm_of_the_width():
    message, under, _ = refused("input x: [d]\nweight v: [n] ~ N(0, log(n) / n)\nweight U: [n, d] ~ N(0, 1)\n"
                                "output dot(v, U @ x)")
    assert "'log(n)' is not a power of the width" in message and under.startswith("weight v")


def test_an_output_that_vanishes_is_a_warning_when_it_can_learn():
    limit = net_of("input x: [d]\nweight U: [n, d] ~ N(0, 1) lr n\nweight v: [n] ~ N(0, 1 / n^2) lr 1 / n\n"
                   "output dot(v, relu(U @ x))").limit()
    (note,) = limit.notes
    assert note.severity == "warning" and "vanishes like n^(-1/2)" in note.message


def test_a_vanishing_part_is_dropped_from_the_sum():
    """relu(h) + g / n: nothing is left of g; no warning, since the user asked for it."""
    body = HEAD + "weight W: [n, d] ~ N(0, 1 / d)\nh = U @ x\ng = W @ x\noutput dot(v, relu(h){})"
    with_it, without = net_of(body.format(" + g / n")), net_of(body.format(" + 0 * g"))
    np.testing.assert_array_equal(with_it.ntk(X), without.ntk(X))
    assert "W" not in {t.weight for t in with_it.limit().trained}
