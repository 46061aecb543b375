"""Drawing weights: their law, their independence of each other, the widths of a run."""

import numpy as np
import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.finite import draw, widths_at

TEXT = """
program p(s = 2):
    width n = 512
    width m = n / 4
    input x[T]: [d]
    weight W: [m, n] ~ N(0, s / n)
    weight U[T]: [n, d] ~ N(0, 1 / d)
    weight b: [n] ~ N(3, 0.25)
    weight z: [n] ~ N(0, 0)
    weight c ~ N(0, 1)
    y = W @ (sum(t in T) U[t] @ x[t] + b + z)
    output avg(y) + c
"""


def compiled(**params):
    return elaborate(Source("test", TEXT), params).program


def test_shapes_and_law():
    network = draw(compiled(), {"T": 3, "d": 5}, {"n": 4000, "m": 1000}, seed=0, dtype=np.float64)
    values = network.values
    assert values["W"].shape == (1, 1000, 4000) and values["U"].shape == (3, 4000, 5)
    assert values["b"].shape == (1, 4000) and values["c"].shape == (1,)
    # standard error of a variance of N entries is sqrt(2 / N): 0.0007, 0.006
    assert values["W"].var() * 4000 / 2 == pytest.approx(1, abs=0.004)
    assert values["U"].var() * 5 == pytest.approx(1, abs=0.03)
    assert values["b"].mean() == pytest.approx(3, abs=0.04) and values["b"].std() == pytest.approx(0.5, abs=0.03)
    assert not values["z"].any()


def test_one_weight_does_not_change_another():
    first = draw(compiled(), {"T": 3, "d": 5}, {"n": 8, "m": 2}, seed=1)
    second = draw(compiled(s=8), {"T": 4, "d": 5}, {"n": 8, "m": 2}, seed=1)
    np.testing.assert_array_equal(second.values["W"], 2 * first.values["W"])
    np.testing.assert_array_equal(second.values["U"][:3], first.values["U"])
    other = draw(compiled(), {"T": 3, "d": 5}, {"n": 8, "m": 2}, seed=2)
    assert not np.isclose(other.values["W"], first.values["W"]).any()
    assert first.values["W"].dtype == np.float32


def test_weights_have_nothing_in_common_with_data_of_the_same_seed():
    values = draw(compiled(), {"T": 3, "d": 5}, {"n": 64, "m": 16}, seed=0).values["W"].ravel()
    data = np.random.default_rng(0).standard_normal(values.size, dtype=np.float32)
    assert abs(np.corrcoef(values, data)[0, 1]) < 0.15


def test_widths_keep_their_ratio():
    assert widths_at(compiled(), 64, {"T": 3, "d": 5}) == {"n": 64, "m": 16}
    assert widths_at(compiled(), 2, {"T": 3, "d": 5}) == {"n": 2, "m": 1}, "no width is empty"


def test_negative_variance_is_told():
    with pytest.raises(TensorProgError, match="variance -0.25"):
        draw(compiled(s=-2), {"T": 3, "d": 5}, {"n": 8, "m": 2}, seed=0)
