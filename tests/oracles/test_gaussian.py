"""The brute force for Gaussian expectations against closed forms, far beyond float64."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from .activations import ACTIVATIONS, read
from .gaussian import Function, Law, _regular, pair, square_fourier
from .gaussian_reference import FILE, definition, laws

LAWS = [
    (1e-6, 1e-6, -1 + 1e-12),
    (1e-6, 1e6, 0.9),
    (0.1, 100.0, -0.6),
    (1.0, 1.0, 1 - 1e-12),
    (1e6, 1e6, 1 - 1e-4),
    (1e6, 1e6, 0.0),
    (3.0, 0.2, 1.0),
    (3.0, 0.2, -1.0),
]


def relu(a, b, c, angle):
    """Cho & Saul (2009)"""
    return mp.sqrt(a * b) * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)


def step(a, b, c, angle):
    """Cho & Saul (2009)"""
    return (mp.pi - angle) / (2 * mp.pi)


def erf(a, b, c, angle):
    """Williams (1997)"""
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b)))


def gaussian(a, b, c, angle):
    """exp(-u^2)"""
    return 1 / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c)


def exponential(a, b, c, angle):
    """Of the sum of both."""
    return mp.exp((a + b + 2 * c) / 2)


CASES = {"relu": relu, "step": step, "erf": erf, "gaussian": gaussian, "exp": exponential}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("law", LAWS)
def test_closed_forms(name, law):
    """24 digits of sqrt(E f^2 E g^2), and 24 of the value where the mathematics does not cancel."""
    a, b, rho = law
    if name == "exp" and max(a, b) > 300:
        pytest.skip("too large for float64")
    side = int(rho) if abs(rho) == 1 else 0
    c = float(rho * np.sqrt(a * b))
    f = ACTIVATIONS[name].function(0)
    with mp.workdps(60):
        x, y = mp.mpf(a), mp.mpf(b)
        z = side * mp.sqrt(x * y) if side else mp.mpf(c)
        wanted = CASES[name](x, y, z, mp.acos(z / mp.sqrt(x * y)))
        scale = mp.sqrt(CASES[name](x, x, x, mp.mpf(0)) * CASES[name](y, y, y, mp.mpf(0)))
    gap = abs(pair(f, f, a, b, c, side) - wanted)
    assert gap <= 1e-24 * scale
    assert gap <= 1e-24 * abs(wanted) or abs(wanted) < 1e-12 * scale


def test_point_masses():
    """E dirac(u - t) dirac(v - r) is the density, E dirac(u - t) step(v) a normal probability."""
    point = Function(lambda u: mp.mpf(0), points=((0.3, 2.0),))
    jump = Function(read("step(u)"), kinks=(0.0,))
    a, b, c = 2.0, 0.5, -0.6
    with mp.workdps(40):
        det = mp.mpf(a) * b - mp.mpf(c) ** 2
        q = mp.mpf(0.3) ** 2 * (a + b - 2 * mp.mpf(c)) / det
        assert abs(pair(point, point, a, b, c) - 4 * mp.exp(-q / 2) / (2 * mp.pi * mp.sqrt(det))) < 1e-30
        height = 2 * mp.npdf(mp.mpf(0.3) / mp.sqrt(a)) / mp.sqrt(a)
        wanted = height * mp.ncdf(mp.mpf(c) / a * mp.mpf(0.3) / mp.sqrt(det / a))
        assert abs(pair(point, jump, a, b, c) - wanted) < 1e-30


@pytest.mark.parametrize("order", [0, 1])
def test_fourier_form_of_sinc(order):
    """Against the double integral, where that is possible."""
    f = ACTIVATIONS["sinc"].function(order)
    with mp.workdps(40):
        a, b, c = mp.mpf(2), mp.mpf("0.5"), mp.mpf(-0.6)
        law = Law(mp.sqrt(a), mp.sqrt(b), -c / mp.sqrt(a * b), mp.sqrt(1 - c * c / (a * b)))
        wanted = _regular(f, f.reflected(), law)
        assert abs(square_fourier(order, a, b, c) - wanted) < 1e-28


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_written_by_hand(name):
    """Against numerical derivatives away from the kinks, and the point masses against the jumps."""
    activation = ACTIVATIONS[name]
    f, slope = (activation.function(k).f for k in (0, 1))
    with mp.workdps(40):
        for u in map(mp.mpf, ("-7.3", "-3.7", "-1.9", "-0.7", "-0.21", "0.17", "0.83", "1.3", "2.6", "8.1")):
            assert abs(mp.diff(f, u) - slope(u)) <= 1e-15 * max(1, abs(slope(u)))
        for kink in map(mp.mpf, activation.kinks):
            tiny = mp.mpf(10) ** -20
            weight = sum(w for t, w in activation.points if t == kink)
            assert abs(f(kink + tiny) - f(kink - tiny) - weight) < 1e-16


def test_reference_file_is_current():
    """Every activation is in the file, as it is defined now."""
    data = np.load(FILE)
    assert np.array_equal(data["laws"], np.array(laws()))
    for name, activation in ACTIVATIONS.items():
        assert str(data[f"{name}/definition"]) == definition(activation)
