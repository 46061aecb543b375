"""Errors of recorded expectations: finite ones, and the conditions on which there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tensorprog
from tensorprog.backend.formula import Arguments, interpreted, ordered, rooted
from tensorprog.backend.judged import Judged, judged
from tensorprog.backend.trace import Recorder
from tensorprog.dataset import bind
from tensorprog.evaluate import analytic
from tensorprog.limit.moments import Moments
from tensorprog.tape.blocks import Product

EXAMPLES = Path(__file__).parents[2] / "examples"
SIDES = frozenset(["s00"]), frozenset(["s11"])


def relu_layer(recorder: Recorder) -> Judged:
    """E[relu relu] and E[step step] of a layer."""
    limit = tensorprog.load(EXAMPLES / "mlp.tp", depth=1).limit()
    group = bind(limit.source, np.ones((2, 3))).groups[0]
    tape = analytic.prepare(limit, Moments(limit), group, group, ("nngp", "ntk")).tape
    groups = [g for b in tape.blocks if isinstance(b, Product) for g in b.groups]
    found = {id(g.expectation): g.expectation for g in groups if g.expectation is not None}
    a, b, c = (recorder.input(n) for n in ("s00", "s11", "s01"))
    return judged(list(found.values()), Arguments((0.0, 0.0), ((a, c), (c, b)), {}, (1, 1)), SIDES, recorder)


def test_errors_are_relative_and_doubts_apart() -> None:
    """Of a relu layer: one root, one angle, no quotient; zero variances and opposite examples are in doubt."""
    found = relu_layer(Recorder())
    assert all(isinstance(e, float) and 0 < e < 1e-15 for e in found.errors)
    ops = [n.op for n in ordered([*found.values, *found.doubts])]
    assert ops.count("sqrt") == ops.count("turn") == 1 and "div" not in ops
    inputs = {"s00": np.array([1.0, 0.0, 2.0]), "s11": np.array([1.0, 1.0, 2.0]), "s01": np.array([0.5, 0.0, -1.99])}
    doubt = np.any(interpreted(found.doubts, inputs), axis=0)
    np.testing.assert_array_equal(doubt, [False, True, True])


def test_what_an_angle_is_of_is_found() -> None:
    """The root, unless it is known; nothing that is not below an angle."""
    recorder = Recorder()
    found = relu_layer(recorder)
    (root,) = rooted(found.values, frozenset())
    assert "sqrt" in [n.op for n in ordered([root])] and "turn" not in [n.op for n in ordered([root])]
    assert not rooted(found.values, frozenset([id(root)]))
    assert not rooted([recorder.record("sqrt", recorder.input("s00"))], frozenset())
