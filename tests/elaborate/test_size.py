"""Loops over data and images are structure: a program does not grow with the data."""

import time
from pathlib import Path

import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source

EXAMPLES = Path(__file__).parents[2] / "examples"


def size(source: str, params=None) -> int:
    """The number of definitions."""
    return len(elaborate(Source("<test>", source), params).program.instrs)


def test_a_loop_over_data_is_one_equation():
    body = "    s = zeros(n)\n    for t in {}:\n        s = tanh(W @ s + U @ x[t])\n    output avg(s)\n"
    head = ("program p():\n    width n = 8\n    input x[T]: [d]\n    weight W: [n, n] ~ N(0, 1 / n)\n"
            "    weight U: [n, d] ~ N(0, 1 / d)\n")
    over_data = size(head + body.format("T"))
    assert over_data == size(head + body.format("T / 2")) <= 10
    assert size(head + body.format("0..9")) > 3 * over_data


@pytest.mark.parametrize(("name", "most"), [
    ("rnn", 10), ("rnn_average", 11), ("gru", 30), ("lstm", 30), ("cnn_global", 30), ("cnn_strided", 14),
    ("transformer", 35),
])
def test_examples_stay_small(name, most):
    """No example names a number of time steps or pixels, so these bounds hold for every data set."""
    assert size((EXAMPLES / f"{name}.tp").read_text()) <= most


def test_depth_adds_a_fixed_number():
    source = (EXAMPLES / "mlp.tp").read_text()
    sizes = [size(source, {"depth": depth}) for depth in (3, 4, 5, 50)]
    step = sizes[1] - sizes[0]
    assert sizes[2] - sizes[1] == step and sizes[3] - sizes[2] == 45 * step


def test_a_deep_network_elaborates_quickly():
    start = time.perf_counter()
    size((EXAMPLES / "mlp.tp").read_text(), {"depth": 300})
    assert time.perf_counter() - start < 5
