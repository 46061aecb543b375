"""Scalar functions compiled by numba, with their types kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(f: F) -> F:
    """`f` as machine code, kept on disk between runs."""
    machine: Any = numba.njit(cache=True)(f)
    return cast(F, machine)
