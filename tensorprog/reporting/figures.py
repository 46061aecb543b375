"""The figures of a study, as SVG text.

    kernels      limit | mean of the widest networks | their difference
    heat_maps    kernels beside each other
    values       the same for outputs that are numbers in the limit
    convergence  deviation of one network against the width, with the fitted line
    training     outputs over time beside both predictions, and the movement of the kernel
    outputs      histograms of single outputs and the scatter of two, beside the Gaussian law
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.finite.convergence import Convergence
from tensorprog.finite.law import Law
from tensorprog.reporting import drawing
from tensorprog.reporting.drawing import BLUE, ORANGE, SHOWN, heat_map, histogram, scatter, span
from tensorprog.verdict import Validation

if TYPE_CHECKING:
    from tensorprog.training import Training

Floats = NDArray[np.float64]

PANELS = 3
"""Outputs of which a histogram is drawn."""


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


def kernels(name: str, study: Convergence, rows: Sequence[str]) -> str:
    """Three heat maps [rows, rows] of one scale; the difference has one of its own, centred at zero."""
    mean, limit = study.mean[-1][:SHOWN, :SHOWN], study.limit[:SHOWN, :SHOWN]
    low, high = span(np.stack([mean, limit]))
    with _drawing(9.6, 3.2) as (figure, text):
        axes = figure.subplots(1, 3)
        for ax, title, shown in ((axes[0], f"{name}, limit", limit), (axes[1], _simulated(study), mean)):
            heat_map(figure, ax, title, shown, ("viridis", low, high), rows)
        gap = mean - limit
        bound = float(np.max(np.abs(gap))) or 1.0
        heat_map(figure, axes[2], "simulation - limit", gap, ("RdBu_r", -bound, bound), rows)
        return text()


def heat_maps(kernels: Mapping[str, Floats]) -> str:
    """Kernels [rows, rows'] by their names, each in a scale of its own."""
    with _drawing(3.4 * len(kernels), 3.0) as (figure, text):
        for ax, (name, kernel) in zip(figure.subplots(1, len(kernels), squeeze=False)[0], kernels.items(), strict=True):
            shown = np.asarray(kernel[:SHOWN, :SHOWN], np.float64)
            heat_map(figure, ax, name, shown, ("viridis", *span(shown)))
        return text()


def _simulated(study: Convergence) -> str:
    return f"mean of {study.seeds[-1]} networks, width {study.widths[-1]}"


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
        drawing.convergence(figure.subplots(), found)
        return text()


def outputs(law: Law, rows: Sequence[str]) -> str:
    """Histograms over networks of the first outputs at the smallest and the largest width; two outputs jointly."""
    deviations = np.sqrt(np.maximum(np.diag(law.limit), 0.0))
    shown = np.flatnonzero(deviations > 0)[:PANELS]
    pair = shown[:2] if len(shown) > 1 else None
    panels = len(shown) + (pair is not None)
    with _drawing(3.1 * max(1, panels), 3.2) as (figure, text):
        axes = figure.subplots(1, max(1, panels), squeeze=False)[0]
        for ax, row in zip(axes, shown, strict=False):
            histogram(ax, law, int(row), float(deviations[row]), rows[row])
        if pair is not None:
            scatter(axes[-1], law, int(pair[0]), int(pair[1]), rows)
        return text()


def training(found: Training) -> str:
    """Outputs over time, and how far the kernel moves."""
    with _drawing(9.6, 4.0) as (figure, text):
        axes = figure.subplots(1, 2)
        drawing.trained_outputs(axes[0], found)
        drawing.movement(axes[1], found)
        return text()
