"""What programs mean, rule by rule: each is compared with the same computation in numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

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


def test_assigning_again_leaves_what_was_computed(run):
    r = run(HEAD + """
    h = U @ x[0]
    g = tanh(h)
    h = sin(h)
    output avg(g + h)
""")
    h = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose(r.output, np.mean(np.tanh(h) + np.sin(h)))


def test_right_side_reads_the_old_family(run):
    r = run(HEAD + """
    h[t in T] = U @ x[t]
    h[t in T] = tanh(h[t]) + h[T - 1 - t]
    output avg(h[1] + 2 * h[0])
""", T=4)
    h = r.inputs["x"] @ r.weights["U"].T
    h = np.tanh(h) + h[::-1]
    assert_allclose(r.output, np.mean(h[1] + 2 * h[0]))


def test_reading_outside_gives_zero(run):
    r = run(HEAD + "    h[t in T] = U @ x[t - 1] + U @ x[t + 2]\n    output avg(h[0]) + 3 * avg(h[2])\n")
    u, x = r.weights["U"], r.inputs["x"]
    assert_allclose(r.output, np.mean(u @ x[2]) + 3 * np.mean(u @ x[1]))


def test_ranges_include_both_ends_and_may_be_empty(run):
    r = run(HEAD + """
    h = U @ x[0]
    for l in 1..0:
        h = tanh(h)
    output avg(sum(p in -1..1) (p + 2) * h + sum(p in 3..2) h)
""")
    assert_allclose(r.output, 6 * np.mean(r.weights["U"] @ r.inputs["x"][0]))


def test_reduction_takes_the_product_only(run):
    r = run(HEAD + "    u = U @ x[0]\n    output avg(sum(t in T) (U @ x[t])^2 * u / 2 + u)\n")
    u = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.output, np.mean((u**2).sum(0) * u[0] / 2 + u[0]))


def test_axes_and_indices_are_numbers(run):
    r = run(HEAD + "    h[i in T] = i / T * (U @ x[i])\n    output avg(mean(i in T) h[i]) + T\n", T=4)
    u = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.output, np.mean((np.arange(4) / 4) @ u / 4) + 4)


def test_integer_division_and_remainder(run):
    r = run(HEAD + "    y[i in 2 * T] = (i % 3) * (U @ x[i // 2])\n    output avg(sum(i in 2 * T) y[i])\n", T=4)
    u = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.output, np.mean(sum(i % 3 * u[i // 2] for i in range(8))))


def test_wrap(run):
    r = run(HEAD + "    y[i in T] = i * (U @ x[wrap(i - 1, T)])\n    output avg(sum(i in T) y[i])\n", T=4)
    u = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.output, np.mean(sum(i * u[i - 1] for i in range(4))))


def test_comparisons_are_indicators(run):
    r = run(HEAD + """
    u = U @ x[0]
    z[i in T] = sum(j in T) (j < i) * (U @ x[j])
    output avg((u > 0.2) * 2 + (u <= 0) + z[2])
""")
    u = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.output, np.mean((u[0] > 0.2) * 2 + (u[0] <= 0) + u[0] + u[1]))


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_hermite_is_normalized(run, k):
    r = run(HEAD + f"    output avg(hermite(U @ x[0], {k}))\n")
    u = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose(r.output, np.mean(special.eval_hermitenorm(k, u)) / np.sqrt(special.factorial(k)))


def test_softmax(run):
    r = run(HEAD + """
    u[t in T] = U @ x[t]
    a[t in T, s in T] = softmax(s) dot(u[t], u[s]) / n
    output avg(sum(t in T, s in T) (t + 1) * a[t, s] * u[s])
""")
    u = r.inputs["x"] @ r.weights["U"].T
    a = special.softmax(u @ u.T / 6, axis=1)
    assert_allclose(r.output, np.mean((np.arange(3) + 1) @ a @ u))


def test_max_and_min_over_windows(run):
    r = run(HEAD + """
    u[t in T] = U @ x[t]
    y[i in T/2] = max(p in 0..1) u[2*i + p] - min(p in 0..1) u[2*i + p]
    output avg(y[0] + 2 * y[1])
