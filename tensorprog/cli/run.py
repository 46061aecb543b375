"""`tensorprog run FILE`: everything about one program: check, derive, evaluate, predict, validate, picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tensorprog.cli.options import chosen, program_options
from tensorprog.loading import BUNDLED

if TYPE_CHECKING:
    from tensorprog.api import Network
    from tensorprog.experiment import Experiment
    from tensorprog.validation import Validation

EXAMPLES = 4


@click.command("run")
@program_options
@click.option("--data", type=click.Choice(BUNDLED), default="digits", show_default=True)
@click.option("--n", type=click.IntRange(6), help="Examples for the kernels (default: what fits into --seconds).")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=12.0, show_default=True,
              help="Time for the evaluation of the kernels, and about that of the simulations.")
@click.option("--plot", type=click.Path(path_type=Path), help="The picture (default: PROGRAM.png).")
def command(data: str, n: int | None, seconds: float, plot: Path | None, **options: Any) -> int:
    """Check a program, print its recursion, predict with its kernels, compare them with simulations."""
    choice = chosen(**options)
    console = choice.console
    net = choice.network()
    output = net.output(choice.output).name
    report = net.check()
    console.remark(str(report))
    console.remark("\n" + str(net.derive(output)))
    with console.progress() as progress:
        found = _experiment(net, data, output, seconds, n, progress)
        console.say("\n".join(_lines(found)))
        console.remark(str(found.kernels.report))
        validation = _validation(net, found, output, seconds, progress)
    console.say(str(validation))
    picture = plot or Path(f"{net.program.name}.png")
    _picture(picture, net, found, validation)
    console.remark(f"picture: {picture}")
    console.result({"program": net.program.name, **_data(found), "validation": {
        "verdict": validation.verdict, "nngp": validation.nngp, "ntk": validation.ntk}, "picture": str(picture)})
    return 1 if validation.verdict == "disagrees" else 0


def _experiment(net: Network, data: str, output: str, seconds: float, n: int | None, progress: Any) -> Experiment:
    from tensorprog.experiment import experiment
    from tensorprog.loading import bundled

    return experiment(net, bundled(data, net.program), output, seconds, n, progress)


def _validation(net: Network, found: Experiment, output: str, seconds: float, progress: Any) -> Validation:
    from tensorprog.dataset import bind
    from tensorprog.validation import affordable_widths

    x = found.data.first(EXAMPLES).x
    widths, seeds = affordable_widths(net.program, output, bind(net.program, x), seconds)
    return net.validate(x, widths, seeds, output, progress)


def _lines(found: Experiment) -> list[str]:
    head = (f"\n{found.data.name}: {len(found.data)} examples, {found.train} to train, {found.tests} to test; "
            f"kernels in {found.seconds:.2f} s")
    scores = [f"  {kind.upper():<5} {score}" for kind, score in found.scores.items()]
    return [head, *scores, *(f"  {kind.upper():<5} no prediction: {why}" for kind, why in found.failures.items())]


def _data(found: Experiment) -> dict[str, Any]:
    return {"data": found.data.name, "train": found.train, "test": found.tests, "seconds": found.seconds,
            "scores": found.scores, "failures": found.failures, "report": str(found.kernels.report)}


def _picture(path: Path, net: Network, found: Experiment, validation: Validation) -> None:
    import numpy as np

    from tensorprog.pictures import save_picture

    kind = "ntk" if found.kernels.ntk is not None else "nngp"
    kernel = found.matrix(kind)
    labels = found.data.targets.ravel()
    if len(labels) == len(kernel):
        shown = np.argsort(labels[:200], kind="stable")
        kernel = kernel[np.ix_(shown, shown)]
    save_picture(path, net.program.name, validation, (f"{kind.upper()} on {found.data.name}, by class", kernel))
