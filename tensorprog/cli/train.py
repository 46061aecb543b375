"""`tensorprog train FILE`: finite networks in training, beside their limit and their linearization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from tensorprog.cli.data import first
from tensorprog.cli.options import Positive, chosen, dtype_option, program_options
from tensorprog.cli.widths import Ratios, Widths
from tensorprog.loading import BUNDLED, Labelled, bundled


@click.command("train")
@program_options
@click.option("--data", type=click.Choice(BUNDLED), default="digits", show_default=True,
              help="Classes are learned as targets: 1 for the upper half of them, else -1.")
@click.option("--n", type=click.IntRange(1), default=32, show_default=True, help="Training examples.")
@click.option("--test", type=click.IntRange(1), default=16, show_default=True, help="Test examples.")
@click.option("--widths", type=Widths(),
              help="Such as 64,128,256 or 64..1024; with several, how fast deviations fall.  [default: 512]")
@click.option("--width", type=Ratios(), metavar="NAME=N,...",
              help="Widths of their own, or their ratios where --widths gives the first one: n=16,m=32.")
@dtype_option
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Networks at every width.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True)
@click.option("--step", type=Positive(), help="Size of a step (default: a stable one).")
@click.option("--loss", type=click.Choice(("squared", "logistic")), default="squared", show_default=True)
@click.option("--flow", is_flag=True, help="Gradient flow instead of descent.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture of outputs and kernel over time.")
def command(
    data: str, n: int, test: int, widths: tuple[int, ...] | None, width: dict[str, int] | None, dtype: str, seeds: int,
    steps: int, step: float | None, loss: str, flow: bool, plot: Path | None, **options: Any,
) -> int:
    """Train finite networks on real data; compare them with the limit and with their linearization."""
    choice = chosen(**options)
    net = choice.network()
    examples = bundled(data, net.program).first(n + test)
    count = min(n, len(examples) - 1)
    x, y = first(examples.x, count), targets(examples)[:count]
    own = 512 if width is None else next((width[w.name] for w in net.program.widths if w.name in width), 512)
    with choice.console.progress() as progress:
        study = net.train_study(
            x, y, {name: v[count:] for name, v in examples.x.items()}, widths or (own,), seeds, steps=steps, step=step,
            loss=loss, flow=flow, output=choice.output, progress=progress, width=width, dtype=dtype,
        )
    last = study.trainings[-1][0]
    if plot is not None:
        from tensorprog.pictures import save_training

        save_training(plot, f"{net.program.name} at width {last.width} on {data}", last)
    choice.console.say(str(last))
    if len(study.widths) > 1:
        choice.console.say(f"\nlargest deviation over all times, rms over rows and seeds\n{study}")
    choice.console.result({"widths": study.widths, "trainings": study.trainings})
    return 0


def targets(examples: Labelled) -> np.ndarray[Any, np.dtype[np.float64]]:
    """-1 and 1 for the lower and the upper half of the classes; numbers standardized."""
    if not examples.classes:
        centred = examples.targets - examples.targets.mean()
        return np.asarray(centred / centred.std(), dtype=np.float64)
    classes, index = np.unique(examples.targets, return_inverse=True)
    return np.where(index.reshape(examples.targets.shape) >= len(classes) / 2, 1.0, -1.0)
