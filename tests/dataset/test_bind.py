"""Arrays of the user -> groups of examples; what is told when they do not fit."""

import numpy as np
import pytest

from tensorprog.dataset import bind, check_pair
from tensorprog.errors import TensorProgError
from tests.writing import program_of

MLP = program_of("input x: [d]\nweight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\noutput dot(v, W @ x)")
RNN = program_of(
    "input x[T]: [d]\nweight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
    "output dot(v, mean(t in T) erf(W @ x[t]))"
)
CNN = program_of(
    "input x[H, W]: [c]\nweight K: [n, c] ~ N(0, 1 / c)\nweight v: [n] ~ N(0, 1 / n)\n"
    "h[i in H, j in W] = relu(K @ x[i, j])\n"
    "g[i in H/2, j in W/2] = mean(p in 0..1, q in 0..1) h[2*i + p, 2*j + q]\n"
    "output dot(v, mean(i in H/2, j in W/2) g[i, j])"
)
GCN = program_of(
    "input A[V, V]\ninput x[V]: [d]\nweight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
    "h[u in V] = relu(sum(w in V) A[u, w] * (W @ x[w]))\noutput dot(v, mean(u in V) h[u])"
)
FIXED = program_of(
    "input x[T]: [3]\ninput y[2 * T]: [3]\nweight W: [n, 3] ~ N(0, 1)\nweight v: [n] ~ N(0, 1 / n)\n"
    "output dot(v, mean(t in T) erf(W @ x[t] + W @ y[2 * t]))"
)
NONE = program_of("weight g: [n] ~ N(0, 1)\noutput avg(g^2)")


def message(program, x) -> str:
    with pytest.raises(TensorProgError) as caught:
        bind(program, x)
    return str(caught.value)


def test_matrix_is_one_group():
    x = np.arange(12.0).reshape(4, 3)
    data = bind(MLP, x)
    assert data.count == 4 and len(data.groups) == 1
    assert data.groups[0].sizes == {"d": 3}
    np.testing.assert_array_equal(data.groups[0].batch["x"], x[:, None, :])
    np.testing.assert_array_equal(data.groups[0].rows, np.arange(4))


def test_axes_are_flattened_row_major():
    x = np.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    (group,) = bind(CNN, x).groups
    assert group.sizes == {"H": 4, "W": 6, "c": 3}
    np.testing.assert_array_equal(group.batch["x"][1, 6 * 2 + 5], x[1, 2, 5])


def test_lists_are_grouped_by_shape():
    lengths = [4, 2, 4, 3, 2]
    sequences = [np.full((t, 2), float(k)) for k, t in enumerate(lengths)]
    data = bind(RNN, sequences)
    assert data.count == 5
    assert [g.sizes["T"] for g in data.groups] == [4, 2, 3]
    for group in data.groups:
        for row, example in zip(group.rows, group.batch["x"], strict=True):
            np.testing.assert_array_equal(example, sequences[row])
    assert data.sizes() == {"T": 4, "d": 2}


def test_equal_arrays_in_a_list_are_one_group_and_plain_numbers_are_taken():
    assert len(bind(RNN, [np.ones((3, 2)), np.zeros((3, 2))]).groups) == 1
    assert bind(MLP, [[1, 2], [3, 4]]).groups[0].batch["x"].dtype == np.float64


def test_several_inputs_by_name():
    a, x = np.ones((5, 3, 3)), np.ones((5, 3, 2))
    (group,) = bind(GCN, {"A": a, "x": x}).groups
    assert group.sizes == {"V": 3, "d": 2}
    assert group.batch["A"].shape == (5, 9) and group.batch["x"].shape == (5, 3, 2)


def test_ragged_graphs():
    a = [np.ones((k, k)) for k in (3, 2, 3)]
    x = [np.ones((k, 2)) for k in (3, 2, 3)]
    assert [list(g.rows) for g in bind(GCN, {"A": a, "x": x}).groups] == [[0, 2], [1]]


