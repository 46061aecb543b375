"""Several outputs jointly: covariances across outputs and examples, and the law of all together."""

import numpy as np
import pytest

import tensorprog
from tensorprog.cli.main import run
from tensorprog.errors import TensorProgError

X = np.random.default_rng(0).standard_normal((3, 4))
SHARED = """
program shared():
    width n = 64
    input x: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight v: [n]    ~ N(0, 1 / n)
    h = W @ relu(U @ x)
    output f = dot(v, relu(h))
    output g = dot(v, h)
"""
APART = SHARED.replace("output g = dot(v, h)", "weight w: [n] ~ N(0, 1 / n)\n    output g = dot(w, h)")
SEQUENCE = """
program sequence():
    width n = 64
    input x[T]: [d]
    weight U: [n, d]    ~ N(0, 1 / d)
    weight v: [n]       ~ N(0, 1 / n)
    weight w: [n]       ~ N(0, 1 / n)
    weight c            ~ N(0, 0.3)
    z[t in T] = U @ x[t]
    output f[t in T] = dot(v, relu(z[t])) + c
    output g[t in T, s in T] = dot(v, z[t]^2) + dot(w, z[s])
    output a = c
"""


def test_covariances_across_outputs():
    """E relu(u) u' = c / 2, and E relu(u) u'^2 = sqrt(a / 2 pi) (b + c^2 / a), for variances a, b and covariance c."""
    text = SHARED.replace("W @ relu(U @ x)", "U @ x").replace("dot(v, h)", "dot(v, h^2) + dot(v, h)")
    net = tensorprog.load(text)
    k, a = X @ X.T / 4, np.diag(X @ X.T / 4)[:, None]
    cross = k / 2 + np.sqrt(a / (2 * np.pi)) * (a.T + k**2 / a)
    found = net.validate(X, (32, 64), 8)
    assert np.allclose(found.nngp.limit[::2, 1::2], cross, rtol=1e-10)
    assert found.rows == ("f(0)", "g(0)", "f(1)", "g(1)", "f(2)", "g(2)") and found.law.rank <= 6


def test_rows_of_outputs_with_axes_of_several_lengths():
    net, rng = tensorprog.load(SEQUENCE), np.random.default_rng(1)
    x = [rng.standard_normal((t, 4)) for t in (2, 1)]
    found = net.validate(x, (32, 64), 8)
    assert found.rows == ("f[0](0)", "f[1](0)", "g[0, 0](0)", "g[0, 1](0)", "g[1, 0](0)", "g[1, 1](0)", "a(0)",
                          "f[0](1)", "g[0, 0](1)", "a(1)")
    for name in "fga":
        mine = [row[0] == name for row in found.rows]
        alone = net.validate(x, (32, 64), 8, output=name)
        for kind in ("nngp", "ntk"):
            block = getattr(found, kind).limit[np.ix_(mine, mine)]
            assert np.allclose(block, getattr(alone, kind).limit, rtol=1e-12, atol=1e-14)
            simulated = getattr(found, kind).mean[-1][np.ix_(mine, mine)]
            assert np.allclose(simulated, getattr(alone, kind).mean[-1], rtol=1e-4, atol=1e-5)
    assert np.allclose(found.nngp.limit[[0, 0], [6, 9]], 0.3)  # f and the bias that it has in it


def test_outputs_that_share_weights_are_not_independent():
    net, apart = tensorprog.load(SHARED), tensorprog.load(APART)
    widths, seeds = (32, 64, 128, 256), 32
    assert net.validate(X, widths, seeds).verdict == apart.validate(X, widths, seeds).verdict == "agrees"
    found = net.validate(X, widths, seeds, against=apart)
    assert found.verdict == found.nngp.verdict == found.ntk.verdict == "disagrees"
    worst = [found.rows[k] for k in np.unravel_index(found.nngp.extrapolated.worst.index, (6, 6))]
    assert {row[0] for row in worst} == {"f", "g"} and f"entry ({worst[0]}, {worst[1]})" in str(found)


def test_one_output_written_twice_has_no_law_of_two():
    """Both are Gaussian of the right variance; the joint law has half of the directions."""
    net = tensorprog.load(SHARED.replace("dot(v, h)", "dot(v, relu(h))"))
    right = net.validate(X, (16, 32, 64), 128)
    assert right.law.rank == 3 and right.law.verdict == "agrees", str(right)
    apart = right.nngp.limit * np.tile(np.eye(2), (3, 3))
    # which of several equal directions are tested depends on rounding, and the power on which
    wrong = net.validate(X, (16, 32, 64), 256, against={"nngp": apart})
    assert wrong.law.rank == 6 and wrong.law.verdict == "disagrees"
    assert net.validate(X, (16, 32, 64), 128, output="g", against={"nngp": apart[::2, ::2]}).law.verdict == "agrees"


def test_numbers_together_and_what_has_no_joint_law(tmp_path):
    path = tmp_path / "page.html"
    net = tensorprog.load(SHARED.replace("dot(v, ", "avg("))
    found = net.validate(X, (32, 64, 128), 16)
    net.write_report(path, found)
    assert found.verdict != "disagrees" and found.found["value"].limit.shape == (6,) and path.exists()
    with pytest.raises(TensorProgError, match="no joint law: f is random, g is a number"):
        tensorprog.load(SHARED.replace("g = dot(v, h)", "g = avg(h)")).validate(X)


def test_the_command_studies_all_outputs_together(capsys, tmp_path):
    path = tmp_path / "shared.tp"
    path.write_text(SHARED)
    assert run(["validate", str(path), "--widths", "16,32", "--seeds", "4", "--n", "2"]) == 0
    assert "joint law of the outputs, 4 of 4 directions" in capsys.readouterr().out
