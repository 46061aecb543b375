"""What is printed is right: a reader who evaluates the equations on the page gets the kernels of the engine."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings

import tensorprog
from tests.agreement.test_random_programs import SMOOTH, programs
from tests.derivation.reading import EXAMPLES, both, of

EXACT = [
    "cnn_flatten", "cnn_global", "cnn_strided", "densenet", "gated_mlp", "gcn", "highway", "layernorm", "mlp",
    "mlp_blocks", "mlp_mup", "mlp_standard", "myrtle", "random_features", "resnet", "rnn", "rnn_average",
    "rnn_bidirectional", "rnn_stacked", "tied", "tied_resnet", "transformer", "transformer_qkv", "wide_resnet",
]  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_the_equations_give_the_kernels(name):
    printed, wanted, exact = both(tensorprog.load(EXAMPLES / f"{name}.tp"))
    assert exact and printed == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("params", [{"depth": 7}, {"depth": 2}, {"depth": 1}, {"depth": 4, "phi": "gelu", "sb": 0}])
def test_at_other_depths(params):
    printed, wanted, exact = both(tensorprog.load(EXAMPLES / "mlp.tp", **params))
    assert exact and printed == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["transformer", "layernorm", "resnet"])
def test_deep_blocks(name):
    """Several layers of several kinds of quantities."""
    printed, wanted, exact = both(tensorprog.load(EXAMPLES / f"{name}.tp", depth=3))
    assert exact and printed == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(programs(SMOOTH))
def test_programs_put_together_at_random(text):
    """Residual branches, gates, tied matrices, transposes in any order; smooth, as kinks of products cost digits."""
    net = tensorprog.load(text)
    assume(not of(net).sampled)
    printed, wanted, exact = both(net)
    assume(exact)
    assert printed == pytest.approx(wanted, rel=1e-6, abs=1e-9)
