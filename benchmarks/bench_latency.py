"""The first kernel of a program in a fresh process: every example, with an empty and with a warm cache folder.

    python -m benchmarks.bench_latency [--n 50] [NAME ...]

Per example: `cold`, a process that loads the program and computes both kernels of n Gaussian examples, with an empty
cache folder; `warm`, the same again; `call`, the second call of `kernels` in the warm process; `cli`, the command line
on the same data.  All are wall seconds of whole processes, interpreter and imports included, but for `call`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tensorprog
from tensorprog.loading import gaussian_data

EXAMPLES = Path(__file__).parent.parent / "examples"
LONG = ("attention_sqrt", "batchnorm", "gru", "lstm", "maxpool_cnn", "tied_autoencoder")
FEW = 2
"""Examples of programs that are sampled or integrated by batches: their time is that of the work."""

SCRIPT = """
import sys, time
import numpy as np
import tensorprog
net, x = tensorprog.load(sys.argv[1]), dict(np.load(sys.argv[2]))
net.kernels(x)
start = time.perf_counter()
net.kernels(x)
print(start, time.perf_counter() - start)
"""


def measured(path: Path, n: int, folder: str) -> tuple[float, float, float, float] | None:
    """(cold, warm, call, cli) of an example; None when it has no kernels."""
    x = gaussian_data(tensorprog.load(path).program, FEW if path.stem in LONG else n)
    if x is None:
        return None
    data = f"{folder}/{path.stem}.npz"
    np.savez(data, **x)
    environment = {**os.environ, "TENSORPROG_CACHE": f"{folder}/{path.stem}"}
    cold, _ = process([sys.executable, "-c", SCRIPT, str(path), data], environment)
    warm, call = process([sys.executable, "-c", SCRIPT, str(path), data], environment)
    start = time.perf_counter()
    command = [sys.executable, "-m", "tensorprog.cli.main", "kernel", str(path), "--data", data]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return cold, warm, call, time.perf_counter() - start


def process(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(until the first kernel is there, seconds of the second call)"""
    start = time.perf_counter()
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    ready, call = map(float, found.stdout.split())
    return ready - start, call


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--n", type=int, default=50)
    chosen = parser.parse_args()
    print(f"{'seconds':<20}{'cold':>8}{'warm':>8}{'call':>8}{'cli':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(EXAMPLES.glob("*.tp")):
            if chosen.names and path.stem not in chosen.names:
                continue
            seconds = measured(path, chosen.n, folder)
            if seconds is not None:
                cold, warm, call, cli = seconds
                print(f"{path.stem:<20}{cold:>8.2f}{warm:>8.2f}{call:>8.3f}{cli:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