def test_extents_are_expressions_in_sizes():
    assert bind(FIXED, {"x": np.ones((1, 5, 3)), "y": np.ones((1, 10, 3))}).groups[0].sizes == {"T": 5}


def test_program_without_inputs():
    data = bind(NONE, None)
    assert data.count == 1 and data.groups[0].batch == {}
    assert "takes no data" in message(NONE, np.ones(3))


@pytest.mark.parametrize(
    ("program", "x", "parts"),
    [
        (MLP, np.ones((3, 8, 8)), ["[N, d]", "[3, 8, 8]", "flatten"]),
        (MLP, np.ones(3), ["[N, d]", "[3]", "x[None]"]),
        (CNN, np.ones((2, 8, 8)), ["[N, H, W, c]", "[2, 8, 8]", "x[..., None]"]),
        (CNN, np.ones((2, 5, 4, 1)), ["H / 2", "2.5", "H = 5", "whole"]),
        (MLP, None, ["needs data", "x [N, d]"]),
        (MLP, 3.0, ["[N, d]", "single number"]),
        (MLP, np.zeros((0, 3)), ["no examples"]),
        (MLP, np.zeros((3, 0)), ["d is 0"]),
        (MLP, [], ["no examples"]),
        (MLP, np.array([[1.0, 2.0], [np.nan, 0.0]]), ["example 1", "NaN", "[0]"]),
        (RNN, [np.ones((2, 2)), np.full((3, 2), np.inf)], ["example 1", "infinite", "[0, 0]"]),
        (MLP, np.array([["a", "b"]]), ["real numbers", "<U1"]),
        (MLP, np.ones((2, 2)) * 1j, ["real numbers", "complex128"]),
        (MLP, np.array([None, {}]), ["real numbers", "object", "list of arrays"]),
        (MLP, [np.ones(2), np.ones(3)], ["d is 2 for some examples and 3 for others"]),
        (RNN, [np.ones((2, 2)), np.ones(3)], ["[T, d]", "example 1", "[3]"]),
        (GCN, np.ones((2, 2)), ["A [N, V, V], x [N, V, d]", "dict"]),
        (GCN, {"A": np.ones((2, 3, 3))}, ["no entry 'x'"]),
        (GCN, {"A": np.ones((2, 3, 3)), "x": np.ones((2, 3, 1)), "y": 1}, ["entry 'y'", "no input"]),
        (GCN, {"A": np.ones((2, 3, 3)), "x": np.ones((1, 3, 1))}, ["A has 2, x has 1"]),
        (GCN, {"A": np.ones((2, 3, 4)), "x": np.ones((2, 3, 1))}, ["V = 3", "[3, 4]", "V must be 3, not 4"]),
        (FIXED, {"x": np.ones((1, 5, 4)), "y": np.ones((1, 10, 4))}, ["[N, T, 3]", "3 must be 3, not 4"]),
        (FIXED, {"x": np.ones((1, 5, 3)), "y": np.ones((1, 9, 3))}, ["2 * T = 10", "2 * T must be 10, not 9"]),
    ],
)
def test_what_is_told(program, x, parts):
    text = message(program, x)
    for part in parts:
        assert part in text, text
    assert "error" in text and "Traceback" not in text


def test_the_line_of_the_input_is_shown():
    assert "<string>:3:5" in message(MLP, np.ones((1, 2, 2)))


def test_two_data_sets_share_weights():
    with pytest.raises(TensorProgError, match="d is 2 for some examples and 3"):
        check_pair(MLP, bind(MLP, np.ones((1, 2))), bind(MLP, np.ones((1, 3))))
    check_pair(RNN, bind(RNN, np.ones((1, 2, 3))), bind(RNN, np.ones((1, 5, 3))))


def test_the_data_is_not_changed_and_not_aliased_on_conversion():
    x = np.ones((2, 3), dtype=np.float32)
    bind(MLP, x).groups[0].batch["x"][:] = 7
    assert (x == 1).all()
