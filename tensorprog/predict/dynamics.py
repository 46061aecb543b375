"""Training with a kernel that does not move: the outputs of a linear model over time.

    d f / d t = -K(., X) l'(f(X), y) / N          gradient flow on the average of the losses l
    f  <-  f - step K(., X) l'(f(X), y) / N       gradient descent

For the squared loss in closed form, with K(X, X) / N = sum of lam e e^T and r = f_0(X) - y (Jacot et al. 2018,
1806.07572; Lee et al. 2019, 1902.06720):

    f_t(x) = f_0(x) - K(x, X) / N  sum of g_t(lam) e e^T r,    g_t(lam) = (1 - exp(-lam t)) / lam   (flow)
                                                            (1 - (1 - step lam)^k) / lam         (k steps of descent)

For the logistic loss the equation is solved step by step, a flow by the classical Runge-Kutta method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from tensorprog.errors import fail

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Loss:
    """l(f, y) and its derivative in f, both entrywise."""

    name: str
    value: Callable[[Floats, Floats], Floats]
    slope: Callable[[Floats, Floats], Floats]


LOSSES = {
    "squared": Loss("squared", lambda f, y: (f - y) ** 2 / 2, lambda f, y: f - y),
    "logistic": Loss("logistic", lambda f, y: np.logaddexp(0.0, -y * f), lambda f, y: -y * expit(-y * f)),
}


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of gradient descent of this size, or (`flow`) gradient flow in steps of this time; when to look."""

    step: float
    counts: tuple[int, ...]
    flow: bool

    @property
    def times(self) -> tuple[float, ...]:
        """The times of the looks."""
        return tuple(self.step * k for k in self.counts)


def check_targets(loss: Loss, y: Floats) -> None:
    """Raises TensorProgError for targets that the loss does not have."""
    if not np.isfinite(y).all():
        raise fail("the targets have NaN or infinite entries")
    if loss.name == "logistic" and not np.isin(y, (-1, 1)).all():
        raise fail("the logistic loss has the targets -1 and 1")


def linear_dynamics(kernel: Floats, y: Floats, start: Floats, loss: Loss, schedule: Schedule) -> Floats:
    """The outputs [looks, rows] of a model with this kernel [rows, n] between all rows and the training examples.

    The first n = len(y) rows are the training examples; `start` [rows] are the outputs before training.
    """
    n = len(y)
    if loss.name != "squared":
        return _integrated(kernel / n, y, start, loss, schedule)
    values, vectors = np.linalg.eigh((kernel[:n] + kernel[:n].T) / (2 * n))
    residual = vectors.T @ (start[:n] - y)
    gains = np.stack([_gain(values, schedule, count) for count in schedule.counts])
    moved: Floats = (gains * residual) @ (kernel @ vectors).T / n
    return start - moved


def _gain(values: Floats, schedule: Schedule, count: int) -> Floats:
    """g_t(lam); for lam = 0 its limit, the time."""
    time = schedule.step * count
    remains = -np.expm1(-values * time) if schedule.flow else 1 - (1 - schedule.step * values) ** count
    small = np.abs(values) * time < 1e-12
    gain: Floats = np.where(small, time, remains / np.where(small, 1.0, values))
    return gain


def _integrated(kernel: Floats, y: Floats, start: Floats, loss: Loss, schedule: Schedule) -> Floats:
    n, f, looks = len(y), start.copy(), []

    def velocity(g: Floats) -> Floats:
        change: Floats = -kernel @ loss.slope(g[:n], y)
        return change

    for k in range(max(schedule.counts) + 1):
        if k in schedule.counts:
            looks.append(f)
        f = advanced(f, velocity, schedule)
    return np.stack(looks)


def advanced(f: Floats, velocity: Callable[[Floats], Floats], schedule: Schedule) -> Floats:
    """One step of Euler (descent) or of Runge and Kutta (flow)."""
    h, first = schedule.step, velocity(f)
    if not schedule.flow:
        return f + h * first
    second = velocity(f + h / 2 * first)
    third = velocity(f + h / 2 * second)
    return f + h / 6 * (first + 2 * second + 2 * third + velocity(f + h * third))
