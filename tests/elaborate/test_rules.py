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
    cases = ((1, "relu", lambda u: np.maximum(u, 0)), (1, "erf", np.sin), (2, "erf", np.tanh), (3, "relu", np.sin))
    for kind, phi, f in cases:
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
