"""`tensorprog validate FILE`: the limit beside simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tensorprog.cli.data import HELP, read_or_draw
from tensorprog.cli.options import Positive, accuracy_option, chosen, dtype_option, program_options
from tensorprog.cli.widths import Ratios, Widths, scaled
from tensorprog.errors import fail
from tensorprog.loading import load_file
from tensorprog.verdict import NAMES

if TYPE_CHECKING:
    from tensorprog.api import Network
    from tensorprog.verdict import Validation

EXAMPLES = 4


def _claim(file: Path, params: Mapping[str, str]) -> Any:
    """The limit to compare with: that of another program, or arrays of an .npz file."""
    from tensorprog.api import load

    if file.suffix == ".tp":
        return load(file, **params)
    arrays = load_file(file)
    return {k: v for k, v in arrays.items() if k in NAMES} if isinstance(arrays, dict) else {}


def _signs(net: Network, x: Any, output: str | None) -> Any:
    """Targets by chance for all outputs.  Raises TensorProgError where there is no tangent kernel, or it is zero."""
    from tensorprog.training import stable_step

    kernel = np.asarray(net.ntk(x, output=output), dtype=np.float64)
    rows = math.isqrt(kernel.size)
    stable_step(kernel.reshape(rows, rows))
    return np.random.default_rng(0).permutation(np.resize([-1.0, 1.0], rows))


def _widest(net: Network, found: Validation, width: dict[str, int] | None) -> int | dict[str, int]:
    """The widths of the widest network of a study."""
    last = next(iter(found.found.values())).widths[-1]
    return last if width is None else scaled(width, net.program.widths[0].name, last)


@click.command("validate")
@program_options
@click.option("--data", metavar="DATA", help=HELP + " Gaussian examples when left out.")
@click.option("--n", type=click.IntRange(1), default=EXAMPLES, show_default=True, help="Only the first N examples.")
@click.option("--widths", type=Widths(), help="Such as 64,128,256,512 or 64..512.")
@click.option("--seeds", type=click.IntRange(2), help="Networks at every width.")
@click.option("--seconds", type=Positive(), default=10.0, show_default=True,
              help="Time for the simulations, where widths or seeds are not given.")
@click.option("--against", type=click.Path(path_type=Path), metavar="FILE",
              help="Compare with another limit: a .tp file, or an .npz file with arrays nngp and ntk.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture of the convergence.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a page (HTML) with the program, its derivation, figures and numbers.")
@click.option("--train", "steps", type=click.IntRange(1), metavar="STEPS",
              help="Also train the widest network so long, on targets -1 and 1 by chance, for the page.")
@click.option("--width", type=Ratios(), metavar="NAME=N,...",
              help="Widths in these ratios, such as n=16,m=32; --widths are those of the first.")
@dtype_option
@accuracy_option
def command(
    data: str | None, n: int, widths: tuple[int, ...] | None, seeds: int | None, seconds: float, plot: Path | None,
    report: Path | None, steps: int | None, accuracy: float | None, against: Path | None, width: dict[str, int] | None,
    dtype: str, **options: Any,
) -> int:
    """Compare the limit with simulations over a range of widths; exit with 1 when they disagree."""
    if steps is not None and report is None:
        raise fail("--train is for the page that --report writes", hint="to look at training alone: tensorprog train")
    choice = chosen(**options)
    net = choice.network()
    x = read_or_draw(data, net.program, n)
    signs = None if steps is None else _signs(net, x, choice.output)
    with choice.console.progress() as progress:
        found = net.validate(x, widths, seeds, choice.output, progress, seconds, accuracy,
                             None if against is None else _claim(against, choice.params), width=width, dtype=dtype)
        training = None if steps is None else net.train(
            x, signs, width=_widest(net, found, width), steps=steps, output=choice.output, dtype=dtype)
    if plot is not None:
        from tensorprog.pictures import save_picture

        save_picture(plot, net.program.name, found)
    if report is not None:
        net.write_report(report, found, training, choice.output)
    chosen_outputs = [o.name for o in net.program.outputs] if choice.output is None else [choice.output]
    choice.console.notes(dict.fromkeys(note for name in chosen_outputs for note in net.limit(name).notes))
    choice.console.say(str(found))
    choice.console.result({"verdict": found.verdict, **found.found, "law": found.law, "words": found.words,
                           "failure": found.failure})
    return 1 if found.verdict == "disagrees" else 0
