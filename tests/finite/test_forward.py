"""The interpreter against the programs written out by hand in numpy, example by example."""

import numpy as np
import pytest
from scipy.special import erf

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.finite import Group, draw, forward

RNG = np.random.default_rng(0)


def outputs(text, sizes, widths, inputs, dtype=np.float64):
    program = elaborate(Source("test", text)).program
    network = draw(program, sizes, widths, seed=3, dtype=dtype)
    var = program.outputs[0].var
    return network.values, forward(program, network, Group(sizes, inputs), keep=[var])[var]


def test_loop():
    text = """
program rnn:
    width n = 4
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    s = zeros(n)
    for t in T:
        s = erf(W @ s + U @ x[t])
    output dot(v, s)
"""
    x = RNG.standard_normal((5, 6, 3))
    w, found = outputs(text, {"T": 6, "d": 3}, {"n": 20}, {"x": x})
    s = np.zeros((5, 20))
    for t in range(6):
        s = erf(s @ w["W"][0].T + x[:, t] @ w["U"][0].T)
    np.testing.assert_allclose(found[:, 0], s @ w["v"][0])


def test_convolution_with_padding_stride_pooling_and_wrap():
    text = """
program cnn:
    width n = 4
    input x[H, W]: [c]
    weight K[3, 3]: [n, c] ~ N(0, 1 / c)
    h[i in H, j in W] = relu(sum(p in -1..1, q in -1..1) K[p + 1, q + 1] @ x[i + p, wrap(j + q, W)])
    m[i in H/2, j in W/2] = max(p in 0..1, q in 0..1) h[2*i + p, 2*j + q]
    weight v: [n] ~ N(0, 1 / n)
    output f[i in H/2, j in W/2] = dot(v, m[i, j])
"""
    x = RNG.standard_normal((2, 4, 6, 3))
    w, found = outputs(text, {"H": 4, "W": 6, "c": 3}, {"n": 7}, {"x": x.reshape(2, 24, 3)})
    h = np.zeros((2, 4, 6, 7))
    for i, j, p, q in np.ndindex(4, 6, 3, 3):
        if 0 <= i + p - 1 < 4:
            h[:, i, j] += x[:, i + p - 1, (j + q - 1) % 6] @ w["K"][3 * p + q].T
    m = np.maximum(h, 0).reshape(2, 2, 2, 3, 2, 7).max(axis=(2, 4))
    np.testing.assert_allclose(found, (m @ w["v"][0]).reshape(2, 6))


def test_attention_and_layernorm():
    text = """
program attention:
    width n = 4
    input x[T]: [d]
    weight E: [n, d] ~ N(0, 1 / d)
    k[t in T] = E @ x[t]
    a[t in T, s in T] = softmax(s) 3 * dot(k[t], k[s]) / n
    z[t in T] = layernorm(k[t] + sum(s in T) a[t, s] * k[s])
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, mean(t in T) z[t]) * 2
"""
    x = RNG.standard_normal((3, 5, 4))
    w, found = outputs(text, {"T": 5, "d": 4}, {"n": 11}, {"x": x})
    k = x @ w["E"][0].T
    logits = np.exp(3 * k @ k.swapaxes(1, 2) / 11)
    y = k + logits / logits.sum(-1, keepdims=True) @ k
    z = (y - y.mean(-1, keepdims=True)) / y.std(-1, keepdims=True)
    np.testing.assert_allclose(found[:, 0], 2 * z.mean(1) @ w["v"][0])


def test_scalar_inputs_and_weights_by_index():
    text = """
program graph:
    width n = 4
    input A[V, V]
    input x[V]: [d]
    weight W[V]: [n, d] ~ N(0, 1 / d)
    weight c[V] ~ N(0, 1)
    h[u in V] = tanh(sum(w in V) A[u, w] * (W[w] @ x[w])) * (u + 1)
    weight v: [n] ~ N(0, 1 / n)
    output sum(u in V) c[u] * dot(v, h[u])
"""
    a, x = RNG.standard_normal((2, 9)), RNG.standard_normal((2, 3, 4))
    w, found = outputs(text, {"V": 3, "d": 4}, {"n": 5}, {"A": a, "x": x})
    g = np.einsum("wnd,ewd->ewn", w["W"], x)
    h = np.tanh(np.einsum("euw,ewn->eun", a.reshape(2, 3, 3), g)) * np.array([1, 2, 3])[:, None]
    np.testing.assert_allclose(found[:, 0], np.einsum("u,eun,n->e", w["c"], h, w["v"][0]))


def test_float32_is_float32_throughout_and_close_to_float64():
    text = """
program mlp:
    width n = 4
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, gelu(W @ x) + step(W @ x))
"""
    x = RNG.standard_normal((4, 1, 8))
    program = elaborate(Source("test", text)).program
    single = draw(program, {"d": 8}, {"n": 50}, seed=0, dtype=np.float32)
    values = forward(program, single, Group({"d": 8}, {"x": x}))
    assert {v.dtype for v in values.values()} == {np.dtype(np.float32)}
    h = x[:, 0] @ single.values["W"][0].T.astype(np.float64)
    exact = (h * (1 + erf(h / np.sqrt(2))) / 2 + (h >= 0)) @ single.values["v"][0]
    np.testing.assert_allclose(values[program.outputs[0].var][:, 0], exact, rtol=1e-4)


def test_only_what_is_kept_comes_back_and_only_what_it_needs_is_computed():
    text = """
program two:
    width n = 4
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    output a = dot(v, W @ x)
    output b = dot(v, erf(W @ x))
"""
    program = elaborate(Source("test", text)).program
    network = draw(program, {"d": 2}, {"n": 4}, seed=0)
    group = Group({"d": 2}, {"x": np.ones((1, 1, 2))})
    whole = forward(program, network, group)
    assert set(whole) == {i.var.name for i in program.instrs}
    wanted = program.output("b").var
    part = forward(program, network, group, keep=[wanted])
    assert set(part) == {wanted}
    np.testing.assert_array_equal(part[wanted], whole[wanted])


@pytest.mark.parametrize("read", ["tanh(g[t])", "tanh(g[t]) + g[t]", "g[t] + b", "g[T - 1 - t] + b", "g[0] + b"])
def test_writing_over_what_is_read_no_more_changes_nothing(read):
    text = f"""
program p:
    width n = 5
    input x[T]: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight V: [n, n] ~ N(0, 1 / n)
    weight b: [n] ~ N(0, 1)
    weight v: [n] ~ N(0, 1 / n)
    g[t in T] = W @ x[t]
    y[t in T] = {read}
    s = zeros(n)
    for t in T:
        s = relu(V @ s + y[t])
    output sum(t in T) dot(v, y[t]) + dot(v, s)
"""
    program = elaborate(Source("test", text)).program
    network = draw(program, {"T": 6, "d": 3}, {"n": 20}, seed=3, dtype=np.float64)
    group = Group({"T": 6, "d": 3}, {"x": RNG.standard_normal((5, 6, 3))})
    var = program.outputs[0].var
    np.testing.assert_array_equal(forward(program, network, group, keep=[var])[var],
                                  forward(program, network, group)[var])


def test_weight_outside_its_range_is_told():
    text = """
program p:
    width n = 4
    input x[T]: [d]
    weight W[2]: [n, d] ~ N(0, 1 / d)
    output avg(sum(t in T) W[t] @ x[t])
"""
    with pytest.raises(TensorProgError, match="weight W is read outside its range"):
        outputs(text, {"T": 3, "d": 2}, {"n": 4}, {"x": np.ones((1, 3, 2))})
