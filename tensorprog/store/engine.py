"""The kernels of one block: what a process has to know, and the work itself."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate import analytic
from tensorprog.evaluate.kernels import Row, served
from tensorprog.evaluate.pairs import Tables
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments, Unservable
from tensorprog.store.plan import Block

Array = NDArray[np.floating[Any]]


@final
@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all blocks: `want` are the kernels to compute, `zero` those that vanish in the limit;
    `pairs` of examples there are in all, and the slots of a tile may take `memory` bytes.

    Kernels are written as `dtype`, and computed as `precision` and `reductions` say (`evaluate.Options`).
    """

    limit: Limit
    want: tuple[str, ...]
    zero: tuple[str, ...]
    tier: str
    dtype: str
    precision: str
    reductions: bool
    pairs: int = 0
    memory: int = 1 << 26

    def prepared(self) -> analytic.Prepared:
        """The tapes, still to be made."""
        moments = Moments(self.limit, None if self.tier == "auto" else self.tier)
        return analytic.Prepared(self.limit, moments, self.want, self.pairs, self.memory)


@final
@dataclass(frozen=True, slots=True)
class Task:
    """A block and its examples; no right ones on the diagonal."""

    block: Block
    left: Dataset
    right: Dataset | None


@final
@dataclass(frozen=True, slots=True)
class Result:
    """Kernels by name, [output elements, output elements'], and what served the expectations."""

    kernels: dict[str, Array]
    served: tuple[Row, ...]


class Executor(Protocol):
    """Computes blocks, in whatever order."""

    def results(self, job: Job, tasks: Sequence[Block], cut: Cut) -> Iterator[tuple[Block, Result]]:
        """The results of all blocks as they are ready; `cut` gives the examples of a block."""


class Cut(Protocol):
    """The examples of a block."""

    def __call__(self, block: Block) -> Task: ...


def compute(job: Job, prepared: analytic.Prepared, task: Task) -> Result:
    """The kernels of a block.

    Raises TensorProgError for what has to be sampled, and for kernels that are not finite.
    """
    shape = [analytic.output_rows(job.limit, d) for d in (task.left, task.right or task.left)]
    kernels: dict[str, Array] = {name: np.zeros(shape, job.dtype) for name in job.zero}
    rows: tuple[Row, ...] = ()
    if job.want:
        tables = Tables() if job.reductions else None
        how = job.precision, tables
        try:
            with np.errstate(all="ignore"):  # what is not finite is told as an error
                found, errors = analytic.kernels(prepared, task.left, task.right, lambda fraction: None, *how)
        except Unservable as reason:
            raise jointly(job.limit, str(reason)) from None
        kernels |= {name: k.astype(job.dtype, copy=False) for name, k in found.items()}
        rows = served(errors, tables or {})
    _check_finite(job, kernels)
    return Result(kernels, rows)


def jointly(limit: Limit, reason: str) -> TensorProgError:
    """The error for what has to be sampled."""
    return fail(
        f"sampling draws all examples jointly and cannot go block by block; this kernel is sampled: {reason}",
        limit.source.span,
        "write to an .npz file without --memory and --cluster, and take fewer examples at a time",
    )


def _check_finite(job: Job, kernels: dict[str, Array]) -> None:
    for name, k in kernels.items():
        if not all(np.isfinite(row).all() for row in k):
            raise fail(f"the {name.upper()} of '{job.limit.output}' is not finite: an expectation overflows, or does "
                       "not exist", job.limit.source.span,
                       "look for a nonlinearity that grows fast, and for very large data or variances")


@final
@dataclass(frozen=True, slots=True)
class Serial:
    """Blocks one after the other in this process, by the tapes `prepared`."""

    prepared: analytic.Prepared

    def results(self, job: Job, tasks: Sequence[Block], cut: Cut) -> Iterator[tuple[Block, Result]]:
        """See `Executor`."""
        for block in tasks:
            yield block, compute(job, self.prepared, cut(block))


def packed(job: Job) -> bytes:
    """A job for `compute_elsewhere`."""
    return pickle.dumps(job)


def compute_elsewhere(job: bytes, task: Task) -> Result | TensorProgError:
    """`compute` in a process that may not have seen the job before; its tapes are kept for the next block.

    An error of the user is a result: what is raised on a worker, dask prints with a traceback.
    """
    try:
        return compute(*_known(job), task)
    except TensorProgError as error:
        return error


@lru_cache(maxsize=2)
def _known(job: bytes) -> tuple[Job, analytic.Prepared]:
    known: Job = pickle.loads(job)
    return known, known.prepared()
