"""What a run is for, in a form that can be kept and compared: program, parameters, data, options."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog import __version__
from tensorprog.dataset import Dataset
from tensorprog.elaborate import Elaborated
from tensorprog.ir.printer import print_program
from tensorprog.store.engine import Job


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """A program, the output and the data."""

    elaborated: Elaborated
    output: str
    left: Dataset
    right: Dataset | None

    def request(self, job: Job, names: tuple[str, ...]) -> dict[str, Any]:
        """As `journal.WHOLE` lists it; `compiled` stands for the program with what it uses from other files."""
        program = self.elaborated.program
        return {
            "program": self.elaborated.recipe.source.text,
            "parameters": {name: str(value) for name, value in program.params},
            "compiled": hashlib.sha256(print_program(program).encode()).hexdigest(),
            "output": self.output,
            "kernels": list(names),
            "tier": job.tier,
            "data": digest(self.left),
            "data2": None if self.right is None else digest(self.right),
            "dtype": job.dtype,
            "precision": job.precision,
            "reductions": job.reductions,
            "version": __version__,
        }


def digest(data: Dataset) -> str:
    """A hash of all examples and their order."""
    found = hashlib.sha256()
    for g in data.groups:
        found.update(repr(sorted(g.sizes.items())).encode())
        for name, values in sorted(g.batch.items()):
            found.update(f"{name}{values.shape}".encode())
            found.update(np.ascontiguousarray(values).data)
        found.update(g.rows.tobytes())
    return found.hexdigest()
