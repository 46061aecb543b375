"""What a Python user gets from `tensorprog.load`."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tensorprog
from tensorprog import TensorProgError
from tests.writing import source_of

RNG = np.random.default_rng(0)
MLP = """program mlp(depth = 2, phi = relu, sw = 1.4, sb = 0.1):
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, sw^2 / d)
    weight b: [n] ~ N(0, sb^2)
    h = W @ x + b
    for l in 2..depth:
        weight W: [n, n] ~ N(0, sw^2 / n)
        h = W @ phi(h)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, phi(h))
"""
RNN = source_of("""
input x[T]: [d]
weight W: [n, n] ~ N(0, 1 / n)
weight U: [n, d] ~ N(0, 1 / d)
weight v: [n] ~ N(0, 1 / n)
s = zeros(n)
for t in T:
    s = erf(W @ s + U @ x[t])
output dot(v, s)
""")
BATCH = source_of("""
input x[B]: [d]
weight W: [n, d] ~ N(0, 1 / d)
weight v: [n] ~ N(0, 1 / n)
output f[i in B] = dot(v, relu(W @ x[i]))
""")
TWO = source_of("""
input x: [d]
weight W: [n, d] ~ N(0, 1 / d)
weight v: [n] ~ N(0, 1 / n)
h = relu(W @ x)
output f = dot(v, h)
output g = avg(h)
output h
""")


def relu_kernel(q11, q12, q22):
    """E relu(u) relu(v), the arc-cosine kernel of order 1 (Cho and Saul 2009)."""
    c = np.clip(q12 / np.sqrt(q11 * q22), -1, 1)
    return np.sqrt(q11 * q22) / (2 * np.pi) * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)


def test_nngp_is_the_arc_cosine_recursion():
    x, z = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))
    sw2, sb2 = 1.4**2, 0.1**2
    gram = lambda a, b: sw2 / 3 * a @ b.T + sb2  # noqa: E731
    diag = lambda a: sw2 / 3 * (a**2).sum(1) + sb2  # noqa: E731
    q11, q12, q22 = diag(x)[:, None], gram(x, z), diag(z)[None, :]
    second = (sw2 * relu_kernel(q, r, s) for q, r, s in ((q11, q11, q11), (q11, q12, q22), (q22, q22, q22)))
    net = tensorprog.load(MLP)
    np.testing.assert_allclose(net.nngp(x, z), relu_kernel(*second), rtol=1e-10)


def test_one_argument_is_symmetric_and_equals_two():
    x = RNG.normal(size=(6, 4))
    net = tensorprog.load(MLP)
    for kernel in (net.nngp, net.ntk):
        k = kernel(x)
        np.testing.assert_array_equal(k, k.T)
        np.testing.assert_allclose(k, kernel(x, x), rtol=1e-12)


def test_kernels_have_a_report_and_no_errors_where_exact():
    found = tensorprog.load(MLP).kernels(RNG.normal(size=(3, 2)))
    assert found.nngp.shape == found.ntk.shape == (3, 3)
    assert found.nngp_se is None and found.ntk_se is None
    assert "closed" in str(found.report)


def test_sampling_is_within_its_standard_errors():
    x = RNG.normal(size=(3, 2))
    net = tensorprog.load(MLP)
    exact, sampled = net.kernels(x), net.kernels(x, tier="sampling", samples=512, seed=1)
    for k, s, se in ((exact.nngp, sampled.nngp, sampled.nngp_se), (exact.ntk, sampled.ntk, sampled.ntk_se)):
        assert (abs(k - s) < 7 * se + 1e-9).all()


def test_parameters_change_the_program():
    x = RNG.normal(size=(3, 2))
    net = tensorprog.load(MLP, depth=3, sw=1.0, phi="erf")
    assert dict(net.program.params) == {"depth": "3", "phi": "erf", "sw": "1", "sb": "0.1"}
    assert not np.allclose(net.nngp(x), tensorprog.load(MLP).nngp(x))


def test_float32_in_float32_out():
    x = RNG.normal(size=(3, 2)).astype(np.float32)
    net = tensorprog.load(MLP)
    assert net.nngp(x).dtype == np.float32 and net.nngp(x, x.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(net.ntk(x), net.ntk(x.astype(np.float64)), rtol=1e-6)


def test_sequences_of_different_length_in_the_order_of_the_user():
    net = tensorprog.load(RNN)
    sequences = [RNG.normal(size=(t, 2)) for t in (3, 1, 3, 2)]
    k = net.ntk(sequences)
    for i, a in enumerate(sequences):
        for j, b in enumerate(sequences):
            np.testing.assert_allclose(k[i, j], net.ntk([a], [b])[0, 0], rtol=1e-9)


def test_outputs_with_axes():
    x = RNG.normal(size=(3, 2, 4))
    net = tensorprog.load(BATCH)
    k = net.nngp(x)
    assert k.shape == (3, 2, 3, 2)
    flat = x.reshape(-1, 4)
    norms = (flat**2).sum(1) / 4
    expected = relu_kernel(norms[:, None], flat @ flat.T / 4, norms[None, :])
    np.testing.assert_allclose(k.reshape(6, 6), expected, rtol=1e-10)
    ragged = net.nngp([x[0], x[1, :1], x[2]])
    assert ragged.shape == (5, 5)
    keep = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(ragged, expected[np.ix_(keep, keep)], rtol=1e-10)


def test_several_outputs_are_asked_for_by_name():
    net = tensorprog.load(TWO)
    x = RNG.normal(size=(2, 3))
    with pytest.raises(TensorProgError, match="several outputs: f, g, h"):
        net.nngp(x)
    with pytest.raises(TensorProgError, match="no output 'q'"):
        net.nngp(x, output="q")
    np.testing.assert_allclose(net.nngp(x, output="h"), net.nngp(x, output="f"), rtol=1e-10)
    with pytest.raises(TensorProgError, match="vector"):
        net.ntk(x, output="h")
    scale = np.sqrt((x**2).sum(1) / 3)  # E relu(s z) = s / sqrt(2 pi)
    np.testing.assert_allclose(net.value(x, "g"), scale / np.sqrt(2 * np.pi), rtol=1e-10)
    with pytest.raises(TensorProgError, match="no number in the limit"):
        net.value(x, "f")


def test_simulate_gives_one_draw_per_seed():
    net = tensorprog.load(MLP)
    x = RNG.normal(size=(3, 2))
    draws = net.simulate(x, width=32, seeds=2)
    assert len(draws) == 2 and draws[0].outputs.shape == (3,) and draws[0].ntk.shape == (3, 3)
    np.testing.assert_array_equal(net.simulate(x, width=32, seeds=[1])[0].ntk, draws[1].ntk)
    with pytest.raises(TensorProgError, match="at least 1"):
        net.simulate(x, width=0)


def test_validate_agrees_and_notices_a_wrong_limit(monkeypatch):
    net = tensorprog.load(MLP)
    x = RNG.normal(size=(3, 2))
    right = net.validate(x, widths=(32, 64, 128, 256), seeds=24)
    assert right.verdict == "agrees", str(right)
    assert abs(right.ntk.slope + 0.5) < 0.25
    other = tensorprog.load(MLP, sw=1.6)
    monkeypatch.setattr(type(net), "limit", lambda self, output=None: tensorprog.api.analyse(other.program, output))
    assert tensorprog.load(MLP).validate(x, widths=(32, 64, 128, 256), seeds=24).verdict == "disagrees"


def test_check_and_derive():
    net = tensorprog.load(MLP)
    report = net.check()
    assert "gradient independence holds" in str(report) and not report.warnings
    assert "NNGP" in str(net.derive()) and "NTK" in repr(net.derive())
    assert "$$" in net.derive()._repr_markdown_() and "\\" in net.derive().latex()
    assert repr(net).startswith("<tensorprog program mlp(depth = 2") and "x [N, d]" in repr(net)


def test_warnings_are_in_the_report():
    report = tensorprog.load(MLP.replace("sb = 0.1", "sb = 0.1, unused = 3")).check()
    assert any("unused" in w.message for w in report.warnings)


def test_files_and_text(tmp_path):
    file = tmp_path / "mlp.tp"
    file.write_text(MLP)
    x = RNG.normal(size=(2, 2))
    np.testing.assert_array_equal(tensorprog.load(file).nngp(x), tensorprog.load(MLP).nngp(x))
    assert tensorprog.load(str(file)).program.name == "mlp"
    with pytest.raises(TensorProgError, match="there is no file"):
        tensorprog.load(tmp_path / "missing.tp")
    with pytest.raises(TensorProgError, match="<string>:1:1"):
        tensorprog.load("nothing\nmuch\n")


def test_data_that_does_not_fit_and_too_large_results():
    net = tensorprog.load(MLP)
    with pytest.raises(TensorProgError, match=r"\[N, d\]"):
        net.nngp(np.ones(3))
    with pytest.raises(TensorProgError, match="d is 2 for some examples and 3"):
        net.nngp(np.ones((1, 2)), np.ones((1, 3)))
    many = np.broadcast_to(np.ones((1, 1)), (30_000_000, 1))
    with pytest.raises(TensorProgError, match="more memory"):
        net.nngp(many)


@pytest.mark.parametrize("options", [{"tier": "exact"}, {"want": "ntk"}, {"want": ("ntk", "f")}, {"samples": 1}])
def test_options_that_do_not_exist(options):
    with pytest.raises(TensorProgError):
        tensorprog.load(MLP).kernels(np.ones((1, 2)), **options)


def test_import_is_light():
    code = "import tensorprog, sys; print(*(m for m in ('numpy', 'numba', 'sympy', 'matplotlib') if m in sys.modules))"
    command, root = [sys.executable, "-c", code], Path(__file__).parents[2]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.strip() == ""


def test_what_was_derived_serves_the_next_call(monkeypatch):
    """Other data, other sizes of the same program, and copies: as from a fresh network."""
    net = tensorprog.load(RNN)
    data = [RNG.normal(size=(2, length, 3)) for length in (3, 5, 3)]
    fresh = [tensorprog.load(RNN).ntk(x) for x in data]
    for kept in (1 << 20, 1):
        monkeypatch.setattr("tensorprog.evaluate.analytic.KEPT", kept)
        for x, expected in zip(data, fresh, strict=True):
            np.testing.assert_array_equal(net.ntk(x), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(net)).ntk(data[2]), fresh[2])
