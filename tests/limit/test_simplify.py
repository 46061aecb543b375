"""Aliases and constants disappear from a limit program, and nothing else changes."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tensorprog
from tensorprog.ir.program import Instr, Linear, Pointwise
from tensorprog.limit import analyse
from tensorprog.limit.simplify import Renaming, simplify
from tests.agreement.comparing import EXAMPLES, example_inputs
from tests.writing import program_of

CLOSED = ["mlp", "resnet", "densenet", "gated_mlp", "rnn_average", "rnn_bidirectional", "cnn_strided", "transformer",
          "tied", "tied_resnet", "mean_pooled_mlp", "mlp_mup", "gcn", "layernorm"]


@pytest.mark.parametrize("name", CLOSED)
def test_the_kernels_are_those_of_the_program_as_it_was(name, monkeypatch):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = example_inputs(net)
    simple = net.kernels(x)
    module = importlib.import_module("tensorprog.limit.analyse")  # the package has a function of that name
    monkeypatch.setattr(module, "simplify", lambda program, keep: (program, Renaming({}, {})))
    plain_net = tensorprog.load(EXAMPLES / f"{name}.tp")
    plain = plain_net.kernels(x)
    assert len(plain_net.limit().program.instrs) > len(net.limit().program.instrs)
    np.testing.assert_allclose(simple.ntk, plain.ntk, rtol=1e-12, atol=1e-14)
    if simple.nngp is not None:
        np.testing.assert_allclose(simple.nngp, plain.nngp, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CLOSED)
def test_simplifying_again_changes_nothing(name):
    limit = tensorprog.load(EXAMPLES / f"{name}.tp").limit()
    again, renaming = simplify(limit.program, frozenset([limit.output_var]))
    assert again == limit.program and not renaming.alias


def test_aliases_and_constants():
    """y = h is h itself, and the constant gradient of the output disappears into the readout."""
    limit = analyse(program_of("input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
                               "h = U @ x\ny = h\nz = relu(y)\noutput dot(v, z)"))
    names = {i.var.name for i in limit.program.instrs}
    assert "y" not in names and "d.output" not in names and {"x", "z", "v", "output"} <= names
    assert not any(is_alias(i) for i in limit.program.instrs if i.var.name != "output")
    (slope,) = [i for i in limit.program.instrs if isinstance(i.op, Pointwise) and i.var.name.startswith("d.")]
    assert {a.var for a in slope.op.args} <= names


def is_alias(instr: Instr) -> bool:
    if not isinstance(instr.op, Linear) or len(instr.op.terms) != 1:
        return False
    term = instr.op.terms[0]
    return term.operand is not None and not term.scalars and term.map.target == term.map.source == () and term.coef == 1


def test_everything_that_is_named_is_there():
    """Uses, powers and roles speak of families that the simplified program still has."""
    for path in sorted(EXAMPLES.glob("*.tp")):
        net = tensorprog.load(path)
        limit = net.limit(net.program.outputs[0].name)
        names = {i.var.name for i in limit.program.instrs}
        used = {n for t in limit.trained for u in t.uses for n in (u.row, u.col) if n is not None}
        assert used <= names and set(limit.powers) == set(limit.roles) == names
        assert {r.coefficient for r in limit.responses} <= names
