"""The primitive scalar functions: numpy meaning, derivative, range and growth.

This is the only list of functions that the compiler knows; activations (gelu, elu, swish, ...) are
written with them in the prelude.  A function is complete when it is a row of `FUNCTIONS`; a test
goes through the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

Interval = tuple[float, float]
INF = math.inf
REALS: Interval = (-INF, INF)


@final
@dataclass(frozen=True, slots=True)
class Function:
    """One primitive function.

    `numpy`: its meaning on arrays.  `derivative`: for each argument the derivative, as a text in the
    arguments `a`, `b` (parsed by `expr.derivative_of`); None where there is none.  `domain`: where
    each argument may live.  `range`: an interval that contains all values.  `kinks`: arguments at
    which the function or a derivative jumps.  `monotone`: whether an interval maps end to end.
    `growth`: "bounded", "linear", "log" or "exp" as the argument grows.
    """

    numpy: Callable[..., Any]
    derivative: tuple[str | None, ...]
    range: Interval = REALS
    domain: Interval = REALS
    kinks: tuple[float, ...] = ()
    monotone: bool = False
    growth: str = "bounded"

    @property
    def arity(self) -> int:
        """The number of arguments."""
        return len(self.derivative)


def _special(name: str) -> Callable[..., Any]:
    """A function of scipy.special, which is imported when first called: checking a program does not need it."""

    def call(*args: Any) -> Any:
        from scipy import special

        return getattr(special, name)(*args)

    return call


def _step(u: Any) -> Any:
    u = np.asarray(u)
    return np.greater_equal(u, 0).astype(u.dtype if u.dtype.kind == "f" else np.float64)


def _normpdf(u: Any) -> Any:
    return np.exp(-0.5 * np.square(u)) / math.sqrt(2 * math.pi)


def _dirac(u: Any) -> Any:
    raise ValueError("dirac has no pointwise value")


FUNCTIONS: dict[str, Function] = {
    "exp": Function(np.exp, ("exp(a)",), (0, INF), monotone=True, growth="exp"),
    "log": Function(np.log, ("1/a",), domain=(0, INF), monotone=True, growth="log"),
    "sin": Function(np.sin, ("cos(a)",), (-1, 1)),
    "cos": Function(np.cos, ("-sin(a)",), (-1, 1)),
    "sinh": Function(np.sinh, ("cosh(a)",), monotone=True, growth="exp"),
    "cosh": Function(np.cosh, ("sinh(a)",), (1, INF), growth="exp"),
    "tanh": Function(np.tanh, ("1-tanh(a)^2",), (-1, 1), monotone=True),
    "atan": Function(np.arctan, ("1/(1+a^2)",), (-math.pi / 2, math.pi / 2), monotone=True),
    "sigmoid": Function(_special("expit"), ("sigmoid(a)*sigmoid(-a)",), (0, 1), monotone=True),
    "softplus": Function(lambda u: np.logaddexp(0, u), ("sigmoid(a)",), (0, INF), monotone=True, growth="linear"),
    "erf": Function(_special("erf"), ("2*exp(-a^2)/sqrt(pi)",), (-1, 1), monotone=True),
    "erfc": Function(_special("erfc"), ("-2*exp(-a^2)/sqrt(pi)",), (0, 2)),
    "normcdf": Function(_special("ndtr"), ("normpdf(a)",), (0, 1), monotone=True),
    "normpdf": Function(_normpdf, ("-a*normpdf(a)",), (0, 0.4)),
    "sinc": Function(lambda u: np.sinc(np.asarray(u) / math.pi), ("dsinc(a)",), (-0.22, 1)),
    "dsinc": Function(lambda u: _dsinc(np.asarray(u, dtype=float)), (None,), (-1, 1)),
    "abs": Function(np.abs, ("sign(a)",), (0, INF), kinks=(0.0,), growth="linear"),
    "sign": Function(np.sign, ("2*dirac(a)",), (-1, 1), kinks=(0.0,), monotone=True),
    "step": Function(_step, ("dirac(a)",), (0, 1), kinks=(0.0,), monotone=True),
    "dirac": Function(_dirac, (None,), (0, INF), kinks=(0.0,)),
    # the identity, with derivative zero: for shifts that cancel, as in a softmax
    "stop": Function(lambda u: u, ("0",), monotone=True, growth="linear"),
    "max": Function(np.maximum, ("step(a-b)", "step(b-a)"), kinks=(0.0,), growth="linear"),
    "min": Function(np.minimum, ("step(b-a)", "step(a-b)"), kinks=(0.0,), growth="linear"),
}


def _dsinc(u: np.ndarray) -> np.ndarray:
    """(u cos u - sin u) / u^2, by its series where that cancels."""
    small = np.abs(u) < 0.1
    v = np.where(small, 1.0, u)
    series = u * (-1 / 3 + u**2 * (1 / 30 + u**2 * (-1 / 840 + u**2 / 45360)))
    return np.where(small, series, (v * np.cos(v) - np.sin(v)) / v**2)
