"""One kernel by neural-tangents, for bench_kernels.py: run by the Python of an environment that has it.

    python peer_neural_tangents.py DEPTH PHI FOLDER DTYPE  reads FOLDER/x.npy, writes nngp.npy, ntk.npy, seconds.npy
"""

import sys
import time
import types

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # noqa: E402

jax.config.update("jax_enable_x64", sys.argv[4] == "float64")

import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

SW, SB = 1.4, 0.1


def activation(phi: str, precise: int = 60):
    """The layer of an activation; those without a formula by Gauss-Hermite quadrature."""
    named = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}
    if phi in named:
        return named[phi]()
    functions = {"tanh": jax.numpy.tanh, "swish": jax.nn.swish}
    return stax.ElementwiseNumerical(functions[phi], deg=precise)


def mlp(depth: int, phi: str):
    """The network of examples/mlp.tp."""
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(1, W_std=SW, b_std=SB), activation(phi)]
    return stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=0.0))[2]


def main() -> None:
    """Times the second and third run; the first compiles."""
    depth, phi, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    x = np.load(f"{folder}/x.npy").astype(sys.argv[4])
    kernel = jax.jit(lambda a: mlp(depth, phi)(a, None, ("nngp", "ntk")))
    seconds = []
    for _ in range(4):
        start, busy = time.perf_counter(), time.process_time()
        found = kernel(x)
        nngp, ntk = np.asarray(found.nngp), np.asarray(found.ntk)
        seconds.append((time.perf_counter() - start, time.process_time() - busy))
    np.save(f"{folder}/nngp.npy", nngp)
    np.save(f"{folder}/ntk.npy", ntk)
    np.save(f"{folder}/seconds.npy", seconds)


main()
