"""Every malformed program under tests/errors/syntax_*.tp gives exactly the text beside it."""

from pathlib import Path

import pytest

from tensorprog.errors import Source, TensorProgError
from tensorprog.lang import parse, read_source

ERRORS = Path(__file__).parent.parent / "errors"
PROGRAMS = sorted(ERRORS.glob("syntax_*.tp"))


def message_of(path: Path) -> str:
    """The full text of the error, under the name of the file alone."""
    with pytest.raises(TensorProgError) as caught:
        parse(Source(path.name, read_source(path).text))
    return str(caught.value).replace(str(path), path.name) + "\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem.removeprefix("syntax_"))
def test_message(path, golden):
    golden(path.with_suffix(".txt"), message_of(path))
