"""Exported modules compute what simulation computes, and torch differentiates them to the empirical kernel."""

import inspect
import tempfile
from pathlib import Path

import numpy as np
import pytest

import tensorprog
import tensorprog.ir.expr
from tensorprog.dataset import bind
from tensorprog.export import save_parameters, source
from tensorprog.finite import Group, forward
from tensorprog.ir.program import Data
from tensorprog.loading import gaussian_data

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.tp"))


def compiled(text):
    namespace = {}
    exec(compile(text, "exported", "exec"), namespace)
    return namespace


def drawn(path, tmp_path, n=2):
    """A network of width 6, its data, its parameters as they come from the file, its outputs."""
    net = tensorprog.load(path)
    x = gaussian_data(net.program, n) if net.program.inputs else None
    network = net.weights(x, 6, seed=1, dtype=np.float64)
    save_parameters(net.program, network, tmp_path / "net.npz")
    stored = dict(np.load(tmp_path / "net.npz"))
    (group,) = bind(net.program, x).groups
    given = {o.name: o.var for o in net.program.outputs}
    found = forward(net.program, network, Group(group.sizes, group.batch), set(given.values()))
    families = [i.op.input for i in net.program.instrs if isinstance(i.op, Data)]
    inputs = [] if x is None else [x] if not isinstance(x, dict) else [x[name] for name in families]
    expected = {}
    for name, var in given.items():
        axes = [int(tensorprog.ir.expr.evaluate(a.extent, group.sizes)) for a in net.program.var(var).axes]
        expected[name] = found[var].reshape(len(found[var]), *axes, *found[var].shape[2:])
    return net, inputs, stored, expected, network, x


def compare(result, expected):
    result = result if isinstance(result, dict) else {next(iter(expected)): result}
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(result[name]), value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_numpy_module_is_the_simulation(path, tmp_path):
    net, inputs, stored, expected, *_ = drawn(path, tmp_path)
    text = source(net.program, "numpy")
    assert "import torch" not in text and "tensorprog." not in text.replace("tensorprog.\"\"\"", "")
    compare(compiled(text)["forward"](stored, *inputs), expected)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_torch_module_is_the_simulation_and_has_its_kernel(path, tmp_path):
    torch = pytest.importorskip("torch")
    net, inputs, stored, expected, network, x = drawn(path, tmp_path)
    namespace = compiled(source(net.program, "torch"))
    module = next(v for v in namespace.values() if isinstance(v, type) and issubclass(v, torch.nn.Module))(stored)
    result = module(*(torch.as_tensor(a) for a in inputs))
    as_arrays = {k: v.detach() for k, v in result.items()} if isinstance(result, dict) else result.detach()
    compare(as_arrays, expected)
    (name,) = [o.name for o in net.program.outputs][:1]
    if isinstance(result, dict) or net.program.var(net.program.outputs[0].var).dim is not None or not inputs:
        return
    found = net.empirical(x, network, name, want=("ntk",))
    jacobian = np.stack([scaled_gradient(torch, entry, module, stored) for entry in result.ravel()])
    np.testing.assert_allclose(jacobian @ jacobian.T, found.ntk.reshape(len(jacobian), -1), rtol=1e-8, atol=1e-10)


def scaled_gradient(torch, entry, module, stored):
    """sqrt(lr) * gradient for all parameters, flat."""
    gradients = torch.autograd.grad(entry, list(module.w.values()), retain_graph=True, allow_unused=True)
    whole = [np.zeros(p.numel()) if g is None else g.numpy().ravel()
             for p, g in zip(module.w.values(), gradients, strict=True)]
    return np.concatenate([np.sqrt(stored[f"lr/{k}"]) * g for k, g in zip(module.w.keys(), whole, strict=True)])


