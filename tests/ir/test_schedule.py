"""Levels of graphs, narrow and wide ones."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.ir.schedule import levels


@pytest.mark.parametrize("width", [1, 3, 16, 17, 200])
def test_levels_are_longest_paths(width: int) -> None:
    """Random edges from earlier to later nodes: the level of a node is one more than the largest before it."""
    rng = np.random.default_rng(width)
    size = 30 * width
    source = rng.integers(0, size - width, 4 * size)
    target = np.minimum(source + rng.integers(1, 2 * width + 1, 4 * size), size - 1)
    expected = np.zeros(size, dtype=int)
    for a, b in sorted(zip(source.tolist(), target.tolist(), strict=True), key=lambda edge: edge[1]):
        expected[b] = max(expected[b], expected[a] + 1)
    np.testing.assert_array_equal(levels(size, [(source[::2], target[::2]), (source[1::2], target[1::2])]), expected)


@pytest.mark.parametrize("width", [2, 40])
def test_what_is_behind_a_cycle_has_no_level(width: int) -> None:
    """Chains side by side, the second one of which leads back to itself."""
    steps = np.arange(3)[:, None] * width + np.arange(width)
    source, target = np.append(steps[:2], 2 * width + 1), np.append(steps[1:], width + 1)
    expected = np.repeat([0, 1, 2], width)
    expected[[width + 1, 2 * width + 1]] = -1
    np.testing.assert_array_equal(levels(3 * width, [(source, target)]), expected)
