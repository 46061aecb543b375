"""`tensorprog kernel FILE --data DATA`: both kernels on data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tensorprog.cli.data import HELP, read_data
from tensorprog.cli.options import chosen, program_options
from tensorprog.files import written_whole

if TYPE_CHECKING:
    from tensorprog.evaluate import Kernels

ARRAYS = ("nngp", "ntk", "nngp_se", "ntk_se")


@click.command("kernel")
@program_options
@click.option("--data", metavar="DATA", help=HELP)
@click.option("--data2", metavar="DATA", help="The second argument of the kernels; the first one when left out.")
@click.option("--n", type=click.IntRange(1), metavar="N", help="Only the first N examples.")
@click.option("--only", type=click.Choice(["nngp", "ntk"]), help="One of the kernels.")
@click.option("--tier", type=click.Choice(["auto", "closed", "quadrature", "sampling"]), default="auto",
              show_default=True, help="How Gaussian expectations are evaluated.")
@click.option("--samples", type=click.IntRange(2), default=4096, show_default=True, help="Samples of a replicate.")
@click.option("--replicates", type=click.IntRange(2), default=8, show_default=True, help="Replicates of sampling.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of sampling.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the kernels to this .npz file.")
def command(
    data: str | None, data2: str | None, n: int | None, only: str | None, out: Path | None, **options: Any
) -> None:
    """Evaluate the NNGP and NTK kernels on data; print a summary, write them with --out."""
    from tensorprog.api import is_number

    sampling = {name: options.pop(name) for name in ("tier", "samples", "replicates", "seed")}
    choice = chosen(**options)
    net = choice.network()
    left, right = read_data(data, net.program, n), read_data(data2, net.program, n)
    start = time.perf_counter()
    with choice.console.progress() as progress:
        found = net.kernels(left, right, choice.output, want=(only,) if only else ("nngp", "ntk"),
                            progress=progress, **sampling)
    seconds = time.perf_counter() - start
    value = net.value(left, choice.output) if is_number(net.limit(choice.output)) else None
    if out is not None:
        _write(out, found)
    choice.console.notes(net.limit(choice.output).notes)
    if value is not None:
        choice.console.say(f"value in the limit: {value}")
    choice.console.say("\n".join(_summary(found, seconds)))
    choice.console.remark(str(found.report))
    choice.console.result({"seconds": seconds, "out": None if out is None else str(out),
                           "value": value, **_data(found)})


def _write(out: Path, found: Kernels) -> None:
    arrays = {name: getattr(found, name) for name in ARRAYS if getattr(found, name) is not None}
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _summary(found: Kernels, seconds: float) -> list[str]:
    lines = []
    for name in ("nngp", "ntk"):
        k, se = getattr(found, name), getattr(found, f"{name}_se")
        if k is not None:
            error = "" if se is None else f"   standard error up to {np.max(se):.2e}"
            shape = " x ".join(map(str, k.shape))
            lines.append(f"{name.upper():<5} {shape}   from {k.min():.6g} to {k.max():.6g}, mean {k.mean():.6g}{error}")
    return [*lines, f"evaluated in {seconds:.2f} s"]


def _data(found: Kernels) -> dict[str, Any]:
    stats = {}
    for name in ("nngp", "ntk"):
        k, se = getattr(found, name), getattr(found, f"{name}_se")
        if k is not None:
            stats[name] = {"shape": k.shape, "min": float(k.min()), "max": float(k.max()), "mean": float(k.mean()),
                           "largest_standard_error": None if se is None else float(np.max(se))}
    return {**stats, "report": str(found.report)}
