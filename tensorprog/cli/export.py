"""`tensorprog export FILE --to numpy|torch --out net.py`: a program as source text, and parameters to go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tensorprog.cli.data import HELP, read_data
from tensorprog.cli.options import chosen, program_options
from tensorprog.export import LIBRARIES
from tensorprog.files import check_suffix, written_whole


@click.command("export")
@program_options
@click.option("--to", "library", type=click.Choice(LIBRARIES), required=True, help="What the module imports.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The module, a .py file.")
@click.option("--params", type=click.Path(path_type=Path), help="Write parameters to this .npz file, too.")
@click.option("--data", metavar="DATA", help=f"What the sizes of the parameters come from. {HELP}")
@click.option("--width", type=click.IntRange(1), metavar="N", help="Of the first width; the file's when left out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the parameters.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
def command(
    library: str, out: Path, params: Path | None, data: str | None, width: int | None, seed: int, dtype: str,
    **options: Any,
) -> None:
    """Write the program as a function of NumPy or a module of PyTorch, which needs nothing else."""
    check_suffix(out, "a module goes", ".py")
    choice = chosen(**options)
    net = choice.network()
    text = net.export(library)
    weights = None if params is None else net.weights(read_data(data, net.program, None), width, seed, dtype)
    with written_whole(out) as temporary:
        temporary.write_text(text)
        if params is not None and weights is not None:
            net.save_weights(params, weights)
    choice.console.say(f"{out}: forward, initial, rates" + ("" if params is None else f"; {params}: parameters"))
    choice.console.result({"out": str(out), "params": None if params is None else str(params), "to": library})
