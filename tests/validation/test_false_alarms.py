"""How often a study calls a right limit wrong, over programs put together at random, each with networks of its own."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.bench_false_alarms import LEVELS, interval, study
from tensorprog.finite.convergence import LEVEL


@pytest.mark.slow
def test_right_limits_are_called_wrong_as_seldom_as_is_said():
    """The number of false alarms, and of small p, is that of a binomial law at the stated level, or less."""
    found = [study(number) for number in range(5000, 5100)]
    assert sum(s.verdict == "disagrees" for s in found) <= stats.binom.ppf(0.999, len(found), LEVEL)
    smallest = np.array([s.smallest for s in found])
    for level in LEVELS:
        assert (smallest < level).sum() <= stats.binom.ppf(0.999, len(found), level)


def test_intervals_for_rates():
    """Clopper and Pearson (1934): none of n leaves 1 - (alpha / 2)^(1 / n); 10 of 100 gives (0.0490, 0.1762)."""
    assert interval(0, 40)[0] == 0 and abs(interval(0, 40)[1] - (1 - 0.025 ** (1 / 40))) < 1e-12
    assert np.allclose(interval(10, 100), (0.0490, 0.1762), atol=5e-5)
    assert interval(3, 3)[1] == 1
