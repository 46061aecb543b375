"""Random inner products that meet a matrix and its transpose are refused, not computed as if independent."""

from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError

HEAD = """program p:
    width n = 64
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
"""
EXAMPLES = Path(__file__).parents[2] / "examples"
X = np.random.default_rng(0).normal(size=(2, 3))


def test_a_readout_through_the_transpose_is_correlated_with_one_through_the_matrix():
    """<W.T v, a> = <v, W a>: treated as independent the NNGP would miss 2 E[a tanh a]."""
    body = """    h = tanh(W @ tanh(U @ x))
    g = W.T @ (sqrt(n) * v)
    output dot(g, tanh(U @ x)) / sqrt(n) + dot(v, h)
"""
    with pytest.raises(TensorProgError, match="correlated through 'W' and its transpose"):
        tensorprog.load(HEAD + body).nngp(X)


def test_equal_logits_written_twice():
    """<W h, h> = <W.T h, h>."""
    body = """    h = U @ x
    a = dot(W @ h, h) / sqrt(n)
    b = dot(W.T @ h, h) / sqrt(n)
    output dot(v, a * b * h)
"""
    with pytest.raises(TensorProgError, match="correlated through 'W' and its transpose"):
        tensorprog.load(HEAD + body).nngp(X)


def test_one_layer_of_attention_and_tied_networks_are_not_refused():
    for name in ("attention_sqrt", "tied", "tied_autoencoder"):
        assert tensorprog.load(EXAMPLES / f"{name}.tp").limit().ntk_error is None
