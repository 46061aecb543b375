"""Names of a program as identifiers of Python: `K.2` is K_2, and no two things have the same one."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from tensorprog.export.library import HELPERS
from tensorprog.ir.expr import symbols
from tensorprog.ir.program import Linear, MatMul, Program

RESERVED = frozenset({
    "N", "np", "torch", "math", "w", "self", "rng", "generator", "draw", "forward", "dtype", "abs", "float", "int",
    "isinstance", "iter", "map", "max", "min", "next", "range", "reversed", "sorted", "zip", *HELPERS,
})


@final
@dataclass(frozen=True)
class Names:
    """Identifiers of weights (keys of a dict), of families, and of sizes, widths and indices (plain names)."""

    weights: dict[str, str]
    families: dict[str, str]
    plain: dict[str, str]


def names_of(program: Program) -> Names:
    """The identifiers; inputs and outputs come first and keep their names where they can."""
    taken = set(RESERVED)
    families = [i.var.name for i in program.instrs]
    indices = [a.index for i in program.instrs for a in i.var.axes]
    for op in (i.op for i in program.instrs):
        maps = [op.map] if isinstance(op, MatMul) else [t.map for t in op.terms] if isinstance(op, Linear) else []
        indices += [a.index for m in maps for a in m.domain]
    sizes = [s for i in program.inputs for s in (*(a.extent for a in i.axes), i.dim) if s is not None]
    plain = [*(w.name for w in program.widths), *sorted({n for e in sizes for n in symbols(e)}), *indices]
    return Names(_identifiers((w.name for w in program.weights), set()), _identifiers(families, taken),
                 _identifiers(plain, taken))


def _identifiers(names: Iterable[str], taken: set[str]) -> dict[str, str]:
    """An identifier for each; those given out are added to `taken`."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        stem = re.sub(r"\W", "_", name)
        stem = f"{stem}_" if keyword.iskeyword(stem) or not stem.isidentifier() else stem
        identifier, k = stem, 2
        while identifier in taken:
            identifier, k = f"{stem}_{k}", k + 1
        taken.add(identifier)
        found[name] = identifier
    return found