""", T=4)
    u = (r.inputs["x"] @ r.weights["U"].T).reshape(2, 2, 6)
    assert_allclose(r.output, np.mean(np.array([1, 2]) @ (u.max(1) - u.min(1))))


# ---------------------------------------------------------------- loops


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
    r = run("program p():\n    width n = 6\n    input x[T]: [d]\n    h[t in T] = dense(x[t], n)\n    output avg(h[1])\n")
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


# ---------------------------------------------------------------- names, functions, blocks


def test_definitions_may_shadow_and_have_several_arguments(run):
    r = run("def relu(u) = 2 * max(u, 0)\ndef two(u, v, a = 3) = a * u * v + relu(u)\n" + HEAD
            + "    g = U @ x[0]\n    h = U @ x[1]\n    output avg(two(g, h)) + avg(two(g, h, a = 5))\n")
    g, h = (r.weights["U"] @ r.inputs["x"][k] for k in (0, 1))
    assert_allclose(r.output, np.mean(8 * g * h + 4 * np.maximum(g, 0)))


def test_the_prelude_keeps_its_own_functions(run):
    r = run("def relu(u) = 7 * u\n" + HEAD + "    output avg(residual_dense(U @ x[0]))\n")
    u = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose(r.output, np.mean(u + r.weights["W.2"] @ np.maximum(u, 0)))


def test_conditions(run):
    source = """
block act(h, kind = 1, phi = relu):
    if kind == 1 and not phi == relu or kind == 3:
        return sin(h)
    elif kind == 2:
        return tanh(h)
    else:
        return phi(h)
""" + HEAD.replace("p()", "p(phi = relu, kind = 1)") + "    output avg(act(U @ x[0], kind, phi))\n"
    for kind, phi, f in ((1, "relu", lambda u: np.maximum(u, 0)), (1, "erf", np.sin), (2, "erf", np.tanh), (3, "relu", np.sin)):
        r = run(source, {"kind": kind, "phi": phi})
        assert_allclose(r.output, np.mean(f(r.weights["U"] @ r.inputs["x"][0])))


def test_names_in_braces_inside_a_block(run):
    r = run("""
block cell(h):
    for g in {z, r}:
        weight W_{g}: [dim(h), dim(h)] ~ N(0, 1 / dim(h))
        a_{g} = W_{g} @ h
    return a_z - 2 * a_r
""" + HEAD + "    output avg(cell(U @ x[0]))\n")
    u = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose(r.output, np.mean(r.weights["W_z"] @ u - 2 * r.weights["W_r"] @ u))


def test_whole_families(run):
    r = run("""
block norm(h):
    return h / sqrt(avg(h^2))
def twice(u) = u + u
""" + HEAD + "    u[t in T] = U @ x[t]\n    y = twice(norm(u + tanh(u))) - u\n    output avg(y[1])\n")
    u = r.weights["U"] @ r.inputs["x"][1]
    g = u + np.tanh(u)
    assert_allclose(r.output, np.mean(2 * g / np.sqrt(np.mean(g**2)) - u))


def test_several_values(run):
    r = run("block both(h):\n    return sin(h), cos(h)\n" + HEAD
            + "    a, b = both(U @ x[0])\n    output avg(a - 3 * b)\n")
    u = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose(r.output, np.mean(np.sin(u) - 3 * np.cos(u)))


# ---------------------------------------------------------------- shapes and outputs


def test_concat(run):
    r = run("""
