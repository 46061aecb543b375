"""The figures of a study, as SVG text.

    kernels      limit | mean of the widest networks | their difference
    values       the same for outputs that are numbers in the limit
    convergence  deviation of one network against the width, with the fitted line
    outputs      histograms of single outputs and the scatter of two, beside the Gaussian law
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.convergence import Convergence
from tensorprog.finite.law import Law
from tensorprog.verdict import NAMES, Validation

Floats = NDArray[np.float64]

FEW = 6
"""Kernels of at most so many rows have their numbers written into the heat map."""
SHOWN = 200
"""Rows of a heat map at most."""
PANELS = 3
"""Outputs of which a histogram is drawn."""
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "0.45"


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Any, Callable[[], str]]]:
    """A figure, and what makes SVG of it; the same figure gives the same text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "tensorprog", "font.size": 9, "axes.spines.top": False,
                         "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)

        def text() -> str:
            with io.StringIO() as file:
                figure.savefig(file, format="svg", metadata={"Date": None})
                return file.getvalue()

        yield figure, text


def kernels(name: str, study: Convergence) -> str:
    """Three heat maps [rows, rows] of one scale; the difference has one of its own, centred at zero."""
    mean, limit = study.mean[-1][:SHOWN, :SHOWN], study.limit[:SHOWN, :SHOWN]
    low, high = _range(np.stack([mean, limit]))
    with _drawing(9.6, 3.2) as (figure, text):
        axes = figure.subplots(1, 3)
        for ax, title, shown in ((axes[0], f"{name}, limit", limit), (axes[1], _simulated(study), mean)):
            _heat_map(figure, ax, title, shown, ("viridis", low, high))
        gap = mean - limit
        bound = float(np.max(np.abs(gap))) or 1.0
        _heat_map(figure, axes[2], "simulation - limit", gap, ("RdBu_r", -bound, bound))
        return text()


def _range(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _simulated(study: Convergence) -> str:
    return f"mean of {study.seeds[-1]} networks, width {study.widths[-1]}"


def _heat_map(figure: Any, ax: Any, title: str, kernel: Floats, colours: tuple[str, float, float]) -> None:
    cmap, low, high = colours
    picture = ax.imshow(kernel, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    ax.set_title(title)
    ax.set_xticks([]), ax.set_yticks([])
    figure.colorbar(picture, ax=ax, shrink=0.8)
    if len(kernel) > FEW:
        return
    for (i, j), value in np.ndenumerate(kernel):
        red, green, blue, _ = picture.cmap(picture.norm(value))
        bright = 0.3 * red + 0.6 * green + 0.1 * blue > 0.55
        ax.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color="black" if bright else "white")


def values(name: str, study: Convergence) -> str:
    """Limits [rows] as crosses, means of the widest networks with error bars of two standard errors."""
    rows = np.arange(study.limit.size)
    with _drawing(7.0, 3.0) as (figure, text):
        ax = figure.subplots()
        error = 2 * np.nan_to_num(study.mean_error[-1].ravel())
        ax.errorbar(rows, study.mean[-1].ravel(), error, fmt="o", color=BLUE, capsize=3, label=_simulated(study))
        ax.plot(rows, study.limit.ravel(), "x", color=ORANGE, markersize=9, label=f"{name}, limit")
        ax.set_xlabel("row")
        ax.set_xticks(rows[:: max(1, len(rows) // 10)])
        ax.legend()
        return text()


def convergence(found: Validation) -> str:
    """All deviations in one log-log plot, their 95% intervals, fitted lines, and width^(-1/2) to compare with."""
    with _drawing(6.4, 4.0) as (figure, text):
        draw_convergence(figure.subplots(), found)
        return text()


def draw_convergence(ax: Any, found: Validation) -> None:
    """The plot of `convergence` on axes."""
    for colour, (kind, study) in zip((BLUE, ORANGE, "#2f855a"), found.found.items(), strict=False):
        widths, deviation = np.asarray(study.widths, np.float64), np.asarray(study.deviation)
        span = np.abs(np.nan_to_num(np.asarray(study.interval).T, nan=0.0) - deviation)
        span[:, np.isnan(np.asarray(study.deviation_error))] = 0.0
        slope = f"slope {study.slope:.2f} ± {study.slope_error:.2f}" if math.isfinite(study.slope) else "one width"
        ax.errorbar(widths, deviation, span, fmt="o", color=colour, capsize=3, label=f"{NAMES[kind]}: {slope}")
        if math.isfinite(study.slope) and (deviation > 0).all():
            centre = np.exp(np.mean(np.log(widths))), np.exp(np.mean(np.log(deviation)))
            ax.plot(widths, centre[1] * (widths / centre[0]) ** study.slope, color=colour, linewidth=1)
            ax.plot(widths, deviation[0] * np.sqrt(widths[0] / widths), color=GREY, linestyle=":", linewidth=1)
    ax.plot([], [], color=GREY, linestyle=":", label="width^(-1/2)")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("width")
    ax.set_ylabel("relative deviation of one network")
    ax.legend()


def outputs(law: Law) -> str:
    """Histograms over networks of the first outputs at the smallest and the largest width; two outputs jointly."""
    deviations = np.sqrt(np.maximum(np.diag(law.limit), 0.0))
    shown = np.flatnonzero(deviations > 0)[:PANELS]
    pair = shown[:2] if len(shown) > 1 else None
    panels = len(shown) + (pair is not None)
    with _drawing(3.1 * max(1, panels), 3.2) as (figure, text):
        axes = figure.subplots(1, max(1, panels), squeeze=False)[0]
        for ax, row in zip(axes, shown, strict=False):
            _histogram(ax, law, int(row), float(deviations[row]))
        if pair is not None:
            _scatter(axes[-1], law, int(pair[0]), int(pair[1]))
        return text()


def _histogram(ax: Any, law: Law, row: int, deviation: float) -> None:
    edges = np.linspace(-4, 4, 25) * deviation
    first, last = law.outputs[0][:, row], law.outputs[-1][:, row]
    ax.hist(last, edges, density=True, color=BLUE, alpha=0.5, label=f"width {law.widths[-1]}")
    if len(law.widths) > 1:
        ax.hist(first, edges, density=True, histtype="step", color=GREY, label=f"width {law.widths[0]}")
    x = np.linspace(edges[0], edges[-1], 200)
    ax.plot(x, np.exp(-((x / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi)), color=ORANGE, label="limit")
    ax.set_title(f"output {row}")
    ax.set_yticks([])
    ax.legend(fontsize=7)


def _scatter(ax: Any, law: Law, a: int, b: int) -> None:
    """Two outputs of every network at the largest width, and the ellipses of one and two standard deviations."""
    ax.plot(law.outputs[-1][:, a], law.outputs[-1][:, b], ".", color=BLUE, alpha=0.6, markersize=4)
    values, vectors = np.linalg.eigh(law.limit[np.ix_([a, b], [a, b])])
    turn = np.linspace(0, 2 * math.pi, 100)
    ellipse = vectors @ (np.sqrt(np.maximum(values, 0.0))[:, None] * np.stack([np.cos(turn), np.sin(turn)]))
    for radius in (1, 2):
        ax.plot(radius * ellipse[0], radius * ellipse[1], color=ORANGE, linewidth=1)
    ax.set_title(f"outputs {a} and {b}, width {law.widths[-1]}")
