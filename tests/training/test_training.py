"""Finite networks in training beside their limit and their linearization."""

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.loading import bundled
from tensorprog.training import looks, movement
from tests.agreement.comparing import EXAMPLES

MLP = tensorprog.load(EXAMPLES / "mlp.tp", depth=2, phi="erf")


def digits(n):
    data = bundled("digits", MLP.program).first(n)
    return data.x["x"], np.where(data.targets >= 5, 1.0, -1.0)


X, Y = digits(36)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("flow", [False, True])
def test_a_wide_network_follows_its_linearization(loss, flow):
    found = MLP.train(X[:24], Y[:24], X[24:], width=1024, steps=15, loss=loss, flow=flow)
    moved = np.abs(found.outputs[-1] - found.outputs[0]).max()
    assert found.deviation("linearized") < 0.04 * moved and found.deviation("infinite") < 0.25 * moved
    assert list(found.losses) == sorted(found.losses, reverse=True)
    assert found.outputs.shape == found.infinite.shape == (len(found.schedule.counts), 36)
    assert "off linearized" in str(found)


def test_a_linear_model_is_its_linearization():
    """Random features: only the readout is trained, so that the kernel does not move at all."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", depth=1, phi="erf")
    text = (EXAMPLES / "mlp.tp").read_text().replace("sw^2 / d)", "sw^2 / d) lr 0").replace("sb^2)", "sb^2) lr 0")
    net = tensorprog.load(text, depth=1, phi="erf")
    found = net.train(X[:24], Y[:24], X[24:], width=64, steps=30)
    assert found.deviation("linearized") < 1e-4 and max(found.movement.change) < 1e-5
    assert found.deviation("infinite") > 0.01


def test_deviations_fall_with_the_width():
    """Lee et al. 2019: off the limit like width^-1/2; off the linearization, as the kernel moves, like 1/width."""
    study = MLP.train_study(X[:12], Y[:12], X[12:20], (64, 128, 256, 512), 5, steps=20)
    for what, expected in (("infinite", -0.5), ("linearized", -1.0), ("change", -1.0)):
        points, slope = study.fall(what)
        assert abs(slope.value - expected) < 4 * slope.error + 0.1 and slope.error < 0.2, (what, slope)
        assert points[-1].value < points[0].value
    assert "off the infinite network: falls like" in str(study)


def test_ragged_sequences_keep_their_order():
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((t, 3)) for t in (3, 2, 3, 2, 4)]
    y = np.array([1.0, -1, 1, -1, 1])
    found = net.train(x, y, x[::-1], width=128, steps=60)
    np.testing.assert_allclose(found.outputs[:, :5], found.outputs[:, 5:][:, ::-1], atol=1e-4)
    np.testing.assert_allclose(found.outputs[-1, :5], y, atol=0.5)
    assert found.losses[-1] < 0.1 * found.losses[0]


def test_movement_of_a_kernel_by_hand():
    y = np.array([1.0, -1.0])
    found = movement([np.eye(2), np.eye(2), np.outer(y, y)], y, (0.0, 1.0, 3.0))
    assert found.change == pytest.approx((0, 0, 1)) and found.alignment == pytest.approx((0.5**0.5, 0.5**0.5, 1))
    assert np.isnan(found.velocity[0]) and found.velocity[1:] == pytest.approx((0, (1 - 0.5**0.5) / 2))
    assert found.label_alignment == pytest.approx((1, 1, 1))


def test_looks():
    assert looks(0) == (0,) and looks(3) == (0, 1, 2, 3)
    assert looks(1000)[0] == 0 and looks(1000)[-1] == 1000 and len(looks(1000)) < 26


def test_mistakes_are_told():
    with pytest.raises(TensorProgError, match="3 targets for 4 outputs"):
        MLP.train(X[:4], Y[:3])
    with pytest.raises(TensorProgError, match="no loss 'hinge'"):
        MLP.train(X[:4], Y[:4], loss="hinge")
    with pytest.raises(TensorProgError, match="-1 and 1"):
        MLP.train(X[:4], 2 * Y[:4], loss="logistic")
    with pytest.raises(TensorProgError, match="positive"):
        MLP.train(X[:4], Y[:4], step=-1.0)
    with pytest.raises(TensorProgError, match="smaller than"):
        tensorprog.load(EXAMPLES / "mlp.tp", phi="gelu").train(X[:4], Y[:4], width=8, steps=20, step=1e6)
    with pytest.raises(TensorProgError, match="no tangent kernel|gradient|derivative"):
        tensorprog.load(EXAMPLES / "mlp.tp", phi="step").train(X[:4], Y[:4])
    with pytest.raises(TensorProgError, match="does not move the outputs"):
        tensorprog.load(EXAMPLES / "mlp.tp", sb=0).train(0 * X[:4], Y[:4])
