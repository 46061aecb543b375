"""Places of slots: whatever the steps compute, it is the same where slots give their places away."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tensorprog.backend.places import Access, places

SIZE = 9


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Steps that write a slot each, from slots that are there: 1 and 2 are given."""
    there, steps = [0, 1, 2], []
    for out in draw(st.permutations(range(3, SIZE))):
        steps.append((draw(st.lists(st.sampled_from(there), min_size=1, max_size=3)), out))
        there.append(out)
    return steps


def computed(steps: list[tuple[list[int], int]], place: np.ndarray, count: int) -> np.ndarray:
    """Every step adds what it reads to a number of its own."""
    values = np.full(count, np.nan)
    values[0] = 0.0
    values[place[[1, 2]]] = 1.0, 10.0
    for n, (reads, out) in enumerate(steps):
        values[place[out]] = 0.1 * n + values[place[reads]].sum()
    return values


@given(programs(), st.sets(st.integers(1, SIZE - 1), min_size=1, max_size=3))
def test_what_is_kept_is_the_same(steps: list[tuple[list[int], int]], kept: set[int]) -> None:
    wanted = np.array(sorted(kept))
    accesses = [Access(np.array(reads), np.array([out])) for reads, out in steps]
    place, count = places(accesses, np.array([1, 2]), wanted, SIZE)
    plain = computed(steps, np.arange(SIZE), SIZE)
    np.testing.assert_array_equal(computed(steps, place, count)[place[wanted]], plain[wanted])


def test_a_chain_needs_two_places() -> None:
    chain = [Access(np.array([n]), np.array([n + 1])) for n in range(1, 50)]
    place, count = places(chain, np.array([1]), np.array([50]), 51)
    assert count == 3 and place[0] == 0 and place[1:].min() == 1


def test_what_nothing_writes_is_zero() -> None:
    place, _ = places([Access(np.array([2]), np.array([3]))], np.array([1]), np.array([3]), 4)
    assert place[2] == 0
