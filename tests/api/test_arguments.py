"""Options of the Python interface: every wrong value is one TensorProgError with a hint, numbers of numpy are taken."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tensorprog import TensorProgError, load
from tensorprog.cli.main import run

TWO_WIDTHS = """program two(s = 1):
    width n = 8
    width m = 8
    input x: [d]
    weight W: [n, d] ~ N(0, s / d)
    weight V: [m, n] ~ N(0, 2 / m)
    weight v: [m] ~ N(0, 1 / m)
    output dot(v, relu(V @ relu(W @ x)))
"""
NET = load(TWO_WIDTHS)
X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.array([1.0, -1.0, 1.0])
WEIGHTS = NET.weights(X)
NO_COUNTS = (2.5, 0, -1, True, "8", "a", None, float("nan"), float("inf"), [3], 1j)
NO_NUMBERS = (0, -1, "a", True, float("nan"), float("inf"), [1.0], 1j)


def wrong(name: str, call: Callable[..., Any], *values: Any, **others: Any) -> list[Any]:
    return [pytest.param(lambda value=v: call(**{name: value}, **others), id=f"{call.__name__}-{name}-{v!r:.12}")
            for v in values]


MISTAKES = [
    *wrong("width", NET.weights, *(w for w in NO_COUNTS if w is not None), {"n": "a"}, {"n": 8}, {}, x=X),
    *wrong("width", NET.weights, {"n": 8, "m": 2.5}, {"n": 8, "m": 0}, {"n": 8, "m": 8, "k": 8}, 10**14, x=X),
    *wrong("width", NET.train, 2.5, "a", {"n": 8}, {"n": 8, "m": "a"}, x=X, y=Y, steps=1),
    *wrong("width", NET.validate, 8, {"n": 8}, x=X),
    *wrong("seed", NET.weights, 1.5, -1, "a", None, True, x=X),
    *wrong("seed", NET.train, -1, "a", x=X, y=Y, steps=1),
    *wrong("seed", NET.kernels, -1, 1.5, "a", x1=X),
    *wrong("dtype", NET.weights, "foo", "float16", int, None, x=X),
    *wrong("dtype", NET.kernels, "foo", int, x1=X),
    *wrong("seeds", NET.simulate, *NO_COUNTS[:8], [], [-1], [0.5], ["a"], [[1]], {}, x=X, width=4),
    *wrong("want", NET.simulate, "ntk", ("foo",), 5, None, [["ntk"]], x=X, width=4),
    *wrong("weights", NET.empirical, WEIGHTS.values, 5, "a", x=X),
    *wrong("widths", NET.validate, 8, [], [8.5, 16], ["a"], "8", [0], [True], x=X),
    *wrong("seeds", NET.validate, 2.5, 0, "a", True, x=X),
    *wrong("seconds", NET.validate, *NO_NUMBERS, x=X),
    *wrong("accuracy", NET.validate, *NO_NUMBERS, x=X),
    *wrong("accuracy", NET.kernels, *NO_NUMBERS, x1=X),
    *wrong("samples", NET.kernels, 1, 2.5, "a", x1=X),
    *wrong("against", NET.validate, 5, [1, 2], "a", {}, {"nngp": None}, {"nngp": [["a"]]}, {"ntk": np.eye(2)},
           {"nngp": 1j * np.eye(3)}, {"nngp": np.full((3, 3), np.inf)}, x=X),
    *wrong("y", NET.train, ["a"] * 3, [1, [1, 2], 1], None, 1j * Y, Y[:2], Y * np.nan, x=X, width=4, steps=1),
    *wrong("steps", NET.train, 2.5, -1, "a", None, float("nan"), x=X, y=Y, width=4),
    *wrong("step", NET.train, *NO_NUMBERS, x=X, y=Y, width=4, steps=1),
    *wrong("loss", NET.train, "foo", None, [], x=X, y=Y, width=4, steps=1),
    *wrong("widths", NET.train_study, 8, [], [2.5], x=X, y=Y, steps=1),
    *wrong("wrt", NET.kernel_gradients, 5, (5,), {"s": "a"}, {"s": None}, {"s": np.inf}, {"s": [1.0]}, "foo", x1=X),
    *wrong("ntk", NET.kernel_vjp, "a", 1j * np.eye(3), np.eye(2), [[1], [1, 2]], x1=X),
]


@pytest.mark.parametrize("call", MISTAKES)
def test_wrong_options_are_one_message(call: Callable[[], Any]) -> None:
    with pytest.raises(TensorProgError):
        call()


def test_a_message_says_what_would_be_right() -> None:
    with pytest.raises(TensorProgError, match="a width must be a whole number of at least 1, not 2.7") as caught:
        NET.weights(X, width=2.7)
    assert caught.value.diagnostics[0].hint


def test_numbers_of_numpy_are_those_of_python() -> None:
    assert len(NET.simulate(X, np.int64(4), np.int64(2))) == len(NET.simulate(X, 4.0, np.arange(2))) == 2
    drawn = NET.weights(X, np.int32(4), np.int64(1)), NET.weights(X, 4, 1)
    np.testing.assert_array_equal(drawn[0].values["W"], drawn[1].values["W"])
    assert NET.weights(X, np.array(4), dtype=">f4").dtype == np.float32
    assert NET.validate(X, np.array([8, 4]), np.int64(2), seconds=np.float32(1)).found["ntk"].widths == (4, 8)
    assert NET.train(X, Y, width=np.int64(4), steps=np.int64(1), step=np.float32(0.5)).schedule.step == 0.5
    assert NET.kernels(X, dtype=np.float32).ntk.dtype == np.float32
    half = NET.kernel_gradients(X, wrt={"s": np.float32(0.5)}).ntk
    np.testing.assert_allclose(half, load(TWO_WIDTHS, s=0.5).ntk(X), rtol=1e-12)


def test_weights_of_other_data_or_another_program_are_refused(tmp_path: Any) -> None:
    other = load(TWO_WIDTHS.replace("[m, n]", "[n, n]").replace("2 / m", "2 / n").replace("[m]", "[n]"))
    for net, weights in ((NET, NET.weights(X[:, :3])), (other, NET.weights(X, {"n": 4, "m": 6}))):
        with pytest.raises(TensorProgError, match="weights"):
            net.empirical(X, weights)
    with pytest.raises(TensorProgError, match="another program"):
        other.save_weights(tmp_path / "w.npz", NET.weights(X, {"n": 4, "m": 6}))


@pytest.mark.parametrize("option", ["--seconds", "--accuracy"])
@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_numbers_of_the_command_line_are_finite(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "examples/mlp.tp", option, value]) == 2
    assert option in capsys.readouterr().err


def test_words_are_no_limit_to_compare_with(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "k.npz", nngp=np.full((4, 4), "a"))
    assert run(["validate", "examples/mlp.tp", "--against", str(tmp_path / "k.npz")]) == 2
    assert "no array of real numbers" in capsys.readouterr().err


def test_networks_are_trained_at_widths_of_ones_own() -> None:
    """As the program that has these widths from the start: the limit is another one than for n = m."""
    own = load(TWO_WIDTHS.replace("n = 8", "n = 6").replace("m = 8", "m = 12"))
    found, right = NET.train(X, Y, width={"n": 6, "m": 12}, steps=3), own.train(X, Y, steps=3)
    np.testing.assert_array_equal(found.outputs, right.outputs)
    np.testing.assert_allclose(found.infinite, right.infinite, rtol=1e-12)
    assert not np.allclose(own.nngp(X), NET.nngp(X))
    study = NET.train_study(X, Y, widths=[12, 6], width={"m": 2, "n": 1}, seeds=1, steps=3)
    np.testing.assert_array_equal(study.trainings[0][0].outputs, right.outputs)


def test_a_study_has_the_limit_of_its_ratios() -> None:
    found = NET.validate(X, (8, 16), 4, width={"n": 1, "m": 2}).nngp
    assert found is not None
    np.testing.assert_allclose(found.limit, load(TWO_WIDTHS.replace("m = 8", "m = 16")).nngp(X), rtol=1e-12)


def test_small_data_in_float32_is_no_error_of_the_limit() -> None:
    for scale in (1e-30, 1e30):
        with pytest.raises(TensorProgError, match="in float32 the NNGP") as caught:
            NET.validate(X * scale, (8, 16), 4)
        assert "dtype='float64'" in str(caught.value)
        found, plain = (NET.validate(x, (8, 16), 4, dtype="float64") for x in (X * scale, X))
        assert found.nngp is not None and plain.nngp is not None
        np.testing.assert_allclose(found.nngp.deviation, plain.nngp.deviation, rtol=1e-6)
        with pytest.raises(TensorProgError, match="range of float32"):
            NET.train(X * scale, Y, steps=2)
        assert np.isfinite(NET.train(X * scale, Y, steps=2, dtype=np.float64).outputs).all()


def test_types_and_ratios_on_the_command_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.tp").write_text(TWO_WIDTHS)
    command = [str(tmp_path / "two.tp"), "--width", "n=4,m=8", "--dtype", "float64", "--json"]
    assert run(["train", *command, "--steps", "2", "--n", "4", "--test", "2"]) == 0
    assert '"widths": [4]' in capsys.readouterr().out.replace("\n", "")
    assert run(["validate", *command, "--seeds", "2", "--widths", "4,8", "--report", str(tmp_path / "r.html"),
                "--train", "2"]) == 0
    for value in ("n=4", "n=4,m=a", "n=4,k=4", "64"):
        assert run(["train", str(tmp_path / "two.tp"), "--width", value]) == 2
