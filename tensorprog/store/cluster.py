"""Blocks on the processes of a dask cluster; the caller alone writes, so that a worker may die at any time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from tensorprog.cores import cores
from tensorprog.errors import TensorProgError, fail
from tensorprog.store.engine import Cut, Job, Result, compute_elsewhere, packed
from tensorprog.store.plan import Block

AHEAD = 2
"""Blocks under way for every worker: one that is computed and one that waits."""
WAIT = 20
"""Seconds within which a scheduler must answer."""


@contextmanager
def cluster(address: str) -> Iterator[Cluster]:
    """The cluster at an address, or one of processes of this machine for "local", which ends with the block.

    Raises TensorProgError when dask is not installed, or nothing answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise fail("--cluster needs dask", hint="pip install 'tensorprog[cluster]'") from None
    if address == "local":
        with LocalCluster(n_workers=cores(), threads_per_worker=1, processes=True, memory_limit=0,
                          dashboard_address=None) as local, Client(local) as client:
            yield Cluster(client)
        return
    try:
        client = Client(address, timeout=WAIT)
    except (OSError, ValueError) as error:
        raise fail(f"no dask scheduler answers at {address}: {error}",
                   hint="--cluster local, or an address such as tcp://10.0.0.1:8786") from None
    with client:
        yield Cluster(client)


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """Blocks by the workers of a dask client."""

    client: Any

    def results(self, job: Job, tasks: Sequence[Block], cut: Cut) -> Iterator[tuple[Block, Result]]:
        """See `Executor`.  A block whose worker dies is computed by another; after four deaths it is an error."""
        from distributed import KilledWorker, as_completed

        shipped, waiting = packed(job), list(reversed(tasks))
        under_way = {}
        ready = as_completed()

        def submit() -> None:
            block = waiting.pop()
            with warnings.catch_warnings():  # dask advises against examples in the graph; they are a block's only
                warnings.simplefilter("ignore", UserWarning)
                future = self.client.submit(compute_elsewhere, shipped, cut(block), pure=False)
            under_way[future.key] = block
            ready.add(future)

        for _ in range(min(len(waiting), AHEAD * max(1, len(self.client.nthreads())))):
            submit()
        for future in ready:
            try:
                found = future.result()
            except KilledWorker:
                raise fail("the workers died again and again on the same block",
                           hint="they may lack memory: give less with --memory, which holds for each of them") from None
            if isinstance(found, TensorProgError):
                raise found
            yield under_way.pop(future.key), found
            future.release()
            if waiting:
                submit()
