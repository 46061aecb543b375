"""Kernels of convolutional networks beside neural-tangents, on the same images, in the same run.

    python -m benchmarks.bench_conv --peer PYTHON [--net cnn_flatten]

PYTHON is the interpreter of an environment with neural-tangents (tests/oracles/README.md says how to make one).
Prints the best time of both (the peer's in float32 and float64), the ratios, and how far the results are apart,
relative to the largest entry.  Ours are computed in float64; the peer's first run, which compiles, is left out.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import tensorprog

HERE = Path(__file__).parent
WORKS = {"cnn_flatten": (40, {"depth": 5}), "cnn_global": (8, {}), "myrtle": (8, {})}
"""The number of images and the parameters of the programs of examples/."""
RUNS = 3


def ours(name: str, x: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    """(first time, best of the later ones, NNGP, NTK)"""
    net = tensorprog.load(HERE.parent / "examples" / f"{name}.tp", **WORKS[name][1])
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        found = net.kernels(x)
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:]), found.nngp, found.ntk


def peer(python: str, name: str, dtype: str, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The same by neural-tangents, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        command = [python, HERE / "peer_convolutions.py", name, dtype, folder]
        subprocess.run(command, check=True, capture_output=True, text=True)
        best = float(np.load(f"{folder}/seconds.npy")[1:].min())
        return best, np.load(f"{folder}/nngp.npy"), np.load(f"{folder}/ntk.npy")


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--net", choices=WORKS, nargs="*", default=list(WORKS))
    chosen = parser.parse_args()
    print("images of 32 x 32 x 3, NNGP and NTK, seconds")
    heads = ("images", "ours", "first", "peer", "ratio", "NNGP apart", "NTK apart")
    print(f"{'network':<24}" + "".join(f"{h:>{w}}" for h, w in zip(heads, (8, 8, 8, 8, 8, 12, 12), strict=True)))
    for name in chosen.net:
        x = np.random.default_rng(0).normal(size=(WORKS[name][0], 32, 32, 3))
        first, best, *kernels = ours(name, x)
        for dtype in ("float32", "float64"):
            seconds, *others = peer(chosen.peer, name, dtype, x)
            apart = [np.max(np.abs(p - q)) / np.max(np.abs(q)) for p, q in zip(kernels, others, strict=True)]
            print(
                f"{f'{name}, {dtype}':<24}{len(x):>8}{best:>8.2f}{first:>8.2f}{seconds:>8.2f}{seconds / best:>8.1f}"
                f"{apart[0]:>12.1e}{apart[1]:>12.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
