"""`--data` of the commands: a file, or the name of a bundled set."""

from __future__ import annotations

from typing import Any

from tensorprog.ir.program import Program
from tensorprog.loading import BUNDLED, bundled, gaussian_data, load_file

HELP = f"A file (.npy, .npz, .csv) or one of {', '.join(BUNDLED)}."


def read_data(data: str | None, program: Program, n: int | None) -> Any:
    """The data as `tensorprog.dataset.bind` takes it, at most the first n examples; None where nothing was given."""
    if data is None:
        return None
    return first(bundled(data, program).x if data in BUNDLED else load_file(data), n)


def read_or_draw(data: str | None, program: Program, n: int) -> Any:
    """`read_data`, or n Gaussian examples where no data was given."""
    return gaussian_data(program, n) if data is None else read_data(data, program, n)


def first(x: Any, n: int | None) -> Any:
    """The first n examples of arrays, lists or dicts of them."""
    if n is None or x is None:
        return x
    return {name: value[:n] for name, value in x.items()} if isinstance(x, dict) else x[:n]


