"""Monte Carlo kernels by neural-tangents, for bench_monte_carlo.py: run by the Python of an environment that has it.

    python peer_monte_carlo.py WIDTH SAMPLES FOLDER    reads FOLDER/x.npy, writes FOLDER/found.npz
"""

import sys
import time
import types

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # noqa: E402
import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402


def main() -> None:
    """One call that compiles, one that is timed."""
    width, samples, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    x = np.load(f"{folder}/x.npy")
    layers = [layer for _ in range(3) for layer in (stax.Dense(width, 1.4, 0.1), stax.Relu())]
    init, apply, _ = stax.serial(*layers, stax.Dense(1, 1.0, None))

    def kernel(count):
        return nt.monte_carlo_kernel_fn(init, apply, jax.random.PRNGKey(0), count, trace_axes=(), vmap_axes=0,
                                        implementation=nt.NtkImplementation.NTK_VECTOR_PRODUCTS)

    kernel(1)(x, None, ("nngp", "ntk"))
    start = time.perf_counter()
    found = kernel(samples)(x, None, ("nngp", "ntk"))
    nngp, ntk = np.asarray(found.nngp), np.asarray(found.ntk)
    seconds = (time.perf_counter() - start) / samples
    count = len(x)
    np.savez(f"{folder}/found.npz", seconds=seconds, nngp=nngp.reshape(count, count), ntk=ntk.reshape(count, count))


main()
