"""The adjoint programs against central differences of the forward program, at small widths in float64."""

import numpy as np
import pytest

from tensorprog.autodiff import differentiate
from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.finite import Group, draw, forward, simulate
from tensorprog.finite.weights import Network
from tensorprog.ir.expr import evaluate
from tensorprog.ir.tables import count, flat_index, grid, shape

MLP = """
program mlp(depth = 3, phi = erf):
    width n = 4
    input x: [d]
    weight W: [n, d] ~ N(0, 2 / d)
    weight b: [n]    ~ N(0, 0.3)
    h = W @ x + b
    for l in 2..depth:
        weight W: [n, n] ~ N(0, 2 / n)
        h = W @ phi(h)
    weight v: [n] ~ N(0, 1 / n)
    weight c ~ N(0, 0.5)
    output dot(v, phi(h)) + c
"""
FROZEN = """
program frozen:
    width n = 4
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n) lr 0
    weight V: [n, n] ~ N(0, 1 / n) lr 3
    weight v: [n] ~ N(0, 1 / n) lr 0
    output dot(v, tanh(V @ tanh(W @ tanh(U @ x))))
"""
RNN = """
program rnn:
    width n = 4
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1.5 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight b: [n]    ~ N(0, 0.1)
    weight v: [n]    ~ N(0, 1 / n)
    h[0] = zeros(n)
    for t in T:
        h[t + 1] = erf(W @ h[t] + U @ x[t] + b)
    output dot(v, mean(t in 1..T) h[t]) + dot(v, h[T])
"""
GRU = """
def gate(u) = (1 + erf(u)) / 2

program gru:
    width n = 4
    input x[T]: [d]
    for g in {z, r, c}:
        weight W_{g}: [n, n] ~ N(0, 1 / n)
        weight U_{g}: [n, d] ~ N(0, 1 / d)
        weight b_{g}: [n]    ~ N(0, 0.1)
    weight v: [n] ~ N(0, 1 / n)
    h = zeros(n)
    for t in T:
        z = gate(W_z @ h + U_z @ x[t] + b_z)
        r = gate(W_r @ h + U_r @ x[t] + b_r)
        c = erf(W_c @ (r * h) + U_c @ x[t] + b_c)
        h = (1 - z) * h + z * c
    output dot(v, h)
"""
UNTIED = """
program untied:
    width n = 4
    input x[T]: [d]
    h = zeros(n)
    weight U[T]: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    for t in T:
        weight W: [n, n] ~ N(0, 1 / n)
        h = tanh(W @ h + U[t] @ x[t])
    output dot(v, h)
"""
CONV = """
program conv:
    width n = 3
    input x[H, W]: [c]
    weight K[3, 3]: [n, c] ~ N(0, 1 / (9 * c))
    weight J[2, 2]: [n, n] ~ N(0, 1 / (4 * n))
    weight b: [n] ~ N(0, 0.1)
    g[i in H, j in W] = sum(p in -1..1, q in -1..1) K[p + 1, q + 1] @ x[i + p, j + q] + b
    h[i in H/2, j in W/2] = tanh(sum(p in 0..1, q in 0..1) J[p, q] @ erf(g[2*i + p, wrap(2*j + q + 1, W)]))
    u[i in H, j in W] = h[i // 2, j // 2]
    weight v[H, W]: [n] ~ N(0, 1 / (n * H * W))
    output sum(i in H, j in W) dot(v[i, j], u[i, j])
"""
MAXPOOL = """
program maxpool:
    width n = 4
    input x[L]: [c]
    weight K[3]: [n, c] ~ N(0, 1 / c)
    weight A: [n, n] ~ N(0, 1 / n)
    h[i in L] = sum(p in -1..1) K[p + 1] @ x[i + p]
    m[i in L/2] = max(p in 0..1) h[2*i + p]
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, mean(i in L/2) tanh(A @ m[i]))
"""
ATTENTION = """
program attention:
    width n = 4
    input x[T]: [d]
    weight E: [n, d] ~ N(0, 1 / d)
    weight Q: [n, n] ~ N(0, 1 / n)
    k[t in T] = E @ x[t]
    q[t in T] = Q @ k[t]
    a[t in T, s in T] = softmax(s) dot(q[t], k[s]) / n
    z[t in T] = layernorm(k[t] + sum(s in T) a[t, s] * k[s])
    weight A: [n, n] ~ N(0, 1 / n)
    y[t in T] = layernorm(z[t] + relu(A @ z[t]), eps = 0.1)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, mean(t in T) y[t])
"""
SCALARS = """
program scalars:
    width n = 4
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
    weight c ~ N(0, 1)
    g = U @ x
    h = W @ tanh(g)
    s = avg(h^2) + 1
    r = dot(g, h) / n
    y = r * h / sqrt(s) + exp(-r * s) * tanh(g * r + c) + s
    output dot(v, y) * s + r * c + avg(y)^2
"""
TIED = """
program tied:
    width n = 4
    width m = n / 2
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [m, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
    y = tanh(W @ (U @ x))
    z = tanh(W.T @ y + U @ x)
    output dot(v, z) + dot(v, z * z)
"""
BATCHNORM = """
program batchnorm:
    width n = 4
    input x[B]: [d]
    h[i in B] = x[i]
    for l in 1..2:
        weight W: [n, dim(h)] ~ N(0, 1 / dim(h))
        g[i in B] = W @ h[i]
        m = mean(i in B) g[i]
        s = sqrt(mean(i in B) (g[i] - m)^2)
        h[i in B] = tanh((g[i] - m) / s)
    weight v: [n] ~ N(0, 1 / n)
    output f[i in B] = dot(v, h[i])
"""
GRID = """
program grid:
    width n = 3
    input x[T]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    h[t in T] = tanh(U @ x[t])
    output f[t in T, s in T] = dot(v, h[t] * h[s]) * (t + 1)
"""
GCN = """
program gcn:
    width n = 4
    input A[V, V]
    input x[V]: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight B: [n, n] ~ N(0, 1 / n)
    h[u in V] = tanh(sum(w in V) A[u, w] * (W @ x[w]))
    h[u in V] = tanh(sum(w in V) A[w, u] * (B @ h[w]))
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, mean(u in V) h[u])
"""
REREAD = """
program reread:
    width n = 4
    input x[T]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight v: [n] ~ N(0, 1 / n)
    k[t in T] = U @ x[t]
    y[t in T] = k[t] * tanh(k[t + 1] - k[T - 1 - t]) + W @ k[t] + W @ (W @ k[t - 1])
    output dot(v, sum(t in T) max(y[t], y[t - 1])) + dot(y[0], y[1])
"""
SEVERAL = [MLP, FROZEN, RNN, GRU, UNTIED, CONV, MAXPOOL, ATTENTION, SCALARS, TIED, BATCHNORM, GRID, GCN, REREAD]
SIZES = {"T": 3, "d": 2, "H": 4, "W": 4, "c": 2, "L": 4, "B": 4, "V": 3}


