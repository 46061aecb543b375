"""The kernel regression of `tensorprog run`: kernels on labelled data, predictions, their quality."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import TensorProgError, fail
from tensorprog.loading import Labelled
from tensorprog.predict import accuracy, centered_one_hot, determination, posterior

if TYPE_CHECKING:
    from tensorprog.api import Network
    from tensorprog.evaluate import Kernels

Progress = Callable[[str, float], None]
Floats = NDArray[np.float64]

TRAIN_SHARE = 2 / 3
LEAST, MOST = 12, 1500
TRIALS = (2, 2, 8, 32, 128)  # the first one pays for compilation


@final
@dataclass(frozen=True, slots=True)
class Score:
    """The quality of one kernel's predictions on the test examples: accuracy, or R^2 for a regression."""

    value: float
    measure: str
    ridge: float

    def __str__(self) -> str:
        shown = f"{self.value:.2%}" if self.measure == "accuracy" else f"{self.value:.4f}"
        return f"test {self.measure} {shown}" + (f" (ridge {self.ridge:.1e})" if self.ridge else "")


@final
@dataclass(frozen=True, slots=True)
class Experiment:
    """Kernels on `data`, of which the first `train` rows of the kernel were trained on, and the scores by kernel."""

    data: Labelled
    train: int
    kernels: Kernels
    seconds: float
    scores: dict[str, Score]
    failures: dict[str, str]

    @property
    def tests(self) -> int:
        """The number of rows that were predicted."""
        return self.data.targets.size - self.train

    def matrix(self, kind: str) -> Floats:
        """One kernel as a matrix over rows (example, element of the output)."""
        kernel = getattr(self.kernels, kind)
        rows = math.isqrt(kernel.size)
        return np.asarray(kernel, dtype=np.float64).reshape(rows, rows)


def experiment(
    net: Network, data: Labelled, output: str | None, seconds: float, examples: int | None, progress: Progress,
    accuracy: float | None = None,
) -> Experiment:
    """Evaluates both kernels on as many examples as fit into `seconds` (or on `examples`) and predicts a third.

    A kernel that cannot predict leaves its reason in `failures`.
    """
    n = min(len(data), examples or _affordable(net, data, output, seconds, progress, accuracy))
    chosen = data.first(n)
    start = time.perf_counter()
    kernels = net.kernels(chosen.x, output=output, accuracy=accuracy, progress=progress)
    elapsed = time.perf_counter() - start
    train = round(n * TRAIN_SHARE) * (chosen.targets.size // n)
    found = Experiment(chosen, train, kernels, elapsed, {}, {})
    for kind in ("nngp", "ntk"):
        if getattr(kernels, kind) is not None:
            _score(found, kind)
    return found


def _affordable(
    net: Network, data: Labelled, output: str | None, seconds: float, progress: Progress, accuracy: float | None
) -> int:
    """How many examples fit into the time, from the growth a + b n^2 of the time of small trials."""
    last_n, last, growth = 0, 0.0, math.inf
    for n in TRIALS:
        progress(f"timing {n} examples", 0.0)
        elapsed = _time_of(net, data.first(n), output, accuracy)
        if n > last_n > 0:
            growth = max(1e-9, (elapsed - last) / (n**2 - last_n**2))
        last_n, last = n, elapsed
        if elapsed > seconds / 4:
            break
    affordable = math.sqrt(last_n**2 + max(0.0, seconds - last) / growth)
    return int(min(MOST, max(LEAST, affordable)))


def _time_of(net: Network, data: Labelled, output: str | None, accuracy: float | None) -> float:
    start = time.perf_counter()
    net.kernels(data.x, output=output, accuracy=accuracy)
    return time.perf_counter() - start


def _score(found: Experiment, kind: str) -> None:
    kernel, labels, train = found.matrix(kind), found.data.targets.ravel(), found.train
    if len(kernel) != len(labels):
        found.failures[kind] = "the outputs are not one number per label"
        return
    try:
        found.scores[kind] = _predict(kernel, labels, train, found.data.classes)
    except TensorProgError as error:
        found.failures[kind] = error.diagnostics[0].message


def _predict(kernel: Floats, labels: NDArray[Any], train: int, classes: bool) -> Score:
    if not 0 < train < len(labels):
        raise fail("too few examples to train and to test")
    if not kernel.any():
        raise fail("the kernel is zero")
    blocks = kernel[:train, :train], kernel[train:, :train]
    if classes:
        targets, names = centered_one_hot(labels[:train])
        result = posterior(*blocks, targets)
        return Score(accuracy(result.mean, names, labels[train:]), "accuracy", result.ridge)
    centre = float(labels[:train].mean())
    result = posterior(*blocks, labels[:train] - centre)
    return Score(determination(result.mean[:, 0] + centre, labels[train:]), "R^2", result.ridge)
