"""The recurrent network beside the recursion of the papers in numpy, on the same sequences, in the same run.

    python -m benchmarks.bench_recurrent [--n 100] [--steps 20 50 100 200]

The recursion is that of Tensor Programs II (arXiv 2006.14548, section 6).  It does the work of `rnnntk_batch` in
RNN-NTK.ipynb of github.com/thegregyang/NTK4A, the code of that paper, for the last state (`avgpool=False`): arrays
[examples, examples', steps, steps'] of both second moments, filled for s <= t step by step, their other half by
reflection, then the gradients down the diagonal and one sum over steps.  Left out is its regularization of 1e-7 inside
of the expectations, which would be the largest difference between the results.  Inner products of the data are part of
the time on both sides.

Prints the median of three calls of ours, the first time before them (derivation included), the median of three calls of
the recursion after a first one, their ratio, and how far the results are apart, relative to the largest entry; float64,
both kernels, n sequences of T steps against themselves.  The last line: n sequences of ten lengths up to the largest T,
without peer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import tensorprog

RNN = Path(__file__).parent.parent / "examples" / "rnn.tp"
INPUTS, LENGTHS, BIAS = 10, 10, 0.1
Array = np.ndarray


def erf_moment(cov: Array, left: Array, right: Array) -> Array:
    """E erf(u) erf(v) = 2/pi arcsin(2 cov / sqrt((1 + 2 left) (1 + 2 right)))"""
    return 2 / np.pi * np.arcsin(2 * cov / np.sqrt((1 + 2 * left) * (1 + 2 * right)))


def slope_moment(cov: Array, left: Array, right: Array) -> Array:
    """E erf'(u) erf'(v) = 4/pi / sqrt((1 + 2 left) (1 + 2 right) - 4 cov^2)"""
    return 4 / np.pi / np.sqrt((1 + 2 * left) * (1 + 2 * right) - 4 * cov**2)


def reflected(moments: Array) -> Array:
    """Moments [n, n', T, T'] that are there for s <= t, for all steps: the others by exchanging examples and steps."""
    return np.where(moments == 0, moments.transpose(1, 0, 3, 2), moments)


def forward(gram: Array) -> tuple[Array, Array]:
    """Second moments of the preactivations and of the states, [n, n', T, T']."""
    steps = gram.shape[-1]
    before, state = np.zeros_like(gram), np.zeros_like(gram)
    before[..., 0, :], before[..., :, 0] = gram[..., 0, :] + BIAS**2, gram[..., :, 0] + BIAS**2
    for t in range(steps):
        variance = np.einsum("aass->as", before)[:, : t + 1]
        state[..., t, : t + 1] = erf_moment(
            before[..., t, : t + 1], variance[:, None, t, None], variance[None, :, :]
        )
        if t + 1 < steps:
            before[..., t + 1, 1 : t + 2] = state[..., t, : t + 1] + gram[..., t + 1, 1 : t + 2] + BIAS**2
    return reflected(before), reflected(state)


def recursion(x: Array) -> tuple[Array, Array]:
    """NNGP and NTK [n, n] of sequences x [n, T, d], parameters those of rnn.tp."""
    n, steps, dim = x.shape
    gram = np.einsum("asd,btd->abst", x, x, optimize=True) / dim
    before, state = forward(gram)
    back = np.ones((n, n, steps + 1))
    for t in range(steps - 1, -1, -1):
        variance = np.diag(before[..., t, t])
        back[..., t] = slope_moment(before[..., t, t], variance[:, None], variance[None, :]) * back[..., t + 1]
    read = np.einsum("abtt->abt", gram) + BIAS**2
    read[..., 1:] += np.einsum("abtt->abt", state[..., :-1, :-1])
    ntk = np.einsum("abt,abt->ab", back[..., :-1], read) + state[..., -1, -1]
    return state[..., -1, -1], ntk


def sequences(n: int, steps: int) -> Array:
    """Gaussian sequences of a fixed seed."""
    return np.random.default_rng(steps).standard_normal((n, steps, INPUTS))


def timed(kernels: Callable[[], tuple[Array, Array]]) -> tuple[float, float, tuple[Array, Array]]:
    """(first time, median of three later ones, NNGP and NTK)"""
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        found = kernels()
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds[1:]), found


def ours(x: object) -> Callable[[], tuple[Array, Array]]:
    """What computes both kernels of a fresh network."""
    net = tensorprog.load(RNN)

    def both() -> tuple[Array, Array]:
        found = net.kernels(x)
        return found.nngp, found.ntk

    return both


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 50, 100, 200])
    chosen = parser.parse_args()
    tensorprog.load(RNN).kernels(sequences(1000, 20))  # large enough for machine code to be made
    print(f"{'T':>12}{'ours':>9}{'first':>9}{'peer':>9}{'ratio':>8}{'apart':>10}")
    for steps in chosen.steps:
        x = sequences(chosen.n, steps)
        first, later, kernels = timed(ours(x))
        _, peer, expected = timed(partial(recursion, x))
        apart = max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(kernels, expected, strict=True))
        print(f"{steps:>12}{later:>9.3f}{first:>9.3f}{peer:>9.2f}{peer / later:>8.1f}{apart:>10.1e}", flush=True)
    most = max(chosen.steps)
    x = sequences(chosen.n, most)
    ragged = [s[: most - (k % LENGTHS) * most // (2 * LENGTHS)] for k, s in enumerate(x)]
    first, later, _ = timed(ours(ragged))
    print(f"{'ten lengths':>12}{later:>9.3f}{first:>9.3f}")


if __name__ == "__main__":
    main()
