"""Reference NNGP and NTK kernels of named networks, computed by neural-tangents in float64.

Each case NAME has a program of the same network in `programs/NAME.tp`; its defaults are the numbers used here.
The script writes `neural_tangents.npz` beside itself with the entries

    NAME/x1, NAME/x2          inputs, first axis the example, one pair of entries per input of the program
    NAME/A1, NAME/A2          (the graphs of the case `graph_aggregate`)
    NAME/nngp, NAME/ntk       kernels of x1 against x2
    NAME/nngp11, NAME/ntk11   kernels of x1 against x1

The parametrization is 'ntk': a layer is h = W_std / sqrt(fan_in) omega x + b_std beta with omega, beta ~ N(0, 1)
trained at rate 1; a convolution has fan_in = taps * channels. This equals `weight W ~ N(0, W_std^2 / fan_in)` with the
default learning rate. x2 holds, after independent examples, a copy of x1[0], 2 x1[1] and -x1[2] (equal, parallel and
opposite pairs), for which neural-tangents is accurate only to 1e-7 for relu, leaky_relu and abs.

neural-tangents 0.6.5 needs an environment of its own (Python 3.11), it does not import on newer JAX:

    pip install "jax==0.4.23" "jaxlib==0.4.23" "numpy<2" "scipy<1.13" frozendict absl-py
    pip install --no-deps neural-tangents==0.6.5
    python neural_tangents_reference.py
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# `neural_tangents.experimental` would import TensorFlow, which nothing here needs.
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # type: ignore[import-not-found]  # noqa: E402

jax.config.update("jax_enable_x64", True)

from neural_tangents import stax  # type: ignore[import-not-found]  # noqa: E402

Array = npt.NDArray[np.float64]
Layer = Any  # a triple (init_fn, apply_fn, kernel_fn) of neural-tangents


@dataclass(frozen=True, slots=True)
class Case:
    """A network, its inputs, and which kernels exist in the limit."""

    net: Layer
    x1: Array
    x2: Array
    get: tuple[str, ...] = ("nngp", "ntk")
    graphs: tuple[Array, Array] | None = None


def inputs(shape: tuple[int, ...], seed: int, count: int = 5) -> tuple[Array, Array]:
    """Standard normal x1, x2; the last three of x2 are x1[0], 2 x1[1], -x1[2]."""
    rng = np.random.default_rng(seed)
    x1 = rng.normal(size=(count, *shape))
    fresh = rng.normal(size=(2, *shape))
    return x1, np.concatenate([fresh, x1[:1], 2 * x1[1:2], -x1[2:3]])


def unit(x: Array) -> Array:
    """Rows scaled to |x|^2 / d = 1, so that a layer with sw = 1, sb = 0 has unit variance."""
    rows: Array = x * np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1, keepdims=True)
    return rows


def readout() -> Layer:
    return stax.Dense(1, W_std=1.0, b_std=None)


def dense(sw: float, sb: float) -> Layer:
    return stax.Dense(512, W_std=sw, b_std=sb)


def mlp(activation: Layer, depth: int, sw: float, sb: float) -> Layer:
    """`depth` hidden layers, each dense then activation, and the readout."""
    return stax.serial(*[dense(sw, sb), activation] * depth, readout())


def mlp_cases() -> dict[str, Case]:
    table: dict[str, tuple[Layer, int, float, float]] = {
        "mlp_relu_1": (stax.Relu(), 1, 1.0, 0.0),
        "mlp_relu_2": (stax.Relu(), 2, 2**0.5, 0.0),
        "mlp_relu_3": (stax.Relu(), 3, 1.4, 0.1),
        "mlp_relu_5": (stax.Relu(), 5, 1.2, 0.3),
        "mlp_erf_3": (stax.Erf(), 3, 1.4, 0.1),
        "mlp_gelu_3": (stax.Gelu(approximate=False), 3, 1.5, 0.2),
        "mlp_leaky_relu_3": (stax.LeakyRelu(0.1), 3, 1.3, 0.1),
        "mlp_abs_3": (stax.Abs(), 3, 1.0, 0.2),
        "mlp_sin_3": (stax.Sin(), 3, 1.2, 0.1),
        "mlp_cos_3": (stax.Cos(), 3, 1.2, 0.1),
        "mlp_rbf_3": (stax.Rbf(gamma=0.7), 3, 0.9, 0.1),
        "mlp_sigmoid_like_3": (stax.Sigmoid_like(), 3, 1.7, 0.3),
        "mlp_gaussian_3": (stax.Gaussian(), 3, 1.3, 0.1),
        "mlp_exp_1": (stax.Exp(), 1, 0.6, 0.1),
        "mlp_square_2": (stax.Monomial(2), 2, 0.7, 0.1),
        "mlp_polynomial_2": (stax.Polynomial([0.5, 1.0, 0.2, -0.1]), 2, 0.8, 0.1),
    }
    cases = {name: Case(mlp(*row), *inputs((4,), seed)) for seed, (name, row) in enumerate(table.items(), start=10)}
    x1, x2 = (unit(x) for x in inputs((4,), 40))
    cases["mlp_hermite3_2"] = Case(mlp(stax.Hermite(3), 2, 1.0, 0.0), x1, x2)
    # The NTK of a step function diverges; neural-tangents reports a finite number all the same.
    cases["mlp_sign_2"] = Case(mlp(stax.Sign(), 2, 1.4, 0.3), *inputs((4,), 41), get=("nngp",))
    return cases


def both(left: Layer, right: Layer, join: Layer) -> Layer:
    return stax.serial(stax.FanOut(2), stax.parallel(left, right), join)


def branch_cases() -> dict[str, Case]:
    """Residual nets, sums, products and stacks of branches, layer normalization."""
    d, relu, identity = dense(1.3, 0.1), stax.Relu(), stax.Identity()
    residual = both(identity, stax.serial(stax.Erf(), dense(1.3, 0.1)), stax.FanInSum())
    branch = stax.serial(relu, d)
    erf_branch, right = stax.serial(d, stax.Erf()), stax.serial(stax.Erf(), d)
    normed = [d, stax.LayerNorm(axis=-1, eps=0.0), relu]
    nets = {
        "residual_mlp": stax.serial(d, residual, residual, stax.Erf(), readout()),
        "fan_in_sum": stax.serial(d, both(branch, stax.serial(stax.Sin(), d), stax.FanInSum()), relu, readout()),
        "fan_in_product": stax.serial(d, both(branch, right, stax.FanInProd()), d, relu, readout()),
        "fan_in_concat": stax.serial(both(stax.serial(d, relu), erf_branch, stax.FanInConcat(-1)), d, relu, readout()),
        "layernorm_mlp": stax.serial(*normed, *normed, readout()),
    }
    return {name: Case(net, *inputs((4,), seed)) for seed, (name, net) in enumerate(nets.items(), start=50)}


def conv(taps: int, dims: int, stride: int = 1, padding: str = "SAME", sw: float = 1.4, sb: float = 0.1) -> Layer:
    return stax.Conv(64, (taps,) * dims, (stride,) * dims, padding, W_std=sw, b_std=sb)


def conv_net(dims: int, padding: str, stride: int, head: Layer) -> Layer:
    """conv(3, stride) - relu - conv - erf - head; the second filter has 2 taps where 3 would not fit."""
    taps = 2 if (padding, stride) == ("VALID", 2) else 3
    first, second = conv(3, dims, stride, padding), conv(taps, dims, 1, padding, sw=1.2)
    return stax.serial(first, stax.Relu(), second, stax.Erf(), head, readout())


def conv_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    heads = {"flatten": stax.Flatten(), "gap": stax.GlobalAvgPool()}
    for dims, shape in ((1, (8, 3)), (2, (6, 6, 3))):
        for padding in ("SAME", "VALID", "CIRCULAR"):
            for stride in (1, 2):
                for head, layer in heads.items():
                    x1, x2 = inputs(shape, seed=100 + len(cases), count=3)
                    name = f"conv{dims}d_{padding.lower()}_{stride}_{head}"
                    cases[name] = Case(conv_net(dims, padding, stride, layer), x1, x2)
    return cases


def image_cases() -> dict[str, Case]:
    """Small versions of the networks that people run on images."""
    relu, pool = stax.Relu(), stax.AvgPool((2, 2), (2, 2))
    shortcut = both(conv(3, 2, 2), stax.serial(relu, conv(3, 2, 2), relu, conv(3, 2)), stax.FanInSum())
    block = both(stax.Identity(), stax.serial(relu, conv(3, 2), relu, conv(3, 2)), stax.FanInSum())
    local = stax.ConvLocal(64, (3,), padding="SAME", W_std=1.4, b_std=0.1)
    same_pool = stax.AvgPool((3,), (1,), "SAME", normalize_edges=False)
    nets = {
        "myrtle": (
            [conv(3, 2), relu, conv(3, 2), relu, pool, conv(3, 2), relu, pool, conv(3, 2), relu, stax.GlobalAvgPool()],
            (8, 8, 3),
        ),
        "wide_resnet": ([conv(3, 2), block, shortcut, relu, stax.GlobalAvgPool()], (6, 6, 3)),
        "avgpool_same": ([conv(3, 1), relu, same_pool, conv(3, 1), relu, stax.Flatten()], (8, 3)),
        "conv_local": ([conv(3, 1), relu, local, relu, stax.GlobalAvgPool()], (8, 3)),
    }
    return {
        name: Case(stax.serial(*layers, readout()), *inputs(shape, seed, count=3))
        for seed, (name, (layers, shape)) in enumerate(nets.items(), start=200)
    }


def attention_case() -> Case:
    """Softmax attention with 1/n scaling and one matrix for keys and queries (limit of many heads)."""
    attention = stax.GlobalSelfAttention(64, 64, 64, 8, W_key_std=1.2, W_query_std=0.9, W_value_std=1.1, W_out_std=1.3)
    layers = [dense(1.2, 0.1), stax.Relu(), attention, stax.Relu(), stax.GlobalAvgPool(), readout()]
    return Case(stax.serial(*layers), *inputs((4, 3), 300, count=3))


def graph_case() -> Case:
    """Two dense layers on the nodes, each followed by aggregation over a directed weighted graph."""
    rng = np.random.default_rng(400)
    x1, x2 = inputs((5, 3), 401, count=3)
    graphs = tuple(rng.uniform(size=(len(x), 5, 5)) * (rng.uniform(size=(len(x), 5, 5)) < 0.5) for x in (x1, x2))
    aggregate = stax.Aggregate(aggregate_axis=1)
    layers = [dense(1.4, 0.1), stax.Relu(), aggregate] * 2
    net = stax.serial(*layers, stax.GlobalAvgPool(), readout())
    return Case(net, x1, x2, graphs=(graphs[0], graphs[1]))


def all_cases() -> dict[str, Case]:
    single = {"attention": attention_case(), "graph_aggregate": graph_case()}
    return mlp_cases() | branch_cases() | conv_cases() | image_cases() | single


def kernels(case: Case) -> dict[str, Array]:
    """The kernels of one case under the names of the file (without NAME/)."""
    kernel_fn: Callable[..., Any] = case.net[2]
    first = {} if case.graphs is None else {"pattern": (case.graphs[0], case.graphs[0])}
    cross = {} if case.graphs is None else {"pattern": case.graphs}
    k12 = kernel_fn(case.x1, case.x2, case.get, **cross)
    k11 = kernel_fn(case.x1, None, case.get, **first)
    entries = {"x1": case.x1, "x2": case.x2}
    if case.graphs is not None:
        entries |= {"A1": case.graphs[0], "A2": case.graphs[1]}
    for name in case.get:
        entries |= {name: np.asarray(getattr(k12, name)), f"{name}11": np.asarray(getattr(k11, name))}
    return entries


def main() -> None:
    table: dict[str, Array] = {}
    for name, case in all_cases().items():
        print(name, flush=True)
        table |= {f"{name}/{key}": value for key, value in kernels(case).items()}
    np.savez_compressed(Path(__file__).with_name("neural_tangents.npz"), **table)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
