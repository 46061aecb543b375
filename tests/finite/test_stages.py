"""What a simulation holds between the stages of its backward pass."""

from pathlib import Path

import pytest

import tensorprog
from tensorprog.autodiff import differentiate
from tensorprog.finite.stages import stages
from tensorprog.ir.program import operands

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.tp")), ids=lambda path: path.stem)
def test_what_a_stage_reads_is_held_or_computed_there(path):
    net = tensorprog.load(path)
    output = net.program.outputs[0]
    if net.program.var(output.var).dim is not None:
        pytest.skip("a vector has no tangent kernel")
    what = differentiate(net.program, output.name)
    families = {w.name: {f for u in what.uses if u.weight == w.name for f in (u.row, u.col) if f} for w in
                what.program.weights}
    held, taken = frozenset(), []
    for stage in stages(what.program, what.uses):
        there = held | stage.computed
        assert there >= {name for c in stage.computed for name in operands(what.program.instr(c).op)}
        assert there >= stage.used >= {name for w in stage.weights for name in families[w]}
        assert there >= stage.held
        held, taken = stage.held, [*taken, *stage.weights]
    assert sorted(taken) == sorted({u.weight for u in what.uses})
    assert held == {o.var for o in what.program.outputs}


@pytest.mark.parametrize(("activation", "times"), [("relu(g)", 2), ("tanh(g)", 1)])
def test_values_of_a_relu_are_made_again_those_of_tanh_are_held(activation, times):
    net = tensorprog.load(f"""
program deep:
    width n = 8
    input x: [d]
    h = x
    for l in 1..3:
        weight W: [n, dim(h)] ~ N(0, 1 / dim(h))
        g = W @ h
        h = {activation}
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, h)
""")
    what = differentiate(net.program, "output")
    found = stages(what.program, what.uses)
    assert sum("h.2" in stage.computed for stage in found) == times
    assert ("h.2" in found[0].held) == (times == 1)
