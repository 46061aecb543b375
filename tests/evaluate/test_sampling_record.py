"""Recordings of replicates: the same operations on other numbers, and what cannot be recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorprog
from tensorprog.dataset import bind
from tensorprog.evaluate import Options
from tensorprog.evaluate.sampling import Sampled, sample
from tensorprog.evaluate.sampling_problem import Known
from tensorprog.evaluate.sampling_record import DIRECT, Direct, Recorder, Unrecordable
from tests.oracles.duals import Array

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(17)

Kept = dict[Hashable, Known]


def replicates(net: tensorprog.Network, x: Any, tier: str, seed: int, kept: Kept) -> Sampled:
    options = Options(tier=tier, samples=64, replicates=4, seed=seed)
    return sample(net.limit(), bind(net.program, x), options, options.want, kept)


def recordings(kept: Kept) -> int:
    return sum(len(known.recordings) for known in kept.values())


def unrecordable(*_: object) -> None:
    raise Unrecordable


def points() -> Array:
    return RNG.normal(size=(3, 3))


def sequences() -> Array:
    return RNG.normal(size=(3, 4, 3))


def ragged() -> list[Array]:
    return [RNG.normal(size=(steps, 3)) for steps in (3, 4, 3)]


@pytest.mark.parametrize("tier", ["auto", "sampling"])
@pytest.mark.parametrize(
    ("name", "data"),
    [("gru", sequences), ("gru", ragged), ("lstm", sequences), ("highway", points), ("gated_mlp", points),
     ("mlp", points), ("resnet", points), ("rnn", ragged), ("rnn_bidirectional", sequences)],
)
def test_other_draws_and_other_data_are_replayed(
    name: str, data: Callable[[], Any], tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded data has zeros that the other has not: they must not be taken for granted."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **({"depth": 1} if name == "highway" else {}))
    recorded, other = data(), data()
    recorded[0][...] = 0
    recorded[1][..., 0] = 0
    kept: Kept = {}
    replicates(net, recorded, tier, 0, kept)
    before = recordings(kept)
    replayed = replicates(net, other, tier, 1, kept)
    assert recordings(kept) == before > 0
    anew = replicates(net, other, tier, 1, {})
    for kernel in ("nngp", "nngp_se", "ntk", "ntk_se"):
        assert np.array_equal(getattr(replayed, kernel), getattr(anew, kernel))
    assert [e for _, e in replayed.integrated] == [e for _, e in anew.integrated]

    monkeypatch.setattr(Recorder, "recording", unrecordable)
    direct: Kept = {}
    known = replicates(net, other, tier, 1, direct)
    assert recordings(direct) == 0
    for kernel in ("nngp", "ntk"):
        np.testing.assert_allclose(getattr(replayed, kernel), getattr(known, kernel), rtol=1e-11, atol=1e-13)


def test_drawing_everything_needs_no_recording_of_scalars() -> None:
    """Scalars of one replicate are numbers on which operations may depend."""
    kept: Kept = {}
    replicates(tensorprog.load(EXAMPLES / "layernorm.tp"), points(), "sampling", 0, kept)
    assert recordings(kept) == 0


# ---------------------------------------------------------------- the recorder


def affine(arrays: Direct, x: Any, y: Any) -> Any:
    """Views, writes in place, options, items of lists, and what is known."""
    total = arrays.zeros(2, 3)
    total[:, 1:] = x
    total += arrays.call(np.add, np.ones(3), 1)
    row = total[0]
    row *= y.reshape(1)
    stacked = np.concatenate([np.append(x, x[:, :1], axis=1), np.ones((1, 3)), total], axis=0)
    parts = {"a": stacked, "b": [y[:, None] * np.append(x[0], 1.0)]}
    product = arrays.call(lambda given, scale: given["a"].T @ given["a"] * given["b"][0] / scale, parts, 2.0)
    return product.swapaxes(0, 1)


def test_a_replay_does_the_same_with_other_numbers() -> None:
    recorder = Recorder()
    one, two = ((RNG.normal(size=(2, 2)), RNG.normal(size=1)) for _ in range(2))
    result = affine(recorder, *map(recorder.given, one))
    recording = recorder.recording(result)
    assert np.array_equal(result.value, affine(DIRECT, *one))
    for given in (two, one, two):
        assert np.array_equal(recording.replay(*given), affine(DIRECT, *given))


@pytest.mark.parametrize(
    "operation",
    [bool, np.asarray, lambda x: x.any(), lambda x: np.add(np.zeros(2), x, out=np.zeros(2)),
     lambda x: np.add.at(np.zeros(2), [0, 1], x), lambda x: operator_setitem(np.zeros(2), x)],
)
def test_what_depends_on_the_numbers_is_not_recorded(operation: Callable[[Any], Any]) -> None:
    with pytest.raises(Unrecordable):
        operation(Recorder().given(np.ones(2)))


def operator_setitem(array: Array, value: Any) -> None:
    array[:] = value


def test_a_known_result_is_not_recorded() -> None:
    recorder = Recorder()
    with pytest.raises(Unrecordable):
        recorder.recording(recorder.call(np.add, 1, 2))
