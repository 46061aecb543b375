"""The weights in which an output is linear, and the covariance that one draw gives."""

import numpy as np
import pytest

from tensorprog.dataset import bind
from tensorprog.finite.readout import has_centre, readout_weights
from tensorprog.validation import draw, row_order
from tests.writing import program_of

X = "input x: [d]\n"
HEAD = "weight W: [n, d] ~ N(0, 1 / d)\nh = relu(W @ x)\n"
V = "weight v: [n] ~ N(0, 1 / n)\n"


@pytest.mark.parametrize(
    ("body", "expected", "centre"),
    [
        (HEAD + V + "output dot(v, h)", {"v"}, False),
        (HEAD + V + "weight c ~ N(0, 1)\noutput dot(v, h) + c", {"v", "c"}, False),
        (HEAD + V + "output dot(v, h) + 1", {"v"}, True),
        (HEAD + V + "output dot(v, h) + avg(h)", {"v"}, True),
        (HEAD + V + "output erf(dot(v, h))", set(), True),
        (HEAD + V + "output dot(v, h * v)", set(), True),
        (HEAD + "weight c ~ N(1, 1)\n" + V + "output dot(v, h) * c", {"v"}, False),
        (HEAD + "weight c ~ N(1, 1)\n" + V + "output dot(v, h) + c", {"v", "c"}, True),
        (V + "weight W: [n, d] ~ N(0, 1 / d)\noutput dot(v, W @ x)", {"W"}, False),
        (HEAD + "output avg(h)", set(), True),
        (HEAD + V + "weight u: [n] ~ N(0, 1 / n)\noutput dot(v, h) + dot(u, h^2)", {"v", "u"}, False),
    ],
)
def test_readout_weights(body, expected, centre):
    program = program_of(X + body)
    name = program.outputs[0].name
    assert readout_weights(program, name) == expected
    assert has_centre(program, name, readout_weights(program, name)) == centre


def test_the_covariance_given_the_hidden_weights():
    """Averages of f f' over draws of all weights and of the conditional covariance have the same mean."""
    program = program_of(X + HEAD + "weight v: [n] ~ N(0, 4 / n)\nweight c ~ N(0, 0.5)\noutput dot(v, h) + c")
    data = bind(program, np.array([[1.0, 0.0], [0.6, 0.8]]))
    draws = [draw(program, "output", data, 8, seed, ("nngp",)) for seed in range(1000)]
    conditional = np.array([d.nngp for d in draws])
    products = np.array([np.outer(d.outputs, d.outputs) for d in draws])
    error = np.sqrt((conditional.var(axis=0) + products.var(axis=0)) / len(draws))
    assert (abs(conditional.mean(axis=0) - products.mean(axis=0)) < 4.5 * error).all()
    assert (conditional.std(axis=0) < products.std(axis=0) / 2).all()


def test_frozen_weights_count_in_the_nngp_but_not_in_the_ntk():
    body = "weight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n) lr 0\noutput dot(v, erf(W @ x))"
    program = program_of(X + body)
    data = bind(program, np.eye(2))
    frozen = draw(program, "output", data, 64, 0)
    trained = draw(program_of(X + body.replace(" lr 0", "")), "output", data, 64, 0)
    np.testing.assert_allclose(frozen.nngp, trained.nngp, rtol=1e-5)
    np.testing.assert_allclose(trained.ntk - frozen.ntk, trained.nngp, rtol=1e-4, atol=1e-6)


def test_rows_come_in_the_order_of_the_user():
    program = program_of("input x[T]: [d]\nweight U: [n, d] ~ N(0, 1)\nweight v: [n] ~ N(0, 1 / n)\n"
                         "output f[t in T] = dot(v, U @ x[t])")
    sequences = [np.full((t, 1), 10.0 * k) + np.arange(t)[:, None] for k, t in enumerate((2, 3, 2))]
    result = draw(program, "f", bind(program, sequences), 4, 0)
    everything = np.concatenate(sequences)[:, 0]
    slope = result.outputs[1]  # the output is linear, and everything[1] is 1
    np.testing.assert_allclose(result.outputs, slope * everything, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.ntk, result.ntk[1, 1] * np.outer(everything, everything), rtol=1e-5, atol=1e-6)


def test_row_order():
    program = program_of(X + HEAD + "output avg(h)")
    data = bind(program, np.ones((3, 2)))
    rows = np.array([[0, 2, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert list(row_order(rows, data)) == [2, 1, 3, 0]
