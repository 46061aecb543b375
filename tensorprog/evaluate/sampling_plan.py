"""The order in which the elements of a sampled program are computed (see `tape/causal.py`)."""

from __future__ import annotations

from tensorprog.evaluate.sampling_program import Sampler
from tensorprog.finite.plan import Plan
from tensorprog.ir.schedule import schedule
from tensorprog.ir.tables import Sizes
from tensorprog.tape.causal import Causal


def plan_of(chosen: Sampler, sizes: Sizes) -> Plan:
    """The steps of the sampled program at these sizes.  Raises TensorProgError as `schedule` does."""
    if not chosen.responses:
        return Plan(chosen.program, dict(sizes), schedule(chosen.program, sizes))
    causal = Causal(chosen.program, chosen.responses, sizes, chosen.regressions)
    causal.settle()
    tables = {(i.var.name, *key): table for i in chosen.program.instrs for key, table in causal.tables(i).items()}
    return Plan(chosen.program, dict(sizes), tuple(causal.schedule()), _tables=tables)
