"""How often a study calls a right limit wrong, over programs put together at random, each with seeds of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats

import tensorprog
from tensorprog.finite.convergence import DISAGREES, LEVEL, convergence
from tensorprog.finite.law import law
from tests.agreement.test_random_programs import programs

X = np.random.default_rng(5).standard_normal((3, 4))
WIDTHS = (32, 64, 128, 256)
SEEDS, PROGRAMS = 16, 30


def studies(text: str, number: int) -> list[tuple[str, float, str]]:
    """(what, p, verdict) of both kernels and of the law of the outputs, as `validate` finds them."""
    net = tensorprog.load(text)
    limit = net.kernels(X)
    draws = {w: net.simulate(X, w, seeds=[1000 * number + 100 * k + seed for seed in range(SEEDS)])
             for k, w in enumerate(WIDTHS)}
    errors = {"nngp": limit.nngp_se, "ntk": limit.ntk_se}
    found = []
    for kind, error in errors.items():
        drawn = {w: [d.quantity(kind) for d in ds] for w, ds in draws.items()}
        c = convergence(getattr(limit, kind), drawn, 0.0 if error is None else error, LEVEL / 3)
        found.append((kind, c.extrapolated.p, c.verdict))
    outputs = {w: np.array([d.outputs for d in ds]) for w, ds in draws.items()}
    of_law = law(limit.nngp, outputs, 0.0 if errors["nngp"] is None else errors["nngp"], LEVEL / 3)
    return [*found, ("law", of_law.p, of_law.verdict)]


@pytest.mark.slow
def test_right_limits_are_called_wrong_as_seldom_as_is_said():
    """The number of false alarms, and of small p, is that of a binomial law at the stated level, or less."""
    found: list[list[tuple[str, float, str]]] = []

    @settings(max_examples=PROGRAMS, deadline=None, derandomize=True, database=None)
    @given(programs())
    def one(text: str) -> None:
        found.append(studies(text, len(found)))

    one()
    alarms = sum(any(verdict == DISAGREES for _, _, verdict in study) for study in found)
    assert alarms <= stats.binom.ppf(0.999, len(found), LEVEL)
    for k in range(3):
        p = np.array([study[k][1] for study in found])
        assert (p < 0.05).sum() <= stats.binom.ppf(0.999, len(p), 0.05), found[0][k][0]
