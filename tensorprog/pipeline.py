"""The stages of the compiler as a table: what each makes of a program, and how that is printed.

    .tp text -> syntax -> ir -> gradient -> limit -> derivation, kernels          ir -> schedule -> simulation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from tensorprog.elaborate import elaborate
from tensorprog.elaborate.symbols import with_symbols
from tensorprog.errors import Source
from tensorprog.ir.check import default_sizes
from tensorprog.ir.printer import print_differentiated, print_program
from tensorprog.ir.program import Differentiated, Program
from tensorprog.lang import parse, print_module, read_source
from tensorprog.lang.syntax import Module


@final
@dataclass(frozen=True, slots=True)
class Request:
    """A source, and what the user chose of it."""

    source: Source
    params: Mapping[str, str] = field(default_factory=dict)
    program: str | None = None
    output: str | None = None
    folder: Path | None = None

    @staticmethod
    def of_file(file: Path, params: Mapping[str, str], program: str | None, output: str | None) -> Request:
        """The request for a file on disk."""
        return Request(read_source(file), params, program, output, file.parent)


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """`make` gives the result of the stage, `text` prints it."""

    name: str
    about: str
    make: Callable[[Request], Any]
    text: Callable[[Any], str]


def show(stage: str, request: Request) -> str:
    """The printed form of the program after a stage.  Raises TensorProgError for mistakes up to there."""
    chosen = next(s for s in STAGES if s.name == stage)
    return chosen.text(chosen.make(request))


# ---------------------------------------------------------------- the stages


def _syntax(request: Request) -> Module:
    return parse(request.source)


def _ir(request: Request) -> Program:
    return elaborate(request.source, request.params, request.program, request.folder).program


def _gradient(request: Request) -> Differentiated:
    from tensorprog.autodiff import differentiate
    from tensorprog.limit.analyse import choose_output

    program = _ir(request)
    return differentiate(program, choose_output(program, request.output))


def _limit(request: Request) -> Any:
    from tensorprog.limit import analyse

    return analyse(_ir(request), request.output)


def _print_limit(limit: Any) -> str:
    from tensorprog.limit import print_limit

    return print_limit(limit)


def _derivation(request: Request) -> Any:
    from tensorprog.derivation import compose, derive
    from tensorprog.limit import analyse

    made = elaborate(request.source, request.params, request.program, request.folder)
    return compose(derive(analyse(with_symbols(made), request.output)))


def _print_derivation(page: Any) -> str:
    from tensorprog.derivation import FORMATS

    return FORMATS["text"](page)


def _schedule(request: Request) -> tuple[dict[str, int], Any]:
    from tensorprog.ir.schedule import schedule

    program = _ir(request)
    sizes = default_sizes(program)
    return sizes, schedule(program, sizes)


def _print_schedule(made: tuple[dict[str, int], Any]) -> str:
    sizes, steps = made
    at = ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "no sizes"
    lines = [f"  {k:>4}  {s.instr.var.name} {_elements(s.elements.tolist())}" for k, s in enumerate(steps)]
    return "\n".join([f"steps at {at}", *lines])


def _elements(elements: list[int]) -> str:
    """`0..3`, or the elements one by one."""
    if len(elements) > 2 and elements == list(range(elements[0], elements[-1] + 1)):
        return f"{elements[0]}..{elements[-1]}"
    return ", ".join(map(str, elements))


STAGES = (
    Stage("syntax", "the parsed file", _syntax, print_module),
    Stage("ir", "the straight-line program", _ir, print_program),
    Stage("gradient", "the program with its adjoints", _gradient, print_differentiated),
    Stage("limit", "the limit program", _limit, _print_limit),
    Stage("derivation", "the derived recursion", _derivation, _print_derivation),
    Stage("schedule", "the order of computation at small sizes", _schedule, _print_schedule),
)
