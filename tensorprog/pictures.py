"""Pictures: a kernel as a heat map, the convergence of simulations as a log-log plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.files import written_whole

if TYPE_CHECKING:
    from tensorprog.finite import Convergence
    from tensorprog.validation import Validation

SHOWN = 200


def save_picture(
    path: Path, title: str, validation: Validation | None, kernel: tuple[str, NDArray[Any]] | None = None
) -> None:
    """Writes the picture at `path`; its suffix says the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = (kernel is not None) + (validation is not None)
    figure = Figure(figsize=(5 * max(1, panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = iter(figure.subplots(1, max(1, panels), squeeze=False)[0])
    if kernel is not None:
        _heat_map(figure, next(axes), *kernel)
    if validation is not None:
        _convergence(next(axes), validation)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix.removeprefix(".") or "png")


def _heat_map(figure: Any, axes: Any, name: str, kernel: NDArray[Any]) -> None:
    picture = axes.imshow(kernel[:SHOWN, :SHOWN], cmap="viridis", interpolation="nearest")
    axes.set_title(name)
    figure.colorbar(picture, ax=axes, shrink=0.8)


def _convergence(axes: Any, validation: Validation) -> None:
    for name, found in (("NNGP", validation.nngp), ("NTK", validation.ntk)):
        if found is not None:
            _line(axes, name, found)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("width")
    axes.set_ylabel("relative deviation of one network")
    axes.set_title(f"simulation {validation.verdict} with the limit" if validation.verdict == "agrees" else
                   f"simulation: {validation.verdict}")
    axes.legend()


def _line(axes: Any, name: str, found: Convergence) -> None:
    label = f"{name}: slope {found.slope:.2f} ± {found.slope_error:.2f}"
    axes.errorbar(found.widths, found.deviation, yerr=found.deviation_error, marker="o", capsize=2, label=label)
    widths = np.asarray(found.widths, dtype=np.float64)
    axes.plot(widths, found.deviation[0] * np.sqrt(widths[0] / widths), color="0.7", linestyle="--", zorder=0)
