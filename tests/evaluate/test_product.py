"""Tapes as products of rows and columns against the tape of all pairs of positions."""

from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog.dataset import bind
from tensorprog.evaluate import analytic, grid, pairs
from tensorprog.evaluate.analytic import data_families
from tensorprog.limit.analyse import analyse
from tensorprog.limit.moments import Moments
from tensorprog.tape.product import product_tapes
from tensorprog.tape.projections import NotSeparable
from tests.evaluate.product_arrays import ProductRun

EXAMPLES = Path(__file__).parents[2] / "examples"
NETS = [
    ("cnn_global", (6, 5, 3)),
    ("cnn_flatten", (6, 5, 3)),
    ("cnn_circular", (6, 5, 3)),
    ("cnn_strided", (8, 12, 3)),
    ("myrtle", (8, 12, 3)),
    ("wide_resnet", (8, 6, 3)),
]


@pytest.mark.parametrize(("name", "shape"), NETS)
def test_products_are_the_tape_of_all_pairs(name: str, shape: tuple[int, ...]) -> None:
    """Kernels of three images, two of them equal."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = np.random.default_rng(0).normal(size=(3, *shape))
    x[2] = x[0]
    group, limit = bind(net.program, x).groups[0], analyse(net.program)
    tapes = product_tapes(limit, Moments(limit), (group.sizes, group.sizes), ("nngp", "ntk"))
    data, i, j = data_families(limit, group), *(a.ravel() for a in np.indices((3, 3)))
    single = ProductRun(tapes.left, (data, data), (np.arange(3), np.arange(3)))
    single.execute()
    run = ProductRun(tapes.cross, (data, data), (i, j), (single, single))
    run.execute(tuple(tapes.keys.values()))
    found = net.kernels(x)
    for want, expected in (("nngp", found.nngp), ("ntk", found.ntk)):
        key = tapes.keys[want]
        values = run.values[key].reshape(-1, 9)[tapes.cross.slots(key)[0, 0]]
        assert np.allclose(values.reshape(3, 3), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["rnn", "rnn_bidirectional", "mlp", "gcn"])
def test_programs_without_two_groups_of_axes(name: str) -> None:
    """One axis, one with loops in both directions, none, and coefficients that mention both."""
    program = tensorprog.load(EXAMPLES / f"{name}.tp").program
    limit = analyse(program)
    with pytest.raises(NotSeparable):
        product_tapes(limit, Moments(limit), ({"T": 4, "d": 3, "V": 4}, {"T": 4, "d": 3, "V": 4}), ("nngp",))


@pytest.mark.parametrize(("name", "shape"), NETS)
def test_machine_code_of_products(name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal images are exactly at correlation one, and opposite ones are settled by quadrature."""
    params = {"phi": "relu"} if name == "cnn_circular" else {}
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    x = np.random.default_rng(1).normal(size=(4, *shape))
    x[2], x[3] = x[0], -x[1]
    monkeypatch.setattr(grid, "WORTH", NEVER)
    expected = net.kernels(x), net.kernels(x[:3], x[1:])
    monkeypatch.setattr(grid, "WORTH", ALWAYS)
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **params)
    for found, known in zip((net.kernels(x), net.kernels(x[:3], x[1:])), expected, strict=True):
        assert np.allclose(found.nngp, known.nngp, rtol=1e-12, atol=0)
        assert np.allclose(found.ntk, known.ntk, rtol=1e-12, atol=0)


def test_products_once_arrays_have_taken_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine code of products is made, not that of the tape of all pairs of positions."""
    monkeypatch.setattr(pairs, "PATIENCE", 1e-9)
    monkeypatch.setattr(analytic, "machine_code", lambda tape, keys: pytest.fail("the tape itself is compiled"))
    products: list[int] = []
    compute = grid.kernels
    monkeypatch.setattr(grid, "kernels", lambda *args: (products.append(1), compute(*args))[1])
    net, x = tensorprog.load(EXAMPLES / "cnn_global.tp"), np.random.default_rng(4).normal(size=(2, 4, 4, 2))
    first = net.kernels(x)
    assert not products
    second = net.kernels(x)
    assert products
    assert np.allclose(second.ntk, first.ntk, rtol=1e-12, atol=0)


ALWAYS, NEVER = (dict.fromkeys(grid.WORTH, worth) for worth in (0, 1 << 60))
SOURCES = {
    "residual": "f = conv2d(relu(h), n, sw = 1.4, sb = 0.2)\n    h = relu(h + 0.5 * f)",
    "smooth": "h = avgpool2d(erf(h))\n    h = sin(conv2d(h, n, sw = 1.2, sb = 0.1))",
    "circular": "h = relu(conv2d(relu(h), n, k = 5, stride = 2, pad = circular))",
}


@pytest.mark.parametrize("name", SOURCES)
def test_other_layers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added at one position, is no convolution, or has many distances."""
    source = (
        "program p():\n    width n = 64\n    input x[H, W]: [c]\n    h = conv2d(x, n, sw = 1.2, sb = 0.1)\n    "
        f"{SOURCES[name]}\n    output readout(globalpool2d(h))\n"
    )
    x = np.random.default_rng(2).normal(size=(3, 6, 8, 2))
    monkeypatch.setattr(grid, "WORTH", NEVER)
    known = tensorprog.load(source).kernels(x)
    monkeypatch.setattr(grid, "WORTH", ALWAYS)
    found = tensorprog.load(source).kernels(x)
    assert np.allclose(found.nngp, known.nngp, rtol=1e-12, atol=0)
    assert np.allclose(found.ntk, known.ntk, rtol=1e-12, atol=0)