def compiled(text):
    return elaborate(Source("test", text)).program


def example_group(program, sizes, examples, seed):
    rng = np.random.default_rng(seed)
    names = {s for s in sizes if any(s in str(i) for i in program.inputs)}
    sizes = {name: sizes[name] for name in names}
    inputs = {}
    for i in program.inputs:
        dim = () if i.dim is None else (int(evaluate(i.dim, sizes)),)
        inputs[i.name] = rng.standard_normal((examples, count(i.axes, sizes), *dim))
    return Group(sizes, inputs)


def widths_of(program):
    env = {}
    for w in program.widths:
        env[w.name] = int(evaluate(w.size, env))
    return env


def scalar_output(diff, network, group):
    var = diff.program.output(diff.output).var
    return forward(diff.program, network, group, keep=[var])[var]


def numeric_gradient(diff, network, group, weight, eps=1e-5):
    """d output [examples, elements] / d every entry of a weight, by central differences."""
    value = network.values[weight]
    columns = []
    for k in range(value.size):
        ends = []
        for sign in (1, -1):
            moved = value.copy()
            moved.ravel()[k] += sign * eps
            other = Network(network.sizes, network.widths, {**network.values, weight: moved}, network.dtype)
            ends.append(scalar_output(diff, other, group))
        columns.append((ends[0] - ends[1]) / (2 * eps))
    return np.stack(columns, axis=-1)


def dyad_gradient(diff, network, group, weight):
    """The same from the uses, dyad by dyad, as `Use` defines them."""
    program, env = diff.program, {**network.env, **group.sizes}
    values = forward(program, network, group)
    target = program.var(program.output(diff.output).var)
    gradient = np.zeros((group.examples, count(target.axes, env), *network.values[weight].shape))
    for use in diff.uses:
        if use.weight != weight:
            continue
        length, index = count(use.domain, env), {**env, **grid(use.domain, env)}
        coef = np.broadcast_to(np.asarray(evaluate(use.coef, index), dtype=float), (length,))
        out = flat_index(use.out, target.axes, index, env, length)
        element = flat_index(use.windex, program.weight(weight).axes, index, env, length)
        row = flat_index(use.row_index, program.var(use.row).axes, index, env, length)
        col = out if use.col is None else flat_index(use.col_index, program.var(use.col).axes, index, env, length)
        for p in np.flatnonzero((row >= 0) & (col >= 0)):
            dyad = values[use.row][:, row[p]]
            if use.col is not None:
                dyad = np.einsum("ei,ej->eij", dyad, values[use.col][:, col[p]])
            gradient[:, out[p], element[p]] += coef[p] * dyad
    return gradient.reshape(group.examples, gradient.shape[1], -1)


