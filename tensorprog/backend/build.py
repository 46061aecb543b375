"""Source -> compiled module, kept on disk under its content, for this and later processes."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import numba
from numpy.typing import NDArray

from tensorprog.backend import access, special
from tensorprog.files import cache_folder

_built: set[str] = set()
_loading = RLock()


def folder() -> Path:
    """Where compiled modules are kept."""
    return cache_folder() / "modules"


def load(source: str) -> ModuleType:
    """The module of a source.  Its functions are compiled when they are needed first, then read from disk."""
    with _loading:
        return _loaded(_name(source), source)


def address(source: str) -> int:
    """Where the machine code of the function `function` of a source begins, which is a callback of C."""
    return int(load(source).function.address)


def called(source: str, arguments: int) -> Callable[..., int]:
    """This function, for pointers and integers, which are numbers alike."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)(address(source))


def pointer(array: NDArray[Any]) -> int:
    """Where the elements of a contiguous array begin."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def is_built(source: str) -> bool:
    """Whether machine code of a source is on disk, or was when this was asked before."""
    name = _name(source)
    if name not in _built and any(any(place.glob(f"__pycache__/{name}*.nbi")) for place in _places()):
        _built.add(name)
    return name in _built


def _name(source: str) -> str:
    return f"tensorprog_{_digest(source)}"


def _places() -> tuple[Path, Path]:
    return folder(), Path(tempfile.gettempdir()) / f"tensorprog-{os.getuid()}"


@cache
def _loaded(name: str, source: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _written(name, source))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@cache
def _digest(source: str) -> str:
    """Of everything that the machine code depends on and numba does not see: the functions that are inlined."""
    parts = (source, *(Path(str(m.__file__)).read_text() for m in (special, access)), numba.__version__)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _written(name: str, source: str) -> Path:
    """The file of a module; written to a temporary name first, so that no other process sees half of it."""
    for place in _places():
        path = place / f"{name}.py"
        try:
            if not path.exists():
                place.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile("w", dir=place, suffix=".part", delete=False) as file:
                    file.write(source)
                os.replace(file.name, path)
            return path
        except OSError:
            continue
    raise OSError("no folder can be written for compiled modules; set TENSORPROG_CACHE")
