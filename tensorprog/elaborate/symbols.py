"""Parameters as symbols: the program of a source with `sw` in its variances instead of the number chosen for it.

Which parameters can stay symbols is found by trying: those that leave every definition as it is, and so occur in
the laws of weights alone.
"""

from __future__ import annotations

from tensorprog.elaborate.driver import Elaborated, elaborate
from tensorprog.errors import TensorProgError
from tensorprog.ir.program import Program


def with_symbols(elaborated: Elaborated) -> Program:
    """The program with as many parameters as possible kept as symbols."""
    plain, recipe = elaborated.program, elaborated.recipe

    def kept(names: frozenset[str]) -> Program | None:
        try:
            found = elaborate(recipe.source, recipe.params, recipe.program, recipe.folder, names).program
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
