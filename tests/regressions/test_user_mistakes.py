"""Mistakes that users make in programs, data and options, each told with a message at its place."""

import json
from pathlib import Path

import numpy as np
import pytest

from tensorprog import TensorProgError, load
from tensorprog.cli.main import run
from tensorprog.files import written_whole
from tensorprog.loading import load_file

HEAD = """program p():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight V: [n, n] ~ N(0, 1 / n)
    weight v: [n]    ~ N(0, 1 / n)
    u = W @ x
"""


def program(*lines: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in lines)


def refusal(*lines: str) -> tuple[str, int]:
    """The message for a program, and its line among `lines`, counted from 1."""
    with pytest.raises(TensorProgError) as caught:
        load(program(*lines)).check()
    first = caught.value.diagnostics[0]
    assert first.span is not None
    return first.message, first.span.line - HEAD.count("\n")


@pytest.mark.parametrize(
    ("nonlinearity", "words"),
    [
        ("1 / relu(u)", "zero with positive probability"),
        ("1 / step(u)", "zero with positive probability"),
        ("log(relu(u))", "zero with positive probability"),
        ("u * relu(u)^(-1/4)", "zero with positive probability"),
        ("1 / abs(u)", "reaches zero"),
        ("abs(u)^(-1/2)", "reaches zero"),
        ("1 / u^2", "reaches zero"),
        ("1 / tanh(u)^2", "reaches zero"),
        ("1 / u", "takes both signs"),
        ("1 / gaussian(u)", "grows too fast"),
        ("u / normpdf(u)", "grows too fast"),
        ("1 / normcdf(u)", "grows too fast"),
        ("exp(1 / sigmoid(u))", "grows too fast"),
    ],
)
def test_a_nonlinearity_without_gaussian_moments_is_refused(nonlinearity: str, words: str) -> None:
    message, line = refusal(f"h = {nonlinearity}", "output dot(v, h)")
    assert words in message
    assert line == 1


@pytest.mark.parametrize(
    "nonlinearity",
    ["abs(u)^(-1/4)", "1 / (1 + relu(u))", "1 / softplus(u)", "1 / exp(u)", "log(abs(u))", "1 / cosh(u)",
     "u / sqrt(1 + u^2)", "1 / (1 + gaussian(u))", "exp(-1 / (1 + exp(u)))", "abs(u)^(1/2)"],
)
def test_a_nonlinearity_with_gaussian_moments_is_taken(nonlinearity: str) -> None:
    load(program(f"h = {nonlinearity}", "output dot(v, h)")).check()


@pytest.mark.parametrize("size", ["n * n", "n^(1/2)", "n + 1", "n^2 / 64"])
def test_a_width_in_no_fixed_ratio_is_refused(size: str) -> None:
    message, line = refusal(f"width m = {size}", "output dot(v, u)")
    assert "fixed ratio" in message
    assert line == 1


@pytest.mark.parametrize("size", ["n / 2", "3 * n", "n // 2", "17"])
def test_a_width_in_a_fixed_ratio_is_taken(size: str) -> None:
    load(program(f"width m = {size}", "output readout(dense(relu(u), m))")).check()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("V[0] @ u", "'V' has no index axes"),
        ("u < x", "shapes do not match: [n] < [d]"),
        ("softmax(u)", "softmax needs the range of an index"),
        ("zeros(0)", "at least 1, not 0"),
        ("zeros(2.5)", "at least 1, not 2.5"),
    ],
)
def test_the_message_names_what_was_written(expression: str, words: str) -> None:
    message, line = refusal(f"h = {expression}", "output dot(v, h)")
    assert words in message
    assert line == 1


def test_a_sum_over_an_empty_range_is_zero() -> None:
    x = np.ones((2, 3))
    with_sum = load(program("h = u + sum(i in 1..0) V @ u", "output dot(v, h)"))
    assert np.allclose(with_sum.nngp(x), load(program("output dot(v, u)")).nngp(x), rtol=1e-12)
    assert not load(program("output dot(v, sum(i in 1..0) u)")).nngp(x).any()


def test_a_name_as_long_as_the_file_is_shortened() -> None:
    with pytest.raises(TensorProgError) as caught:
        load(program(f"output dot(v, {'a' * 100_000})"))
    assert len(str(caught.value)) < 3000


def test_a_kernel_that_overflows_is_an_error() -> None:
    net = load(program("output dot(v, exp(1000 * u))"))
    with pytest.raises(TensorProgError, match="not finite"):
        net.nngp(np.ones((2, 3)))


def test_masked_data_is_refused() -> None:
    x = np.ma.masked_greater(np.arange(6.0).reshape(2, 3), 4)
    with pytest.raises(TensorProgError, match="masked"):
        load(program("output dot(v, u)")).nngp(x)


def test_no_seeds_are_refused() -> None:
    with pytest.raises(TensorProgError, match="number of seeds"):
        load(program("output dot(v, u)")).simulate(np.ones((1, 3)), 8, 0)


@pytest.mark.parametrize("text", ["", "a,b\n", "1,2\n3\n", "1,2\n3,\n", "1;2\n3;4\n"])
def test_a_broken_table_is_told_without_talk_of_pickles(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(TensorProgError) as caught:
        load_file(tmp_path / "x.csv")
    assert "x.csv" in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TensorProgError, match="not a regular file"), written_whole(tmp_path / "folder"):
        pass


def test_check_refuses_the_name_of_an_output_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "p.tp").write_text(program("output dot(v, u)"))
    assert run(["check", str(tmp_path / "p.tp"), "--output", "nope"]) == 2


def test_a_wrong_option_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "p.tp", "--json", "--bogus"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False
