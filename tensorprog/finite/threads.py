"""Work on several threads, each with a BLAS of one thread: faster than many small products with threads in each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

S = TypeVar("S")
T = TypeVar("T")

CACHED = 1 << 20
"""Bytes that are looked at together."""
_inside = threading.local()


def workers() -> int:
    """The threads that BLAS would take here (OMP_NUM_THREADS and its like are obeyed); 1 inside of `parallel`."""
    if getattr(_inside, "busy", False):
        return 1
    if getattr(_inside, "pool", None) is not None:
        return int(_inside.threads)
    return max((int(library["num_threads"]) for library in _controller().info()), default=1)


def parallel(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """[function(item) for item in items] on all threads, the caller's among them.

    Every thread begins with the item of its own number: calls for the same few items meet the same threads, and so the
    memory that their allocator has kept for them.
    """
    threads = min(workers(), len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with team(), _controller().limit(limits=1):
        return _shared_out(function, items, threads)


def once(make: Callable[[], T]) -> Callable[[], T]:
    """make(), by the thread that asks first; the others wait for it."""
    lock, made = threading.Lock(), list[T]()

    def value() -> T:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return value


def are_finite(values: Any, symmetric: bool = False) -> bool:
    """Whether all numbers of an array [N, ...] are; as many rows at a time as stay in the cache, and of a `symmetric`
    matrix those above the diagonal."""
    step = max(1, CACHED // max(1, values[:1].nbytes))

    def check(k: int) -> bool:
        return bool(np.isfinite(values[k : k + step, k:] if symmetric else values[k : k + step]).all())

    return all(parallel(check, range(0, len(values), step)))


@contextmanager
def team() -> Iterator[None]:
    """Calls of `parallel` inside of this meet the same threads, which are started once."""
    if getattr(_inside, "pool", None) is not None or workers() <= 1:
        yield
        return
    threads = workers()
    with ThreadPoolExecutor(threads - 1) as pool:
        _inside.pool, _inside.threads = pool, threads
        try:
            yield
        finally:
            _inside.pool = None


@contextmanager
def crew() -> Iterator[None]:
    """A team; the code between calls of `parallel` has a BLAS of one thread as well."""
    with team(), _controller().limit(limits=1):
        yield


def _shared_out(function: Callable[[S], T], items: Sequence[S], threads: int) -> list[T]:
    results: dict[int, T] = {}
    turn = iter(range(threads, len(items)))

    def work(first: int) -> None:
        _inside.busy = True
        try:
            for k in chain([first], turn):
                results[k] = function(items[k])
        finally:
            _inside.busy = False

    others = [_inside.pool.submit(work, k) for k in range(1, threads)]
    try:
        work(0)
    finally:
        wait(others)
    for other in others:
        other.result()
    return [results[k] for k in range(len(items))]


def _controller() -> ThreadpoolController:
    return _found("scipy.linalg" in sys.modules)


@cache
def _found(linalg: bool) -> ThreadpoolController:
    """The BLAS libraries that are loaded: scipy's is another than numpy's, and comes with its linear algebra."""
    return ThreadpoolController()
