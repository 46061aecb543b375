"""`tensorprog run FILE`: everything about one program: check, derive, evaluate, predict, validate, picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import click

from tensorprog.cli.console import Console, Progress
from tensorprog.cli.kernel import standard_error
from tensorprog.cli.options import Positive, accuracy_option, chosen, program_options
from tensorprog.loading import BUNDLED, bundled

if TYPE_CHECKING:
    from tensorprog.api import Network
    from tensorprog.experiment import Experiment
    from tensorprog.verdict import Validation

EXAMPLES = 4
FEW = 30


@click.command("run")
@program_options
@click.option("--data", type=click.Choice(BUNDLED), default="digits", show_default=True)
@click.option("--n", type=click.IntRange(6), help="Examples for the kernels (default: what fits into --seconds).")
@click.option("--seconds", type=Positive(), default=10.0, show_default=True,
              help="Time for the evaluation of the kernels, and again for the simulations.")
@click.option("--plot", type=click.Path(path_type=Path), help="The picture (default: PROGRAM.png).")
@accuracy_option
def command(
    data: str, n: int | None, seconds: float, plot: Path | None, accuracy: float | None, **options: Any
) -> int:
    """Check a program, print its recursion, predict with its kernels, compare them with simulations."""
    choice = chosen(**options)
    net = choice.network()
    choice.console.remark(str(net.check()))
    names = [net.output(choice.output).name] if choice.output else [o.name for o in net.program.outputs]
    results = {}
    for name in names:
        picture = plot or Path(f"{net.program.name}.png")
        if len(names) > 1:
            picture = picture.with_name(f"{picture.stem}_{name}{picture.suffix}")
        results[name] = _run(_Task(net, name, data, n, seconds, accuracy, picture), choice.console)
    verdicts = [result["validation"]["verdict"] for result in results.values()]
    choice.console.result({"program": net.program.name, "outputs": results})
    return 1 if "disagrees" in verdicts else 0


@final
@dataclass(frozen=True, slots=True)
class _Task:
    """One output, and what to do with it."""

    net: Network
    output: str
    data: str
    n: int | None
    seconds: float
    accuracy: float | None
    picture: Path


def _run(task: _Task, console: Console) -> dict[str, Any]:
    """Prints the results for one output, and returns them for JSON."""
    from tensorprog.results import is_number

    net, output = task.net, task.output
    console.notes(net.limit(output).notes)
    console.remark(f"\n{net.derive(output)}")
    with console.progress() as progress:
        found = _experiment(task, progress) if net.program.inputs else None
        x = None if found is None else found.data.first(EXAMPLES).x
        if found is not None:
            console.say("\n".join(_lines(found)))
            console.remark(str(found.kernels.report))
        if is_number(net.limit(output)):
            value, error = net.estimate(x, output, accuracy=task.accuracy, progress=progress)
            console.say(f"\n{output} in the limit: {value}{standard_error(error)}")
        validation = net.validate(
            x, output=output, progress=progress, seconds=task.seconds, accuracy=task.accuracy
        )
    console.say(f"\nsimulation of {output}\n{validation}")
    _picture(task, found, validation)
    console.remark(f"picture: {task.picture}")
    return {**_data(found), "picture": str(task.picture),
            "validation": {"verdict": validation.verdict, **validation.found}}


def _experiment(task: _Task, progress: Progress) -> Experiment:
    from tensorprog.experiment import experiment

    data = bundled(task.data, task.net.program)
    return experiment(task.net, data, task.output, task.seconds, task.n, progress, task.accuracy)


def _lines(found: Experiment) -> list[str]:
    head = (f"\n{found.data.name}: {len(found.data)} examples, {found.train} to train, {found.tests} to test; "
            f"kernels in {found.seconds:.2f} s")
    if found.tests < FEW:
        head += f"\n  {found.tests} test examples say little: ask for more with --n or --seconds"
    scores = [f"  {kind.upper():<5} {score}" for kind, score in found.scores.items()]
    return [head, *scores, *(f"  {kind.upper():<5} no prediction: {why}" for kind, why in found.failures.items())]


def _data(found: Experiment | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {"data": found.data.name, "train": found.train, "test": found.tests, "seconds": found.seconds,
            "scores": found.scores, "failures": found.failures, "report": str(found.kernels.report)}


def _picture(task: _Task, found: Experiment | None, validation: Validation) -> None:
    import numpy as np

    from tensorprog.pictures import save_picture

    title = f"{task.net.program.name}: {task.output}"
    kinds = [] if found is None else [k for k in ("ntk", "nngp") if getattr(found.kernels, k) is not None]
    if found is None or not kinds:
        save_picture(task.picture, title, validation)
        return
    kernel, labels = found.matrix(kinds[0]), found.data.targets.ravel()
    if len(labels) == len(kernel):
        shown = np.argsort(labels[:200], kind="stable")
        kernel = kernel[np.ix_(shown, shown)]
    save_picture(task.picture, title, validation, (f"{kinds[0].upper()} on {found.data.name}, by class", kernel))
