"""Expectations of one side alone, where its argument is constant for several examples."""

from __future__ import annotations

import numpy as np

from tensorprog.ir.expr import ONE, Sym, call
from tensorprog.symbolic.expectation import Request, plan
from tensorprog.symbolic.moments import Moments


def test_right_side_alone_without_variance() -> None:
    """E[exp(r)] = exp(mean) where the variance is zero, in the shape [1, 1, 2] of the moments."""
    mean = np.array([[[[0.0, 0.5]]]])
    moments = Moments(
        np.zeros((0, 1, 1, 1)), np.zeros((0, 0, 1, 1, 1)), mean, np.zeros((1, 1, 1, 1, 2)), np.zeros((0, 1, 1, 1, 1))
    )
    found = plan(Request(ONE, (), call("exp", Sym("r0")), ("r0",)))
    assert found is not None
    value, _ = found.evaluate(moments, {})
    np.testing.assert_allclose(value, np.exp(mean[0]), rtol=1e-14)