def test_parameters_and_rates_follow_the_program():
    """Laws of examples/mlp.tp: W ~ N(0, sw^2 / n), lr the variance; the standard error of a variance is small here."""
    net = tensorprog.load(EXAMPLES[0].parent / "mlp.tp", sw=2)
    module = compiled(source(net.program, "numpy"))
    drawn_weights = module["initial"](np.random.default_rng(0), d=10, n=300)
    assert drawn_weights["W_2"].shape == (300, 300) and drawn_weights["W"].shape == (300, 10)
    assert drawn_weights["W_2"].var() * 300 == pytest.approx(4, rel=0.03)
    assert module["rates"](d=10, n=300) == pytest.approx(
        {"W": 0.4, "b": 0.01, "W_2": 4 / 300, "b_2": 0.01, "W_3": 4 / 300, "b_3": 0.01, "v": 1 / 300})
    x = np.random.default_rng(1).standard_normal((3, 10))
    assert module["forward"](drawn_weights, x).shape == (3,)


def test_names_do_not_collide(tmp_path):
    """A family that is called like a helper, one like a word of Python, and weights that become one identifier."""
    text = """
program names:
    width n = 4
    input x[H]: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    read[i in H] = W @ x[i]
    weight W: [n, n] ~ N(0, 1 / n)
    weight W_2: [n, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
    lambda[i in H] = tanh(W_2 @ read[i - 1]) + W @ read[i]
    output f[i in H] = dot(v, lambda[i])
"""
    net = tensorprog.load(text)
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    network = net.weights(x, 5, dtype=np.float64)
    net.save_weights(tmp_path / "w.npz", network)
    stored = dict(np.load(tmp_path / "w.npz"))
    assert len([k for k in stored if not k.startswith("lr/")]) == 4
    np.testing.assert_allclose(compiled(net.export("numpy"))["forward"](stored, x),
                               net.empirical(x, network, want=()).outputs, rtol=1e-10)


