"""The elementary functions against mpmath, and at the ends of their range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numba
import numpy as np
import pytest

from tensorprog.backend import special

DIGITS = 40


def spread(seed: int, scale: float) -> np.ndarray:
    """Numbers of both signs and of many sizes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=400) * scale * 10 ** rng.uniform(-6, 0, 400)


CASES: list[tuple[str, Any, Callable[..., Any], tuple[np.ndarray, ...], float]] = [
    ("exp", special.exp, mp.exp, (spread(1, 300),), 2),
    ("expm1", special.expm1, mp.expm1, (spread(2, 30),), 4),
    ("erf", special.erf, mp.erf, (spread(3, 4),), 4),
    ("ndtr", special.ndtr, mp.ncdf, (spread(4, 2),), 8),
    ("angle", special.angle, mp.atan2, (abs(spread(5, 1)), spread(6, 1)), 4),
    ("atan2", special.atan2, mp.atan2, (spread(7, 1), spread(8, 1)), 4),
]


@pytest.mark.parametrize(("name", "function", "exact", "points", "ulps"), CASES, ids=[c[0] for c in CASES])
def test_accuracy(name: str, function: Any, exact: Any, points: tuple[np.ndarray, ...], ulps: float) -> None:
    """The error in units of the last place stays below what the module says."""
    with mp.workdps(DIGITS):
        for args in zip(*points, strict=True):
            value, truth = function(*args), exact(*(mp.mpf(float(a)) for a in args))
            assert abs(mp.mpf(value) - truth) <= ulps * float(np.spacing(abs(float(truth)))), (name, args)


def test_turn() -> None:
    """Against mpmath, near all multiples of pi / 4 too; none of the origin."""
    rng = np.random.default_rng(10)
    near = (np.arange(5)[:, None] * math.pi / 4 + 10 ** rng.uniform(-16, -1, 60) * rng.choice([-1, 1], 60)).ravel()
    angles = np.clip(np.concatenate([near, rng.uniform(0, math.pi, 300)]), 0.0, math.pi)
    sizes = 10 ** rng.uniform(-20, 20, len(angles))
    with mp.workdps(DIGITS):
        for y, x in zip(np.abs(np.sin(angles)) * sizes, np.cos(angles) * sizes, strict=True):
            assert abs(special.turn(y, x) - mp.atan2(mp.mpf(float(y)), mp.mpf(float(x)))) <= 5e-16, (y, x)
    assert special.turn(0.0, 2.0) == 0.0
    assert special.turn(0.0, -2.0) == math.pi
    assert math.isnan(special.turn(0.0, 0.0))


def owen(h: float, a: float) -> float:
    """Owen's T by its integral, over the angle."""
    exact = mp.quad(lambda x: mp.exp(-((mp.mpf(h) / mp.cos(x)) ** 2) / 2), mp.linspace(0, mp.atan(a), 5))
    return float(exact / (2 * mp.pi))


def test_owens_t() -> None:
    """Against the integral, and at the ends: T(0, a) = arctan(a) / 2 pi, T(h, inf) = ndtr(-|h|) / 2."""
    rng = np.random.default_rng(9)
    with mp.workdps(25):
        for h, a in zip(rng.uniform(-7, 7, 60), np.tan(rng.uniform(-1.5, 1.5, 60)), strict=True):
            assert abs(special.owens_t(h, a) - owen(h, a)) <= 4e-16, (h, a)
    for a in (-math.inf, -3.0, 0.0, 1.0, 1e9, math.inf):
        assert abs(special.owens_t(0.0, a) - math.atan(a) / (2 * math.pi)) <= 4e-16
    for h in (0.0, 1e-300, 2.0, 40.0, math.inf):
        assert abs(special.owens_t(h, math.inf) - 0.5 * special.ndtr(-h)) <= 4e-16
        assert special.owens_t(h, 0.0) == 0.0


def test_ends_of_the_range() -> None:
    """Overflow, underflow and what is not a number."""
    assert special.exp(1000.0) == math.inf and special.exp(-1000.0) == 0.0 and special.exp(0.0) == 1.0
    assert all(math.isnan(f(math.nan)) for f in (special.exp, special.erf, special.ndtr))
    assert special.erf(math.inf) == 1.0 and special.erf(-40.0) == -1.0
    assert special.ndtr(math.inf) == 1.0 and special.ndtr(-math.inf) == 0.0
    assert special.angle(0.0, -1.0) == math.pi and special.angle(0.0, 1.0) == 0.0 and special.angle(0.0, 0.0) == 0.0


def test_loops_become_vector_instructions() -> None:
    """The assembly of a loop over `angle` divides vectors, not numbers."""
    function = special.angle

    @numba.njit(error_model="numpy")
    def loop(y: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
        for k in range(len(x)):
            out[k] = function(y[k], x[k])

    loop(np.ones(9), np.ones(9), np.ones(9))
    (assembly,) = loop.inspect_asm().values()
    assert "divpd" in assembly or "fdiv\tv" in assembly
