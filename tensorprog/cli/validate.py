"""`tensorprog validate FILE`: the limit beside simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tensorprog.cli.data import HELP, read_or_draw
from tensorprog.cli.options import accuracy_option, chosen, program_options

EXAMPLES = 4


class Widths(click.ParamType[tuple[int, ...]]):
    """`64,128,256`"""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            widths = tuple(int(w) for w in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers like 64,128,256", param, ctx)
        if min(widths) < 1:
            self.fail("widths must be positive", param, ctx)
        return tuple(sorted(set(widths)))


@click.command("validate")
@program_options
@click.option("--data", metavar="DATA", help=HELP + " Gaussian examples when left out.")
@click.option("--n", type=click.IntRange(1), default=EXAMPLES, show_default=True, help="Only the first N examples.")
@click.option("--widths", type=Widths(), help="Such as 64,128,256,512.")
@click.option("--seeds", type=click.IntRange(2), help="Networks at every width.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
              help="Time for the simulations, where widths or seeds are not given.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture of the convergence.")
@accuracy_option
def command(
    data: str | None, n: int, widths: tuple[int, ...] | None, seeds: int | None, seconds: float, plot: Path | None,
    accuracy: float | None, **options: Any,
) -> int:
    """Compare the limit with simulations over a range of widths; exit with 1 when they disagree."""
    choice = chosen(**options)
    net = choice.network()
    x = read_or_draw(data, net.program, n)
    with choice.console.progress() as progress:
        found = net.validate(x, widths, seeds, choice.output, progress, seconds, accuracy)
    if plot is not None:
        from tensorprog.pictures import save_picture

        save_picture(plot, net.program.name, found)
    choice.console.notes(net.limit(choice.output).notes)
    choice.console.say(str(found))
    choice.console.result({"verdict": found.verdict, **found.found, "failure": found.failure})
    return 1 if found.verdict == "disagrees" else 0
