"""What `check` and `derive` answer: small frozen results with a readable text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, final

from tensorprog.dataset import expected_shape
from tensorprog.errors import Diagnostic
from tensorprog.ir.expr import show
from tensorprog.ir.program import Axis, Output, Program

if TYPE_CHECKING:
    from tensorprog.limit import Limit


@final
@dataclass(frozen=True, slots=True)
class OutputReport:
    """What was found about one output: roles of its variables, powers of the width (None: zero), gradients."""

    name: str
    roles: Mapping[str, str]
    powers: Mapping[str, Fraction | None]
    independent: bool
    reason: str


@final
@dataclass(frozen=True, slots=True)
class Check:
    """The report on a program; `str()` is the text of `tensorprog check`."""

    program: Program
    outputs: tuple[OutputReport, ...]
    notes: tuple[Diagnostic, ...]

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What the user should look at."""
        return tuple(n for n in self.notes if n.severity == "warning")

    def __str__(self) -> str:
        lines = [describe(self.program)]
        for output in self.outputs:
            lines += _output_lines(output, self.program)
        return "\n".join(lines)


def output_report(limit: Limit, name: str) -> OutputReport:
    """The parts of a limit that `check` shows."""
    verdict = limit.verdict
    return OutputReport(name, dict(limit.roles), dict(limit.powers), verdict.holds, verdict.reason)


def _output_lines(output: OutputReport, program: Program) -> list[str]:
    """The forward pass by role and by power of the width; adjoints are in the data."""
    verdict = "holds" if output.independent else "fails"
    lines = [f"output {output.name}", f"  gradient independence {verdict}: {output.reason}"]
    forward = [i.var.name for i in program.instrs if i.var.name in output.roles]
    lines += _grouped({name: output.roles[name] for name in forward})
    powers = {name: output.powers.get(name) for name in forward}
    return lines + _grouped({name: f"of order n^({power})" for name, power in powers.items() if power})


def _grouped(kinds: Mapping[str, str]) -> list[str]:
    """The names of each kind, a line each."""
    names: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        names.setdefault(kind, []).append(name)
    return [f"  {kind}: {', '.join(members)}" for kind, members in names.items()]


def describe(program: Program) -> str:
    """`program mlp(depth = 3): x [N, d] -> output`"""
    params = ", ".join(f"{name} = {value}" for name, value in program.params)
    inputs = ", ".join(f"{i.name} {expected_shape(i)}" for i in program.inputs) or "nothing"
    outputs = ", ".join(_output(o, program) for o in program.outputs)
    return f"program {program.name}({params}): {inputs} -> {outputs}"


def _output(output: Output, program: Program) -> str:
    axes: tuple[Axis, ...] = program.var(output.var).axes
    return output.name + (f" [N, {', '.join(show(a.extent) for a in axes)}]" if axes else " [N]")


@final
@dataclass(frozen=True, slots=True)
class Derivation:
    """The derived recursion of both kernels: `str()` as text, as formulas in a notebook."""

    limit: Limit

    def format(self, kind: str = "text") -> str:
        """The page as "text", "latex" (to be put into an article with amsmath), "markdown" or "html" (one file)."""
        from tensorprog.derivation import FORMATS, compose, derive

        return FORMATS[kind](compose(derive(self.limit)))

    def __str__(self) -> str:
        return self.format()

    def latex(self) -> str:
        """The recursion as LaTeX."""
        return self.format("latex")

    def _repr_html_(self) -> str:
        """Formulas in MathML, which browsers show without any script."""
        from tensorprog.derivation import compose, derive, html_fragment

        return html_fragment(compose(derive(self.limit)))

    def _repr_markdown_(self) -> str:
        return self.format("markdown")

    def __repr__(self) -> str:
        return str(self)
