"""Both kernels by neural-tangents, for speed.py and scaling.py: run by the Python of an environment that has it.

    python peer_neural_tangents.py FOLDER DTYPE NET | DEPTH PHI     reads x.npy, leaves what works.py says
"""

import sys
import time
import types

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # noqa: E402

jax.config.update("jax_enable_x64", sys.argv[2] == "float64")

import numpy as np  # noqa: E402
from measuring import peak  # noqa: E402
from neural_tangents import stax  # noqa: E402


def activation(phi: str, precise: int = 60):
    """The layer of an activation; those without a formula by Gauss-Hermite quadrature."""
    named = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}
    if phi in named:
        return named[phi]()
    functions = {"tanh": jax.numpy.tanh, "swish": jax.nn.swish}
    return stax.ElementwiseNumerical(functions[phi], deg=precise)


def mlp(depth: int, phi: str) -> list:
    """The network of examples/mlp.tp."""
    return [x for _ in range(depth) for x in (stax.Dense(1, W_std=1.4, b_std=0.1), activation(phi))]


def conv_relu(count: int) -> list:
    """3 x 3 convolutions with relu."""
    return [x for _ in range(count) for x in (stax.Conv(1, (3, 3), padding="SAME", W_std=1.5, b_std=0.1), stax.Relu())]


def images(name: str) -> list:
    """The networks of examples/cnn_flatten.tp, cnn_global.tp (depth 5) and myrtle.tp."""
    pool = [stax.AvgPool((2, 2), (2, 2))]
    return {
        "cnn_flatten": [*conv_relu(5), stax.Flatten()],
        "cnn_global": [*conv_relu(5), stax.GlobalAvgPool()],
        "myrtle": [*conv_relu(2), *pool, *conv_relu(1), *pool, *conv_relu(1), stax.GlobalAvgPool()],
    }[name]


def main() -> None:
    """Times three runs after one that compiles, fewer where that takes more than a minute."""
    folder, dtype, *net = sys.argv[1:]
    x = np.load(f"{folder}/x.npy").astype(dtype)
    layers = images(net[0]) if len(net) == 1 else mlp(int(net[0]), net[1])
    function = stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=0.0))[2]
    kernel = jax.jit(lambda a: function(a, None, ("nngp", "ntk")))
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < 4 and sum(seconds) < 60):
        start = time.perf_counter()
        found = kernel(x)
        nngp, ntk = np.asarray(found.nngp), np.asarray(found.ntk)
        seconds.append(time.perf_counter() - start)
    np.save(f"{folder}/nngp.npy", nngp)
    np.save(f"{folder}/ntk.npy", ntk)
    np.save(f"{folder}/seconds.npy", seconds)
    np.save(f"{folder}/peak.npy", peak())


main()
