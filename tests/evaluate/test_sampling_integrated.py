"""Sampling that integrates what it can: agreement with the deterministic tiers, coverage, accuracy on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import tensorprog
from tensorprog.dataset import bind
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import Options, sampling, sampling_accuracy
from tensorprog.evaluate.sampling import Sampled, sample
from tensorprog.evaluate.sampling_accuracy import Effort, relative_error
from tensorprog.evaluate.sampling_problem import Problem
from tests.oracles.duals import Array

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(31)
POINTS = RNG.normal(size=(3, 3))
SEQUENCES = RNG.normal(size=(3, 4, 3))


def network(name: str, **params: str | float) -> tensorprog.Network:
    return tensorprog.load(EXAMPLES / f"{name}.tp", **params)


def sampled(net: tensorprog.Network, x: Array, options: Options) -> Sampled:
    return sample(net.limit(), bind(net.program, x), options, options.want)


# ---------------------------------------------------------------- agreement of the tiers


def random_program(rng: np.random.Generator) -> str:
    """A few layers of gates, products, skips and normalizations, within reach of the deterministic tiers."""
    lines = ["h = dense(x, n, sb = 0.3)"]
    for _ in range(int(rng.integers(1, 4))):
        f, g = rng.choice(["relu", "erf", "sin", "gelu", "cos", "abs"], size=2)
        lines.append(
            str(
                rng.choice(
                    [
                        f"h = {f}(dense(h, n, sb = 0.2))",
                        f"h = {f}(dense(h, n)) * normcdf(dense(h, n, sb = 0.5))",
                        f"h = h + {f}(dense(h, n)) - 0.5 * {g}(dense(h, n))",
                        f"h = {f}(dense(h, n)) * (1 - normcdf(dense(h, n))) + h",
                        f"h = {f}(dense(h, n) + dense(h, n))",
                        f"h = h / sqrt(avg(h^2) + 1) + {f}(dense(h, n))",
                    ]
                )
            )
        )
    body = "\n".join(f"    {line}" for line in lines)
    return f"program random():\n    width n = 64\n    input x: [d]\n{body}\n    output readout(h)\n"


SUMS = """program sums():
    width n = 64
    input x[T]: [d]
    weight W: [n, n] ~ N(0, 1 / n)
    weight U: [n, d] ~ N(0, 1 / d)
    weight b: [n] ~ N(0.5, 0.1)
    weight v: [n] ~ N(0, 1 / n)
    s = zeros(n)
    for t in T:
        u = U @ x[t]
        s = normcdf(W @ s + u + b) * s + LAST
    output dot(v, s)