@pytest.mark.parametrize("text", SEVERAL, ids=lambda t: t.split("program ")[1].split(":")[0].split("(")[0])
def test_uses_give_the_gradient_and_the_kernel(text):
    program = compiled(text)
    diff = differentiate(program, program.outputs[0].name)
    group = example_group(program, SIZES, 3, seed=1)
    widths = widths_of(program)
    network = draw(diff.program, group.sizes, widths, seed=2, dtype=np.float64)
    simulation = simulate(diff, [group], widths, seed=2, dtype=np.float64)
    kernel = np.zeros_like(simulation.ntk)
    for weight in program.weights:
        rate = float(evaluate(weight.lr, network.env))
        if rate == 0:
            assert weight.name not in simulation.grams
            continue
        numeric = numeric_gradient(diff, network, group, weight.name)
        exact = dyad_gradient(diff, network, group, weight.name)
        assert np.abs(exact).max() > 1e-3
        np.testing.assert_allclose(exact, numeric, atol=1e-7 + 1e-6 * np.abs(numeric).max())
        flat = exact.reshape(-1, exact.shape[-1])
        kernel += rate * flat @ flat.T
    np.testing.assert_allclose(simulation.ntk, kernel, atol=1e-10 * np.abs(kernel).max())


@pytest.mark.parametrize("text", SEVERAL, ids=lambda t: t.split("program ")[1].split(":")[0].split("(")[0])
def test_adjoint_program_is_as_long_as_the_forward_program(text):
    program = compiled(text)
    diff = differentiate(program, program.outputs[0].name)
    added = len(diff.program.instrs) - len(program.instrs)
    assert added <= 2 * len(program.instrs)
    names = [i.var.name for i in diff.program.instrs]
    assert len(names) == len(set(names))
    assert diff.program.instrs[: len(program.instrs)] == program.instrs


def test_length_does_not_depend_on_the_number_of_steps():
    program = compiled(RNN)
    diff = differentiate(program, program.outputs[0].name)
    group = example_group(program, {"T": 50, "d": 2}, 1, seed=1)
    assert all(shape(i.var.axes, {"T": 50, "d": 2}) in {(), (50,), (51,), (1,)} for i in diff.program.instrs)
    assert np.isfinite(simulate(diff, [group], {"n": 4}, 0).ntk).all()


def test_vector_output_has_no_gradient():
    program = compiled(MLP.replace("output dot(v, phi(h)) + c", "output phi(h)"))
    with pytest.raises(TensorProgError, match="is a vector"):
        differentiate(program, program.outputs[0].name)


def test_data_parts_and_frozen_prefixes_get_no_adjoint():
    program = compiled(FROZEN.replace("~ N(0, 1 / d)", "~ N(0, 1 / d) lr 0"))
    diff = differentiate(program, program.outputs[0].name)
    assert [u.weight for u in diff.uses] == ["V"]
    readers = {u.row for u in diff.uses}
    adjoints = [i.var.name for i in diff.program.instrs if i.var.name.startswith("d.")]
    assert adjoints[-1] in readers, "nothing is differentiated beyond the first trained weight"


def test_step_has_a_dirac_gradient_that_cannot_be_simulated():
    program = compiled(MLP)
    stepped = compiled(MLP.replace("phi = erf", "phi = sign"))
    assert len(differentiate(stepped, stepped.outputs[0].name).uses) == len(
        differentiate(program, program.outputs[0].name).uses
    )
    diff = differentiate(stepped, stepped.outputs[0].name)
    with pytest.raises(TensorProgError, match="cannot be simulated"):
        simulate(diff, [example_group(stepped, SIZES, 1, seed=0)], {"n": 4}, 0)


def test_a_relu_written_with_a_step_has_the_gradient_of_a_relu():
    def kernel(phi):
        program = compiled(f"def phi(u) = {phi}\n" + MLP.replace(", phi = erf", ""))
        diff = differentiate(program, program.outputs[0].name)
        return simulate(diff, [example_group(program, SIZES, 4, seed=0)], {"n": 4}, 0, dtype=np.float64).ntk

    np.testing.assert_allclose(kernel("u * step(u)"), kernel("max(u, 0)"), rtol=1e-12)
    np.testing.assert_allclose(kernel("sin(u) * sign(u)"), kernel("sin(abs(u))"), rtol=1e-12)


def test_an_empty_sequence_has_an_output_and_a_kernel():
    program = compiled(RNN.replace("mean(t in 1..T) h[t]", "h[T]"))
    diff = differentiate(program, program.outputs[0].name)
    found = simulate(diff, [Group({"T": 0, "d": 2}, {"x": np.zeros((2, 0, 2))})], {"n": 4}, 0)
    np.testing.assert_array_equal(found.ntk, np.zeros((2, 2)))
