"""Pictures: a kernel as a heat map, the convergence of simulations as a log-log plot, a training over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.files import written_whole
from tensorprog.reporting.drawing import SHOWN, convergence, heat_map, movement, span, trained_outputs
from tensorprog.verdict import Validation

if TYPE_CHECKING:
    from tensorprog.training import Training


def save_picture(
    path: Path, title: str, validation: Validation, kernel: tuple[str, NDArray[Any]] | None = None
) -> None:
    """Writes the picture at `path`; its suffix says the format.  Raises TensorProgError for an unknown one."""
    panels = 1 if kernel is None else 2
    figure = _figure(path, 5 * panels)
    figure.suptitle(title)
    *first, last = figure.subplots(1, panels, squeeze=False)[0]
    if kernel is not None:
        values = np.asarray(kernel[1], dtype=np.float64)[:SHOWN, :SHOWN]
        heat_map(figure, first[0], kernel[0], values, ("viridis", *span(values)))
    convergence(last, validation)
    last.set_title(f"limit and simulation: {validation.verdict}")
    _save(figure, path)


def save_training(path: Path, title: str, training: Training) -> None:
    """Writes outputs over time beside both predictions, and the movement of the kernel; the suffix says the format."""
    figure = _figure(path, 10)
    figure.suptitle(title)
    outputs, kernel = figure.subplots(1, 2)
    trained_outputs(outputs, training)
    movement(kernel, training)
    _save(figure, path)


def _figure(path: Path, width: float) -> Any:
    """An empty figure of a format that can be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    known = FigureCanvasAgg(figure).get_supported_filetypes()
    if _kind(path) not in known:
        raise fail(f"cannot draw a picture of the type '{_kind(path)}'", hint=f"known types: {', '.join(known)}")
    return figure


def _kind(path: Path) -> str:
    return path.suffix.removeprefix(".") or "png"


def _save(figure: Any, path: Path) -> None:
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=130, format=_kind(path))
