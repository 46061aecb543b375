"""What to compute, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Options:
    """What to compute and how.

    `tier`: "auto", "closed", "quadrature" or "sampling".  What is sampled takes as many draws as `accuracy` asks for,
    the largest standard error over the scale of the kernel, max se[i, j] / sqrt(K[i, i] K[j, j]); without it, `samples`
    draws in each of `replicates` independent repetitions.  `progress(message, fraction)` is called as the work goes on.
    `dtype` "float32" asks for kernels of that type: about 1e-6 of the largest entry, in half the memory.
    `reductions`: whether kernels that are functions of one cosine may be tabulated, with an error that the report
    states, and those of images computed as products of rows and columns.
    """

    want: tuple[str, ...] = ("nngp", "ntk")
    tier: str = "auto"
    accuracy: float | None = None
    samples: int = 4096
    replicates: int = 8
    seed: int = 0
    progress: Callable[[str, float], None] | None = None
    dtype: str = "float64"
    reductions: bool = True
