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
ACCURACY, BESIDE_KINKS = 1e-9, 1e-7


@pytest.fixture(scope="module")
def reference():
    with np.load(ORACLES / "neural_tangents.npz") as file:
        return dict(file)


def inputs(reference, name, side):
    x = reference[f"{name}/x{side}"]
    return {"x": x, "A": reference[f"{name}/A{side}"]} if f"{name}/A{side}" in reference else x


def accuracy(path):
    """Of relu and its like at parallel inputs neural-tangents takes the arccos of a rounded 1: half the digits."""
    kink = any(word in path.read_text() for word in ("relu", "abs"))
    return BESIDE_KINKS if kink else ACCURACY


def test_there_are_53_programs():
    assert len(PROGRAMS) == 53


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.stem)
def test_kernels_agree(path, reference):
    """x1 against x2, whose last three are multiples of x1, and x1 against itself."""
    net, name = tensorprog.load(path), path.stem
    has_ntk = f"{name}/ntk" in reference
    x1, x2 = inputs(reference, name, 1), inputs(reference, name, 2)
    for second, suffix in ((x2, ""), (None, "11")):
        found = net.kernels(x1, second, want=("nngp", "ntk") if has_ntk else ("nngp",))
        assert {row.tier for row in found.report.rows} <= {"closed"}
        expected = reference[f"{name}/nngp{suffix}"]
        if name == "mlp_sign_2" and second is None:  # E sign^2 = 1, where the reference has .99992
            np.fill_diagonal(expected, 1.0)
        assert relative(found.nngp, expected) < ACCURACY
        if has_ntk:
            expected = reference[f"{name}/ntk{suffix}"]
            assert relative(found.ntk, expected) < accuracy(path)
            if second is not None:
                assert relative(found.ntk[:, :-3], expected[:, :-3]) < ACCURACY


def test_the_ntk_of_sign_is_refused(reference):
    with pytest.raises(TensorProgError, match="surrogate gradient"):
        tensorprog.load(ORACLES / "programs" / "mlp_sign_2.tp").ntk(reference["mlp_sign_2/x1"])
