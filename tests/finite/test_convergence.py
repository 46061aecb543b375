"""The statistics of convergence on draws whose law is known."""

import numpy as np
import pytest
from scipy import stats

from tensorprog.finite.convergence import convergence
from tensorprog.finite.means import mean_test

WIDTHS = (64, 128, 256, 512, 1024)


def wishart(limit, widths, seeds, rng, bias=0.0):
    """(1/n) sum of n outer products of N(0, limit): mean limit, noise n^-1/2, correlated entries; plus bias/n."""
    root = np.linalg.cholesky(limit)
    draws = {}
    for n in widths:
        features = [root @ rng.standard_normal((len(limit), n)) for _ in range(seeds)]
        draws[n] = [f @ f.T / n + bias * limit / n for f in features]
    return draws


def kernel(size=8):
    x = np.random.default_rng(1).standard_normal((size, 3))
    return np.exp(-0.5 * np.sum((x[:, None] - x) ** 2, axis=-1)) + 0.1 * np.eye(size)


def test_a_right_limit_agrees():
    found = convergence(kernel(), wishart(kernel(), WIDTHS, 10, np.random.default_rng(0)))
    assert found.verdict == "agrees", found.reason
    assert found.slope == pytest.approx(-0.5, abs=3 * found.slope_error + 0.02) and found.slope_error < 0.1
    assert list(found.deviation) == sorted(found.deviation, reverse=True)
    assert found.widths == WIDTHS and found.seeds == (10,) * 5
    # E |K - L|^2 / |L|^2 = (1 + tr(L)^2 / |L|^2) / n for a Wishart matrix
    expected = np.sqrt((1 + np.trace(kernel()) ** 2 / np.sum(kernel() ** 2)) / np.array(WIDTHS))
    np.testing.assert_allclose(found.deviation, expected, atol=4 * max(found.deviation_error))


def test_a_bias_of_order_one_over_width_is_no_disagreement():
    draws = wishart(kernel(), WIDTHS, 40, np.random.default_rng(0), bias=20.0)
    found = convergence(kernel(), draws)
    assert found.largest.z > 2.5 and found.extrapolated.z < 3
    assert found.verdict == "agrees", found.reason


@pytest.mark.parametrize("factor", [0.9, 1.05, 1.3])
def test_a_wrong_limit_disagrees(factor):
    draws = wishart(kernel(), WIDTHS, 30, np.random.default_rng(0))
    found = convergence(factor * kernel(), draws)
    assert found.verdict == "disagrees", found.reason
    assert found.largest.bias == pytest.approx(abs(1 - factor) / factor, rel=0.3)


def test_one_wrong_entry_disagrees():
    limit = kernel()
    limit[0, 1] = limit[1, 0] = limit[0, 1] + 0.3
    found = convergence(limit, wishart(kernel(), WIDTHS, 20, np.random.default_rng(0)))
    assert found.verdict == "disagrees" and found.reason.startswith(f"entry (0, 1) is {limit[0, 1]:.4g} in the limit")


def test_the_deviation_from_a_wrong_limit_stops_falling():
    found = convergence(1.5 * kernel(), wishart(kernel(), WIDTHS, 10, np.random.default_rng(0)))
    assert found.slope > -0.1 and found.verdict == "disagrees"


def test_too_little_data_is_inconclusive():
    rng = np.random.default_rng(0)
    assert convergence(kernel(), wishart(kernel(), (64,), 10, rng)).verdict == "inconclusive"
    assert convergence(kernel(), wishart(kernel(), (64, 256), 1, rng)).verdict == "inconclusive"
    noisy = convergence(kernel(), wishart(kernel(), (4, 8), 3, rng))
    assert noisy.verdict == "inconclusive" and "seeds" in noisy.reason
    broken = {64: [np.full((8, 8), np.nan)] * 3, 128: [kernel()] * 3}
    assert "not finite" in convergence(kernel(), broken).reason


def test_the_error_of_the_limit_counts():
    draws = wishart(kernel(), WIDTHS, 30, np.random.default_rng(0))
    sure, unsure = convergence(1.05 * kernel(), draws), convergence(1.05 * kernel(), draws, 0.05 * kernel())
    assert sure.verdict == "disagrees" and unsure.extrapolated.z < 2


def test_the_z_score_is_calibrated():
    """Under a right limit z exceeds 2 in not more than 2.3% of studies, and 4 never; p is not too small either."""
    rng = np.random.default_rng(0)
    tests = [convergence(kernel(4), wishart(kernel(4), (32, 64, 128, 256), 6, rng)).extrapolated for _ in range(600)]
    z, p = np.array([t.z for t in tests]), np.array([t.p for t in tests])
    assert 0.002 <= np.mean(z > 2) <= 0.023 + 3 * np.sqrt(0.023 / 600)
    assert max(z) < 4 and abs(np.median(z)) < 0.5
    assert np.mean(p < 0.05) <= 0.05 + 3 * np.sqrt(0.05 / 600) and np.sum(p < 1e-3) <= 3


def test_a_deterministic_quantity():
    same = {n: [kernel()] * 2 for n in (8, 16)}
    assert convergence(kernel(), same).verdict == "agrees"
    assert convergence(2 * kernel(), same).verdict == "disagrees"
    single = {n: [kernel().astype(np.float32)] * 2 for n in (8, 16)}
    assert convergence(kernel(), single).verdict == "agrees", "rounding is not evidence"


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="draws of shape"):
        convergence(kernel(), {8: [np.zeros((2, 2))]})
    with pytest.raises(ValueError, match="no draws"):
        convergence(kernel(), {})


def test_a_bias_of_second_order():
    """Bias b / n + c / n^2, c / n as large as b at the smallest width: seen as a curve, and not as a wrong limit."""
    limit, rng = kernel(4), np.random.default_rng(0)
    draws = wishart(limit, (16, 32, 64, 128), 1500, rng)
    for n, ks in draws.items():
        draws[n] = [k + (10 / n + 160 / n**2) * limit for k in ks]
    found = convergence(limit, draws)
    assert found.curvature.p < 0.01 and found.extrapolated.p > 0.01 and found.verdict == "agrees", found.reason


def test_what_is_said_to_be_noticed_is_noticed():
    """A limit wrong by `detectable` is called wrong in at least 95% of studies."""
    limit, rng = kernel(4), np.random.default_rng(0)
    size = convergence(limit, wishart(limit, (64, 128, 256), 16, rng)).extrapolated.detectable(1e-3)
    found = [convergence((1 + size) * limit, wishart(limit, (64, 128, 256), 16, rng)).verdict for _ in range(60)]
    assert found.count("disagrees") >= 54


@pytest.mark.parametrize("seeds", [8, 32])
def test_far_tails_of_strongly_correlated_entries(seeds):
    """Where one direction has half of the variance, p < 0.001 in 0.1% (two moments alone give 0.2%)."""
    rng, scale = np.random.default_rng(seeds), np.sqrt([1, 0.5, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05])
    tests = (mean_test({w: rng.standard_normal((seeds, 8)) * scale / np.sqrt(w) for w in (32, 64)}, np.zeros(8),
                       remainder=0.0) for _ in range(3000))
    p = np.array([t.p_norm for t in tests])
    for level in (0.05, 0.01, 0.001):
        assert np.sum(p < level) <= stats.binom.ppf(0.999, len(p), level)
