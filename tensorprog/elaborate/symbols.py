"""Parameters as symbols: the program of a source with `sw` in its variances instead of the number chosen for it.

Which parameters can stay symbols is found by trying: those that leave every definition as it is, and so occur in
the laws of weights alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorprog.elaborate.driver import Parameter, elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.ir.program import Program


def with_symbols(
    source: Source, params: Mapping[str, Parameter], program: str | None, folder: Path | None
) -> Program:
    """The program, as `elaborate` makes it, with as many parameters as possible kept as symbols."""
    plain = elaborate(source, params, program, folder).program

    def kept(names: frozenset[str]) -> Program | None:
        try:
            found = elaborate(source, params, program, folder, names).program
        except TensorProgError:
            return None
        return found if found.instrs == plain.instrs else None

    names = [name for name, value in plain.params if _is_number(value)]
    alone = frozenset(name for name in names if kept(frozenset([name])) is not None)
    return kept(alone) or plain


def _is_number(text: str) -> bool:
    """Whether a parameter is a number other than 0, which removes what it multiplies."""
    try:
        return float(text) != 0
    except ValueError:
        return False
