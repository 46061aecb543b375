"""Kernels of a call in a notebook: heat maps, and how they were computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensorprog.reporting import figures
from tensorprog.reporting.page import STYLE, image, table

if TYPE_CHECKING:
    from tensorprog.evaluate import Kernels

Floats = NDArray[np.float64]


def kernels_fragment(found: Kernels) -> str:
    """Both kernels as heat maps, with their shapes, types, tiers, errors, and the seconds of the call."""
    arrays = {"NNGP": (found.nngp, found.nngp_se), "NTK": (found.ntk, found.ntk_se)}
    shown = {name: matrix(k) for name, (k, _) in arrays.items() if k is not None}
    rows = [_row(name, k, se) for name, (k, se) in arrays.items() if k is not None]
    parts = [image(figures.heat_maps(shown), " and ".join(shown)),
             table(("kernel", "shape", "dtype", "standard error"), rows), *_evaluation(found)]
    return f'<style>{STYLE}</style>\n<div class="study">\n' + "\n".join(parts) + "\n</div>"


def matrix(kernel: Floats) -> Floats:
    """A kernel [N1, B.., N2, B..] over pairs of rows."""
    half = kernel.ndim // 2
    return kernel.reshape(math.prod(kernel.shape[:half]), math.prod(kernel.shape[half:]))


def _row(name: str, kernel: Floats, error: Floats | None) -> tuple[str, ...]:
    sampled = "not sampled" if error is None else f"at most {error.max():.2g}"
    return name, " \N{MULTIPLICATION SIGN} ".join(map(str, kernel.shape)), str(kernel.dtype), sampled


def _evaluation(found: Kernels) -> Iterator[str]:
    """The tiers that were used, each with its largest error, the reason for sampling, and the time."""
    tiers: dict[str, list[float]] = {}
    for row in found.report.rows:
        tiers.setdefault(row.tier, []).append(row.error)
    yield table(("tier", "expectations", "largest absolute error"),
                [(tier, str(len(errors)), f"{max(errors):.1e}") for tier, errors in tiers.items()])
    time = "" if math.isnan(found.seconds) else f"computed in {found.seconds:.3g} s"
    yield f"<p>{escape('; '.join(filter(None, (time, found.report.reason))))}</p>"