def agrees(text, x, width=5):
    """The exported function of NumPy, at parameters from a file, is the simulation."""
    net = tensorprog.load(text)
    network = net.weights(x, width, seed=1, dtype=np.float64)
    with tempfile.TemporaryDirectory() as folder:
        net.save_weights(f"{folder}/w.npz", network)
        stored = dict(np.load(f"{folder}/w.npz"))
    found = compiled(net.export("numpy"))["forward"](stored, x)
    np.testing.assert_allclose(found, net.empirical(x, network, want=()).outputs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("index", [
    "(4 * i + 2) / 2", "i * (2 * i + 2) / 2", "i + L / 2", "(L - 2 * i) / 2 - 1", "i / 2 + (L - i) / 2",
    "2 * (i + L / 2) / 2",
    "(i + 1) % (L / 2)", "(i / 2) // (3 / 2)", "(i / 2) % (3 / 2) * 2", "5 - (i + 1) % 3 * 2", "max(i / 2, 1)",
    "abs(i - 2)",
    "L * (i + 1) / L - 1 + 8 / L", "(i + L / 2 < L) * i", "2^i",
])
def test_index_arithmetic_is_exact(index):
    text = f"""
program p:
    width n = 8
    input x[L]: [c]
    weight W: [n, c] ~ N(0, 1 / c)
    weight v: [n] ~ N(0, 1 / n)
    h[i in L] = relu(W @ x[i])
    g[i in L] = h[{index}]
    output dot(v, sum(i in L) g[i] * (i + 1) * (1 / 2)^i)
"""
    agrees(text, np.random.default_rng(0).standard_normal((3, 8, 2)))


LOOPS = {
    "two steps back": "h[t] = U @ x[t]; for t in 2..T - 1; h[t] = tanh(W @ h[t - 1] + V @ h[t - 2] + U @ x[t])",
    "six steps back": "h[t] = U @ x[t]; for t in 6..T - 1; h[t] = tanh(W @ h[t - 6] + U @ x[t])",
    "the start again": "h[t] = U @ x[t]; for t in 1..T - 1; h[t] = tanh(W @ h[t - 1] + h[0] + U @ x[t])",
    "sum over lags": "h[t] = U @ x[t]; for t in 2..T - 1; h[t] = tanh(sum(k in 2) K[k] @ h[t - 1 - k])",
    "backwards": "h[T - 1 - t] = U @ x[t]; for t in 1..T - 1; h[T - 1 - t] = tanh(W @ h[T - t] + U @ x[T - 1 - t])",
    "two steps backwards":
        "h[T - 1 - t] = U @ x[t]; for t in 2..T - 1; h[T - 1 - t] = tanh(W @ h[T - t] + V @ h[T - t + 1])",
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("length", [7, 8])
def test_loops_in_any_direction_with_any_lag(name, length):
    first, loop, step = LOOPS[name].split("; ")
    text = f"""
program p:
    width n = 8
    input x[T]: [d]
    weight K[2]: [n, n] ~ N(0, 1 / n)
    weight W: [n, n] ~ N(0, 1 / n)
    weight V: [n, n] ~ N(0, 1 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    for t in 0..{loop.split(" ")[3].split("..")[0]} - 1:
        {first}
    {loop}:
        {step}
    output sum(t in T) dot(v, h[t]) * (t + 1)
"""
    agrees(text, np.random.default_rng(0).standard_normal((3, length, 2)))


def test_a_circle_that_is_no_loop_is_told():
    """A tree: every element is read by two later ones, at no fixed distance."""
    with pytest.raises(tensorprog.TensorProgError, match="known number of steps"):
        tensorprog.load("""
program p:
    width n = 8
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    h[0] = U @ x[0]
    for t in 1..T - 1:
        h[t] = tanh(W @ h[t // 2] + U @ x[t])
    output dot(v, h[T - 1])
""").export("numpy")


@pytest.mark.parametrize("name", ["rng", "draw", "generator", "int", "map", "min"])
def test_sizes_may_have_the_names_of_arguments(name):
    text = f"""
program p:
    width n = 8
    input x: [{name}]
    weight W: [n, {name}] ~ N(0, 1 / {name})
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, relu(W @ x))
"""
    agrees(text, np.random.default_rng(0).standard_normal((3, 4)))
    module = compiled(tensorprog.load(text).export("numpy"))
    stem = next(k for k in inspect.signature(module["initial"]).parameters if k.startswith(name) and k != name)
    assert module["initial"](np.random.default_rng(0), n=5, **{stem: 4})["W"].shape == (5, 4)


def test_a_scalar_weight_is_stored():
    text = """
program p:
    width n = 8
    input x: [d]
    weight c ~ N(0, 1)
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, relu(c * (W @ x)))
"""
    agrees(text, np.random.default_rng(0).standard_normal((3, 4)))


def test_the_command_writes_a_module_and_its_parameters(tmp_path):
    from tensorprog.cli.main import run

    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((3, 5)))
    code = run(["export", str(EXAMPLES[0].parent / "mlp.tp"), "--to", "numpy", "--out", str(tmp_path / "net.py"),
                "--params", str(tmp_path / "net.npz"), "--data", str(tmp_path / "x.npy"), "--width", "16", "--quiet"])
    assert code == 0
    stored = np.load(tmp_path / "net.npz")
    assert stored["W_2"].shape == (16, 16) and stored["W_2"].dtype == np.float32
    found = compiled((tmp_path / "net.py").read_text())["forward"](dict(stored), np.load(tmp_path / "x.npy"))
    net = tensorprog.load(EXAMPLES[0].parent / "mlp.tp")
    expected = net.simulate(np.load(tmp_path / "x.npy"), 16)[0].outputs
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mistakes_are_told(tmp_path):
    net = tensorprog.load(EXAMPLES[0].parent / "mlp.tp")
    with pytest.raises(tensorprog.TensorProgError, match="numpy or torch"):
        net.export("jax")
