"""Kernels of the Tensor Programs papers beside the algorithms that the papers give for them.

    python -m benchmarks.bench_papers [--length 9] [--accuracy 1e-4] [--runs 3] [--ntk4a CLONE --torch-python PYTHON]

erf-GRU, two sequences (Yang, Tensor Programs I, 1910.12478): the state is a sum over the times of its candidates,
h_t = sum_a w_a c_a with w_a = z_a (1 - z_{a+1}) .. (1 - z_t), so that

    E[h_t h_s] = sum_ab E[w_a w_b] E[c_a c_b],   E[w_a w_b] an orthant probability in up to 2 T dimensions,

each computed by Genz' algorithm (here that of scipy at the defaults of the R package mvtnorm, which the paper's code
calls: an absolute error of 1e-3 and 25000 points).  Batchnorm's NTK and NNGP, two batches of 12 (Tensor Programs II,
2006.14548): the integrals of the paper, written in peer_batchnorm.py, with the nodes that are published and with
three times as many in every dimension, which gives six digits; with --ntk4a the published notebook itself.

Printed are seconds of processor time (medians), their ratio, and the largest difference over the largest entry.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

import tensorprog as tp
from benchmarks.peer_batchnorm import batchnorm_ntk

Floats = NDArray[np.float64]
EXAMPLES = Path(__file__).parent.parent / "examples"
BIAS = 0.1**2


def orthants(x: Floats) -> Floats:
    """The NNGP of examples/gru.tp for sequences [N, T, d] by recursion over pairs of times."""
    gram = np.einsum("ptd,qsd->ptqs", x, x) / x.shape[2]

    @cache
    def state(p: int, t: int, q: int, s: int) -> float:
        """E[h_t h_s] after so many steps."""
        if (p, t) < (q, s):
            return state(q, s, p, t)
        pairs = ((a, b) for a in range(t) for b in range(s))
        return sum(weights(p, a, t, q, b, s) * candidates(p, a, q, b) for a, b in pairs)

    @cache
    def gates(p: int, t: int, q: int, s: int) -> float:
        return float(gram[p, t, q, s] + BIAS + state(p, t, q, s))

    @cache
    def candidate(p: int, t: int, q: int, s: int) -> float:
        return float(gram[p, t, q, s] + BIAS + state(p, t, q, s) * orthant([(p, t, 1), (q, s, 1)]))

    @cache
    def candidates(p: int, t: int, q: int, s: int) -> float:
        scale = (1 + 2 * candidate(p, t, p, t)) * (1 + 2 * candidate(q, s, q, s))
        return 2 / math.pi * math.asin(2 * candidate(p, t, q, s) / math.sqrt(scale))

    def orthant(arguments: list[tuple[int, int, int]]) -> float:
        """E of the product of gates (1 + erf(sign u)) / 2: half-lines of u + noise of variance 1/2."""
        sign = np.array([a[2] for a in arguments])
        cov = np.array([[gates(p, t, q, s) for q, s, _ in arguments] for p, t, _ in arguments])
        noisy = cov * np.outer(sign, sign) + np.eye(len(sign)) / 2
        return float(multivariate_normal.cdf(np.zeros(len(sign)), cov=noisy, abseps=1e-3, releps=0, maxpts=25000))

    @cache
    def weights(p: int, a: int, t: int, q: int, b: int, s: int) -> float:
        return orthant(
            [(p, k, 1 if k == a else -1) for k in range(a, t)] + [(q, k, 1 if k == b else -1) for k in range(b, s)]
        )

    n, length = x.shape[:2]
    return np.array([[state(p, length, q, length) for q in range(n)] for p in range(n)])


def timed(function: Callable[[], Any], runs: int) -> tuple[Any, float]:
    """The last result and the median of the processor times."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return result, statistics.median(times)


def recurrent(length: int, accuracy: float, runs: int) -> None:
    """erf-GRU."""
    x = np.random.default_rng(0).standard_normal((2, length, 20))
    gru = tp.load(EXAMPLES / "gru.tp")
    ours, fast = timed(lambda: gru.kernels(x, want=("nngp",), accuracy=accuracy), runs)
    theirs, slow = timed(lambda: orthants(x), 1)
    apart = np.abs(ours.nngp - theirs).max() / theirs.max()
    print(f"erf-GRU, 2 sequences of {length}: {fast:.2f} s, orthants {slow:.2f} s, ratio {slow / fast:.1f},"
          f" difference {apart:.1e}, standard error {ours.nngp_se.max() / theirs.max():.1e}")


def notebook(x: Floats, clone: str, python: str) -> tuple[Floats, float]:
    """The NTK by the published notebook, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        subprocess.run([python, str(Path(__file__).parent / "peer_ntk4a.py"), clone, folder], check=True)
        return np.load(f"{folder}/ntk.npy"), float(np.load(f"{folder}/seconds.npy"))


def batches(runs: int, clone: str | None, python: str) -> None:
    """Batchnorm; dimensions enough for the paper's inverse of the covariance of both batches."""
    net, x = tp.load(EXAMPLES / "batchnorm.tp"), np.random.default_rng(0).standard_normal((2, 12, 40))
    _, first = timed(lambda: net.kernels(x), 1)
    found, again = timed(lambda: net.kernels(x), runs)
    ntk = found.ntk.reshape(24, 24)
    print(f"batchnorm NTK and NNGP, depth 2, 2 batches of 12: {again:.2f} s, the first time {first:.2f} s")
    peers: dict[str, Callable[[], tuple[Floats, float]]] = {}
    for more in (1, 3):
        def integrals(more: int = more) -> tuple[Floats, float]:
            (kernel, _), seconds = timed(lambda: batchnorm_ntk(x[0], x[1], 2, more), 1)
            return kernel, seconds

        peers[f"its integrals, nodes x {more}"] = integrals
    if clone is not None:
        peers["its notebook"] = lambda: notebook(x, clone, python)
    for name, peer in peers.items():
        theirs, slow = peer()
        apart = np.abs(theirs - ntk).max() / np.abs(ntk).max()
        print(f"    {name}: {slow:.2f} s, ratio {slow / again:.1f}, {slow / first:.1f} the first time,"
              f" difference {apart:.1e}", flush=True)
    print(found.report)


def main() -> None:
    """Run both programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=9)
    parser.add_argument("--accuracy", type=float, default=1e-4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ntk4a", help="a checkout of github.com/thegregyang/NTK4A")
    parser.add_argument("--torch-python", default=sys.executable)
    chosen = parser.parse_args()
    batches(chosen.runs, chosen.ntk4a, chosen.torch_python)
    recurrent(chosen.length, chosen.accuracy, chosen.runs)


if __name__ == "__main__":
    main()