program p():
    width n = 6
    width m = n / 2
    input x: [d]
    weight A: [n, d] ~ N(0, 1 / d)
    weight B: [m, d] ~ N(0, 1 / d)
    h = tanh(concat(A @ x, B @ x))
    weight b: [dim(h)] ~ N(0, 1)
    h = concat(h + b, A @ x)
    weight W: [m, dim(h)] ~ N(0, 1 / dim(h))
    weight v: [dim(h)] ~ N(0, 1)
    output f = dot(v, h) + avg(W @ h) + avg(h)
""")
    w, x = r.weights, r.inputs["x"]
    blocks = [np.tanh(w["A"] @ x) + w["b.1"], np.tanh(w["B"] @ x) + w["b.2"], w["A"] @ x]
    product = sum(w[f"W.{k + 1}"] @ b for k, b in enumerate(blocks))
    inner = sum(w[f"v.{k + 1}"] @ b for k, b in enumerate(blocks))
    assert_allclose(r.output, inner + product.mean() + np.concatenate(blocks).mean())


def test_outputs(run):
    r = run(HEAD + """
    weight c ~ N(0, 1)
    weight v: [n] ~ N(0, 1 / n)
    h[t in T] = U @ x[t]
    output f[t in T] = dot(v, h[t]) + c
    output g = tanh(h[0])
    output h
    output dot(v, h[1]) + c
""")
    h = r.inputs["x"] @ r.weights["U"].T
    assert_allclose(r.outputs["f"], h @ r.weights["v"] + r.weights["c"])
    assert_allclose(r.outputs["g"], np.tanh(h[0]))
    assert_allclose(r.outputs["h"], h)
    assert_allclose(r.outputs["output"], h[1] @ r.weights["v"] + r.weights["c"])


def test_outputs_of_an_unrolled_loop(run):
    r = run(HEAD + "    h = U @ x[0]\n    for k in 1..3:\n        h = sin(h)\n        output m_{k} = avg(h)\n")
    u = r.weights["U"] @ r.inputs["x"][0]
    assert_allclose([r.outputs[f"m_{k}"] for k in (1, 2, 3)],
                    [np.mean(f) for f in (np.sin(u), np.sin(np.sin(u)), np.sin(np.sin(np.sin(u))))])


def test_arithmetic_of_axes(run):
    r = run("""
program p():
    width n = 6
    input x[H, W]: [c]
    weight U: [n, c] ~ N(0, 1 / c)
    weight v[H - 2, W - 1]: [n] ~ N(0, 1)
    h[i in 0..H - 3, j in W - 1] = U @ x[i + 1, j + 1]
    output sum(i in 0..H - 3, j in W - 1) dot(v[i, j], h[i, j])
""", H=5, W=3)
    h = r.inputs["x"][1:-1, 1:] @ r.weights["U"].T
    assert_allclose(r.output, np.sum(h * r.weights["v"]))


def test_laws_of_weights(run):
    r = run("""
program p(sw = 2):
    width n = 6
    input x: [d]
    weight W: [n, d] ~ N(0, sw^2 / d)
    weight b: [n] ~ N(-1, 0)
    weight c: [n] ~ N(0, 1 / 3) lr n
    weight v: [n] ~ N(0, 1 / n) lr 0
    output dot(v, W @ x + b + c)
""")
    laws = {w.name: (w.variance, w.lr) for w in r.program.weights}
    assert laws["W"][0] == laws["W"][1] and laws["b"][0] == laws["b"][1]
    assert [str(laws[k][1]) for k in "cv"] == ["Sym(name='n')", "Num(value=Fraction(0, 1))"]
    assert_allclose(r.weights["b"], -1)


def test_widths_scale_together(run):
    source = "program p():\n    width n = 4\n    width m = n / 2\n    width k = 12\n    input x: [d]\n" \
             "    weight A: [n, d] ~ N(0, 1)\n    weight B: [m, d] ~ N(0, 1)\n    weight C: [k, d] ~ N(0, 1)\n" \
             "    output avg(A @ x) + avg(B @ x) + avg(C @ x)\n"
    r = run(source, width=8)
    assert [len(r.weights[k]) for k in "ABC"] == [8, 4, 24]
