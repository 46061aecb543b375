"""Verdicts on limits: right ones, wrong ones, other people's."""

import numpy as np
import pytest

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.finite.convergence import convergence
from tensorprog.limit.gaussian import is_gaussian
from tests.agreement.comparing import EXAMPLES

X = np.random.default_rng(0).standard_normal((4, 3))
TIED = EXAMPLES / "tied.tp"
INDEPENDENT = TIED.read_text().replace("program tied", "program independent").replace(
    "    weight v:", "    weight Q: [n, n] ~ N(0, sw^2 / n)\n    weight v:"
).replace("W.T @ y", "Q @ y")


def test_transposes_taken_as_independent_are_found_out():
    """The recursion for tied.tp that forgets that W and W.T are one matrix."""
    found = tensorprog.load(TIED).validate(X, (32, 64, 128, 256), 32, against=tensorprog.load(INDEPENDENT))
    assert found.verdict == found.nngp.verdict == found.ntk.verdict == "disagrees"
    assert found.nngp.slope > -0.25
    text = str(found)
    assert "this is not the limit of the program" in text and "standard errors" in text and "a right limit" in text
    assert "hint:" in text and "transpose" in text
    worst = found.nngp.extrapolated.worst
    assert worst.errors > 10 and f"entry ({worst.index // 4}, {worst.index % 4})" in text


def test_the_right_limit_of_the_same_program():
    found = tensorprog.load(TIED).validate(X, (32, 64, 128, 256), 32)
    assert found.verdict == "agrees", str(found)
    assert "verdict: agrees" in str(found) and found.law.rank == 4


def test_arrays_of_ones_own():
    net = tensorprog.load(EXAMPLES / "random_features.tp")
    k = net.nngp(X)
    assert net.validate(X, (32, 64, 128), 64, against={"nngp": k}).verdict == "agrees"
    wrong = k.copy()
    wrong[1, 2] = wrong[2, 1] = wrong[1, 2] + 0.3 * np.sqrt(k[1, 1] * k[2, 2])
    found = net.validate(X, (32, 64, 128), 64, against={"nngp": wrong})
    assert found.verdict == "disagrees" and found.ntk is None and "entry (1, 2)" in str(found)
    for bad in ({"nngp": k[:2]}, {"other": k}, {}, {"nngp": k * np.nan}):
        with pytest.raises(TensorProgError):
            net.validate(X, (32, 64), 4, against=bad)


MEANS = ["dot(v, h) + c", "dot(v, h) + 3", "dot(v, h) + avg(h)", "dot(v, h) * avg(v * v * n) + dot(h, h) / n"]


@pytest.mark.parametrize("output", MEANS)
def test_outputs_that_have_a_mean(output):
    """The NNGP is the covariance of the outputs, E[h h'] here with the variance of c; networks show that one."""
    net = tensorprog.load(f"""
program p():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 1 / n)
    weight c ~ N(2, 1)
    h = relu(W @ x)
    output {output}
""")
    cosine = X @ X.T / np.outer(np.linalg.norm(X, axis=1), np.linalg.norm(X, axis=1))
    angle = np.arccos(np.clip(cosine, -1, 1))
    h = (np.sin(angle) + (np.pi - angle) * cosine) * np.sqrt(np.outer(*2 * [(X**2).sum(1)])) / (2 * np.pi * X.shape[1])
    found = net.kernels(X, want=("nngp",), accuracy=0.03 if "n)" in output else None)
    error = 0.0 if found.nngp_se is None else 5 * found.nngp_se
    assert np.all(np.abs(found.nngp - h - ("c" in output)) <= error + 1e-12)
    assert net.validate(X, (32, 64, 128), 48).verdict != "disagrees"


def test_kernels_that_stay_random_are_judged_by_their_mean():
    """A random gate inside: one network never has the limit's kernel, the mean over networks has."""
    net = tensorprog.load("""
program gated():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight c ~ N(1, 0.1)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, erf(c * (W @ x)))
""")
    found = net.validate(X, (32, 64, 128), 256)
    assert found.verdict == "agrees" and "stay random" in found.nngp.reason, str(found)
    k = net.nngp(X)
    assert net.validate(X, (32, 64, 128), 256, against={"nngp": 1.2 * k}).verdict == "disagrees"


def test_which_limits_are_gaussian():
    for name, expected in {"mlp": True, "densenet": True, "transformer": True, "attention_sqrt": False,
                           "mean_pooled_mlp": False}.items():
        assert is_gaussian(tensorprog.load(EXAMPLES / f"{name}.tp").limit()) == expected, name


def test_weight_tied_outputs_at_several_times_have_a_joint_law():
    text = (EXAMPLES / "rnn.tp").read_text()
    for old, new in {"output dot(v, s)": "output f[t in T] = dot(v, h[t + 1])", "s = zeros(n)": "h[0] = zeros(n)",
                     "s = erf(W @ s": "h[t + 1] = erf(W @ h[t]"}.items():
        text = text.replace(old, new)
    net, rng = tensorprog.load(text), np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 4)) + 0.2 * rng.standard_normal((2, 3, 4))
    right = net.validate(x, (16, 32, 64), 256)
    assert right.law.rank == 6 and right.law.verdict == "agrees", str(right)
    apart = np.array(right.nngp.limit)
    apart[:3, 3:] = apart[3:, :3] = 0.0  # two sequences in two networks
    assert net.validate(x, (16, 32, 64), 256, against={"nngp": apart}).law.verdict == "disagrees"


@pytest.mark.parametrize("depth", [1, 3])
def test_the_variance_of_relu_networks(depth):
    """At criticality (variance 2) n Var K(x, x) / K(x, x)^2 -> 5 depth (Roberts, Yaida, Hanin 2021, chapter 4)."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", depth=depth, sw=2**0.5, sb=0)
    draws = {w: [d.nngp for d in net.simulate(X[:1], w, range(1000 * w, 1000 * w + 400))] for w in (32, 64, 128)}
    found = convergence(net.nngp(X[:1]), draws)
    assert abs(found.variance.size.value - 5 * depth) < 4 * found.variance.size.error < 4 * 0.25 * 5 * depth
    assert found.bias.size.value < 4 * found.bias.size.error  # the mean is exact at every width


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "tied"])
def test_right_limits_are_called_wrong_as_seldom_as_stated(name):
    """Over 60 studies of small networks p < 0.05 in at most 5%, p < 0.001 in none, up to chance."""
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    kernels, draws = net.kernels(X), {w: net.simulate(X, w, range(1000 * w, 1000 * w + 240)) for w in (16, 32, 64)}
    p = np.array([
        convergence(getattr(kernels, kind), {w: [d.quantity(kind) for d in ds[k : k + 8]] for w, ds in draws.items()})
        .extrapolated.p for kind in ("nngp", "ntk") for k in range(0, 240, 8)
    ])
    assert np.mean(p < 0.05) < 0.05 + 3 * np.sqrt(0.05 / len(p)) and p.min() > 1e-4
