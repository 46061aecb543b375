"""Files that are no programs: one clear error, never a traceback or a hang."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorprog.errors import Source, TensorProgError
from tensorprog.lang import format_source, parse, read_source
from tensorprog.lang.build import MAX_ALTERNATIVES, MAX_DEPTH
from tensorprog.lang.layout import MAX_BRACKETS, MAX_LEVELS
from tensorprog.lang.reading import MAX_BYTES


def error_of(call, *args):
    with pytest.raises(TensorProgError) as caught:
        call(*args)
    return caught.value.diagnostics[0]


def define(text):
    return Source("test", f"def f(u) = {text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "u" + ")" * 10_000,
        "(" * 10_000,
        "f(" * 300 + "u" + ")" * 300,
        "-" * 50_000 + "u",
        "not " * 5_000 + "u",
        "+".join(["u"] * 10_000),
        "^".join(["u"] * 10_000),
        "u" + ".T" * 10_000,
        "sum(i in T) " * 5_000 + "u",
    ],
    ids=["closed", "open", "calls", "minus", "not", "sum", "power", "transpose", "reductions"],
)
def test_depth_is_limited(text):
    message = error_of(parse, define(text)).message
    assert "deep" in message or "never closed" in message


def test_what_is_within_the_limits_can_be_compared_hashed_and_printed():
    for text in ["+".join(["u"] * MAX_DEPTH), "f(" * (MAX_BRACKETS - 1) + "u" + ")" * (MAX_BRACKETS - 1)]:
        tree, again = parse(define(text)), parse(define(text))
        assert tree == again and hash(tree) == hash(again) and repr(tree) == repr(again)
        assert parse(Source("test", format_source(define(text)))) == tree


def test_levels_are_limited():
    lines = [" " * depth + "for i in T:" for depth in range(1, MAX_LEVELS + 2)]
    text = "program p:\n" + "\n".join(lines) + "\n" + " " * 100 + "h = x\n"
    assert "nested" in error_of(parse, Source("test", text)).message


def test_alternatives_are_limited():
    text = "program p:\n    if a:\n        h = x\n" + "    elif a:\n        h = x\n" * (MAX_ALTERNATIVES + 1)
    assert "alternatives" in error_of(parse, Source("test", text)).message


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "1e" + "9" * 5000, "1" * 5000, "0." + "1" * 5000])
def test_numbers_are_limited(text):
    assert "out of range" in error_of(parse, define(text)).message


def test_missing_file_directory_and_device(tmp_path):
    assert "no file" in error_of(read_source, tmp_path / "missing.tp").message
    (tmp_path / "net.tp").write_text("def f(u) = u\n")
    assert "net.tp" in error_of(read_source, tmp_path / "net").hint
    assert "is a directory" in error_of(read_source, tmp_path).message
    assert "cannot read" in error_of(read_source, "a\0b").message
    os.mkfifo(tmp_path / "pipe.tp")
    assert "not a regular file" in error_of(read_source, tmp_path / "pipe.tp").message


def test_large_file(tmp_path):
    (tmp_path / "large.tp").write_bytes(b"#" * (MAX_BYTES + 1))
    assert "larger than 1 MB" in error_of(read_source, tmp_path / "large.tp").message


def test_not_utf8(tmp_path):
    (tmp_path / "latin.tp").write_bytes("# \u00fc\n".encode() + b"\n# caf\xe9\n")
    diagnostic = error_of(read_source, tmp_path / "latin.tp")
    assert "byte 0xe9 at offset 11" in diagnostic.message
    assert (diagnostic.span.line, diagnostic.span.column) == (3, 6)


def test_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "mark.tp").write_bytes("\ufeffdef f(u) = u\n".encode())
    assert read_source(tmp_path / "mark.tp").text == "def f(u) = u\n"


WORDS = """program p ( ) [ ] { } : , = ~ N lr for in if elif else return def block use weight width input output
h x sum softmax 1 0.5 1..2 .. + - * / // % @ ^ .T == < and or not # " ' W_{g} W_ \u03c6 \0"""
SHAPES = ["\n", "\t", "\n    ", "\n        ", "\r\n", "program p:\n    ", "sum(i in T) "]
FRAGMENTS = st.sampled_from([*WORDS.split(), *SHAPES])


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=30).map(" ".join) | st.lists(FRAGMENTS, max_size=30).map("".join) | st.text())
def test_garbage_gives_errors_of_ours_only(text):
    source = Source("garbage", text)
    try:
        tree = parse(source)
    except TensorProgError as error:
        assert str(error)
        assert not any("Expected one of" in d.message or "__ANON" in d.message for d in error.diagnostics)
        assert all(d.span is None or 0 <= d.span.start <= d.span.end <= len(text) for d in error.diagnostics)
    else:
        assert parse(Source("garbage", format_source(source))) == tree
