"""Options that commands share, and the network that they name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

import click

from tensorprog.cli.console import Console
from tensorprog.errors import fail

if TYPE_CHECKING:
    from tensorprog.api import Network

Command = TypeVar("Command", bound=Callable[..., Any])


@final
@dataclass(frozen=True, slots=True)
class Chosen:
    """The program that the command line names, and how to speak of it."""

    file: Path
    params: dict[str, str]
    program: str | None
    output: str | None
    console: Console

    def network(self) -> Network:
        """The network, after its warnings are printed."""
        from tensorprog.api import load

        net = load(self.file, self.program, **self.params)
        self.console.notes(net.elaborated.notes)
        return net


def spoken(command: Command) -> Command:
    """Adds --quiet and --json."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        click.option("-q", "--quiet", is_flag=True, help="Print results and errors only."),
    ):
        command = option(command)
    return command


def program_options(command: Command) -> Command:
    """Adds FILE, --set, --program, --output, --quiet and --json; see `chosen`."""
    for option in (
        click.option("--output", metavar="NAME", help="Which of several outputs."),
        click.option("--program", metavar="NAME", help="Which of several programs of the file."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of the program."),
        click.argument("file", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return spoken(command)


def sampling_options(command: Command) -> Command:
    """Adds --accuracy, --samples, --replicates and --seed."""
    for option in (
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of sampling."),
        click.option("--replicates", type=click.IntRange(2), default=8, show_default=True,
                     help="Replicates of sampling."),
        click.option("--samples", type=click.IntRange(2), default=4096, show_default=True,
                     help="Samples of a replicate."),
        accuracy_option,
    ):
        command = option(command)
    return command


dtype_option = click.option("--dtype", type=click.Choice(("float32", "float64")), default="float32", show_default=True,
                            help="The type of the numbers of finite networks.")


class Positive(click.FloatRange):
    """A positive number, neither infinite nor NaN."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


accuracy_option = click.option(
    "--accuracy", type=Positive(), metavar="EPS",
    help="Sample until the largest standard error is below EPS times the scale of its kernel.",
)


def chosen(
    file: Path, settings: tuple[str, ...], program: str | None, output: str | None, quiet: bool, as_json: bool
) -> Chosen:
    """What the options of `program_options` say."""
    return Chosen(file, _parameters(settings), program, output, Console(quiet, as_json))


def _parameters(settings: tuple[str, ...]) -> dict[str, str]:
    """`sw=1.2` as a parameter."""
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise fail(f"--set {setting!r} is not of the form name=value")
        found[name.strip()] = value.strip()
    return found
