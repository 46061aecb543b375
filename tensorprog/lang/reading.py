"""Reads a .tp file into a `Source`; everything that can be wrong with a file is told here."""

from __future__ import annotations

import os
from pathlib import Path

from tensorprog.errors import Source, Span, TensorProgError, fail

MAX_BYTES = 1_000_000


def read_source(path: str | os.PathLike[str]) -> Source:
    """The text of a UTF-8 file under the name `path`; a byte order mark is dropped.

    Raises TensorProgError when there is no such file, it is a directory or a device, it is larger than
    a megabyte, or it is not UTF-8 (pointing at the first wrong byte).
    """
    return decode(str(path), _read_bytes(Path(path)))


def decode(name: str, data: bytes) -> Source:
    """`data` as a source named `name`."""
    if len(data) > MAX_BYTES:
        raise fail(f"{name} is larger than {MAX_BYTES // 1_000_000} MB", hint="is it a .tp file?")
    try:
        return Source(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _not_utf8(name, data, error.start) from None


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise fail(f"{path} is a directory", hint="give the .tp file itself")
        if path.exists() and not path.is_file():
            raise fail(f"{path} is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise fail(f"there is no file {path}", hint=_similar(path)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise fail(f"cannot read {str(path)!r}: {reason}") from None


def _similar(path: Path) -> str | None:
    """`mlp` was probably meant as `mlp.tp`."""
    candidate = path.with_name(path.name + ".tp")
    return f"did you mean {candidate}?" if candidate.is_file() else None


def _not_utf8(name: str, data: bytes, offset: int) -> TensorProgError:
    source = Source(name, data.decode("utf-8", "replace"))
    place = len(data[:offset].decode("utf-8"))
    return fail(
        f"the file is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}",
        Span(source, place, place + 1),
        "save the file with the encoding UTF-8",
    )
