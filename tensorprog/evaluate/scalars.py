"""Outputs that become numbers in the limit (avg, dot / n): their values, with standard errors where sampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.evaluate import analytic
from tensorprog.evaluate.options import Options
from tensorprog.ir.tables import count
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments, Unservable
from tensorprog.tape.tape import Tape

Floats = NDArray[np.float64]


def scalar_limit(limit: Limit, data: Dataset, options: Options) -> tuple[Floats, Floats]:
    """Values and standard errors, [examples * elements], examples in the order of the data.

    The output must be a number in the limit.  Raises TensorProgError as sampling does.
    """
    if limit.powers[limit.output_var] != 0:  # it vanishes
        zero = np.zeros(analytic.output_rows(limit, data))
        return zero, zero
    if options.tier != "sampling":
        try:
            found = _deterministic(limit, data)
            return found, np.zeros_like(found)
        except Unservable:
            pass
    from tensorprog.evaluate.sampling import sample

    return sample(limit, data, options, ()).scalars[limit.output]


def _deterministic(limit: Limit, data: Dataset) -> Floats:
    parts: dict[int, Floats] = {}
    for g in data.groups:
        tape = Tape(limit, Moments(limit), (g.sizes, g.sizes))
        axes = limit.program.var(limit.output_var).axes
        key, slots = tape.scalar(limit.output_var, np.arange(count(axes, g.sizes)))
        tape.build()
        run = analytic.run_single(analytic.Single(tape), analytic.data_families(limit, g), len(g), {})
        parts.update(zip(g.rows.tolist(), run.values[key][slots].T, strict=True))
    return np.concatenate([parts[k] for k in sorted(parts)])
