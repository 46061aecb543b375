"""The empirical NTK by neural-tangents, for bench_finite.py: run by the Python of an environment that has it.

    python peer_finite_jax.py NETWORK IMPLEMENTATION FOLDER    reads FOLDER/net.npz, writes ntk.npy and measured.json
"""

import sys
import types

sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from measuring import measured  # noqa: E402

RUNS = 3


def mlp(p, x):
    """examples/mlp.tp"""
    for k in range(3):
        h = x @ p[f"W.{k}"].T + p[f"b.{k}"]
        x = jax.nn.relu(h)
    return x @ p["v"]


def _convolved(p, x):
    for k in range(5):
        h = jax.lax.conv_general_dilated(x, p[f"K.{k}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWOI", "NHWC"))
        x = jax.nn.relu(h + p[f"b.{k}"])
    return x


def cnn_flatten(p, x):
    """examples/cnn_flatten.tp at depth 5"""
    return jnp.einsum("bijn,ijn->b", _convolved(p, x), p["v"])


def cnn_global(p, x):
    """examples/cnn_global.tp"""
    return _convolved(p, x).mean((1, 2)) @ p["v"]


def rnn(p, x):
    """examples/rnn.tp"""
    def step(s, xt):
        return jax.scipy.special.erf(s @ p["W"].T + xt @ p["U"].T + p["b"]), None
    s, _ = jax.lax.scan(step, jnp.zeros((len(x), len(p["b"])), x.dtype), x.swapaxes(0, 1))
    return s @ p["v"]


def _layernorm(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True))


def transformer(p, x):
    """examples/transformer.tp"""
    k = x @ p["E"].T
    a = jax.nn.softmax(jnp.einsum("btn,bsn->bts", k, k) / k.shape[-1], -1)
    z = _layernorm(k + a @ k)
    y = _layernorm(z + jax.nn.relu(z @ p["A"].T) @ p["B"].T)
    return y.mean(1) @ p["v"]


def batchnorm(p, x):
    """examples/batchnorm.tp"""
    for k in range(2):
        g = x @ p[f"W.{k}"].T
        m = g.mean(1, keepdims=True)
        x = jax.nn.relu((g - m) / jnp.sqrt(((g - m) ** 2).mean(1, keepdims=True)))
    return x @ p["v"]


def main() -> None:
    """Times runs after one that compiles; memory is what they take beyond what is held after two examples."""
    network, implementation, folder = sys.argv[1:]
    given = dict(np.load(f"{folder}/net.npz"))
    x, scales = given.pop("x"), {k.removeprefix("scale:"): given.pop(k) for k in list(given) if k.startswith("scale:")}
    params = {name: given[name] / scales[name] for name in given}

    def f(p, x):
        return globals()[network]({name: value * scales[name] for name, value in p.items()}, x)

    kernel = jax.jit(nt.empirical_ntk_fn(f, trace_axes=(), vmap_axes=0,
                                         implementation=nt.NtkImplementation[implementation]))

    def whole():
        found = np.asarray(kernel(x, None, params))
        return found.swapaxes(1, 2) if found.ndim == 4 else found  # to [N, B, N, B]

    versions = f"jax {jax.__version__}, neural-tangents {nt.__version__}"
    measured(folder, versions, lambda: kernel(x[:2], None, params).block_until_ready(), whole, RUNS)


main()
