"""Which slots a tape asks for: what the kernels need and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tensorprog.dataset import bind
from tensorprog.evaluate import analytic
from tensorprog.limit.moments import Moments
from tensorprog.tape.support import Supports
from tests.agreement.comparing import EXAMPLES


def moments_of(name: str, x1, x2=None, **params) -> dict[tuple[str, ...], int]:
    """How many pairs of elements of every pair of families the cross tape of both kernels holds."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    left, right = (bind(net.program, x).groups[0] for x in (x1, x1 if x2 is None else x2))
    cross = analytic.prepare(net.limit(), Moments(net.limit()), left, right, ("nngp", "ntk"))
    return {key[1:]: slots.size - 1 for key, slots in cross.tape.slots.items() if key[0] in ("moment", "data")}


def image(side: int) -> np.ndarray:
    return np.ones((1, side, side, 2))


def sequence(length: int) -> np.ndarray:
    return np.ones((1, length, 3))


def test_a_flattened_convolutional_net_meets_no_two_pixels():
    for side in (4, 8):
        assert max(moments_of("cnn_flatten", image(side)).values()) == side**2


def test_a_pooled_convolutional_net_meets_all_pairs():
    counts = moments_of("cnn_circular", image(4))
    assert max(counts.values()) == 4**4
    assert counts["x", "x"] == 4**4


@pytest.mark.parametrize(("left", "right"), [(9, 9), (9, 4), (3, 8)])
def test_the_last_state_of_a_recurrence_walks_down_the_diagonal(left, right):
    """From (T, T') back to the beginning of the shorter sequence."""
    counts = moments_of("rnn", sequence(left), sequence(right))
    assert counts["s_in", "s_in"] == counts["x", "x"] == min(left, right)
    assert max(counts.values()) <= min(left, right) + 1


def test_the_average_state_of_a_recurrence_needs_all_pairs_of_steps():
    counts = moments_of("rnn_average", sequence(6), sequence(4))
    assert counts["x", "x"] == 6 * 4 and max(counts.values()) <= (6 + 1) * (4 + 1)


def test_the_work_on_long_sequences_is_linear():
    """The number of blocks does not grow with the axes but for the levels of the recurrence."""
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    sizes = []
    for length in (10, 20):
        group = bind(net.program, sequence(length)).groups[0]
        cross = analytic.prepare(net.limit(), Moments(net.limit()), group, group, ("nngp", "ntk"))
        sizes.append(len(cross.tape.ordered))
    assert sizes[1] < 2.2 * sizes[0]


def test_a_recurrence_is_expanded_as_a_whole():
    """Equations are expanded as often for long sequences as for short ones."""
    net = tensorprog.load(EXAMPLES / "rnn_stacked.tp")
    blocks = []
    for length in (20, 50):
        group = bind(net.program, sequence(length)).groups[0]
        cross = analytic.prepare(net.limit(), Moments(net.limit()), group, group, ("nngp", "ntk"))
        blocks.append((len(cross.tape.blocks), len(cross.left.tape.blocks)))
    assert blocks[0] == blocks[1]


def test_only_the_wanted_kernel_is_asked_for():
    net = tensorprog.load(EXAMPLES / "mlp.tp")
    group = bind(net.program, np.ones((1, 3))).groups[0]
    cross = analytic.prepare(net.limit(), Moments(net.limit()), group, group, ("nngp",))
    assert set(cross.keys) == {"nngp"}
    assert not any(name.startswith("d.") for key in cross.tape.slots for name in key[1:])


def test_blocks_are_in_order():
    """What a block of the tape reads has been written by blocks before it, and by none after it."""
    net = tensorprog.load(EXAMPLES / "rnn_average.tp")
    group = bind(net.program, sequence(5)).groups[0]
    cross = analytic.prepare(net.limit(), Moments(net.limit()), group, group, ("nngp", "ntk"))
    last = {(b.key, int(s)): n for n, b in enumerate(cross.tape.ordered) for s in b.out}
    for n, block in enumerate(cross.tape.ordered):
        for key, slots in block.reads(False):
            assert all(last.get((key, int(s)), -1) < n for s in slots if s > 0)


@pytest.mark.parametrize("name", ["rnn", "rnn_stacked", "rnn_bidirectional", "rnn_average", "cnn_circular"])
def test_supports_contain_what_is_not_zero(name, monkeypatch):
    """Against tapes that ask for everything and drop what they find to be zero."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    inputs = (image(4), image(4)) if name == "cnn_circular" else (sequence(12), sequence(9))
    groups = [bind(net.program, x).groups[0] for x in inputs]
    moments = Moments(net.limit())
    cross = analytic.prepare(net.limit(), moments, *groups, ("nngp", "ntk")).tape
    with monkeypatch.context() as patched:
        patched.setattr(Supports, "of", lambda self, u, v: None)
        full = analytic.prepare(net.limit(), moments, *groups, ("nngp", "ntk")).tape
    zeros = full.find_zeros()
    for key, slots in full.slots.items():
        support = cross.supports.of(*key[1:]) if key[0] == "moment" else None
        alive = (slots.at > 0) & ~zeros.get(key, np.zeros(len(slots.at), dtype=bool))
        assert support is None or not alive[~support.ravel()].any(), key
    assert cross.count <= full.count + 20


def test_gradients_of_a_recurrence_meet_at_equal_distances_from_its_end():
    net = tensorprog.load(EXAMPLES / "rnn.tp")
    groups = [bind(net.program, sequence(length)).groups[0] for length in (30, 20)]
    tape = analytic.prepare(net.limit(), Moments(net.limit()), *groups, ("ntk",)).tape
    support = tape.supports.of("d.s", "d.s")
    np.testing.assert_array_equal(np.argwhere(support), np.stack([np.arange(10, 30), np.arange(20)], axis=1))
