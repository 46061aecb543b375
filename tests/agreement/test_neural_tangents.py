"""The kernels of 53 networks against neural-tangents in float64 (tests/oracles/neural_tangents.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tests.agreement.comparing import relative

ORACLES = Path(__file__).parents[1] / "oracles"
PROGRAMS = sorted((ORACLES / "programs").glob("*.tp"))
KINKS = ("relu(", "= relu", "abs", "leaky")


@pytest.fixture(scope="module")
def reference():
    with np.load(ORACLES / "neural_tangents.npz") as file:
        return dict(file)


def inputs(reference, name, side):
    x = reference[f"{name}/x{side}"]
    return {"x": x, "A": reference[f"{name}/A{side}"]} if f"{name}/A{side}" in reference else x


def test_there_are_53_programs():
    assert len(PROGRAMS) == 53


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_kernels_agree(path, reference):
    """NNGP to 1e-9 of the largest entry, NTK too but for parallel inputs of functions with a kink.

    There neural-tangents takes the arccos of a rounded 1 and loses half the digits.
    """
    net, name = tensorprog.load(path), path.stem
    want = ("nngp", "ntk") if f"{name}/ntk" in reference else ("nngp",)
    x1, x2 = inputs(reference, name, 1), inputs(reference, name, 2)
    for second, suffix in ((x2, ""), (None, "11")):
        found = net.kernels(x1, second, want=want)
        assert {row.tier for row in found.report.rows} <= {"closed"}
        assert relative(found.nngp, reference[f"{name}/nngp{suffix}"]) < 1e-9
        if "ntk" in want:
            kink = any(word in path.read_text() for word in KINKS)
            assert relative(found.ntk, reference[f"{name}/ntk{suffix}"]) < (1e-7 if kink else 1e-9)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_kernels_of_relu_agree_at_other_inputs(path, reference):
    """x1 against those of x2 that are no multiples of an x1: 1e-9, whatever the nonlinearity."""
    name = path.stem
    if f"{name}/ntk" not in reference:
        pytest.skip("its NTK diverges")
    x1, x2 = inputs(reference, name, 1), inputs(reference, name, 2)
    apart = slice(0, len(reference[f"{name}/x2"]) - 3)
    x2 = {k: v[apart] for k, v in x2.items()} if isinstance(x2, dict) else x2[apart]
    assert relative(tensorprog.load(path).ntk(x1, x2), reference[f"{name}/ntk"][:, apart]) < 1e-9


def test_the_ntk_of_sign_is_refused(reference):
    with pytest.raises(TensorProgError, match="surrogate gradient"):
        tensorprog.load(ORACLES / "programs" / "mlp_sign_2.tp").ntk(reference["mlp_sign_2/x1"])
