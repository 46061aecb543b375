"""Kernels of a limit by Monte Carlo over finite networks: tensorprog beside nt.monte_carlo_kernel_fn.

    python -m benchmarks.bench_monte_carlo [--peer PYTHON] [--width 1024] [--examples 100] [--samples 100]

PYTHON is the interpreter of an environment with neural-tangents.  The network is examples/mlp.tp on Gaussian inputs of
784 numbers.  Prints the time of one sample and the relative distance (Frobenius) of the mean over samples from the
exact limit, for both kernels.  tensorprog takes the covariance of the outputs given all weights but the readout's,
neural-tangents the product of the outputs.
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


def sampled(net: tensorprog.Network, x: np.ndarray, width: int, samples: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds of one sample, the mean NNGP kernel and the mean NTK."""
    net.simulate(x, width, seeds=2)
    start = time.perf_counter()
    draws = net.simulate(x, width, seeds=samples)
    seconds = (time.perf_counter() - start) / samples
    return seconds, np.mean([d.nngp for d in draws], axis=0), np.mean([d.ntk for d in draws], axis=0)


def by_peer(python: str, x: np.ndarray, width: int, samples: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The same by neural-tangents."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        script = str(HERE / "peer_monte_carlo.py")
        subprocess.run([python, script, str(width), str(samples), folder], check=True)
        found = np.load(f"{folder}/found.npz")
    return float(found["seconds"]), found["nngp"], found["ntk"]


def main() -> None:
    """A line for each library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    for name, default in (("width", 1024), ("examples", 100), ("samples", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = parser.parse_args()
    net = tensorprog.load(HERE.parent / "examples" / "mlp.tp")
    x = np.random.default_rng(0).standard_normal((chosen.examples, 784), dtype=np.float32)
    exact = net.kernels(x)
    found = {"tensorprog": sampled(net, x, chosen.width, chosen.samples)}
    if chosen.peer:
        found["neural-tangents"] = by_peer(chosen.peer, x, chosen.width, chosen.samples)
    for library, (seconds, nngp, ntk) in found.items():
        gaps = (np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in ((nngp, exact.nngp), (ntk, exact.ntk)))
        words = ", ".join(f"{kind} {gap:.2e} from the limit" for kind, gap in zip(("nngp", "ntk"), gaps, strict=True))
        print(f"{library:<18}{seconds * 1e3:>9.1f} ms a sample   {words}")


if __name__ == "__main__":
    main()
