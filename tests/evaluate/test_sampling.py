"""The sampling tier against closed forms, the papers' recursions and finite networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorprog.autodiff import differentiate
from tensorprog.dataset import bind
from tensorprog.elaborate import elaborate
from tensorprog.errors import Source, TensorProgError
from tensorprog.evaluate import Options
from tensorprog.evaluate.sampling import Sampled, sample
from tensorprog.evaluate.sampling_accuracy import Effort, split
from tensorprog.evaluate.sampling_factor import Factor, Innovations, pivoted_cholesky
from tensorprog.finite.readout import readout_weights
from tensorprog.finite.simulate import simulate
from tensorprog.finite.state import Group
from tensorprog.finite.weights import widths_at
from tensorprog.ir.expr import evaluate
from tensorprog.limit import analyse
from tests.oracles import batchnorm, facts, gru
from tests.oracles.duals import ERF, RELU, Array, pairwise
from tests.oracles.recursions import mlp_kernels, rnn_kernels, transpose_nngp

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(20)
POINTS = RNG.normal(size=(4, 3))
SEQUENCES = [RNG.normal(size=(length, 3)) for length in (3, 4, 2, 3)]


def text_of(name: str) -> str:
    return (EXAMPLES / f"{name}.tp").read_text()


def sampled(
    text: str, x: Any, samples: int = 2048, replicates: int = 8, seed: int = 0, *, output: str | None = None,
    want: tuple[str, ...] = ("nngp", "ntk"), tier: str = "sampling", **options: Any,
) -> Sampled:
    program = elaborate(Source("test.tp", text)).program
    chosen = Options(want, tier, samples=samples, replicates=replicates, seed=seed, **options)
    return sample(analyse(program, output), bind(program, x), chosen, want)


def assert_within(value: Any, error: Any, truth: Any, largest: float, truth_error: Any = 0.0, z: float = 5.5) -> None:
    """|value - truth| < z standard errors, and these below `largest` of the scale of the kernel.

    Eight replicates give a t distribution with 7 degrees of freedom, of which 0.1 % lies beyond 5.4.
    """
    assert value is not None and error is not None
    both = np.hypot(error, truth_error)
    assert np.all(np.abs(value - truth) <= z * both + 1e-10 * np.abs(truth).max())
    assert np.max(error) <= largest * np.abs(truth).max()


def finite(text: str, x: Any, width: int, draws: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """NNGP (given the weights below the readout) and NTK of finite networks: means and standard errors."""
    program = elaborate(Source("test.tp", text)).program
    data, name = bind(program, x), program.outputs[0].name
    differentiated, readout = differentiate(program, name), readout_weights(program, name)
    widths = widths_at(program, width, data.sizes())
    env = {**data.sizes(), **widths}
    groups = [Group(g.sizes, g.batch) for g in data.groups]
    order = np.argsort(np.concatenate([g.rows for g in data.groups]))
    runs = [simulate(differentiated, groups, widths, seed) for seed in range(draws)]
    nngp = [sum(float(evaluate(program.weight(w).variance, env)) * r.grams[w] for w in readout) for r in runs]
    kernels = (np.array(k)[:, order][:, :, order] for k in (nngp, [r.ntk for r in runs]))
    first, second = ((k.mean(axis=0), k.std(axis=0, ddof=1) / math.sqrt(draws)) for k in kernels)
    return first, second


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("phi", "activation"), [("relu", RELU), ("erf", ERF)])
def test_mlp_against_the_arc_kernels(phi: str, activation: Any) -> None:
    found = sampled(text_of("mlp").replace("phi = relu", f"phi = {phi}"), POINTS)
    truth = mlp_kernels(POINTS, POINTS, 3, activation, 1.4, 0.1)
    assert_within(found.nngp, found.nngp_se, truth.nngp, 4e-3)
    assert_within(found.ntk, found.ntk_se, truth.ntk, 1.5e-2)


def test_recurrent_network_on_sequences_of_several_lengths() -> None:
    found = sampled(text_of("rnn"), SEQUENCES, replicates=24)
    truth = rnn_kernels(SEQUENCES, SEQUENCES, 1.0, 1.0, 0.1)
    assert_within(found.nngp, found.nngp_se, truth.nngp, 4e-3)
    assert_within(found.ntk, found.ntk_se, truth.ntk, 2e-2)


def test_gru_against_an_independent_monte_carlo() -> None:
    truth, error = gru.gru_nngp(SEQUENCES, 1.0, 1.0, 0.1, samples=10_000, repeats=12)
    for tier, largest in (("sampling", 1e-2), ("auto", 2e-3)):
        found = sampled(text_of("gru"), SEQUENCES, tier=tier)
        assert_within(found.nngp, found.nngp_se, truth, largest, error)


def test_weight_and_its_transpose() -> None:
    found = sampled(text_of("tied"), POINTS)
    assert_within(found.nngp, found.nngp_se, transpose_nngp(POINTS, POINTS, 1.0), 4e-3)


def test_mean_pooled_relu_network() -> None:
    """W.T meets W, and E relu'' is a mean of dirac: its dot Z is sw^2 E[dirac] relu(h) (TP III, Box 1)."""
    found = sampled(text_of("mean_pooled_mlp"), POINTS)
    sw2, sb2 = 1.2**2, 0.2**2
    first = sw2 * POINTS @ POINTS.T / 3 + sb2
    second = sw2 * pairwise(RELU.value, first) + sb2
    memory = sw2 / np.sqrt(2 * math.pi * np.diag(second))
    gradient = pairwise(RELU.slope, second)
    below = sw2 * gradient * pairwise(RELU.slope, first) + np.outer(memory, memory) * pairwise(RELU.value, first)
    assert_within(found.ntk, found.ntk_se, gradient * second + below * first, 5e-3)
    value, error = found.scalars["output"]
    assert_within(value, error, np.sqrt(np.diag(second) / (2 * math.pi)), 2e-3)
    assert found.nngp is None


def test_mean_pooled_relu_network_second_moment_of_the_gradient() -> None:
    """E g^2 = 1/2 + 1/(2 pi) for f = sum relu(W x) / n, E x^2 = 1 (TP0, section 6)."""
    text = """program f():
        width n = 64
        input x: [d]
        weight U: [n, d] ~ N(0, 1 / d) lr n / d
        weight W: [n, n] ~ N(0, 1 / n) lr 0
        output avg(relu(W @ (U @ x)))
    """
    x = np.array([[1.0, -1.0]])
    found = sampled(text, x)
    assert_within(found.ntk, found.ntk_se, np.array([[facts.pooled_gradient_relu().second_moment]]), 5e-3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_semicircle_moments_are_exact(k: int) -> None:
    value, error = sampled(text_of("semicircle"), None, 256, 2, output=f"m_{k}", tier="auto").scalars[f"m_{k}"]
    np.testing.assert_allclose(value, [facts.catalan(k)], rtol=1e-12)
    assert error.max() < 1e-12


@pytest.mark.parametrize("k", [1, 2, 3])
def test_marchenko_pastur_moments_are_exact(k: int) -> None:
    value, _ = sampled(text_of("marchenko_pastur"), None, 256, 2, output=f"m_{k}", tier="auto").scalars[f"m_{k}"]
    np.testing.assert_allclose(value, [facts.marchenko_pastur_moment(k, 2.0)], rtol=1e-12)


def test_message_passing_follows_state_evolution() -> None:
    """A signal s step(p - 1) is non-zero with the probability P(N(0, 1) > 1)."""
    density, delta, noise2 = 0.5 * math.erfc(1 / math.sqrt(2)), 0.5, 0.01
    taus = facts.state_evolution(facts.soft_threshold(0.8), density, noise2, delta, 3)
    for step in (1, 3):
        value, error = sampled(text_of("amp"), None, 4096, output=f"mse_{step}").scalars[f"mse_{step}"]
        assert_within(value, error, delta * (taus[step] - noise2), 1e-2)


def test_batch_normalization() -> None:
    x = RNG.normal(size=(2, 6, 7))
    found = sampled(text_of("batchnorm"), x, replicates=12)
    assert found.nngp is not None and found.nngp_se is not None and found.ntk is not None and found.ntk_se is not None
    for a, b in ((0, 0), (0, 1)):
        truth = batchnorm.batchnorm_kernels(x[a], x[b], 2, 1.0, samples=5000, repeats=8)
        block = np.ix_(range(6 * a, 6 * a + 6), range(6 * b, 6 * b + 6))
        assert_within(found.nngp[block], found.nngp_se[block], truth.nngp, 8e-3)
        assert_within(found.ntk[block], found.ntk_se[block], truth.ntk, 5e-2, truth.ntk_error)


# ---------------------------------------------------------------- finite networks


def test_attention_with_random_logits_against_finite_networks() -> None:
    x = RNG.normal(size=(2, 2, 3))
    found = sampled(text_of("attention_sqrt"), x, 1024, 8)
    (nngp, nngp_error), (ntk, ntk_error) = finite(text_of("attention_sqrt"), x, 128, 150)
    # the finite networks have a bias of order 1/n
    assert_within(found.nngp, found.nngp_se, nngp, 5e-2, nngp_error + 5e-3 * nngp.max(), z=4)
    assert_within(found.ntk, found.ntk_se, ntk, 5e-2, ntk_error + 5e-3 * ntk.max(), z=4)


TIED_LOOP = """program tied_loop():
    width n = 64
    input x[T]: [d]
    weight U: [n, d] ~ N(0, 1 / d)
    weight W: [n, n] ~ N(0, 0.5 / n)
    weight v: [n]    ~ N(0, 1 / n)
    h = zeros(n)
    for t in T:
        h = relu(W.T @ relu(W @ h) + U @ x[t])
    output dot(v, h)
