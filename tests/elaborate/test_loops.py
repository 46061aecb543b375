"""Loops and the sharing of weights, compared with the same computation in numpy."""

import numpy as np
from numpy.testing import assert_allclose

HEAD = """
program p():
    width n = 6
    input x[T]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
"""


def states(r, step, start=None):
    """The states s[t + 1] = step(s[t], x[t])."""
    s = [np.zeros(len(r.weights["U"])) if start is None else start]
    for x in r.inputs["x"]:
        s.append(step(s[-1], x))
    return s


def test_state(run):
    r = run(HEAD + "    s = zeros(n)\n    for t in T:\n        s = tanh(W @ s + U @ x[t])\n    output avg(s)\n", T=5)
    assert_allclose(r.output, np.mean(states(r, lambda s, x: np.tanh(r.weights["W"] @ s + r.weights["U"] @ x))[-1]))


def test_state_after_a_loop_that_may_be_empty(run):
    source = HEAD + "    s = U @ x[0]\n    for t in 1..T - 1:\n        s = tanh(W @ s + U @ x[t])\n    output avg(s)\n"
    for size in (1, 2, 4):
        r = run(source, T=size)
        s = r.weights["U"] @ r.inputs["x"][0]
        for x in r.inputs["x"][1:]:
            s = np.tanh(r.weights["W"] @ s + r.weights["U"] @ x)
        assert_allclose(r.output, np.mean(s))


def test_states_that_are_kept(run):
    r = run(HEAD + """
    h[0] = zeros(n)
    for t in T:
        h[t + 1] = tanh(W @ h[t] + U @ x[t])
    output avg(mean(t in 1..T) h[t])
""", T=4)
    s = states(r, lambda s, x: np.tanh(r.weights["W"] @ s + r.weights["U"] @ x))
    assert_allclose(r.output, np.mean(s[1:]))


def test_state_read_one_step_back(run):
    r = run(HEAD + """
    h[0] = U @ x[0]
    for t in 1..T - 1:
        h[t] = tanh(W @ h[t - 1] + U @ x[t])
    output avg(h[T - 1])
""", T=4)
    s = r.weights["U"] @ r.inputs["x"][0]
    for x in r.inputs["x"][1:]:
        s = np.tanh(r.weights["W"] @ s + r.weights["U"] @ x)
    assert_allclose(r.output, np.mean(s))


def test_backwards(run):
    r = run(HEAD + """
    h[T] = ones(n)
    for t in T:
        h[T - 1 - t] = tanh(W @ h[T - t] + U @ x[T - 1 - t])
    output avg(h[0])
""", T=4)
    s = np.ones(6)
    for x in r.inputs["x"][::-1]:
        s = np.tanh(r.weights["W"] @ s + r.weights["U"] @ x)
    assert_allclose(r.output, np.mean(s))


def test_swap(run):
    r = run(HEAD + "    a = zeros(n)\n    b = ones(n)\n    for t in T:\n        a, b = b, sin(a + U @ x[t])\n"
            "    output avg(a * b)\n", T=4)
    a, b = np.zeros(6), np.ones(6)
    for x in r.inputs["x"]:
        a, b = b, np.sin(a + r.weights["U"] @ x)
    assert_allclose(r.output, np.mean(a * b))


def test_scalar_state(run):
    r = run(HEAD + "    a = 0\n    for t in T:\n        a = tanh(a / 2 + avg((U @ x[t])^2))\n    output a\n")
    a = 0.0
    for x in r.inputs["x"]:
        a = np.tanh(a / 2 + np.mean((r.weights["U"] @ x) ** 2))
    assert_allclose(r.output, a)


def test_states_of_names_in_braces(run):
    r = run(HEAD + """
    for g in {a, b}:
        s_{g} = zeros(n)
    for t in T:
        for g in {a, b}:
            s_{g} = tanh(W @ s_{g} + U @ x[t] + s_a)
    output avg(s_a - 2 * s_b)
""")
    w, u = r.weights["W"], r.weights["U"]
    a = b = np.zeros(6)
    for x in r.inputs["x"]:
        a = np.tanh(w @ a + u @ x + a)
        b = np.tanh(w @ b + u @ x + a)
    assert_allclose(r.output, np.mean(a - 2 * b))


