"""What is timed beside which peer: programs of examples/, data, the ratio that we ask of ourselves.

Every side runs in a process of its own, `python -m benchmarks.works ROW SIDE FOLDER` for ours and for algorithms of
papers, and leaves seconds.npy (first call, later ones), nngp.npy and ntk.npy (what there is) and peak.npy (MB).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

from benchmarks.measuring import peak

Array = np.ndarray
EXAMPLES = Path(__file__).parent.parent / "examples"
NT = ("float32", "float64")
"""The types in which neural-tangents runs."""


@final
@dataclass(frozen=True, slots=True)
class Work:
    """A row: `peers` are types in which neural-tangents runs, or algorithms of papers.

    So many `calls` follow the first one, or 30 s: most are by machine code, even where it was not on disk.

    `agree` is the relative distance that is allowed, by the type of the result.
    """

    label: str
    file: str
    data: Callable[[], Any]
    asked: float
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = NT
    calls: int = 9
    agree: float = 1e-9


def gaussian(*shape: int) -> Callable[[], Array]:
    """Data of a fixed seed."""
    return lambda: np.random.default_rng(0).standard_normal(shape)


def dense(depth: int, phi: str, asked: float, n: int = 3000, dtype: str = "float64") -> Work:
    """A fully connected network on n inputs of dimension 784."""
    label = f"{phi} MLP, depth {depth}, {n} x {n}, {dtype}"
    agree = {"float32": 1e-5, "float64": 1e-9}[dtype]
    return Work(label, "mlp", gaussian(n, 784), asked, {"depth": depth, "phi": phi}, {"dtype": dtype}, (dtype,),
                agree=agree)


def images(file: str, count: int, asked: float, size: int = 32, **params: Any) -> Work:
    """A convolutional network on images of size x size x 3."""
    label = f"{file}, {size} x {size}, {count} x {count}"
    return Work(label, file, gaussian(count, size, size, 3), asked, params)


def recurrent(steps: int, asked: float, n: int = 100) -> Work:
    """The recurrent network on n sequences."""
    label = f"rnn, T = {steps}, {n} x {n}"
    return Work(label, "rnn", gaussian(n, steps, 10), asked, peers=("papers' recursion",))


ROWS = {
    "relu3": dense(3, "relu", 8, dtype="float32"),
    "relu3-64": dense(3, "relu", 8),
    "relu10": dense(10, "relu", 20, dtype="float32"),
    "relu50": dense(50, "relu", 60, dtype="float32"),
    "erf3": dense(3, "erf", 8, dtype="float32"),
    "gelu3": dense(3, "gelu", 8, dtype="float32"),
    "tanh3": dense(3, "tanh", 30, n=200),
    "swish3": dense(3, "swish", 30, n=200),
    "flatten": images("cnn_flatten", 40, 10, depth=5),
    "global": images("cnn_global", 8, 20, depth=5),
    "myrtle": images("myrtle", 8, 15),
    "rnn": recurrent(50, 50),
    "gru": Work("erf-GRU, 2 sequences of 9, NNGP to 1e-4", "gru", gaussian(2, 9, 20), 100,
                options={"want": ("nngp",), "accuracy": 1e-4}, peers=("orthants",), agree=1e-3),
    "batchnorm": Work("batchnorm, 2 batches of 12", "batchnorm", gaussian(2, 12, 40), 50,
                      peers=("integrals",), agree=1e-6),
}

SCALING = {
    "examples": {n: dense(3, "relu", 0, n) for n in (500, 1000, 2000, 4000, 8000)},
    "depth": {depth: dense(depth, "relu", 0, 1000) for depth in (1, 3, 10, 30)},
    "steps T": {steps: recurrent(steps, 0, 30) for steps in (5, 10, 20, 50, 100)},
    "image size": {size: images("cnn_global", 2, 0, size, depth=5) for size in (8, 16, 24, 32)},
    "threads": {threads: dense(10, "relu", 0, 2000) for threads in (1, 2)},
}
"""What grows in every panel of the plot."""
ALL = ROWS | {f"{panel}={value}": work for panel, works in SCALING.items() for value, work in works.items()}


def ours(work: Work, x: Any) -> Callable[[], tuple[Any, Any]]:
    """What computes the kernels of a fresh network."""
    import tensorprog

    net = tensorprog.load(EXAMPLES / f"{work.file}.tp", **work.params)

    def both() -> tuple[Any, Any]:
        found = net.kernels(x, **work.options)
        return found.nngp, found.ntk

    return both


def algorithm(name: str, x: Any) -> Callable[[], tuple[Any, Any]]:
    """An algorithm of a paper."""
    if name == "papers' recursion":
        from benchmarks.bench_recurrent import recursion

        return lambda: recursion(x)
    if name == "integrals":
        from benchmarks.peer_batchnorm import batchnorm_ntk

        return lambda: batchnorm_ntk(x[0], x[1], 2, 3)[::-1]
    from benchmarks.bench_papers import orthants

    return lambda: (orthants(x), None)


def main() -> None:
    """One side of one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=ALL)
    parser.add_argument("side")
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    work = ALL[chosen.row]
    x = work.data()
    run = ours(work, x) if chosen.side == "ours" else algorithm(chosen.side, x)
    seconds: list[float] = []
    while not seconds or (len(seconds) <= work.calls and sum(seconds) < 30):
        start = time.perf_counter()
        nngp, ntk = run()
        seconds.append(time.perf_counter() - start)
    kept(chosen.folder, seconds, nngp, ntk)


def kept(folder: Path, seconds: list[float], nngp: Any, ntk: Any) -> None:
    """What a side leaves."""
    np.save(folder / "seconds.npy", seconds)
    np.save(folder / "peak.npy", peak())
    for name, kernel in (("nngp", nngp), ("ntk", ntk)):
        if kernel is not None:
            np.save(folder / f"{name}.npy", kernel.reshape(round(kernel.size**0.5), -1))


if __name__ == "__main__":
    main()
