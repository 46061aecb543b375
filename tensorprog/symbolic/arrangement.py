"""Where the iterated integrals of a function with bends have bends themselves.

In standard normal coordinates z_1 .. z_r (outermost first) a bend is a plane a . z + b = 0 of softness s.  The
integral over z_r bends where a plane does not meet the z_r axis, in a band of softness sqrt(s^2 + a_r^2) around one
that does, and where two planes meet on it.  Repeated, this gives the breakpoints of every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np

from tensorprog.symbolic.orthant import EPS, Array
from tensorprog.symbolic.planes import Plane

SOFT = 0.8  # deviations over which a change needs no breakpoints
MOST_PLANES = 48
FIRST_RING, RING_RATIO, RING_END = 2.0, 3.0, 5.0


@final
@dataclass(frozen=True, slots=True)
class Planes:
    """slope [M, N, j], offset [M, N] and softness [M, N] of M planes in j coordinates for N laws."""

    slope: Array
    offset: Array
    softness: Array

    @property
    def sharp(self) -> bool:
        """Whether any needs breakpoints on the last axis."""
        return bool(np.any(self.softness < SOFT * np.abs(self.slope[:, :, -1]))) if len(self.slope) else False

    def most_breaks(self) -> int:
        """How many breakpoints a line has at most."""
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = self.softness / np.abs(self.slope[:, :, -1])
        return sum(1 + 2 * _ring_count(w) for w in widths if np.any(w < SOFT))

    def breaks(self, z: Array, owner: Array, reach: float) -> Array:
        """[B, L] breakpoints on the last axis for L lines at outer coordinates z [L, j-1] of the laws `owner` [L].

        A kink gives its zero, a change over the width w also rings at 2 w 3^k around it; missing ones are at `reach`.
        """
        rows = []
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for a, b, s in zip(self.slope, self.offset, self.softness, strict=True):
                width = s / np.abs(a[:, -1])
                if np.any(width < SOFT):
                    outer = b[owner] + np.einsum("lj,lj->l", a[owner, :-1], z)
                    centre = np.where(width[owner] < SOFT, -outer / a[owner, -1], reach)
                    rows += [centre, *_rings(centre, width, owner)]
        found = np.stack(rows)
        return np.clip(np.where(np.isnan(found), reach, found), -reach, reach)


def _rings(centre: Array, width: Array, owner: Array) -> list[Array]:
    sizes = FIRST_RING * width[owner] * RING_RATIO ** np.arange(_ring_count(width))[:, None]
    return [*(centre - sizes), *(centre + sizes)]


def _ring_count(width: Array) -> int:
    """How many rings lead from the smallest width to where nothing is sharp any more."""
    inside = width[(width > 0) & (width < SOFT)]
    if not len(inside):
        return 0
    smallest = max(float(inside.min()), 1e-15)
    return max(1, int(np.ceil(np.log(RING_END / (FIRST_RING * smallest)) / np.log(RING_RATIO))))


def arrange(planes: Sequence[Plane], mean: Array, root: Array, rank: int) -> list[Planes]:
    """The planes of every level, outermost first, for laws mean [N, n] + root [N, n, n] z."""
    n = root.shape[1]
    slopes = np.stack([p.slope for p in planes]) if planes else np.zeros((0, n))
    a = np.einsum("mi,kij->mkj", slopes, root[:, :, :rank])
    rounding = 8 * EPS * np.einsum("mi,kij->mkj", np.abs(slopes), np.abs(root[:, :, :rank]))
    offsets = np.array([p.offset for p in planes])
    softness = np.array([p.softness for p in planes])[:, None] * np.ones(len(root))
    offset = np.einsum("mi,ki->mk", slopes, mean) + offsets[:, None]
    levels = [_needed(Planes(np.where(np.abs(a) > rounding, a, 0.0), offset, softness))]
    for _ in range(rank - 1):
        levels.insert(0, _needed(_integrated(levels[0])))
    return levels


def _integrated(p: Planes) -> Planes:
    """The planes of the integral over the last coordinate."""
    last = p.slope[:, :, -1]
    slope, offset, softness = [p.slope[:, :, :-1]], [p.offset], [np.hypot(p.softness, last)]
    for i, j in combinations(range(len(last)), 2) if len(last) <= MOST_PLANES else ():
        size = np.abs(last[i]) + np.abs(last[j])
        x, y = (np.divide(t, size, out=np.zeros_like(t), where=size > 0) for t in (last[i], last[j]))
        met = y[:, None] * p.slope[i, :, :-1] - x[:, None] * p.slope[j, :, :-1]
        rounding = 8 * EPS * (np.abs(p.slope[i, :, :-1]) + np.abs(p.slope[j, :, :-1]))
        slope.append(np.where(np.abs(met) > rounding, met, 0.0)[None])
        offset.append((y * p.offset[i] - x * p.offset[j])[None])
        softness.append((np.abs(y) * p.softness[i] + np.abs(x) * p.softness[j])[None])
    return Planes(np.concatenate(slope), np.concatenate(offset), np.concatenate(softness))


def _needed(p: Planes) -> Planes:
    """Those that are sharp on some axis for some law, each once."""
    size = np.sqrt(np.sum(p.slope**2, axis=2))
    keep = np.flatnonzero(np.any(p.softness < SOFT * size, axis=1))
    seen: dict[bytes, int] = {}
    for i in keep:
        scale = np.where(size[i] > 0, size[i], 1.0)
        first = np.take_along_axis(p.slope[i], np.argmax(p.slope[i] != 0, axis=1)[:, None], axis=1)[:, 0]
        scale = scale * np.where(first < 0, -1.0, 1.0)
        parts = (p.slope[i] / scale[:, None], p.offset[i] / scale, p.softness[i] / np.abs(scale))
        seen.setdefault(np.round(np.concatenate([x.ravel() for x in parts]) + 0.0, 11).tobytes(), int(i))
    chosen = np.array(list(seen.values()), dtype=int)
    return Planes(p.slope[chosen], p.offset[chosen], p.softness[chosen])
