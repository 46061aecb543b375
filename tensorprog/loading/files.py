"""Arrays from .npy, .npz and .csv files, in the form that `tensorprog.dataset.bind` takes."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import fail

SUFFIXES = (".npy", ".npz", ".csv")


def load_file(path: str | os.PathLike[str]) -> Any:
    """The array of a .npy or .csv file; the arrays of an .npz file by input name.

    Entries `x.0`, `x.1`, ... of an .npz are one list of arrays `x`; the single unnamed entry `arr_0` stands
    for the array itself.  A first line of a .csv that is not numbers is taken as its header.
    Raises TensorProgError when the file is missing, broken, or holds Python objects.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise fail(f"data file {file} is none of {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise fail(f"there is no data file {file}")
    if file.suffix == ".csv":
        return _csv(file)
    try:
        loaded = np.load(file, allow_pickle=False)
        return loaded if file.suffix == ".npy" else _entries(file, {name: loaded[name] for name in loaded.files})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        what = str(error).split(". ")[0]
        raise fail(f"cannot read {file}: {what}", hint="objects and pickles are not read") from None


def _csv(file: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            first = lines.readline()
        skip = 0 if all(_is_number(cell) for cell in first.split(",")) else 1
        with warnings.catch_warnings():  # a file without rows is told below
            warnings.simplefilter("ignore")
            rows = np.loadtxt(file, delimiter=",", skiprows=skip, ndmin=2, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise fail(f"cannot read {file}: {str(error).split(';')[0]}",
                   hint="one example per line, numbers between commas, at most one line of names first") from None
    if rows.size == 0:
        below = f" below its first line, taken for names: {first.strip()[:60]}" if skip and first.strip() else ""
        raise fail(f"{file} has no rows of numbers{below}")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _entries(file: Path, arrays: Mapping[str, Any]) -> Any:
    """Entries by input name, numbered ones collected into lists."""
    if list(arrays) == ["arr_0"]:
        return arrays["arr_0"]
    found: dict[str, Any] = {}
    numbered: dict[str, dict[int, Any]] = {}
    for key, value in arrays.items():
        name, _, index = key.rpartition(".")
        if name and index.isdecimal():
            numbered.setdefault(name, {})[int(index)] = value
        else:
            found[key] = value
    for name, parts in numbered.items():
        if name in found or sorted(parts) != list(range(len(parts))):
            raise fail(f"{file} must have the entries {name}.0, ..., {name}.{len(parts) - 1} of '{name}', each once")
        found[name] = [parts[k] for k in range(len(parts))]
    return found
