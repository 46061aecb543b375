"""Products of weights with vectors against sums over pairs, whatever the index map."""

import numpy as np
import pytest

from tensorprog.finite.products import grouped, products


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _image(height, width, taps):
    """Pairs (tap, target, source) of a filter on an image, zero outside."""
    found = [
        (t, i * width + j, (i + p) * width + j + q)
        for t, (p, q) in enumerate(taps)
        for i in range(height)
        for j in range(width)
        if 0 <= i + p < height and 0 <= j + q < width
    ]
    return tuple(np.array(column) for column in zip(*found, strict=True))


def _expected(size, element, target, source, coef, operand, weight, transposed):
    result = np.zeros((size, operand.shape[1], weight.shape[2 if transposed else 1]))
    for e, t, s, c in zip(element, target, source, coef, strict=True):
        result[t] += c * operand[s] @ (weight[e] if transposed else weight[e].T)
    return result


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("examples", [1, 9, 40])
@pytest.mark.parametrize("taps", [[(0, 0), (0, 1), (-1, 0), (1, -1)], [(2, 1), (-1, -3)]])
def test_filters(rng, transposed, examples, taps):
    element, target, source = _image(5, 6, taps)
    coef = np.where(element == 1, 0.5, 1.0)
    weight = rng.standard_normal((len(taps), 4, 3))
    operand = rng.standard_normal((30, examples, 4 if transposed else 3))
    matrices = weight if transposed else weight.swapaxes(1, 2)
    found = products(30, grouped(element, target, source, coef), operand, matrices)
    np.testing.assert_allclose(
        found, _expected(30, element, target, source, coef, operand, weight, transposed), rtol=1e-12, atol=1e-12)


def test_a_map_without_order(rng):
    element, target, source = rng.integers(0, [[3], [20], [15]], size=(3, 200))
    coef = rng.standard_normal(200)
    weight, operand = rng.standard_normal((3, 4, 5)), rng.standard_normal((15, 33, 5))
    found = products(20, grouped(element, target, source, coef), operand, weight.swapaxes(1, 2))
    np.testing.assert_allclose(
        found, _expected(20, element, target, source, coef, operand, weight, False), rtol=1e-12, atol=1e-12)


def test_rows_of_an_image_are_one_run_and_other_distances_are_not():
    (pairs,) = grouped(*_image(5, 6, [(-1, 1)]), np.ones(20))
    (run,) = pairs.runs
    assert (run.target, run.source, run.length, run.count, run.steps) == (6, 1, 5, 4, (6, 6))
    target, source = np.array([0, 1, 4, 5, 9, 10]), np.array([0, 1, 4, 5, 8, 9])
    (pairs,) = grouped(np.zeros(6, dtype=int), target, source, np.ones(6))
    assert [(r.target, r.source, r.length, r.count) for r in pairs.runs] == [(0, 0, 2, 2), (9, 8, 2, 1)]


def test_rows_of_an_image_that_wraps_around_are_two_runs():
    target = np.arange(30)
    source = target // 6 * 6 + (target + 1) % 6
    (pairs,) = grouped(np.zeros(30, dtype=int), target, source, np.ones(30))
    assert [(r.target, r.source, r.length, r.count, r.steps) for r in pairs.runs] == [
        (5, 0, 1, 5, (6, 6)), (0, 1, 5, 5, (6, 6))]
