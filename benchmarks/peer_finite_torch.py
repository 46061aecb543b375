"""The empirical NTK by torch.func, for bench_finite.py: run by the Python of an environment that has torch.

    python peer_finite_torch.py NETWORK IMPLEMENTATION FOLDER    reads FOLDER/net.npz, writes ntk.npy and measured.json

The two ways of torch's own tutorial: `contraction` of per-example Jacobians, and `products` of vjp with jvp.
"""

import sys

import numpy as np
import torch
from measuring import measured
from torch.func import jacrev, jvp, vjp, vmap

RUNS = 3


def mlp(p, x):
    """examples/mlp.tp"""
    for k in range(3):
        x = torch.relu(x @ p[f"W.{k}"].T + p[f"b.{k}"])
    return x @ p["v"]


def _convolved(p, x):
    x = x.permute(2, 0, 1)[None]
    for k in range(5):
        x = torch.relu(torch.nn.functional.conv2d(x, p[f"K.{k}"].permute(2, 3, 0, 1), p[f"b.{k}"], padding=1))
    return x[0]


def cnn_flatten(p, x):
    """examples/cnn_flatten.tp at depth 5"""
    return (_convolved(p, x) * p["v"].permute(2, 0, 1)).sum()


def cnn_global(p, x):
    """examples/cnn_global.tp"""
    return _convolved(p, x).mean((1, 2)) @ p["v"]


def rnn(p, x):
    """examples/rnn.tp"""
    s = torch.zeros_like(p["b"])
    for xt in x:
        s = torch.erf(s @ p["W"].T + xt @ p["U"].T + p["b"])
    return s @ p["v"]


def _layernorm(x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False))


def transformer(p, x):
    """examples/transformer.tp"""
    k = x @ p["E"].T
    z = _layernorm(k + torch.softmax(k @ k.T / k.shape[-1], -1) @ k)
    y = _layernorm(z + torch.relu(z @ p["A"].T) @ p["B"].T)
    return y.mean(0) @ p["v"]


def batchnorm(p, x):
    """examples/batchnorm.tp"""
    for k in range(2):
        g = x @ p[f"W.{k}"].T
        m = g.mean(0)
        x = torch.relu((g - m) / torch.sqrt(((g - m) ** 2).mean(0)))
    return x @ p["v"]


def contraction(f, params, x):
    """sum over parameters of J J^T"""
    jacobians = [j.detach() for j in vmap(jacrev(f), (None, 0))(params, x).values()]
    axes = jacobians[0].dim() - params[next(iter(params))].dim()
    flat = [j.flatten(axes) for j in jacobians]
    return sum(torch.einsum("...p,mp->...m" if axes == 1 else "nop,mqp->nomq", j, j) for j in flat)


def products(f, params, x):
    """The columns of J J^T by a jvp of a vjp for every pair of examples."""
    def entry(x1, x2):
        output, back = vjp(lambda p: f(p, x1), params)

        def column(v):
            return jvp(lambda p: f(p, x2), (params,), back(v))[1]

        return vmap(column)(torch.eye(output.numel()).to(x)) if output.dim() else column(torch.ones_like(output))
    found = vmap(vmap(entry, (None, 0)), (0, None))(x, x)
    return found if found.dim() == 2 else found.permute(0, 2, 1, 3)


def main() -> None:
    """Times runs after a first one; memory is what they take beyond what is held after two examples."""
    network, implementation, folder = sys.argv[1:]
    given = {name: torch.from_numpy(a) for name, a in np.load(f"{folder}/net.npz").items()}
    x, scales = given.pop("x"), {k.removeprefix("scale:"): given.pop(k) for k in list(given) if k.startswith("scale:")}
    params = {name: given[name] / scales[name] for name in given}

    def f(p, x):
        return globals()[network]({name: value * scales[name] for name, value in p.items()}, x)

    kernel = globals()[implementation]
    versions = f"torch {torch.__version__}"
    measured(folder, versions, lambda: kernel(f, params, x[:2]), lambda: kernel(f, params, x).numpy(), RUNS)


main()
