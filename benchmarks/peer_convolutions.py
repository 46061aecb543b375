"""One kernel of images by neural-tangents, for bench_conv.py: run by the Python of an environment that has it.

    python peer_convolutions.py NET DTYPE FOLDER       reads FOLDER/x.npy, writes nngp.npy, ntk.npy, seconds.npy
"""

import sys
import time
import types

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # noqa: E402

jax.config.update("jax_enable_x64", sys.argv[2] == "float64")

import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402


def conv_relu(count: int) -> list:
    """3 x 3 convolutions with relu."""
    return [x for _ in range(count) for x in (stax.Conv(1, (3, 3), padding="SAME", W_std=1.5, b_std=0.1), stax.Relu())]


def net(name: str):
    """The networks of examples/cnn_flatten.tp, cnn_global.tp (depth 5) and myrtle.tp."""
    pool = [stax.AvgPool((2, 2), (2, 2))]
    layers = {
        "cnn_flatten": [*conv_relu(5), stax.Flatten()],
        "cnn_global": [*conv_relu(5), stax.GlobalAvgPool()],
        "myrtle": [*conv_relu(2), *pool, *conv_relu(1), *pool, *conv_relu(1), stax.GlobalAvgPool()],
    }[name]
    return stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=0.0))[2]


def main() -> None:
    """Times two runs after one that compiles."""
    name, dtype, folder = sys.argv[1:]
    x = np.load(f"{folder}/x.npy").astype(dtype)
    kernel = jax.jit(lambda a: net(name)(a, None, ("nngp", "ntk")))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = kernel(x)
        nngp, ntk = np.asarray(found.nngp), np.asarray(found.ntk)
        seconds.append(time.perf_counter() - start)
    np.save(f"{folder}/nngp.npy", nngp)
    np.save(f"{folder}/ntk.npy", ntk)
    np.save(f"{folder}/seconds.npy", seconds)


main()
