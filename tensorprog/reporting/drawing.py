"""What pictures and pages draw on the axes of a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.law import Law
from tensorprog.verdict import NAMES, Validation

if TYPE_CHECKING:
    from tensorprog.training import Training

Floats = NDArray[np.float64]

FEW = 6
"""Kernels of at most so many rows have their numbers written into the heat map."""
NAMED = 12
"""Kernels of at most so many rows have their rows named."""
SHOWN = 200
"""Rows of a heat map at most."""
BINS_BY_ROOT, MOST_BINS = 3, 32
"""Bins of a histogram over 8 standard deviations: by the root of the number of networks, and at most."""
CURVES = 4
"""Examples of each kind whose outputs are drawn over time."""
BLUE, ORANGE, GREEN, GREY = "#2b6cb0", "#dd6b20", "#2f855a", "0.45"


def span(values: Floats) -> tuple[float, float]:
    """The least and the largest finite value, apart from each other."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def heat_map(
    figure: Any, ax: Any, title: str, kernel: Floats, colours: tuple[str, float, float], rows: Sequence[str] = ()
) -> None:
    """A kernel in the colours (map, value of its first colour, of its last); small ones with their numbers and rows."""
    cmap, low, high = colours
    picture = ax.imshow(kernel, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    ax.set_title(title)
    named = range(len(rows) if len(rows) <= NAMED else 0)
    ax.set_xticks(named, rows[: len(named)], rotation=90 if max(map(len, rows), default=0) > 2 else 0)
    ax.set_yticks(named, rows[: len(named)])
    ax.tick_params(length=0)
    figure.colorbar(picture, ax=ax, shrink=0.8)
    if len(kernel) > FEW:
        return
    for (i, j), value in np.ndenumerate(kernel):
        red, green, blue, _ = picture.cmap(picture.norm(value))
        bright = 0.3 * red + 0.6 * green + 0.1 * blue > 0.55
        ax.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color="black" if bright else "white")


def convergence(ax: Any, found: Validation) -> None:
    """Deviations in a log-log plot, 95% intervals, fitted lines, and width^(-1/2) to compare with."""
    for colour, (kind, study) in zip((BLUE, ORANGE, GREEN), found.found.items(), strict=False):
        widths, deviation = np.asarray(study.widths, np.float64), np.asarray(study.deviation)
        reach = np.abs(np.nan_to_num(np.asarray(study.interval).T, nan=0.0) - deviation)
        reach[:, np.isnan(np.asarray(study.deviation_error))] = 0.0
        slope = f"slope {study.slope:.2f} ± {study.slope_error:.2f}" if math.isfinite(study.slope) else "one width"
        ax.errorbar(widths, deviation, reach, fmt="o", color=colour, capsize=3, label=f"{NAMES[kind]}: {slope}")
        if math.isfinite(study.slope) and (deviation > 0).all():
            centre = np.exp(np.mean(np.log(widths))), np.exp(np.mean(np.log(deviation)))
            ax.plot(widths, centre[1] * (widths / centre[0]) ** study.slope, color=colour, linewidth=1)
            ax.plot(widths, deviation[0] * np.sqrt(widths[0] / widths), color=GREY, linestyle=":", linewidth=1)
    ax.plot([], [], color=GREY, linestyle=":", label="width^(-1/2)")
    ticks = sorted({w for study in found.found.values() for w in study.widths})
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(ticks, [str(w) for w in ticks])
    ax.set_xlabel("width")
    ax.set_ylabel("relative deviation of one network")
    ax.legend()


def histogram(ax: Any, law: Law, row: int, deviation: float, name: str) -> None:
    """One output over all networks at the smallest and the largest width, and the density of the limit."""
    first, last = law.outputs[0][:, row], law.outputs[-1][:, row]
    edges = np.linspace(-4, 4, min(MOST_BINS, BINS_BY_ROOT * math.isqrt(len(last))) + 1) * deviation
    ax.hist(last, edges, density=True, color=BLUE, alpha=0.5, label=f"width {law.widths[-1]}")
    if len(law.widths) > 1:
        ax.hist(first, edges, density=True, histtype="step", color=GREY, label=f"width {law.widths[0]}")
    x = np.linspace(edges[0], edges[-1], 200)
    ax.plot(x, np.exp(-((x / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi)), color=ORANGE, label="limit")
    ax.set_title(f"output {name}")
    ax.set_yticks([])
    ax.legend(fontsize=7)


def scatter(ax: Any, law: Law, a: int, b: int, rows: Sequence[str]) -> None:
    """Two outputs of every network at the largest width, and the ellipses of one and two standard deviations."""
    ax.plot(law.outputs[-1][:, a], law.outputs[-1][:, b], ".", color=BLUE, alpha=0.6, markersize=4)
    values, vectors = np.linalg.eigh(law.limit[np.ix_([a, b], [a, b])])
    turn = np.linspace(0, 2 * math.pi, 100)
    ellipse = vectors @ (np.sqrt(np.maximum(values, 0.0))[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
    for radius in (1, 2):
        ax.plot(radius * ellipse[0], radius * ellipse[1], color=ORANGE, linewidth=1)
    ax.set_title(f"{len(law.outputs[-1])} networks of width {law.widths[-1]}")
    ax.set_xlabel(f"output {rows[a]}")
    ax.set_ylabel(f"output {rows[b]}")


def trained_outputs(axes: Any, training: Training) -> None:
    """A few of the outputs for training examples, which have a dot at their target, and for test examples."""
    times, rows = training.schedule.times, training.outputs.shape[1]
    shown = [*range(min(CURVES, training.train)), *range(training.train, min(rows, training.train + CURVES))]
    for k, row in enumerate(shown):
        color = f"C{k % 10}"
        axes.plot(times, training.outputs[:, row], color=color, label="network" if k == 0 else None)
        axes.plot(times, training.linearized[:, row], ":", color=color, label="its linearization" if k == 0 else None)
        axes.plot(times, training.infinite[:, row], "--", color=color, label="infinite width" if k == 0 else None)
        if row < training.train:
            axes.plot(times[-1], training.targets[row], "o", color=color)
    _time_axis(axes, training)
    axes.set_ylabel("outputs (dots: targets)")
    axes.legend()


def movement(axes: Any, training: Training) -> None:
    """Loss, change, velocity and alignment of the kernel over time."""
    moved, times = training.movement, training.schedule.times
    axes.plot(times, training.losses, color="k", label="loss")
    axes.plot(times[1:], moved.change[1:], label="relative change of the kernel")
    axes.plot(times, moved.velocity, label="velocity of the kernel")
    axes.plot(times, moved.alignment, label="alignment with the targets")
    axes.plot(times, moved.label_alignment, label="label-gradient alignment")
    axes.set_yscale("log")
    _time_axis(axes, training)
    axes.legend()


def _time_axis(axes: Any, training: Training) -> None:
    """Logarithmic but for the part before the power of ten below the first step, so that ticks stay apart."""
    axes.set_xscale("symlog", linthresh=10.0 ** math.floor(math.log10(training.schedule.step)))
    axes.set_xlim(left=0)
    axes.set_xlabel("time")
