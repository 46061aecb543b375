"""`tensorprog kernel FILE --data DATA`: both kernels on data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from tensorprog.cli.data import HELP, read_data
from tensorprog.cli.options import chosen, program_options, sampling_options
from tensorprog.cli.stored import to_disk
from tensorprog.files import check_suffix, written_whole

if TYPE_CHECKING:
    from tensorprog.evaluate import Kernels

SUFFIXES = (".npz", ".npy", ".zarr")
ARRAYS = ("nngp", "ntk", "nngp_se", "ntk_se")


@click.command("kernel")
@program_options
@click.option("--data", metavar="DATA", help=HELP)
@click.option("--data2", metavar="DATA", help="The second argument of the kernels; the first one when left out.")
@click.option("--n", type=click.IntRange(1), metavar="N", help="Only the first N examples.")
@click.option("--only", type=click.Choice(["nngp", "ntk"]), help="One of the kernels.")
@click.option("--tier", type=click.Choice(["auto", "closed", "quadrature", "sampling"]), default="auto",
              show_default=True, help="How Gaussian expectations are evaluated.")
@sampling_options
@click.option("--dtype", type=click.Choice(["float64", "float32"]), help="The type of the kernels; float32 is computed "
              "to about 1e-6 of the largest entry. That of the data when left out, computed in float64.")
@click.option("--reductions/--no-reductions", default=True, show_default=True,
              help="Whether kernels that are functions of one cosine are tabulated, and images computed by offsets.")
@click.option("--out", type=click.Path(path_type=Path),
              help="Write the kernels to a .npz, .npy or .zarr file; .npy and .zarr go to disk block by block.")
@click.option("--memory", metavar="SIZE", help="Such as 2GB: the most memory that a process takes. Work goes block by "
              "block to --out, and the same command goes on after an interruption.")
@click.option("--cluster", metavar="local|ADDRESS", help="Blocks on processes of this machine, or on the workers of "
              "a dask scheduler.")
def command(
    data: str | None, data2: str | None, n: int | None, only: str | None, out: Path | None, memory: str | None,
    cluster: str | None, **options: Any,
) -> None:
    """Evaluate the NNGP and NTK kernels on data; print a summary, write them with --out."""
    from tensorprog.results import is_number

    if out is not None:
        check_suffix(out, "kernels go", *SUFFIXES)
    if memory or cluster or (out is not None and out.suffix != ".npz"):
        to_disk(data, data2, n, only, out, memory, cluster, options)
        return
    how = {name: options.pop(name) for name in ("tier", "dtype", "reductions")}
    sampling = {name: options.pop(name) for name in ("accuracy", "samples", "replicates", "seed")}
    choice = chosen(**options)
    net = choice.network()
    left, right = read_data(data, net.program, n), read_data(data2, net.program, n)
    start = time.perf_counter()
    with choice.console.progress() as progress:
        found = net.kernels(left, right, choice.output, want=(only,) if only else ("nngp", "ntk"),
                            progress=progress, **how, **sampling)
        number = is_number(net.limit(choice.output))
        value, error = net.estimate(left, choice.output, progress=progress, **sampling) if number else (None, None)
    seconds = time.perf_counter() - start
    if out is not None:
        _write(out, found)
    choice.console.notes(net.limit(choice.output).notes)
    if value is not None and error is not None:
        choice.console.say(f"value in the limit: {value}{standard_error(error)}")
    choice.console.say("\n".join(_summary(found, seconds)))
    choice.console.remark(str(found.report))
    choice.console.result({"seconds": seconds, "out": None if out is None else str(out),
                           "value": value, "value_se": error, **_data(found)})


def _write(out: Path, found: Kernels) -> None:
    arrays = {name: getattr(found, name) for name in ARRAYS if getattr(found, name) is not None}
    with written_whole(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def standard_error(se: Any) -> str:
    """What is said of standard errors beside a result; nothing where it is exact."""
    return "" if se is None or not np.any(se) else f"   standard error up to {np.max(se):.2e}"


def _summary(found: Kernels, seconds: float) -> list[str]:
    lines = []
    for name in ("nngp", "ntk"):
        k, se = getattr(found, name), getattr(found, f"{name}_se")
        if k is not None:
            shape = " x ".join(map(str, k.shape))
            numbers = f"from {k.min():.6g} to {k.max():.6g}, mean {k.mean():.6g}"
            lines.append(f"{name.upper():<5} {shape}   {numbers}{standard_error(se)}")
    return [*lines, f"evaluated in {seconds:.2f} s"]


def _data(found: Kernels) -> dict[str, Any]:
    stats = {}
    for name in ("nngp", "ntk"):
        k, se = getattr(found, name), getattr(found, f"{name}_se")
        if k is not None:
            stats[name] = {"shape": k.shape, "min": float(k.min()), "max": float(k.max()), "mean": float(k.mean()),
                           "largest_standard_error": None if se is None else float(np.max(se))}
    return {**stats, "report": str(found.report)}
