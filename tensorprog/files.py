"""Output files that are complete or not there at all, and the folder of what is kept between processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorprog.errors import fail


def cache_folder() -> Path:
    """What is kept between processes: $TENSORPROG_CACHE, else tensorprog in the user's cache folder."""
    chosen = os.environ.get("TENSORPROG_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tensorprog"


def check_suffix(path: Path, what: str, *suffixes: str) -> None:
    """Raises TensorProgError unless the name of a file ends as it must."""
    if path.suffix not in suffixes:
        raise fail(f"cannot write {path}: {what} to a {' or '.join(suffixes)} file")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it takes the place of `path` when the block succeeds.

    Raises TensorProgError when the folder cannot be written to, and for a device, which must not be replaced.
    """
    if path.exists() and not path.is_file():
        raise fail(f"cannot write {path}: it is not a regular file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise fail(f"cannot write {path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_mode(path))
        os.replace(temporary, path)
    except OSError as error:
        raise fail(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, else those that the user gives new files."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
