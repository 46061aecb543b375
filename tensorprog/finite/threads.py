"""Work on several threads, each with a BLAS of one thread: faster than many small products with threads in each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

S = TypeVar("S")
T = TypeVar("T")

_inside = threading.local()


def workers() -> int:
    """The threads that BLAS would take here (OMP_NUM_THREADS and its like are obeyed); 1 inside of `parallel`."""
    if getattr(_inside, "busy", False):
        return 1
    return max((int(library["num_threads"]) for library in _controller().info()), default=1)


def parallel(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """[function(item) for item in items] on all threads."""
    threads = min(workers(), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with _controller().limit(limits=1), ThreadPoolExecutor(threads, initializer=_enter) as pool:
        return list(pool.map(function, items))


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _enter() -> None:
    _inside.busy = True
