"""Empirical NTKs of finite networks beside neural-tangents and torch.func: same weights, same inputs, same machine.

    python -m benchmarks.bench_finite [--jax PYTHON] [--torch PYTHON] [--only NAME]

PYTHON is the interpreter of an environment with neural-tangents, or with torch.  Every measurement is a process of its
own: the best time of the runs after the first, and the memory that it takes beyond its libraries and its data.
A peer's implementations are all tried; one that fails or takes more than LIMIT seconds is said to.  Prints the ratios
to the best of the peers and how far the kernels are apart, median and largest, relative to the largest entry; float32.
A relu at zero up to rounding may be on in one library and off in another, so that the largest gap is no error of one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tensorprog
from tensorprog.ir.expr import evaluate

HERE = Path(__file__).parent
RUNS, LIMIT = 4, 60
PEERS = {
    "jax": ("NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES", "JACOBIAN_CONTRACTION"),
    "torch": ("contraction", "products"),
}


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


def peak(reset: bool = False) -> float:
    """The most memory that the process has held, in MB, since the last reset (a process starts with its parent's)."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def measured(work: Work, folder: str) -> None:
    """Writes ntk.npy and measured.json into the folder, as the peers do."""
    net, x = work.load(), np.load(f"{folder}/x.npy")
    network = net.weights(x, work.width)
    before = peak(reset=True)
    seconds = []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        found = net.empirical(x, network, want=("ntk",))
        seconds.append(time.perf_counter() - start)
    np.save(f"{folder}/ntk.npy", found.ntk)
    Path(f"{folder}/measured.json").write_text(json.dumps({"seconds": min(seconds[1:]), "megabytes": peak() - before}))


def export(work: Work, folder: str) -> None:
    """The inputs, the weights, and their standard deviations, by the names that the peers give them."""
    net, x = work.load(), work.data()
    network = net.weights(x, work.width)
    arrays = {"x": x}
    for weight in net.program.weights:
        stem, _, number = weight.name.partition(".")
        several = f"{stem}.2" in network.values
        name = f"{stem}.{int(number or 1) - 1}" if several else stem
        value = network.values[weight.name]
        axes = [int(evaluate(a.extent, network.env)) for a in weight.axes]
        arrays[name] = value.reshape(*axes, *value.shape[1:])
        arrays[f"scale:{name}"] = np.float32(np.sqrt(float(evaluate(weight.variance, network.env))))
    np.savez(f"{folder}/net.npz", **arrays)
    np.save(f"{folder}/x.npy", x)


def run(command: list[str], folder: str) -> tuple[float, float, np.ndarray] | str:
    """(seconds, megabytes, kernel), or why there are none."""
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT, cwd=HERE.parent)
    except subprocess.TimeoutExpired:
        return f"more than {LIMIT} s"
    except subprocess.CalledProcessError as error:
        return (error.stderr.strip().splitlines() or ["killed"])[-1][:70]
    found = json.loads(Path(f"{folder}/measured.json").read_text())
    return found["seconds"], found["megabytes"], np.load(f"{folder}/ntk.npy")


# ---------------------------------------------------------------- the table


def compare(number: int, peers: dict[str, str]) -> None:
    """The lines of one work."""
    work = WORKS[number]
    with tempfile.TemporaryDirectory() as folder:
        export(work, folder)
        ours = run([sys.executable, "-m", "benchmarks.bench_finite", "--measure", str(number), folder], folder)
        assert not isinstance(ours, str), ours
        print(f"{work!s:<34}{'tensorprog':<32}{ours[0]:>8.3f} s {ours[1]:>7.0f} MB", flush=True)
        best: list[tuple[float, float]] = []
        for library, python in peers.items():
            for implementation in PEERS[library]:
                script = str(HERE / f"peer_finite_{library}.py")
                found = run([python, script, work.network, implementation, folder], folder)
                label = f"{'':<34}{library + ' ' + implementation:<32}"
                if isinstance(found, str):
                    print(f"{label}{found}", flush=True)
                    continue
                gaps = np.abs(found[2].ravel() - ours[2].ravel()) / np.abs(ours[2]).max()
                best.append(found[:2])
                apart = f"apart {np.median(gaps):.1e}, at most {gaps.max():.1e}"
                print(f"{label}{found[0]:>8.3f} s {found[1]:>7.0f} MB   {apart}", flush=True)
    if best:
        time_ratio, memory_ratio = (min(b[k] for b in best) / max(ours[k], 1e-9) for k in (0, 1))
        print(f"{'':<34}{'best peer / tensorprog':<32}{time_ratio:>8.1f}   {memory_ratio:>7.1f}", flush=True)


def main() -> None:
    """The table, or one measurement for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jax")
    parser.add_argument("--torch")
    parser.add_argument("--only", default="")
    parser.add_argument("--measure", nargs=2)
    chosen = parser.parse_args()
    if chosen.measure:
        measured(WORKS[int(chosen.measure[0])], chosen.measure[1])
        return
    peers = {name: python for name in PEERS if (python := getattr(chosen, name))}
    for number, work in enumerate(WORKS):
        if chosen.only in str(work):
            compare(number, peers)


if __name__ == "__main__":
    main()
