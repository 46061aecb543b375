"""Kernels of fully connected networks beside neural-tangents, on the same inputs, in the same run.

    python -m benchmarks.bench_kernels --peer PYTHON [--n 3000] [--dtype float32]

PYTHON is the interpreter of an environment with neural-tangents (tests/oracles/README.md says how to make one).
Prints the median time of both for repeated calls of one network, their ratio in wall and in processor time, and how far
the results are apart, relative to the largest entry.
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
WORKS = [(3, "relu"), (10, "relu"), (3, "erf"), (3, "gelu"), (3, "tanh"), (3, "swish")]
INPUTS = 784


Timed = tuple[float, float, float, np.ndarray, np.ndarray]


def ours(x: np.ndarray, depth: int, phi: str, dtype: str) -> Timed:
    """(first time, medians of three later ones, wall and processor, NNGP, NTK)"""
    seconds = []
    net = tensorprog.load(HERE.parent / "examples" / "mlp.tp", depth=depth, phi=phi)
    for _ in range(4):
        start, busy = time.perf_counter(), time.process_time()
        found = net.kernels(x, dtype=dtype)
        seconds.append((time.perf_counter() - start, time.process_time() - busy))
    return seconds[0][0], *np.median(seconds[1:], axis=0), found.nngp, found.ntk


def peer(python: str, x: np.ndarray, depth: int, phi: str, dtype: str) -> Timed:
    """The same by neural-tangents, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        command = [python, HERE / "peer_neural_tangents.py", str(depth), phi, folder, dtype]
        subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = np.load(f"{folder}/seconds.npy")
        medians = np.median(seconds[1:], axis=0)
        return seconds[0, 0], *medians, np.load(f"{folder}/nngp.npy"), np.load(f"{folder}/ntk.npy")


def _last_line(text: str) -> str:
    """What an error says."""
    lines = [line for line in text.splitlines() if "Error" in line]
    return lines[-1][:90] if lines else "no reason given"


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--dtype", choices=["float64", "float32"], default="float64")
    chosen = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(chosen.n, INPUTS))
    print(f"{chosen.n} x {chosen.n}, {INPUTS} inputs, NNGP and NTK, {chosen.dtype}, seconds")
    heads = ("ours", "first", "peer", "first", "ratio", "busy", "NNGP apart", "NTK apart")
    print(f"{'network':<16}" + "".join(f"{h:>{w}}" for h, w in zip(heads, (8, 9, 8, 9, 8, 8, 12, 12), strict=True)))
    for depth, phi in WORKS:
        a = ours(x, depth, phi, chosen.dtype)
        try:
            b = peer(chosen.peer, x, depth, phi, chosen.dtype)
        except subprocess.CalledProcessError as error:
            reason = _last_line(error.stderr)
            print(f"{f'{phi}, depth {depth}':<16}{a[1]:>8.2f}{a[0]:>9.2f}    the peer fails: {reason}", flush=True)
            continue
        apart = [np.max(np.abs(p - q)) / np.max(np.abs(q)) for p, q in zip(a[3:], b[3:], strict=True)]
        print(
            f"{f'{phi}, depth {depth}':<16}{a[1]:>8.2f}{a[0]:>9.2f}{b[1]:>8.2f}{b[0]:>9.2f}{b[1] / a[1]:>8.1f}"
            f"{b[2] / a[2]:>8.1f}{apart[0]:>12.1e}{apart[1]:>12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
