"""Every program under tests/errors/check_*.tp gives exactly the text beside it: errors, or warnings and notes."""

from pathlib import Path

import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError

ERRORS = Path(__file__).parent.parent / "errors"
PROGRAMS = sorted(ERRORS.glob("check_*.tp"))


def told(path: Path) -> str:
    """What the user is told, under the name of the file alone."""
    try:
        result = elaborate(Source(path.name, path.read_text()))
    except TensorProgError as error:
        return str(error) + "\n"
    return "\n".join(note.render() for note in result.notes) + "\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem.removeprefix("check_"))
def test_message(path, golden):
    golden(path.with_suffix(".txt"), told(path))


def test_every_message_has_a_place():
    texts = [p.with_suffix(".txt").read_text() for p in PROGRAMS]
    assert len(texts) >= 55
    assert all(t.startswith(p.name + ":") and "^" in t for t, p in zip(texts, PROGRAMS, strict=True))
