"""Every program of examples/ in the limit and at finite width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tensorprog
from tensorprog.api import Network
from tensorprog.finite.convergence import Convergence, convergence
from tensorprog.limit import print_limit
from tensorprog.results import is_number
from tests.agreement.comparing import EXAMPLES, example_inputs

PATHS = sorted(EXAMPLES.glob("*.tp"))
KERNELS = [p for p in PATHS if "input" in p.read_text().split("program", 1)[1]]
NUMBERS = [p for p in PATHS if p not in KERNELS] + [EXAMPLES / "mean_pooled_mlp.tp"]
SIZES: dict[str, dict[str, int]] = {
    "batchnorm": {"B": 9, "d": 12},  # below a rank of 6 the gradient of a small batch has no variance
    "rnn": {"T": 3}, "gru": {"T": 3}, "transformer": {"T": 3}, "gcn": {"V": 3},
}
SAMPLED = {"attention_sqrt", "gru", "lstm", "maxpool_cnn", "tied_autoencoder"}


def test_there_are_examples():
    assert len(PATHS) >= 35 and len(NUMBERS) == 4


def opened(path) -> tuple[Network, Any]:
    net = tensorprog.load(path, **({"steps": 1} if path.stem == "amp" else {}))  # more steps: test_facts.py
    return net, example_inputs(net, **SIZES.get(path.stem, {}))


def compared(net: Network, x: Any, widths: tuple[int, ...], seeds: int) -> dict[str, Convergence]:
    """The NNGP and NTK, or the value, beside draws: {kind: study}."""
    limits = net._limit_values(x, net.output(net.program.outputs[0].name).name)
    draws = {w: net.simulate(x, w, range(1000 * w, 1000 * w + seeds), net.program.outputs[0].name) for w in widths}
    return {
        kind: convergence(k, {w: [d.quantity(kind) for d in ds] for w, ds in draws.items()}, error)
        for kind, (k, error) in limits.items()
        if np.any(k)
    }


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_it_is_derived_and_printed(path):
    net = tensorprog.load(path)
    for output in net.program.outputs:
        limit = net.limit(output.name)
        printed, derived = print_limit(limit), str(net.derive(output.name))
        assert printed.startswith(f"{net.program.name}(") and "Gradient independence" in printed
        assert derived.startswith(f"{net.program.name}: ") and "Gradient independence" in derived
        assert ("sum over the weights" in derived) == bool(limit.trained)


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_the_kernels_agree_with_simulation(path):
    """The mean over seeds, extrapolated to infinite width, is within noise; an error of a half would be seen."""
    net, x = opened(path)
    studies = compared(net, x, (48, 96, 192), 16)
    assert "ntk" in studies and ({"nngp", "value"} & set(studies) or path.stem == "mlp_mup")
    for kind, study in studies.items():
        assert study.verdict != "disagrees", f"{kind}: {study.reason}"
        assert study.extrapolated.z < 4 and study.extrapolated.noise < 0.17, kind
        assert study.deviation[-1] < 0.85 * study.deviation[0], kind


@pytest.mark.parametrize("path", NUMBERS, ids=lambda p: p.stem)
def test_the_numbers_agree_with_simulation(path):
    """Outputs that are numbers in the limit, all of them."""
    net, x = opened(path)
    for output in net.program.outputs:
        assert is_number(net.limit(output.name))
        limit = net.value(x, output.name).ravel()
        draws = np.array([d.outputs for d in net.simulate(x, 400, range(30), output.name)])
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        assert (error < 0.05 * np.abs(limit).max()).all()
        assert (np.abs(draws.mean(axis=0) - limit) < 4.5 * error + 0.01 * np.abs(limit).max()).all()


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_which_tier_serves_it(path):
    """Only what has no closed form or quadrature is sampled, and then there are standard errors and a reason."""
    net, x = opened(path)
    found = net.kernels(x, samples=128, replicates=2)
    tiers = {row.tier for row in found.report.rows}
    assert ("sampling" in tiers) == (path.stem in SAMPLED), tiers
    assert (found.ntk_se is not None) == (path.stem in SAMPLED) == bool(found.report.reason)


@pytest.mark.slow
@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_the_deviation_falls_like_one_over_the_root_of_the_width(path):
    """Slope -1/2 of log deviation against log width over 64, ..., 1024, for NNGP and NTK."""
    net, x = opened(path)
    for kind, study in compared(net, x, (64, 128, 256, 512, 1024), 48).items():
        assert study.verdict != "disagrees", f"{kind}: {study.reason}"
        assert abs(study.slope + 0.5) < 3 * study.slope_error + 0.03 and study.slope_error < 0.15, (kind, study.slope)