"""


def test_transposes_in_a_loop_with_diracs_against_finite_networks() -> None:
    x = SEQUENCES[:3]
    found = sampled(TIED_LOOP, x)
    (nngp, nngp_error), (ntk, ntk_error) = finite(TIED_LOOP, x, 384, 20)
    assert_within(found.nngp, found.nngp_se, nngp, 2e-2, nngp_error + 1e-2 * nngp.max(), z=4)
    assert_within(found.ntk, found.ntk_se, ntk, 4e-2, ntk_error + 1e-2 * ntk.max(), z=4)


# ---------------------------------------------------------------- outputs


READOUTS = """program readouts():
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, 1 / d)
    weight v: [n] ~ N(0, 2 / n)
    weight w: [n] ~ N(0, 1 / n)
    weight c ~ N(0, 0.3)
    h = relu(W @ x)
    output 3 * dot(v, h) - dot(w, h) + dot(v, W @ x) + c
"""


def test_output_that_is_a_sum_of_readouts_and_a_bias() -> None:
    """Cov = 18 V + 2 * 3 * 2 E[relu u'] + V + 2 q + 0.3 with V = E[relu relu'], E[relu(u) u'] = q / 2."""
    found = sampled(READOUTS, POINTS, want=("nngp",))
    q = POINTS @ POINTS.T / 3
    assert_within(found.nngp, found.nngp_se, 19 * pairwise(RELU.value, q) + 6 * q + 2 * q + 0.3, 3e-3)
    assert found.ntk is None


def test_output_that_is_not_linear_in_the_readout_is_a_second_moment() -> None:
    """E erf(f) erf(f') for a Gaussian process f: every replicate draws f (Williams 1997)."""
    text = """program bounded():
        width n = 64
        input x: [d]
        weight W: [n, d] ~ N(0, 1 / d)
        weight v: [n] ~ N(0, 1 / n)
        output erf(dot(v, W @ x))
    """
    found = sampled(text, POINTS, 8192, 8, want=("nngp",))
    assert_within(found.nngp, found.nngp_se, pairwise(ERF.value, POINTS @ POINTS.T / 3), 0.1, z=4)


def test_vector_output_over_an_axis_has_rows_by_example_then_element() -> None:
    text = """program vectors():
        width n = 64
        input x[T]: [d]
        weight W: [n, d] ~ N(0, 1 / d)
        output g[t in T] = W @ x[t]
    """
    x = RNG.normal(size=(3, 2, 3))
    found = sampled(text, x, 256, 2, tier="auto")
    flat = x.reshape(6, 3)
    assert found.nngp is not None
    np.testing.assert_allclose(found.nngp, flat @ flat.T / 3, atol=1e-12)


# ---------------------------------------------------------------- properties


def test_equal_and_zero_inputs() -> None:
    x = np.concatenate([POINTS, POINTS[:1], np.zeros((1, 3)), -POINTS[:1]])
    found = sampled(text_of("mlp").replace("sb = 0.1", "sb = 0"), x, 512, 2)
    assert found.nngp is not None and found.ntk is not None
    for kernel in (found.nngp, found.ntk):
        np.testing.assert_allclose(kernel[0], kernel[4], atol=1e-9)
        np.testing.assert_array_equal(kernel[5], 0.0)


def test_rows_follow_the_data_set_whatever_the_groups() -> None:
    """Ragged sequences are computed group by group; the kernel does not depend on it."""
    found = sampled(text_of("rnn"), SEQUENCES, 4096, 4)
    other = sampled(text_of("rnn"), SEQUENCES[::-1], 4096, 4)
    assert found.nngp is not None and other.nngp is not None and found.nngp_se is not None
    np.testing.assert_allclose(found.nngp, other.nngp[::-1, ::-1], atol=20 * found.nngp_se.max())


def test_same_seed_same_kernel() -> None:
    first, second, third = (sampled(text_of("mlp"), POINTS, 256, 2, seed).nngp for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert first is not None and third is not None and np.abs(first - third).max() > 0


def test_standard_errors_cover_the_truth() -> None:
    """With 10 replicates |z| > 3 has the probability 0.015 (Student, 9 degrees of freedom)."""
    truth = mlp_kernels(POINTS, POINTS, 3, RELU, 1.4, 0.1)
    inside = []
    for seed in range(12):
        found = sampled(text_of("mlp"), POINTS, 256, 10, seed)
        both = ((found.nngp, found.nngp_se, truth.nngp), (found.ntk, found.ntk_se, truth.ntk))
        for value, error, exact in both:
            assert value is not None and error is not None
            inside.append(np.mean(np.abs(value - exact) < 3 * error))
    assert np.mean(inside) > 0.95


def test_error_falls_faster_than_the_square_root_for_smooth_networks() -> None:
    found = (sampled(text_of("mlp"), POINTS, samples, 8, want=("nngp",)).nngp_se for samples in (128, 8192))
    coarse, fine = (np.max(error) for error in found if error is not None)
    assert fine < coarse / 8


@pytest.mark.parametrize(("threads", "told"), [(1, [1 / 3, 2 / 3, 1]), (2, [1 / 3, 1])])
def test_progress_ends_at_one(threads: int, told: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first replicate alone, then as many as there are threads, where no two are computed as one."""
    monkeypatch.setattr("tensorprog.evaluate.sampling_problem.TOGETHER", 64)
    monkeypatch.setattr("tensorprog.evaluate.sampling.FEW", 0)
    monkeypatch.setattr("tensorprog.evaluate.sampling.workers", lambda: threads)
    seen: list[float] = []
    record: Callable[[str, float], None] = lambda message, fraction: seen.append(fraction)  # noqa: E731
    sampled(text_of("mlp"), POINTS, 64, 3, progress=record)
    assert seen == pytest.approx(told)


@pytest.mark.parametrize(("samples", "replicates"), [(4096, 8), (64, 2), (1 << 16, 16)])
def test_split_spends_the_same_draws(samples: int, replicates: int) -> None:
    found = split(Effort(samples, replicates))
    assert found.draws == samples * replicates and found.replicates >= replicates


# ---------------------------------------------------------------- errors


def test_ntk_of_a_step_function_is_an_error() -> None:
    text = text_of("mlp").replace("phi = relu", "phi = sign")
    with pytest.raises(TensorProgError, match="derivative of a step function"):
        sampled(text, POINTS)
    assert sampled(text, POINTS, 64, 2, want=("nngp",)).nngp is not None


def test_division_of_zero_by_zero_is_an_error() -> None:
    text = """program normalized():
        width n = 64
        input x: [d]
        weight W: [n, d] ~ N(0, 1 / d)
        weight v: [n] ~ N(0, 1 / n)
        h = W @ x
        z = h / sqrt(avg(h^2))
        output dot(v, z)
    """
    with pytest.raises(TensorProgError, match="not finite"):
        sampled(text, np.zeros((1, 3)), 64, 2)


# ---------------------------------------------------------------- Gaussian families


def test_factor_draws_blocks_with_exactly_their_joint_covariance() -> None:
    root = RNG.normal(size=(9, 4)) * 10.0 ** np.arange(-4, 5)[:, None]
    cov = root @ root.T
    orthogonal = iter(np.linalg.qr(RNG.normal(size=(256, 9)))[0].T * 16)
    factor, pivots, drawn = Factor(256), np.zeros(0, dtype=np.int64), np.zeros((0, 256))

    def draw(count: int) -> Array:
        return np.array([next(orthogonal) for _ in range(count)])

    for block in (np.arange(3), np.arange(3, 9)):
        rows, chosen = factor.combinations(cov[np.ix_(block, block)], cov[np.ix_(block, pivots)], draw)
        pivots = np.concatenate([pivots, block[chosen]])
        drawn = np.concatenate([drawn, rows @ factor.innovations.values])
    scale = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    np.testing.assert_allclose(drawn @ drawn.T / 256 / scale, cov / scale, atol=1e-8)
    assert factor.rank == 4


def test_turned_backwards_the_last_row_of_each_family_depends_on_one_innovation() -> None:
    stream, families = Innovations(64, 8, np.random.SeedSequence(0)), (Factor(64), Factor(64))
    covariances = [root @ root.T for root in RNG.normal(size=(2, 4, 4))]
    for k in range(4):  # in turns, as the families of a recurrence are
        for family, cov in zip(families, covariances, strict=True):
            family.combinations(cov[k : k + 1, k : k + 1], cov[k : k + 1, :k], stream.of(family))
    turn = stream.backwards()
    np.testing.assert_allclose(turn @ turn.T, np.eye(8), atol=1e-12)
    for first, family in enumerate(families):
        turned = family.triangle @ turn[first::2]
        np.testing.assert_allclose(turned[:, 1 - first :: 2], 0, atol=1e-12)
        np.testing.assert_allclose(np.tril(turned[:, first::2], -1), 0, atol=1e-12)


def test_draws_do_not_depend_on_rounding() -> None:
    """Equal variances leave the order of the pivots open; the same innovations must go to the same rows."""
    rounded = RNG.uniform(-1e-15, 1e-15, (2, 6, 6))
    own = (0.3 + 0.7 * np.eye(6)) * (1 + rounded + rounded.swapaxes(1, 2))
    one, two = (
        Factor(32).combinations(c, np.zeros((6, 0)), Innovations(32, 6, np.random.SeedSequence(0)).draw) for c in own
    )
    assert one[1].tolist() == two[1].tolist() == list(range(6))
    np.testing.assert_allclose(one[0], two[0], atol=1e-12)


def test_pivoted_cholesky_of_a_singular_matrix() -> None:
    root = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    factor, pivots = pivoted_cholesky(root @ root.T)
    np.testing.assert_allclose(factor @ factor.T, root @ root.T, atol=1e-14)
    assert sorted(pivots.tolist()) == [1, 2]
    np.testing.assert_array_equal(np.triu(factor[pivots], 1), 0)


def test_innovations_are_normal_beyond_the_quasi_random_ones() -> None:
    rows = Innovations(4096, 2000, np.random.SeedSequence(0)).draw(1100)
    np.testing.assert_allclose((rows**4).mean(axis=1), 3, atol=1.2)
    assert abs((rows**4).mean() - 3) < 0.02
