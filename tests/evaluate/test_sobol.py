"""Sobol points: those of SciPy without scrambling, stratified and without bias with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from tensorprog.evaluate import sobol
from tensorprog.evaluate.sobol import BITS, MOST_DIMENSIONS, sobol_points


class Plain:
    """Random bits that are all zero: nothing is scrambled."""

    def integers(self, low: int, high: int, size: object, dtype: type = np.int64) -> np.ndarray:
        return np.zeros(size, dtype=dtype)


def test_points_without_scrambling_are_those_of_scipy() -> None:
    expected = qmc.Sobol(MOST_DIMENSIONS, scramble=False).random_base2(8)
    found = sobol_points(256, MOST_DIMENSIONS, Plain()) - 2.0 ** -(BITS + 1)  # type: ignore[arg-type]
    assert {p.tobytes() for p in found.T.copy()} == {p.tobytes() for p in expected.copy()}


@pytest.mark.parametrize("dimensions", [(0, 1), (3, 40), (700, 1023)])
def test_scrambled_points_stay_stratified(dimensions: tuple[int, int]) -> None:
    """One point in every interval of every coordinate, and four in every square of a 16 x 16 grid of the first two."""
    points = sobol_points(1024, MOST_DIMENSIONS, np.random.default_rng(0))
    for k in dimensions:
        assert sorted((points[k] * 1024).astype(int)) == list(range(1024))
    cells = (points[:2] * 16).astype(int)
    assert set(np.bincount(cells[0] * 16 + cells[1]).tolist()) == {4}


def test_single_points_are_uniform() -> None:
    """Of many sequences; a product that Sobol points integrate well has no bias either."""
    seeds = [np.random.default_rng(s) for s in range(400)]
    points = np.array([sobol_points(16, 5, rng) for rng in seeds])
    assert all(stats.kstest(points[:, k, m], "uniform").pvalue > 1e-4 for k in (0, 4) for m in (0, 7, 15))
    means = np.prod(1 + 2 * (points - 0.5), axis=1).mean(axis=1) - 1
    assert abs(means.mean()) < 4 * means.std() / np.sqrt(len(means))


def test_there_are_no_points_without_dimensions() -> None:
    assert sobol_points(8, 0, np.random.default_rng(0)).shape == (0, 8)
    assert sobol._directions().shape == (MOST_DIMENSIONS, BITS)
