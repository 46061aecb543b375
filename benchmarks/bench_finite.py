"""Empirical NTKs of finite networks beside neural-tangents and torch.func: same weights, same inputs, same machine.

    python -m benchmarks.bench_finite [--jax PYTHON] [--torch PYTHON] [--only NAME] [--dtype float64]

PYTHON is the interpreter of an environment with neural-tangents, or with torch.  Every measurement is a process of its
own: the best time of the runs after the first, the processor time of that run, and the memory that they take beyond
what is held after a run of two examples: libraries, weights and data.  A peer's implementations are all tried; one
that fails or takes more than LIMIT seconds is said to.  Prints how far every kernel is from the one that tensorprog
finds in float64 for the same weights, median and largest, relative to the largest entry; and the ratios to the best
of the peers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tensorprog
from benchmarks.measuring import measured
from tensorprog.finite import Network as Weights
from tensorprog.ir.expr import evaluate

HERE = Path(__file__).parent
RUNS, LIMIT = 4, 60
PEERS = {
    "jax": ("NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES", "JACOBIAN_CONTRACTION"),
    "torch": ("contraction", "products"),
}
FIRST = tuple(implementations[0] for implementations in PEERS.values())


@dataclass(frozen=True)
class Work:
    """One network of examples/ at a width, on `shape` random inputs."""

    network: str
    width: int
    shape: tuple[int, ...]
    params: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.network} {self.width}, {'x'.join(map(str, self.shape))}"

    def data(self) -> np.ndarray:
        """Standard Gaussian inputs."""
        return np.random.default_rng(0).standard_normal(self.shape, dtype=np.float32)

    def load(self) -> tensorprog.Network:
        """The network."""
        return tensorprog.load(HERE.parent / "examples" / f"{self.network}.tp", **dict(self.params))


FLATTEN = (("depth", 5),)
WORKS = [
    Work("cnn_flatten", 128, (50, 16, 16, 3), FLATTEN),
    Work("cnn_flatten", 256, (20, 32, 32, 3), FLATTEN),
    Work("mlp", 1024, (100, 784)),
    Work("mlp", 1024, (500, 784)),
    Work("mlp", 4096, (100, 784)),
    Work("mlp", 4096, (500, 784)),
    Work("cnn_flatten", 64, (50, 16, 16, 3), FLATTEN),
    Work("cnn_flatten", 64, (50, 32, 32, 3), FLATTEN),
    Work("cnn_flatten", 256, (20, 16, 16, 3), FLATTEN),
    Work("cnn_global", 64, (50, 16, 16, 3)),
    Work("cnn_global", 64, (50, 32, 32, 3)),
    Work("cnn_global", 256, (20, 16, 16, 3)),
    Work("rnn", 512, (100, 20, 30)),
    Work("transformer", 512, (50, 20, 30)),
    Work("batchnorm", 512, (20, 8, 100)),
]


# ---------------------------------------------------------------- one measurement, a process of its own


def network_of(work: Work, x: np.ndarray) -> Weights:
    """The weights, drawn in float32 and held in the type of the inputs."""
    drawn = work.load().weights(x.astype(np.float32), work.width)
    values = {name: value.astype(x.dtype) for name, value in drawn.values.items()}
    return replace(drawn, values=values, dtype=x.dtype)


def measure(work: Work, folder: str) -> None:
    """Writes ntk.npy and measured.json into the folder, as the peers do."""
    net, x = work.load(), np.load(f"{folder}/x.npy")
    network = network_of(work, x)
    versions = f"tensorprog {tensorprog.__version__}, numpy {np.__version__}"

    def kernel(some: np.ndarray) -> np.ndarray:
        return np.asarray(net.empirical(some, network, want=("ntk",)).ntk)

    measured(folder, versions, lambda: kernel(x[:2]), lambda: kernel(x), RUNS)


def export(work: Work, dtype: str, folder: str) -> None:
    """The inputs, the weights, and their standard deviations, by the names that the peers give them; the kernel."""
    net, x = work.load(), work.data().astype(dtype)
    network = network_of(work, x)
    arrays = {"x": x}
    for weight in net.program.weights:
        stem, _, number = weight.name.partition(".")
        several = f"{stem}.2" in network.values
        name = f"{stem}.{int(number or 1) - 1}" if several else stem
        value = network.values[weight.name]
        axes = [int(evaluate(a.extent, network.env)) for a in weight.axes]
        arrays[name] = value.reshape(*axes, *value.shape[1:])
        arrays[f"scale:{name}"] = np.sqrt(float(evaluate(weight.variance, network.env))).astype(dtype)
    np.savez(f"{folder}/net.npz", **arrays)
    np.save(f"{folder}/x.npy", x)


@dataclass(frozen=True)
class Measured:
    """A kernel, and what it took."""

    ntk: np.ndarray
    seconds: float
    processor: float
    megabytes: float
    versions: str


def run(command: list[str], folder: str, dtype: str) -> Measured | str:
    """What a process measured, or why there is nothing."""
    env = os.environ | {"JAX_ENABLE_X64": str(int(dtype == "float64"))}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT, cwd=HERE.parent, env=env)
    except subprocess.TimeoutExpired:
        return f"more than {LIMIT} s"
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or ["killed"])[-1][:70]
    return Measured(np.load(f"{folder}/ntk.npy"), **json.loads(Path(f"{folder}/measured.json").read_text()))


# ---------------------------------------------------------------- the table


def compare(number: int, peers: dict[str, str], dtype: str) -> None:
    """The lines of one work."""
    work = WORKS[number]
    with tempfile.TemporaryDirectory() as folder:
        export(work, dtype, folder)
        x = work.data().astype(np.float64)
        exact = work.load().empirical(x, network_of(work, x), want=("ntk",)).ntk
        own = run([sys.executable, "-m", "benchmarks.bench_finite", "--measure", str(number), folder], folder, dtype)
        assert isinstance(own, Measured), own
        line(f"{work}", "tensorprog", own, exact)
        best: list[Measured] = []
        for library, python in peers.items():
            for implementation in PEERS[library]:
                script = str(HERE / f"peer_finite_{library}.py")
                found = run([python, script, work.network, implementation, folder], folder, dtype)
                line("", f"{library} {implementation}", found, exact)
                best += [found] if isinstance(found, Measured) else []
    if best:
        time_ratio = min(b.seconds for b in best) / own.seconds
        memory_ratio = min(b.megabytes for b in best) / max(own.megabytes, 1e-9)
        print(f"{'':<32}{'best peer / tensorprog':<28}{time_ratio:>7.1f}  {'':>9}{memory_ratio:>7.1f}", flush=True)


def line(work: str, name: str, found: Measured | str, exact: np.ndarray) -> None:
    """One line of the table."""
    if isinstance(found, str):
        print(f"{work:<32}{name:<28}{found}", flush=True)
        return
    versions = found.versions if work or name.endswith(FIRST) else ""
    gaps = np.abs(found.ntk.ravel() - exact.ravel()) / np.abs(exact).max()
    print(f"{work:<32}{name:<28}{found.seconds:>7.3f} s {found.processor:>7.3f} s {found.megabytes:>6.0f} MB   "
          f"{np.median(gaps):.0e} {gaps.max():.0e}   {versions}", flush=True)


def main() -> None:
    """The table, or one measurement for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jax")
    parser.add_argument("--torch")
    parser.add_argument("--only", default="")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--measure", nargs=2)
    chosen = parser.parse_args()
    if chosen.measure:
        measure(WORKS[int(chosen.measure[0])], chosen.measure[1])
        return
    peers = {name: python for name in PEERS if (python := getattr(chosen, name))}
    print(f"{chosen.dtype:<60}{'wall':>9} {'processor':>9} {'memory':>9}   error: median, largest")
    for number, work in enumerate(WORKS):
        if chosen.only in str(work):
            compare(number, peers, chosen.dtype)


if __name__ == "__main__":
    main()
