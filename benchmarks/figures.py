"""Figures of papers, from programs: `python benchmarks/figures.py tp1|tp2|training [--folder FOLDER]`.

    tp1       figure 3 of Tensor Programs I (1910.12478): correlations of the NNGP over the tokens of two sentences, and
              the deviation of simulated kernels of recurrent, gated, attention and batchnorm networks against width
    tp2       figure 1 of Tensor Programs II (2006.14548): the same deviation of the NTK
    training  Lee et al. (1902.06720): trained networks of width 256 to 4096 on digits against the closed forms of their
              limit and of their linearization

Each writes NAME.png, NAME.svg and NAME.txt.  Words are Gaussian vectors with a common part in place of GloVe's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tensorprog
from tensorprog.cli.train import targets
from tensorprog.loading import bundled
from tensorprog.verdict import Validation

ROOT = Path(__file__).resolve().parent
EXAMPLES = ROOT.parent / "examples"
SENTENCES = ("the brown fox jumps over the dog", "the quick brown fox jumps over the lazy dog")
Arrays = Any


def sentences() -> list[Arrays]:
    """[tokens, 64] of each sentence: equal words are equal vectors, others have a cosine of about 0.3."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal(64)
    words = {w: 0.55 * common + 0.83 * rng.standard_normal(64) for s in SENTENCES for w in s.split()}
    return [np.stack([words[w] for w in s.split()]) for s in SENTENCES]


def batches(size: int) -> Arrays:
    """Two batches of images."""
    return np.random.default_rng(1).standard_normal((2, size, 64))


def study(
    path: Path, x: Arrays, kind: str, widths: tuple[int, ...], seeds: int, params: Mapping[str, Any]
) -> Validation:
    net = tensorprog.load(path, **params)
    kernels = net.kernels(x, want=(kind,), accuracy=5e-4)
    return net.validate(x, widths, seeds, against={kind: getattr(kernels, kind)})


def tp1() -> tuple[Figure, str]:
    """Correlations over tokens above, deviations at the right."""
    work = {"simple RNN": (ROOT / "figures/rnn.tp", sentences()), "GRU": (ROOT / "figures/gru.tp", sentences()),
            "transformer": (ROOT / "figures/transformer.tp", sentences()),
            "batchnorm + relu": (EXAMPLES / "batchnorm.tp", batches(16))}
    found = {name: study(path, x, "nngp", (32, 64, 128, 256, 512, 1024), 40, {"depth": 1} if "batch" in name else {})
             for name, (path, x) in work.items()}
    figure = Figure(figsize=(20, 4), layout="constrained")
    *heats, last = figure.subplots(1, 5)
    for axes, (name, validation) in zip(heats, found.items(), strict=True):
        correlations(figure, axes, name, validation, name != "batchnorm + relu")
    deviations(last, found, "nngp")
    return figure, report(found)


def correlations(figure: Figure, axes: Any, name: str, validation: Validation, tokens: bool) -> None:
    assert validation.nngp is not None
    kernel = validation.nngp.limit
    scale = np.sqrt(np.diag(kernel))
    picture = axes.imshow(kernel / np.outer(scale, scale), cmap="viridis")
    figure.colorbar(picture, ax=axes, shrink=0.8)
    axes.set_title(f"{name}: correlations in the limit")
    if tokens:
        words = " ".join(SENTENCES).split()
        axes.set_xticks(range(len(words)), words, rotation=90)
        axes.set_yticks(range(len(words)), words)


def tp2() -> tuple[Figure, str]:
    """The deviation of the NTK of three networks."""
    work = {"batchnorm + relu": (EXAMPLES / "batchnorm.tp", batches(8), {"depth": 1}),
            "transformer": (EXAMPLES / "transformer.tp", sentences(), {}),
            "RNN, averaged": (EXAMPLES / "rnn_average.tp", sentences(), {})}
    widths = (64, 128, 256, 512, 1024, 2048)
    found = {name: study(path, x, "ntk", widths, 40, params) for name, (path, x, params) in work.items()}
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    deviations(figure.subplots(), found, "ntk")
    return figure, report(found)


def deviations(axes: Any, found: Mapping[str, Validation], kind: str) -> None:
    """Relative deviations against width with 95% intervals, and width^-1/2."""
    for name, validation in found.items():
        c = validation.found[kind]
        low, high = np.transpose(c.interval)
        line, = axes.plot(c.widths, c.deviation, "o-", label=f"{name}: slope {c.slope:.3f} ± {c.slope_error:.3f}")
        axes.fill_between(c.widths, low, high, color=line.get_color(), alpha=0.25)
    widths = np.array(c.widths, dtype=float)
    axes.plot(widths, widths**-0.5, "k--", label="width^(-1/2)")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("width")
    axes.set_ylabel("relative Frobenius deviation of one network")
    axes.set_title(f"{kind.upper()}: simulation against the limit")
    axes.legend(fontsize=8, loc="upper right")


def report(found: Mapping[str, Validation]) -> str:
    return "\n\n".join(f"{name}\n{validation}" for name, validation in found.items())


def training() -> tuple[Figure, str]:
    """Deviations of trained networks against width, and the movement of the kernel."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", depth=2, phi="erf")
    data = bundled("digits", net.program).first(96)
    x, y = data.x["x"], targets(data)
    found = net.train_study(x[:64], y[:64], x[64:], (256, 512, 1024, 2048, 4096), 5, steps=50)
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for what, name in (("infinite", "off the limit"), ("linearized", "off the linearization"),
                       ("change", "change of the kernel")):
        points, slope = found.fall(what)
        axes.errorbar(found.widths, [p.value for p in points], [p.error for p in points], marker="o", capsize=2,
                      label=f"{name}: slope {slope.value:.2f} ± {slope.error:.2f}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("width")
    axes.set_ylabel("largest over 50 steps")
    axes.set_title("erf network of two layers trained on 64 digits")
    axes.legend(fontsize=8, loc="upper right")
    return figure, f"{found}\n\n{found.trainings[-1][0]}"


FIGURES = {"tp1": tp1, "tp2": tp2, "training": training}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "docs" / "figures")
    options = parser.parse_args()
    figure, text = FIGURES[options.figure]()
    options.folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "svg"):
        figure.savefig(options.folder / f"{options.figure}.{kind}", dpi=110)
    (options.folder / f"{options.figure}.txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
