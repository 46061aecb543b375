"""Options and fixtures of all tests: golden files with `--update-golden`."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tensorprog.evaluate import pairs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What computes a kernel does not depend on how busy the machine is."""
    monkeypatch.setattr(pairs, "PATIENCE", math.inf)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)` asserts that the file `path` holds `text`, or writes it with --update-golden."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            return
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read the new file"
        assert text == path.read_bytes().decode(), f"{path} differs: if that is meant, run pytest --update-golden"

    return compare
