"""`tensorprog kernel FILE --data DATA --out K.zarr --memory 2GB`: kernels to disk, block by block."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorprog.cli.data import read_data
from tensorprog.cli.options import chosen
from tensorprog.errors import fail

if TYPE_CHECKING:
    from tensorprog.store import Written


def to_disk(
    data: str | None, data2: str | None, n: int | None, only: str | None, out: Path | None, memory: str | None,
    cluster: str | None, options: Mapping[str, Any],
) -> None:
    """The command with --memory, --cluster, or an --out that is written block by block."""
    if out is None:
        raise fail("--memory and --cluster write the kernels block by block", hint="say where: --out K.zarr or K.npy")
    if options["accuracy"] is not None:
        raise fail("--accuracy is for sampling, which draws all examples jointly and cannot go block by block",
                   hint="write to an .npz file without --memory and --cluster")
    how = {name: options[name] for name in ("tier", "dtype", "reductions")}
    others = (*how, "accuracy", "samples", "replicates", "seed")
    choice = chosen(**{name: value for name, value in options.items() if name not in others})
    net = choice.network()
    left, right = read_data(data, net.program, n), read_data(data2, net.program, n)
    start = time.perf_counter()
    try:
        with choice.console.progress() as progress:
            found = net.write_kernels(out, left, right, choice.output, want=(only,) if only else ("nngp", "ntk"),
                                      memory=memory, cluster=cluster, progress=progress, **how)
    except KeyboardInterrupt:
        print(f"finished blocks are kept in {out}.partial; the same command goes on from there", file=sys.stderr)
        raise
    seconds = time.perf_counter() - start
    choice.console.notes(net.limit(choice.output).notes)
    choice.console.say("\n".join(_summary(found, seconds)))
    choice.console.remark(str(found.report))
    choice.console.result({"seconds": seconds, "out": [str(p) for p in found.paths], "blocks": found.blocks,
                           "kept": found.kept, "peak_memory": found.peak, "report": str(found.report),
                           **{name: _numbers(found, name) for name in found.statistics}})


def _numbers(found: Written, name: str) -> dict[str, Any]:
    s = found.statistics[name]
    return {"shape": found.shape, "min": s.least, "max": s.largest, "mean": found.mean(name)}


def _summary(found: Written, seconds: float) -> list[str]:
    lines = []
    for name, s in found.statistics.items():
        shape = " x ".join(map(str, found.shape))
        numbers = f"from {s.least:.6g} to {s.largest:.6g}, mean {found.mean(name):.6g}"
        lines.append(f"{name.upper():<5} {shape}   {numbers}")
    kept = f", {found.kept} of them from before" if found.kept else ""
    written = f"written to {', '.join(map(str, found.paths))}: {found.blocks} blocks{kept}"
    return [*lines, written, f"evaluated in {seconds:.2f} s, peak memory {found.peak / 1e6:.0f} MB"]