"""


@pytest.mark.parametrize("last", ["erf(W @ s + u + b)", "u"])
def test_sums_are_drawn_as_one_where_their_members_are_not_needed(last: str, tmp_path: Path) -> None:
    """The second program needs U x by itself.  Against draws of every family; ragged, and with equal sequences."""
    path = tmp_path / "sums.tp"
    path.write_text(SUMS.replace("LAST", last))
    net, x = tensorprog.load(path), [*SEQUENCES[:2], SEQUENCES[0], SEQUENCES[2][:2]]
    one, plain = (sampled(net, x, Options(tier=t, samples=2048, replicates=16)) for t in ("auto", "sampling"))
    for kind in ("nngp", "ntk"):
        error = np.hypot(getattr(one, f"{kind}_se"), getattr(plain, f"{kind}_se"))
        assert np.all(np.abs(getattr(one, kind) - getattr(plain, kind)) < 5 * error + 1e-12)
    np.testing.assert_allclose(one.nngp[0], one.nngp[2], rtol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_agree_with_the_deterministic_tiers(seed: int) -> None:
    """Integrated throughout, the result is exact; drawn throughout, it is within its errors (Student, 15 degrees)."""
    net = tensorprog.load(random_program(np.random.default_rng(seed)))
    want = ("nngp", "ntk")
    truth = net.kernels(POINTS, want=want)
    assert all(row.tier != "sampling" for row in truth.report.rows)
    exact = sampled(net, POINTS, Options(want))
    assert exact.drawn == ()
    drawn = sampled(net, POINTS, Options(want, "sampling", samples=1024, replicates=16, seed=seed))
    for kind in want:
        right = getattr(truth, kind)
        np.testing.assert_allclose(getattr(exact, kind), right, rtol=1e-7, atol=1e-9)
        error = getattr(drawn, f"{kind}_se")
        assert np.all(np.abs(getattr(drawn, kind) - right) <= 5.5 * error + 1e-10 * np.abs(right).max())
        assert 0 < relative_error(right, error) < 0.1


@pytest.mark.parametrize("name", ["gru", pytest.param("lstm", marks=pytest.mark.slow), "maxpool_cnn", "batchnorm"])
def test_what_is_integrated_and_what_is_drawn_agree(name: str) -> None:
    data = {"maxpool_cnn": RNG.normal(size=(2, 4, 4, 2)), "batchnorm": RNG.normal(size=(2, 6, 7))}
    x = data.get(name, SEQUENCES[:2, :3])
    net = network(name)
    mixed = sampled(net, x, Options(samples=2048, replicates=16))
    drawn = sampled(net, x, Options(tier="sampling", samples=2048, replicates=16, seed=1))
    for kind in ("nngp", "ntk"):
        errors = getattr(mixed, f"{kind}_se"), getattr(drawn, f"{kind}_se")
        assert np.all(np.abs(getattr(mixed, kind) - getattr(drawn, kind)) <= 5 * np.hypot(*errors) + 1e-12)


def test_a_gated_network_draws_its_update_gate_alone() -> None:
    found = sampled(network("gru"), SEQUENCES, Options(samples=256, replicates=2))
    assert found.drawn == ("U_z", "W_z", "b_z")
    assert {e.tier for e, _ in found.integrated} == {"closed"}


def test_variance_is_reduced_at_equal_draws() -> None:
    """By more than 4 in the standard error of the NTK of a gated network (measured: 10 to 20)."""
    mixed, drawn = (
        sampled(network("gru"), SEQUENCES[:2], Options(tier=tier, samples=512, replicates=8))
        for tier in ("auto", "sampling")
    )
    assert mixed.ntk_se is not None and drawn.ntk_se is not None
    assert np.sqrt(np.mean(drawn.ntk_se**2)) > 4 * np.sqrt(np.mean(mixed.ntk_se**2))


def test_directions_that_were_found_lower_the_error() -> None:
    """By 2.5 at least (measured: 3 to 8), and the means agree."""
    net, x = network("gru"), np.random.default_rng(0).normal(size=(2, 6, 20))
    options = Options(("nngp",), samples=4096, replicates=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Problem, "turns", False)
        plain = sampled(net, x, options)
    turned = sampled(net, x, options)
    assert plain.nngp is not None and turned.nngp is not None
    assert plain.nngp_se is not None and turned.nngp_se is not None
    assert np.sqrt(np.mean(plain.nngp_se**2)) > 2.5 * np.sqrt(np.mean(turned.nngp_se**2))
    assert (np.abs(plain.nngp - turned.nngp) < 5.5 * np.hypot(plain.nngp_se, turned.nngp_se)).all()


@pytest.mark.parametrize(("tier", "dim"), [("auto", 4 * 16), ("sampling", 4 * 16), ("sampling", 5)])
def test_replicates_computed_as_one_are_those_computed_alone(
    tier: str, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the inputs have as many coordinates as there are draws, too; a second call finds the plans of the first."""
    x = np.random.default_rng(1).normal(size=(2, 3, dim))
    net, options = network("gru"), {"samples": 16, "replicates": 4, "tier": tier}
    together = [net.kernels(x, **options) for _ in range(2)]
    monkeypatch.setattr(Problem, "separable", False)
    alone = network("gru").kernels(x, **options)
    for found in together:
        for kernel in ("nngp", "ntk"):
            np.testing.assert_allclose(getattr(found, kernel), getattr(alone, kernel), rtol=1e-11)
            errors = getattr(found, f"{kernel}_se"), getattr(alone, f"{kernel}_se")
            np.testing.assert_allclose(*errors, rtol=1e-9, atol=1e-14)


