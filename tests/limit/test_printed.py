"""Limit programs as text: golden files of six examples (pytest --update-golden rewrites them)."""

from __future__ import annotations

from pathlib import Path

import pytest

import tensorprog
from tensorprog.limit import print_limit
from tests.agreement.comparing import EXAMPLES

GOLDEN = Path(__file__).parents[1] / "golden" / "limit"


@pytest.mark.parametrize("name", ["mlp", "rnn", "tied", "transformer", "batchnorm", "gru"])
def test_golden(name, golden):
    golden(GOLDEN / f"{name}.txt", print_limit(tensorprog.load(EXAMPLES / f"{name}.tp").limit()))


def test_parameters_are_in_the_text():
    text = print_limit(tensorprog.load(EXAMPLES / "mlp.tp", depth=1, sw=1.5, sb=0).limit())
    assert text.startswith("mlp(depth = 1, phi = relu, sw = 1.5, sb = 0):")
    assert "covariance 2.25 / d * E[x x']" in text
