"""Parameters, several programs, and `use`: what a program may read."""

import os
from fractions import Fraction

import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.ir.expr import Num

PROGRAM = "program p(depth = 2, phi = relu):\n    width n = 8\n    input x: [d]\n    h = x\n    for l in 1..depth:\n" \
          "        h = phi(dense(h, n))\n    output readout(h)\n"
CELL = "block cell(h, n):\n    return helper(dense(h, n))\ndef helper(u) = sin(u)\ndef other(u) = u\n"


def use(folder, line, body="cell(x, n)"):
    text = f"{line}\nprogram p():\n    width n = 8\n    input x: [d]\n    output avg({body})\n"
    return elaborate(Source("p.tp", text), folder=folder)


def message(call, *args, **kwargs):
    with pytest.raises(TensorProgError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_parameters_are_numbers_or_names():
    program = elaborate(Source("p", PROGRAM), {"depth": 3, "phi": "gelu"}).program
    assert program.params == (("depth", "3"), ("phi", "gelu"))
    assert len([w for w in program.weights if w.cols]) == 3


@pytest.mark.parametrize("value", ["0.1", 0.1, Fraction(1, 10), "1e-1", "1/10"])
def test_numbers_are_taken_as_written(value):
    source = "program p(s):\n    width n = 8\n    weight b: [n] ~ N(0, s)\n    output avg(b)\n"
    assert elaborate(Source("p", source), {"s": value}).program.weights[0].variance == Num(Fraction(1, 10))


@pytest.mark.parametrize(("params", "words"), [
    ({"widht": 3}, "program 'p' has no parameter 'widht'"),
    ({"phi": "geluu"}, "did you mean 'gelu'?"),
    ({"phi": "__import__('os')"}, "must be a number or the name of a function"),
    ({"depth": "1/0"}, "must be a number or the name of a function"),
    ({"depth": float("nan")}, "must be a number"),
    ({"depth": float("inf")}, "too large"),
    ({"depth": None}, "must be a number"),
    ({"depth": 2.5}, "the number must be whole"),
    ({"depth": "relu"}, "must be a number known before the program runs"),
    ({"depth": 10**9}, "values"),
])
def test_wrong_parameters(params, words):
    text = message(elaborate, Source("p", PROGRAM), params)
    assert words in text and "p:" in text


def test_one_of_several_programs():
    source = Source("p", PROGRAM + PROGRAM.replace("program p", "program q"))
    assert elaborate(source, program="q").program.name == "q"
    assert "several programs: p, q" in message(elaborate, source)
    assert "no program 'r'" in message(elaborate, source, program="r")


def test_use(tmp_path):
    (tmp_path / "blocks.tp").write_text(CELL)
    assert use(tmp_path, 'use "blocks.tp" (cell)').program.weights[0].name == "W"
    assert use(tmp_path, 'use "blocks.tp"', "helper(other(dense(x, n)))")
    assert "unknown name 'helper'" in message(use, tmp_path, 'use "blocks.tp" (cell)', "helper(dense(x, n))")
    assert "did you mean 'cell'?" in message(use, tmp_path, 'use "blocks.tp" (cel)')


def test_own_definitions_win_over_used_ones(tmp_path):
    (tmp_path / "blocks.tp").write_text("def f(u) = u / 0\n")
    assert use(tmp_path, 'use "blocks.tp"\ndef f(u) = u', "f(dense(x, n))")


def test_used_files_may_use_each_other(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.tp").write_text('use "sub/b.tp" (g)\ndef f(u) = g(u)\n')
    (tmp_path / "sub" / "b.tp").write_text('use "a.tp" (f)\ndef g(u) = sin(u)\ndef h(u) = f(u)\n')
    assert use(tmp_path, 'use "a.tp"\nuse "sub/b.tp"', "h(f(dense(x, n)))")
    assert "has no block or function 'g'" in message(use, tmp_path, 'use "a.tp" (g)')


@pytest.mark.parametrize(("path", "words"), [
    ("../secret.tp", "lies outside the folder"),
    ("sub/../../secret.tp", "lies outside the folder"),
    ("/etc/passwd", "lies outside the folder"),
    ("link.tp", "lies outside the folder"),
    ("loop.tp", ""),
    ("nothing.tp", "no file 'nothing.tp'"),
    ("sub", "no file 'sub'"),
    ("x" * 5000, ""),
])
def test_use_stays_in_its_folder(tmp_path, path, words):
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.tp").write_text(CELL)
    os.symlink(tmp_path / "secret.tp", folder / "link.tp")
    os.symlink(folder / "loop.tp", folder / "loop.tp")
    text = message(use, folder, f'use "{path}" (cell)')
    assert words in text and text.startswith("p.tp:1:1: error") and "block cell" not in text


def test_use_without_a_folder():
    assert "load the program from a file" in message(use, None, 'use "blocks.tp" (cell)')


def test_too_many_files(tmp_path):
    for k in range(70):
        (tmp_path / f"f{k}.tp").write_text(f'use "f{k + 1}.tp"\ndef g{k}(u) = u\n')
    assert "more than 64 files" in message(use, tmp_path, 'use "f0.tp"')


def test_a_mistake_in_a_used_file_is_told_at_the_call(tmp_path):
    (tmp_path / "blocks.tp").write_text("block cell(h, n):\n    return dense(h, m)\n")
    text = message(use, tmp_path, 'use "blocks.tp" (cell)')
    assert text.startswith("p.tp:5:16: error: in cell: unknown name 'm'")
