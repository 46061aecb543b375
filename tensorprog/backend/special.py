"""Elementary functions without branches, so that loops over them become vector instructions.

    function            range          error (units in the last place; absolute where said)
    exp(x)              all            2, also where it under- or overflows
    angle(y, x)         y >= 0         4          the angle of (x, y), in [0, pi]
    atan2(y, x)         all            4          the angle of (x, y), in [-pi, pi]
    turn(y, x)          y >= 0         5e-16 absolute    the same as angle; no number at the origin
    expm1(x)            all            4
    erf(x)              all            4
    ndtr(x)             all            8 for |x| < 8; relative error of the far tail grows like 1e-16 x^2
    owens_t(h, a)       all            4e-16 absolute

The polynomials are Chebyshev interpolants made at 40 digits: of exp on [-log(2)/2, log(2)/2], of arctan(x) / x in x^2
on [0, tan(pi/8)^2], of erf(x) / x in x^2 on [0, 1], and of (1 + 2x) exp(x^2) erfc(x) in t = (x - 3.75) / (x + 3.75)
(Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x), 1981).  Their errors are below 1e-17.
Owen's T is an integral by a Gauss rule of 22 nodes, whose halves are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def inlined(f: F) -> F:
    """`f` as machine code that becomes part of its callers."""
    machine: Any = njit(forceinline=True, error_model="numpy")(f)
    return cast(F, machine)


def contracted(f: F) -> F:
    """The same for what gains by products and sums rounded once, as polynomials do."""
    machine: Any = njit(forceinline=True, error_model="numpy", fastmath={"contract"})(f)
    return cast(F, machine)


LOG2_E = 1.4426950408889634
LOG2_HIGH, LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # log(2) in two parts
ROUNDER = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, which stands in the low bits
LEAST, MOST = -745.2, 709.8
NODES, WEIGHTS = (tuple(x[11:].tolist()) for x in np.polynomial.legendre.leggauss(22))  # those above 0
EIGHTH_PI, QUARTER_PI, HALF_PI = 0.125 * math.pi, 0.25 * math.pi, 0.5 * math.pi
TAN_EIGHTH = 0.41421356237309503


def _power_of_two(typing_context: Any, n: Any) -> Any:

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = context.get_value_type(types.int64)
        bits = builder.bitcast(builder.fadd(args[0], context.get_constant(types.float64, ROUNDER + 1023.0)), integer)
        shifted = builder.shl(bits, context.get_constant(types.int64, 52))
        return builder.bitcast(shifted, context.get_value_type(types.float64))

    return types.float64(types.float64), codegen


power_of_two: Any = intrinsic(_power_of_two)
"""2.0^n of an integer float n in [-1022, 1023], by its exponent bits."""


def _bits(typing_context: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


def _number(typing_context: Any, bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


def _fused(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


fused: Any = intrinsic(_fused)
"""x y + z, rounded once."""
bits: Any = intrinsic(_bits)
"""The bits of a number as an integer; ordered like the numbers where these are not negative."""
number: Any = intrinsic(_number)
"""The number of some bits."""


@contracted
def _reduced(x: float, n: float) -> float:
    """e^(x - n log(2)), the difference in [-log(2)/2, log(2)/2]"""
    r = (x - n * LOG2_HIGH) - n * LOG2_LOW
    p = 2.5110049204818659793e-8 * r + 2.763265472252779189e-7
    p = p * r + 2.7557240887228869596e-6
    p = p * r + 0.000024801485441561312966
    p = p * r + 0.00019841269890076402829
    p = p * r + 0.0013888888952352862866
    p = p * r + 0.0083333333333195896163
    p = p * r + 0.04166666666648795252
    p = p * r + 0.1666666666666668082
    p = p * r + 0.50000000000000184039
    return p * (r * r) + r + 1.0


@contracted
def exp(x: float) -> float:
    """e^x"""
    bounded = min(max(x, LEAST), MOST)
    n = (bounded * LOG2_E + ROUNDER) - ROUNDER
    half = (0.5 * n + ROUNDER) - ROUNDER  # two factors, since 2^n itself may not be a number
    value = _reduced(bounded, n) * power_of_two(half) * power_of_two(n - half)
    value = 0.0 if x < LEAST else value
    value = math.inf if x > MOST else value
    return value if x == x else x


@contracted
def _decay(x: float) -> float:
    """e^x, x <= 0, which is never below 1e-304"""
    bounded = max(x, -700.0)
    n = (bounded * LOG2_E + ROUNDER) - ROUNDER
    scale: float = power_of_two(n)
    return _reduced(bounded, n) * scale


@contracted
def expm1(x: float) -> float:
    """e^x - 1, as 2 sinh(x / 2) e^(x / 2) with the series of sinh where |x| < 1."""
    z = 0.25 * x * x
    p = 1.0 + z / 272.0
    p = 1.0 + z / 210.0 * p
    p = 1.0 + z / 156.0 * p
    p = 1.0 + z / 110.0 * p
    p = 1.0 + z / 72.0 * p
    p = 1.0 + z / 42.0 * p
    p = 1.0 + z / 20.0 * p
    p = 1.0 + z / 6.0 * p
    return x * p * exp(0.5 * x) if abs(x) < 1.0 else exp(x) - 1.0


@contracted
def _arctan_eighth(u: float) -> float:
    """arctan of u, |u| <= tan(pi/8); parts of the polynomial at the same time, since nothing else is to be done."""
    z = u * u
    y = z * z
    x = y * y
    p = 0.11111110744657099602 * z - 0.14285714279244968487
    p = p * y + (0.19999999999940837328 * z - 0.33333333333333120948)
    q = 0.058468667522751389837 * z - 0.06662950246036791267
    q = q * y + (0.07692045194561481467 * z - 0.090908968014728134434)
    r = 0.037963903161110833033 * z - 0.050350497953124393166 - 0.017803896394812563193 * y
    return u + u * z * ((r * x + q) * x + p)


@contracted
def _arctan_unit(small: float, large: float) -> float:
    """arctan of small / large in [0, 1], large > 0"""
    reduce = small > TAN_EIGHTH * large
    value = _arctan_eighth((small - large if reduce else small) / (small + large if reduce else large))
    return QUARTER_PI + value if reduce else value


@inlined
def angle(y: float, x: float) -> float:
    """The angle of (x, y) in [0, pi], y >= 0; 0 at the origin."""
    size = abs(x)
    large, small = max(size, y), min(size, y)
    first = _arctan_unit(small, large if large > 0.0 else 1.0)
    first = HALF_PI - first if y > size else first
    return math.pi - first if x < 0.0 else first


@contracted
def turn(y: float, x: float) -> float:
    """The angle of (x, y) in [0, pi], y >= 0; no number at the origin.

    Signs put together pi/2, pi/4 and the angle of (y + |x|, |y - |x||), which is pi/8 and at most as much again: there
    is nothing to choose, but small angles have absolute errors.
    """
    size = abs(x)
    rest, total = y - size, y + size
    part = abs(rest)
    eighth = _arctan_eighth((part - TAN_EIGHTH * total) / (TAN_EIGHTH * part + total))
    return HALF_PI - math.copysign(QUARTER_PI - math.copysign(EIGHTH_PI + eighth, rest), x)


@inlined
def atan2(y: float, x: float) -> float:
    """The angle of (x, y) in [-pi, pi]."""
    value = angle(abs(y), x)
    return -value if y < 0.0 else value


@contracted
def _scaled_erfc(x: float) -> float:
    """exp(x^2) erfc(x), x >= 0"""
    t = (x - 3.75) / (x + 3.75)
    p = 4.2514714447963897761e-10 * t + 3.1114333809799251993e-10
    p = p * t - 5.1739902140113096269e-9
    p = p * t - 3.7442100809620186444e-9
    p = p * t + 3.8675334242222356816e-8
    p = p * t + 2.3263508708859123732e-8
    p = p * t - 2.5866850716155885443e-7
    p = p * t - 5.7218230603224087501e-8
    p = p * t + 1.7516376488490621431e-6
    p = p * t - 9.7355989673677493407e-7
    p = p * t - 0.000011444146237700523373
    p = p * t + 0.00002238423915508222982
    p = p * t + 0.000051649098892682403449
    p = p * t - 0.00029015408054084171105
    p = p * t + 0.00029371366559134481992
    p = p * t + 0.0017556258528952953569
    p = p * t - 0.0097465795580292755337
    p = p * t + 0.028362277418956404286
    p = p * t - 0.058693398589636774061
    p = p * t + 0.09230432116037747776
    p = p * t - 0.10880393014174885723
    p = p * t + 0.082276738490145207683
    p = p * t + 0.003585415485464429369
    p = p * t - 0.14024059858554696245
    p = p * t + 1.2375126308378275796
    return p / (1.0 + 2.0 * x)


@inlined
def _erfc_positive(x: float) -> float:
    """erfc(x), x >= 0; the square is split so that its rounding does not enter the exponential."""
    scaled = x * 134217729.0
    high = scaled - (scaled - x)
    low = x - high
    return exp(-high * high) * exp(-low * (high + x)) * _scaled_erfc(x)


@inlined
def erf(x: float) -> float:
    """The error function."""
    size = min(abs(x), 30.0)
    z = size * size
    p = 1.37200645467776856e-8 - 7.795898827002142242e-10 * z
    p = p * z - 1.62084838018717059e-7
    p = p * z + 1.644742470331736241e-6
    p = p * z - 0.00001492473690741966034
    p = p * z + 0.0001205529490483970792
    p = p * z - 0.0008548325975389692081
    p = p * z + 0.005223977607116422732
    p = p * z - 0.02686617064323777036
    p = p * z + 0.1128379167094500627
    p = p * z - 0.3761263890318354044
    p = p * z + 1.128379167095512567
    value = p * size if size < 1.0 else 1.0 - _erfc_positive(size)
    value = -value if x < 0.0 else value
    return value if x == x else x


@inlined
def ndtr(x: float) -> float:
    """The standard normal distribution function."""
    tail = 0.5 * _erfc_positive(min(abs(x), 60.0) * 0.7071067811865476)
    value = 1.0 - tail if x > 0.0 else tail
    return value if x == x else x


@contracted
def _owen_part(half: float, square: float, node: float, weight: float) -> float:
    """weight * exp(-half s) / s,  s = 1 + square * node^2"""
    s = 1.0 + square * (node * node)
    return weight * _decay(-half * s) / s


@inlined
def _owen_unit(h: float, a: float) -> float:
    """T(h, a), a in [0, 1]"""
    half, square = 0.5 * h * h, a * a
    total = _owen_part(half, square, NODES[0], WEIGHTS[0]) + _owen_part(half, square, NODES[1], WEIGHTS[1])
    total += _owen_part(half, square, NODES[2], WEIGHTS[2]) + _owen_part(half, square, NODES[3], WEIGHTS[3])
    total += _owen_part(half, square, NODES[4], WEIGHTS[4]) + _owen_part(half, square, NODES[5], WEIGHTS[5])
    total += _owen_part(half, square, NODES[6], WEIGHTS[6]) + _owen_part(half, square, NODES[7], WEIGHTS[7])
    total += _owen_part(half, square, NODES[8], WEIGHTS[8]) + _owen_part(half, square, NODES[9], WEIGHTS[9])
    total += _owen_part(half, square, NODES[10], WEIGHTS[10])
    return total * a * 0.15915494309189535


@inlined
def owens_t(h: float, a: float) -> float:
    """Owen's T, 1/(2 pi) int_0^a exp(-h^2 (1 + x^2) / 2) / (1 + x^2) dx; beyond a = 1 by that of a h and 1 / a."""
    size, slope = abs(h), abs(a)
    steep = slope > 1.0
    far = size * slope if size > 0.0 else 0.0
    unit = _owen_unit(far if steep else size, 1.0 / slope if steep else slope)
    near_tail, far_tail = ndtr(-size), ndtr(-far)
    value = 0.5 * (near_tail + far_tail) - near_tail * far_tail - unit if steep else unit
    return -value if a < 0.0 else value