def test_random_logits_are_all_that_is_drawn() -> None:
    found = sampled(network("attention_sqrt"), RNG.normal(size=(2, 2, 3)), Options(samples=64, replicates=16))
    assert found.drawn == ()
    assert found.nngp_se is not None and found.nngp_se.max() > 0


# ---------------------------------------------------------------- standard errors


def coverage(net: tensorprog.Network, x: Array, truth: dict[str, Array], options: Options, repetitions: int) -> float:
    """How often |estimate - truth| is within the two-sided 95 % limit of Student's t, over all entries."""
    limit = stats.t.ppf(0.975, options.replicates - 1)
    inside = []
    for seed in range(repetitions):
        found = sampled(net, x, Options(options.want, options.tier, None, options.samples, options.replicates, seed))
        for kind, right in truth.items():
            value, error = getattr(found, kind), getattr(found, f"{kind}_se")
            inside.append(np.mean(np.abs(value - right) <= limit * error))
    return float(np.mean(inside))


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mlp", {"phi": "erf"}),
        pytest.param("mlp", {"phi": "relu"}, marks=pytest.mark.slow),
        pytest.param("gated_mlp", {}, marks=pytest.mark.slow),
        pytest.param("layernorm", {}, marks=pytest.mark.slow),
    ],
)
def test_coverage_of_standard_errors(name: str, params: dict[str, str]) -> None:
    """With few samples and 200 repetitions; the binomial error is 0.015 for one entry, and entries are correlated."""
    net = network(name, **params)
    exact = net.kernels(POINTS)
    options = Options(tier="sampling", samples=64, replicates=8)
    assert exact.nngp is not None and exact.ntk is not None
    found = coverage(net, POINTS, {"nngp": exact.nngp, "ntk": exact.ntk}, options, 200)
    assert 0.91 < found < 0.985


