"""Scrambled Sobol points.

Coordinate j of point k is the exclusive or of the direction numbers V_j[b] over the bits b of k.  These follow from a
primitive polynomial and a few initial numbers (Bratley and Fox 1988); the table `joe_kuo.npz` is that of S. Joe and
F. Y. Kuo, Constructing Sobol sequences with better two-dimensional projections (SIAM J. Sci. Comput. 30, 2008), its
first 1024 dimensions.  Scrambled are they by a random lower triangular matrix of bits and a random shift for every
coordinate (Matousek, J. Complexity 14, 1998), so that each point is uniform and means over points have no bias.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bits = NDArray[np.uint32]

BITS = 30
MOST_DIMENSIONS = 1024


def sobol_points(samples: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """The first points of a scrambled Sobol sequence in the open unit cube, [dimensions, samples]."""
    levels = (samples - 1).bit_length()
    numbers = _scrambled(_directions()[:dimensions], rng)
    points: Bits = np.empty((dimensions, 1 << levels), dtype=np.uint32)
    points[:, 0] = rng.integers(0, 1 << BITS, dimensions, dtype=np.uint32)
    for b in range(levels):
        size = 1 << b
        np.bitwise_xor(points[:, :size], numbers[:, b, None], out=points[:, size : 2 * size])
    inside: Floats = (points[:, :samples].astype(np.float64) + 0.5) * 2.0**-BITS
    return inside


@cache
def _directions() -> Bits:
    """[dimensions, bits]: the direction numbers, in units of 2^-BITS."""
    table = np.load(str(resources.files("tensorprog.evaluate") / "joe_kuo.npz"))
    polynomials, initial = table["polynomials"].astype(np.uint32), table["initial"].astype(np.uint32)
    m: Bits = np.ones((MOST_DIMENSIONS, BITS), dtype=np.uint32)
    degrees = np.array([int(p).bit_length() - 1 for p in polynomials])
    for degree in range(1, int(degrees.max()) + 1):
        rows = np.flatnonzero(degrees == degree)
        m[rows] = _recurrence(polynomials[rows], initial[rows, :degree])
    return m << np.arange(BITS - 1, -1, -1, dtype=np.uint32)


def _recurrence(polynomials: Bits, initial: Bits) -> Bits:
    """m_k = 2 a_1 m_{k-1} + .. + 2^d m_{k-d} + m_{k-d} without carries, for polynomials of one degree d."""
    degree = initial.shape[1]
    m: Bits = np.zeros((len(initial), BITS), dtype=np.uint32)
    m[:, :degree] = initial
    for k in range(degree, BITS):
        m[:, k] = m[:, k - degree]
        for i in range(1, degree + 1):
            a = (polynomials >> np.uint32(degree - i)) & np.uint32(1)
            m[:, k] ^= (a * m[:, k - i]) << np.uint32(i)
    return m


def _scrambled(directions: Bits, rng: np.random.Generator) -> Bits:
    """Every number times a lower triangular matrix of bits with ones on the diagonal, one matrix for each dimension."""
    places = np.arange(BITS - 1, -1, -1, dtype=np.uint32)  # the most significant bit first
    matrices = np.tril(rng.integers(0, 2, (len(directions), BITS, BITS)), -1) + np.eye(BITS, dtype=np.int64)
    bits = (directions[:, None, :] >> places[None, :, None]) & np.uint32(1)
    mixed = (matrices.astype(np.float32) @ bits.astype(np.float32)).astype(np.uint32) & np.uint32(1)
    numbers: Bits = np.bitwise_or.reduce(mixed << places[None, :, None], axis=1)
    return numbers
