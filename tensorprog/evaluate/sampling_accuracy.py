"""How many draws: a fixed number, or as many as an accuracy asks for.

The error of a kernel is the largest standard error over its scale, max se[i, j] / sqrt(K[i, i] K[j, j]); of numbers the
largest standard error over the largest number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FIRST = 1024
"""Samples of a replicate with which the search for an accuracy begins."""

QUASI = 4 / 3
"""The power of the error that is missing in which draws are added to replicates: errors fall like draws^(-3/4)."""

NEAR, SAFE = 1.4, 1.05
"""What may be missing for more replicates of the same length, and by how much it is overestimated then."""

MOST = 1 << 22
"""Draws in all at which it ends."""


@final
@dataclass(frozen=True, slots=True)
class Effort:
    """`replicates` independent runs of `samples` draws each."""

    samples: int
    replicates: int

    def __str__(self) -> str:
        return f"{self.replicates} replicates of {self.samples} draws"

    @property
    def draws(self) -> int:
        """Draws in all."""
        return self.samples * self.replicates

    @property
    def work(self) -> int:
        """Draws in all, a short replicate counting like one of `FIRST` samples."""
        return max(self.samples, FIRST) * self.replicates

    def grown(self, missing: float, random: bool, longest: int) -> Effort:
        """More draws when the error is `missing` times too large, at most 16 times as many and about `MOST` in all.

        Longer replicates are better than more: quasi-random errors and the bias fall faster; `longest` is what fits
        into memory.  But they start again, and where little is missing a few more are less than what is there.  Where
        scalars stay random, a replicate is one draw of them: their number counts, and samples grow along like its
        square root, so that the bias stays below the error.
        """
        if missing < NEAR and not random:
            return Effort(self.samples, math.ceil(self.replicates * (SAFE * missing) ** 2))
        longer = longest // self.samples if longest > self.samples else 1
        rate = 2.0 if random or longer == 1 else QUASI
        factor = min(16, 1 << max(1, math.ceil(rate * math.log2(missing))), max(2, MOST // self.work))
        wanted = 1 << (factor.bit_length() // 2) if random else factor
        longer = min(wanted, longer)
        return Effort(self.samples * longer, self.replicates * (factor if random else factor // longer))


def split(effort: Effort) -> Effort:
    """As many draws in all, as about equally many samples and replicates: the samples a power of two, at least 64."""
    size = min(effort.samples, max(64, 1 << round(math.log2(effort.draws) / 2)))
    return Effort(size, max(effort.replicates, effort.draws // size))


def relative_error(value: Floats, error: Floats) -> float:
    """The largest standard error of a kernel [N, N], or of numbers [N], over their scale."""
    if not value.size:
        return 0.0
    if value.ndim == 1:
        return _ratio(float(error.max()), float(np.abs(value).max()))
    scale = np.sqrt(np.maximum(np.diag(value), 0.0))
    ratio = error / np.where(scale > 0, scale, np.inf)[:, None] / np.where(scale > 0, scale, np.inf)
    return float(ratio.max())


def _ratio(error: float, scale: float) -> float:
    return 0.0 if error == 0 else error / scale if scale > 0 else math.inf


