"""Pictures: a kernel as a heat map, the convergence of simulations as a log-log plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.files import written_whole
from tensorprog.verdict import NAMES, Validation

if TYPE_CHECKING:
    from tensorprog.finite import Convergence

SHOWN = 200


def save_picture(
    path: Path, title: str, validation: Validation, kernel: tuple[str, NDArray[Any]] | None = None
) -> None:
    """Writes the picture at `path`; its suffix says the format.  Raises TensorProgError for an unknown one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = path.suffix.removeprefix(".") or "png"
    panels = 1 if kernel is None else 2
    figure = Figure(figsize=(5 * panels, 4.2), layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if kind not in known:
        raise fail(f"cannot draw a picture of the type '{kind}'", hint=f"known types: {', '.join(known)}")
    figure.suptitle(title)
    *first, last = figure.subplots(1, panels, squeeze=False)[0]
    if kernel is not None:
        _heat_map(figure, first[0], *kernel)
    _convergence(last, validation)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=130, format=kind)


def _heat_map(figure: Any, axes: Any, name: str, kernel: NDArray[Any]) -> None:
    picture = axes.imshow(kernel[:SHOWN, :SHOWN], cmap="viridis", interpolation="nearest")
    axes.set_title(name)
    figure.colorbar(picture, ax=axes, shrink=0.8)


def _convergence(axes: Any, validation: Validation) -> None:
    for kind, found in validation.found.items():
        _line(axes, NAMES[kind], found)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("width")
    axes.set_ylabel("relative deviation of one network")
    axes.set_title(f"limit and simulation: {validation.verdict}")
    axes.legend()


def _line(axes: Any, name: str, found: Convergence) -> None:
    label = f"{name}: slope {found.slope:.2f} ± {found.slope_error:.2f}"
    axes.errorbar(found.widths, found.deviation, yerr=found.deviation_error, marker="o", capsize=2, label=label)
    widths = np.asarray(found.widths, dtype=np.float64)
    axes.plot(widths, found.deviation[0] * np.sqrt(widths[0] / widths), color="0.7", linestyle="--", zorder=0)
