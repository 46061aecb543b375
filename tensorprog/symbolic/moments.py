"""The moments of the Gaussian arguments of an expectation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from tensorprog.symbolic.orthant import Array


@final
@dataclass(frozen=True, slots=True)
class Moments:
    """Means and covariances of the arguments l1..lk and r1..rm, float64.

    mean_l [k, *S], cov_ll [k, k, *S], mean_r [m, *S], cov_rr [m, m, *S], cov_lr [k, m, *S]; the trailing
    shapes broadcast (marginals are usually [A, 1] and [1, B], cov_lr [A, B]).
    """

    mean_l: Array
    cov_ll: Array
    mean_r: Array
    cov_rr: Array
    cov_lr: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The common trailing shape."""
        left = (self.mean_l.shape[1:], self.cov_ll.shape[2:])
        right = (self.mean_r.shape[1:], self.cov_rr.shape[2:], self.cov_lr.shape[2:]) if len(self.mean_r) else ()
        return np.broadcast_shapes(*left, *right)

    @property
    def sizes(self) -> tuple[int, int]:
        """k and m."""
        return len(self.mean_l), len(self.mean_r)

    def cov(self, i: int, j: int) -> Array:
        """The covariance of the i-th and j-th of l1..lk, r1..rm."""
        k = len(self.mean_l)
        if i < k and j < k:
            return np.asarray(self.cov_ll[i, j])
        if i >= k and j >= k:
            return np.asarray(self.cov_rr[i - k, j - k])
        return np.asarray(self.cov_lr[min(i, j), max(i, j) - k])


def joint_lists(moments: Moments) -> tuple[list[Array], list[list[Array]]]:
    """Means and covariances of (l1, ..., lk, r1, ..., rm) as lists of arrays."""
    n = range(sum(moments.sizes))
    mean = [np.asarray(m) for m in (*moments.mean_l, *moments.mean_r)]
    return mean, [[moments.cov(i, j) for j in n] for i in n]