@pytest.mark.parametrize("worth", [1 << 14, 0])
def test_coverage_where_only_gates_are_drawn(worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a run of a hundred times more draws; with and without directions that a pilot run has found."""
    monkeypatch.setattr(sampling, "WORTH_TURNING", worth)
    monkeypatch.setattr(sampling, "FIRST", 64)
    net, x = network("gru"), SEQUENCES[:2, :2]
    right = sampled(net, x, Options(("nngp",), samples=1 << 14, replicates=8, seed=10**6)).nngp
    assert right is not None
    found = coverage(net, x, {"nngp": right}, Options(("nngp",), samples=64, replicates=8), 80)
    assert 0.90 < found < 0.99


def test_few_draws_are_computed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many are shared out among the threads, the last of them too."""
    monkeypatch.setattr(sampling, "workers", lambda: 2)
    net = network("gru")
    problem = Problem(net.limit(), bind(net.program, SEQUENCES), ("nngp",), True, {})
    assert sampling._batches(problem, 1024, range(8)) == [range(8)]
    assert sampling._batches(problem, 16384, range(8)) == [range(4), range(4, 8)]
    assert sampling._batches(problem, 16384, range(8, 11)) == [range(8, 10), range(10, 11)]


# ---------------------------------------------------------------- accuracy on request


@pytest.mark.parametrize("accuracy", [1e-2, 3e-3])
def test_the_accuracy_asked_for_is_reached(accuracy: float) -> None:
    found = network("gru").kernels(SEQUENCES, want=("nngp",), accuracy=accuracy)
    assert found.nngp is not None and found.nngp_se is not None
    assert relative_error(found.nngp, found.nngp_se) <= accuracy
    assert [r.tier for r in found.report.rows].count("sampling") == 1


def test_accuracy_with_random_scalars_takes_more_replicates() -> None:
    seen: list[str] = []
    x = np.random.default_rng(6).normal(size=(2, 2, 3))
    found = network("attention_sqrt").kernels(
        x, want=("nngp",), accuracy=0.03, progress=lambda message, fraction: seen.append(message)
    )
    assert found.nngp is not None and found.nngp_se is not None
    assert relative_error(found.nngp, found.nngp_se) <= 0.03
    assert len(set(seen)) > 1


def test_what_is_not_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorprog.evaluate.sampling.MOST", 1 << 13)
    monkeypatch.setattr(sampling_accuracy, "MOST", 1 << 13)
    found = network("gru").kernels(SEQUENCES, want=("nngp",), accuracy=1e-9)
    assert "the accuracy 1e-09 is not reached" in found.report.reason


def test_an_exact_result_needs_no_more_draws() -> None:
    """Batch of one: everything is integrated, one replicate is enough."""
    found = sampled(network("highway"), POINTS, Options(("nngp",), accuracy=1e-12))
    assert found.relative_error() == 0


def test_an_accuracy_must_be_positive() -> None:
    with pytest.raises(TensorProgError, match="accuracy"):
        network("mlp").kernels(POINTS, accuracy=0.0)


def test_effort_grows_by_longer_replicates_and_then_by_more() -> None:
    assert Effort(1024, 8).grown(2.0, False, 1 << 16) == Effort(4096, 8)
    assert Effort(1024, 8).grown(1.2, False, 1 << 16) == Effort(1024, 13)
    assert Effort(1 << 16, 8).grown(2.0, False, 1 << 16) == Effort(1 << 16, 32)
    assert Effort(64, 8).grown(2.0, True, 1 << 16) == Effort(128, 32)


def test_numbers_have_standard_errors() -> None:
    """State evolution of approximate message passing: two seeds differ by what their errors allow."""
    net = network("amp")
    (one, e), (two, f) = (net.estimate(output="mse_2", samples=512, seed=s) for s in (0, 1))
    assert 0 < e[0] < 0.1 * one[0]
    assert abs(one[0] - two[0]) < 6 * np.hypot(e[0], f[0])
    fine, error = net.estimate(output="mse_2", accuracy=1e-2)
    assert error[0] <= 1e-2 * fine[0]


# ---------------------------------------------------------------- determinism


def test_the_same_seed_gives_the_same_kernels() -> None:
    one, two, other = (
        sampled(network("gru"), SEQUENCES, Options(samples=128, replicates=2, seed=s)) for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.ntk, two.ntk)
    assert one.ntk is not None and other.ntk is not None and np.abs(one.ntk - other.ntk).max() > 0


def test_the_order_of_examples_does_not_matter() -> None:
    """Beyond the error of sampling, that is; kernels stay positive semidefinite."""
    net = network("gru")
    data = SEQUENCES[:, :3]
    forth, back = (sampled(net, x, Options(samples=512, replicates=8)) for x in (data, data[::-1]))
    for kind in ("nngp", "ntk"):
        a, b = getattr(forth, kind), getattr(back, kind)[::-1, ::-1]
        errors = getattr(forth, f"{kind}_se"), getattr(back, f"{kind}_se")[::-1, ::-1]
        assert np.all(np.abs(a - b) <= 6 * np.hypot(*errors))
        assert np.linalg.eigvalsh(a).min() > -1e-12


# ---------------------------------------------------------------- sums of integrated variables


POOLED = """program pooled():
    width n = 64
    input x[T]: [d]
    weight K[2]: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 1 / n)
    weight b: [n] ~ N(0.3, 0.1)
    weight v: [n] ~ N(0, 1 / n)
    g[t in T] = relu(sum(k in 0..1) K[k] @ x[t + k] + b)
    u[t in T] = W @ g[t]
    h = gelu(mean(t in T) u[t] - 0.5 * u[0] + b)
    output dot(v, h)
"""


def test_nodes_that_are_sums_of_several_rows_of_a_matrix() -> None:
    """Means, taps, and differences of products of one matrix under a nonlinearity; groups of different sizes."""
    net = tensorprog.load(POOLED)
    x = [RNG.normal(size=(length, 3)) for length in (3, 2, 3)]
    truth, found = net.kernels(x), sample(net.limit(), bind(net.program, x), Options(), ("nngp", "ntk"))
    assert found.drawn == ()
    np.testing.assert_allclose(found.nngp, truth.nngp, rtol=1e-8)
    np.testing.assert_allclose(found.ntk, truth.ntk, rtol=1e-7)
