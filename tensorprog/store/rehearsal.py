"""Before anything is planned: what there is to compute, found by computing it for a few examples.

The rehearsal also loads code and tables, so that what the process takes from then on belongs to the blocks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tensorprog.errors import TensorProgError
from tensorprog.evaluate import analytic
from tensorprog.evaluate.kernels import inner_randomness, is_zero, wanted
from tensorprog.evaluate.options import Options
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Unservable
from tensorprog.store.engine import Job, jointly
from tensorprog.store.plan import part
from tensorprog.store.request import Asked

EXAMPLES = 32


def rehearsed(limit: Limit, asked: Asked, dtype: str, options: Options) -> tuple[Job, analytic.Prepared, str]:
    """The job, what is prepared for it, and why there is no NTK where it was wanted and does not exist.

    Raises TensorProgError for a program that has to be sampled, and when no kernel that is wanted exists.
    """
    job = _job(limit, asked, dtype, options)
    try:
        return job, _prepared(job, asked), ""
    except Unservable as reason:
        raise jointly(limit, str(reason)) from None
    except TensorProgError as error:
        if set(job.want) != {"nngp", "ntk"}:
            raise
        less = replace(job, want=("nngp",))
        return less, _prepared(less, asked), f"there is no NTK at equal examples: {error.diagnostics[0].message}"


def _job(limit: Limit, asked: Asked, dtype: str, options: Options) -> Job:
    inside = inner_randomness(limit)
    if options.tier == "sampling" or inside:
        raise jointly(limit, f"'{inside[0]}' stays random inside the network" if inside else "so it is asked for")
    names = wanted(limit, options.want)
    zero = tuple(w for w in names if is_zero(limit, w))
    right = asked.right or asked.left
    pairs = asked.left.count * right.count // (len(asked.left.groups) * len(right.groups))
    want = tuple(w for w in names if w not in zero)
    return Job(limit, want, zero, options.tier, dtype, options.dtype, options.reductions, pairs)


def _prepared(job: Job, asked: Asked) -> analytic.Prepared:
    prepared = job.prepared()
    if job.want:
        first = part(asked.left, range(min(EXAMPLES, asked.left.count)))
        with np.errstate(all="ignore"):
            analytic.kernels(prepared, first, None, lambda fraction: None)
    return prepared
