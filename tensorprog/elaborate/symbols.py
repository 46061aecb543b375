"""Parameters as symbols: the program of a source with `sw` in its variances instead of the number chosen for it.

For derivatives (`with_parameters`) any number may be a symbol on which no axis and no index depends.  For pages of
formulas (`with_symbols`) which parameters stay symbols is found by trying: those that leave every definition as it is,
and so occur in the laws of weights alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

from tensorprog.elaborate.driver import Elaborated, elaborate
from tensorprog.errors import TensorProgError, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Axis, Map, Program, Read


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


def with_parameters(elaborated: Elaborated, names: Sequence[str]) -> Program:
    """The program with these parameters, numbers, as symbols.

    Raises TensorProgError for one that decides what is computed.
    """
    plain, recipe = elaborated.program, elaborated.recipe
    for name in names:
        try:
            found = elaborate(recipe.source, recipe.params, recipe.program, recipe.folder, frozenset([name])).program
        except TensorProgError:
            raise _structural(plain, name) from None
        if any(name in ex.symbols(e) for i in found.instrs for e in _structure(i)):
            raise _structural(plain, name)
    return elaborate(recipe.source, recipe.params, recipe.program, recipe.folder, frozenset(names)).program


def numbers(program: Program, names: Sequence[str], others: Mapping[str, float]) -> dict[str, Fraction]:
    """The numbers of parameters, or `others` in their place.  Raises TensorProgError for one unknown or no number."""
    chosen = {name: _value(program, name) for name in names}
    return chosen | {name: Fraction(value) for name, value in others.items()}


def _value(program: Program, name: str) -> Fraction:
    known = dict(program.params)
    if name not in known:
        hint = f"its parameters are {', '.join(known)}" if known else "it has none"
        raise fail(f"program '{program.name}' has no parameter '{name}'", program.span, hint)
    try:
        return Fraction(known[name])
    except ValueError:
        raise fail(f"parameter '{name}' is a function; kernels are differentiated by numbers", program.span) from None


def _structural(program: Program, name: str) -> TensorProgError:
    message = f"there is no derivative by parameter '{name}': it decides what is computed"
    return fail(message, program.span, "depths, sizes and conditions cannot be differentiated by")


def _structure(x: Any) -> Iterator[ex.Expr]:
    """The expressions of axes and indices inside of a definition."""
    if isinstance(x, Axis):
        yield x.extent
    elif isinstance(x, Map | Read):
        yield from (e for f in fields(x) for e in _expressions(getattr(x, f.name)))
    elif isinstance(x, tuple):
        yield from (e for part in x for e in _structure(part))
    elif is_dataclass(x):
        yield from (e for f in fields(x) for e in _structure(getattr(x, f.name)))


def _expressions(x: Any) -> Iterator[ex.Expr]:
    if isinstance(x, ex.Num | ex.Sym | ex.Op):
        yield x
    elif isinstance(x, tuple):
        yield from (e for part in x for e in _expressions(part))
    else:
        yield from _structure(x)