def test_family_as_state(run):
    r = run("""
program p():
    width n = 6
    input x[T, S]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    h[i in S] = zeros(n)
    for t in T:
        h[i in S] = tanh(h[i] + h[i + 1] + U @ x[t, i])
    output avg(h[0])
""", T=4, S=3)
    h = np.zeros((4, 6))
    for x in r.inputs["x"]:
        h[:3] = np.tanh(h[:3] + h[1:] + x @ r.weights["U"].T)
    assert_allclose(r.output, np.mean(h[0]))


def test_loops_inside_loops(run):
    r = run("""
program p():
    width n = 6
    input x[S, T]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    c = zeros(n)
    for s in S:
        h[0] = c
        for t in T:
            h[t + 1] = tanh(W @ h[t] + U @ x[s, t])
        c = c + sin(h[T])
    output avg(c)
""", S=3, T=2)
    c = np.zeros(6)
    for row in r.inputs["x"]:
        h = c
        for x in row:
            h = np.tanh(r.weights["W"] @ h + r.weights["U"] @ x)
        c = c + np.sin(h)
    assert_allclose(r.output, np.mean(c))


def test_stacked_loops_fill_a_family_anew(run):
    r = run(HEAD + """
    y[t in T] = U @ x[t]
    for l in 1..2:
        weight V: [n, n] ~ N(0, 1 / n)
        h[0] = zeros(n)
        for t in T:
            h[t + 1] = tanh(V @ h[t] + y[t])
        y[t in T] = h[t + 1]
    output avg(y[T - 1])
""", T=4)
    y = r.inputs["x"] @ r.weights["U"].T
    for name in ("V", "V.2"):
        h, new = np.zeros(6), []
        for u in y:
            h = np.tanh(r.weights[name] @ h + u)
            new.append(h)
        y = new
    assert_allclose(r.output, np.mean(y[-1]))


def test_two_dimensional_recurrence(run):
    r = run("""
program p():
    width n = 6
    input x[H, W]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    for i in H + 1:
        h[i, 0] = zeros(n)
    for j in 1..W:
        h[0, j] = ones(n)
    for i in H:
        for j in W:
            h[i + 1, j + 1] = tanh(h[i, j + 1] - h[i + 1, j] + U @ x[i, j])
    output avg(h[H, W])
""", H=3, W=2)
    h = np.zeros((4, 3, 6))
    h[0, 1:] = 1
    for i in range(3):
        for j in range(2):
            h[i + 1, j + 1] = np.tanh(h[i, j + 1] - h[i + 1, j] + r.weights["U"] @ r.inputs["x"][i, j])
    assert_allclose(r.output, np.mean(h[3, 2]))


# ---------------------------------------------------------------- sharing of weights


def test_a_weight_in_a_loop_is_fresh_in_every_iteration(run):
    r = run(HEAD + """
    s = zeros(n)
    for t in T:
        weight V: [n, n] ~ N(0, 1 / n)
        s = V @ s + U @ x[t]
    output avg(s)
""")
    assert r.weights["V"].shape == (3, 6, 6)
    s = np.zeros(6)
    for v, x in zip(r.weights["V"], r.inputs["x"], strict=True):
        s = v @ s + r.weights["U"] @ x
    assert_allclose(r.output, np.mean(s))


def test_a_block_under_an_index_draws_one_weight(run):
    r = run("program p():\n    width n = 6\n    input x[T]: [d]\n"
            "    h[t in T] = dense(x[t], n)\n    output avg(h[1])\n")
    assert r.weights["W"].shape == (6, 3)
    assert_allclose(r.output, np.mean(r.weights["W"] @ r.inputs["x"][1]))


def test_every_call_of_a_block_draws_fresh_weights(run):
    r = run("program p():\n    width n = 6\n    input x: [d]\n    output avg(dense(x, n) - 2 * dense(x, n))\n")
    assert_allclose(r.output, np.mean(r.weights["W"] @ r.inputs["x"] - 2 * r.weights["W.2"] @ r.inputs["x"]))


def test_a_loop_inside_a_block_under_an_index(run):
    r = run("""
block walk(h, W, x):
    s = h
    k[0] = h
    for t in axis(x, 0):
        s = tanh(W @ s)
        k[t + 1] = k[t] + s
    return k[axis(x, 0)]
""" + HEAD + "    y[t in T] = walk(U @ x[t], W, x)\n    output avg(y[1])\n", T=4)
    s = k = r.weights["U"] @ r.inputs["x"][1]
    for _ in range(4):
        s = np.tanh(r.weights["W"] @ s)
        k = k + s
    assert_allclose(r.output, np.mean(k))
