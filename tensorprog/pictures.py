"""Pictures: a kernel as a heat map, the convergence of simulations as a log-log plot, a training over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.files import written_whole
from tensorprog.verdict import NAMES, Validation

if TYPE_CHECKING:
    from tensorprog.finite.convergence import Convergence
    from tensorprog.training import Training

SHOWN = 200
FEW = 4


def save_picture(
    path: Path, title: str, validation: Validation, kernel: tuple[str, NDArray[Any]] | None = None
) -> None:
    """Writes the picture at `path`; its suffix says the format.  Raises TensorProgError for an unknown one."""
    panels = 1 if kernel is None else 2
    figure = _figure(path, 5 * panels)
    figure.suptitle(title)
    *first, last = figure.subplots(1, panels, squeeze=False)[0]
    if kernel is not None:
        _heat_map(figure, first[0], *kernel)
    _convergence(last, validation)
    _save(figure, path)


def save_training(path: Path, title: str, training: Training) -> None:
    """Writes outputs over time beside both predictions, and the movement of the kernel; the suffix says the format."""
    figure = _figure(path, 10)
    figure.suptitle(title)
    outputs, kernel = figure.subplots(1, 2)
    _outputs(outputs, training)
    _movement(kernel, training)
    _save(figure, path)


def _outputs(axes: Any, training: Training) -> None:
    """A few of the outputs for training examples, which have a dot at their target, and for test examples."""
    times, rows = training.schedule.times, training.outputs.shape[1]
    shown = [*range(min(FEW, training.train)), *range(training.train, min(rows, training.train + FEW))]
    for k, row in enumerate(shown):
        color = f"C{k % 10}"
        axes.plot(times, training.outputs[:, row], color=color, label="network" if k == 0 else None)
        axes.plot(times, training.linearized[:, row], ":", color=color, label="its linearization" if k == 0 else None)
        axes.plot(times, training.infinite[:, row], "--", color=color, label="infinite width" if k == 0 else None)
        if row < training.train:
            axes.plot(times[-1], training.targets[row], "o", color=color)
    axes.set_xscale("symlog", linthresh=training.schedule.step)
    axes.set_xlabel("time")
    axes.set_ylabel("outputs (dots: targets)")
    axes.legend()


def _movement(axes: Any, training: Training) -> None:
    moved, times = training.movement, training.schedule.times
    axes.plot(times, training.losses, color="k", label="loss")
    axes.plot(times[1:], moved.change[1:], label="relative change of the kernel")
    axes.plot(times, moved.velocity, label="velocity of the kernel")
    axes.plot(times, moved.alignment, label="alignment with the targets")
    axes.plot(times, moved.label_alignment, label="label-gradient alignment")
    axes.set_xscale("symlog", linthresh=training.schedule.step)
    axes.set_yscale("log")
    axes.set_xlabel("time")
    axes.legend()


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
