"""Training a finite network beside what its limit and its linearization predict.

    f_t            the network, full-batch gradient descent or flow, each weight with its own learning rate
    linearized     the dynamics of its tangent kernel at initialization, from the same outputs f_0
    infinite       the dynamics of the limit of the tangent kernel, from the same outputs f_0

Lee et al. (2019, 1902.06720): over all times |f_t - linearized| is of order 1/sqrt(n) (of order 1/n as observed, and by
the drift of the kernel), |f_t - infinite| of order 1/sqrt(n), the fluctuation of the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog.arguments import positive, reals, whole
from tensorprog.autodiff import differentiate
from tensorprog.dataset import Dataset, bind
from tensorprog.errors import fail
from tensorprog.finite import Group, draw, measure, widths_at
from tensorprog.finite.descent import Weights, advance, outputs_of, states_of, weight_velocity
from tensorprog.finite.rates import Estimate, log_slope, rms_deviation
from tensorprog.finite.simulate import rows_of
from tensorprog.finite.weights import Network as Weighted
from tensorprog.ir.program import Differentiated, Program
from tensorprog.predict.dynamics import LOSSES, Loss, Schedule, check_targets, linear_dynamics
from tensorprog.validation import row_order

if TYPE_CHECKING:
    from tensorprog.api import Network

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]


@final
@dataclass(frozen=True, slots=True)
class Movement:
    """How the tangent kernel K_t on the training examples moves, an item per look.

    `change`: |K_t - K_0| / |K_0|.  `alignment` with the targets: y K_t y / (|K_t| |y|^2).  `velocity`: the distance
    1 - <K_s, K_t> / (|K_s| |K_t|) from the look before, over the time between (Fort et al. 2020, 2010.15110; nan at
    first).  `label_alignment`: <K_t - mean, L - mean> / (|K_t - mean| |L - mean|), L_ij = 1 for targets of equal sign
    and -1 else (Mok et al. 2022, 2203.02021; nan for one sign).
    """

    change: tuple[float, ...]
    alignment: tuple[float, ...]
    velocity: tuple[float, ...]
    label_alignment: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """Outputs over time, [looks, rows]: rows are the training examples, `train` of them, then the test examples.

    `losses` are averages over the training examples.
    """

    width: int
    seed: int
    loss: str
    schedule: Schedule
    targets: Floats
    outputs: Floats
    linearized: Floats
    infinite: Floats
    losses: tuple[float, ...]
    movement: Movement

    @property
    def train(self) -> int:
        """The number of training rows."""
        return len(self.targets)

    def deviation(self, other: str) -> float:
        """The largest rms over rows, over all times, of the difference to "linearized" or "infinite"."""
        beside = {"linearized": self.linearized, "infinite": self.infinite}[other]
        return float(np.sqrt(np.mean((self.outputs - beside) ** 2, axis=1)).max())

    def __str__(self) -> str:
        how = "gradient flow" if self.schedule.flow else "gradient descent"
        head = (f"width {self.width}, seed {self.seed}: {self.train} examples, {self.loss} loss, {how}, "
                f"{self.schedule.counts[-1]} steps of {self.schedule.step:.3g}")
        names = "    step      loss   off infinite  off linearized   kernel moved   target alignment"
        rows = [f"  {k:>6}  {loss:8.2e}      {i:8.2e}        {lin:8.2e}       {c:8.2e}              {a:.3f}"
                for k, loss, i, lin, c, a in zip(
                    self.schedule.counts, self.losses, _rms(self.outputs - self.infinite),
                    _rms(self.outputs - self.linearized), self.movement.change, self.movement.alignment, strict=True)]
        return "\n".join([head, names, *rows])


def _rms(difference: Floats) -> list[float]:
    return [float(x) for x in np.sqrt(np.mean(difference**2, axis=1))]


@final
@dataclass(frozen=True, slots=True)
class TrainingStudy:
    """Trained networks of several widths: how their deviations, and the movement of the kernel, fall with the width.

    `trainings[k]` are the seeds at `widths[k]`; deviations are rms over seeds, with standard errors.
    """

    widths: tuple[int, ...]
    trainings: tuple[tuple[Training, ...], ...]

    def fall(self, what: str) -> tuple[tuple[Estimate, ...], Estimate]:
        """"infinite", "linearized" or "change": the values at all widths, and the slope of their logarithms."""
        values = [np.array([_measure(t, what) for t in ts]) for ts in self.trainings]
        points = tuple(Estimate(*rms_deviation(v[:, None])) for v in values)
        return points, log_slope(self.widths, [p.value for p in points], [p.error for p in points])

    def __str__(self) -> str:
        lines = []
        for what, name in (("infinite", "off the infinite network"), ("linearized", "off its linearization"),
                           ("change", "change of the kernel")):
            points, slope = self.fall(what)
            lines += [f"{name}: falls like width^({slope.value:.2f} +- {slope.error:.2f})"]
            lines += [f"  width {w:>6}   {p.value:.3e} +- {p.error:.1e}   {len(ts)} seeds"
                      for w, p, ts in zip(self.widths, points, self.trainings, strict=True)]
        return "\n".join(lines)


def _measure(training: Training, what: str) -> float:
    return max(training.movement.change) if what == "change" else training.deviation(what)


# ---------------------------------------------------------------- training


@final
@dataclass(frozen=True, slots=True)
class Task:
    """What is learned: a program, examples, targets [rows of `train`] and a loss; `kernel` is the limit [rows, n]."""

    program: Program
    output: str
    train: Dataset
    test: Dataset | None
    targets: Floats
    loss: Loss
    kernel: Floats


def looks(steps: int, number: int = 24) -> tuple[int, ...]:
    """0, ..., steps: the numbers of steps after which the network is looked at, evenly in the logarithm."""
    return tuple(sorted({0, *(round(k) for k in np.geomspace(1, steps, number))})) if steps else (0,)


def stable_step(kernel: Floats) -> float:
    """The time in which the fastest mode of a tangent kernel [rows, rows] falls to 1/e: rows / its largest eigenvalue.

    Raises TensorProgError when the kernel is zero.
    """
    largest = float(np.linalg.eigvalsh(kernel)[-1])
    if not largest > 0:
        raise fail("the limit of the tangent kernel is zero for these examples: training does not move the outputs",
                   hint="`train` takes the size of a step, to train finite networks all the same")
    return len(kernel) / largest


def prepare(
    net: Network, x: Any, y: Any, x_test: Any, output: str | None, loss: str, steps: int, step: float | None, flow: bool
) -> tuple[Task, Schedule]:
    """What is to be learned, and how; see `Network.train`.  Raises TensorProgError for what does not fit."""
    if loss not in tuple(LOSSES):
        raise fail(f"there is no loss '{loss}'", hint=f"losses: {', '.join(LOSSES)}")
    steps, step = whole("steps", steps, 0), None if step is None else positive("the size of a step", step)
    name, targets = net.output(output).name, reals("targets", y).ravel()
    check_targets(LOSSES[loss], targets)
    data, test = bind(net.program, x), None
    kernel = np.asarray(net.ntk(x, output=name), dtype=np.float64)
    rows = math.isqrt(kernel.size)
    if len(targets) != rows:
        raise fail(f"{len(targets)} targets for {rows} outputs of '{name}'")
    kernel = kernel.reshape(rows, rows)
    if step is None:
        step = stable_step(kernel)
    if x_test is not None:
        test = bind(net.program, x_test)
        cross = np.asarray(net.ntk(x_test, x, output=name), dtype=np.float64)
        kernel = np.concatenate([kernel, cross.reshape(-1, rows)])
    return Task(net.program, name, data, test, targets, LOSSES[loss], kernel), Schedule(step, looks(steps), flow)


def train(
    task: Task, width: int, seed: int, schedule: Schedule, progress: Progress | None = None,
    dtype: DTypeLike = np.float32,
) -> Training:
    """Trains one network.  Raises TensorProgError where simulation does, and when the outputs overflow."""
    what = differentiate(task.program, task.output)
    data = [task.train] if task.test is None else [task.train, task.test]
    groups = [[Group(g.sizes, g.batch) for g in d.groups] for d in data]
    sizes = {name: max(d.sizes()[name] for d in data) for name in task.train.sizes()}
    network = draw(task.program, sizes, widths_at(task.program, width, sizes), seed, dtype)
    orders = [row_order(rows_of(what, network, g), d) for g, d in zip(groups, data, strict=True)]
    slopes_at = np.argsort(orders[0])

    def velocity(network: Weighted) -> Weights:
        states = states_of(what, network, groups[0], gradients=True)
        f = outputs_of(what, states)
        slopes = task.loss.slope(f, task.targets[slopes_at]) / len(f)
        return weight_velocity(what, network, states, slopes)

    outputs, kernels = [], []
    last = schedule.counts[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        start = _whole_kernel(what, network, groups, orders)
        _check_start(start, task.kernel, network.dtype)
        for k in range(last + 1):
            if k in schedule.counts:
                outputs.append(_outputs(what, network, groups, orders))
                _check_finite(outputs[-1], width, schedule)
                kernels.append(_whole_kernel(what, network, groups[:1], orders[:1]))
            if k < last:
                network = advance(network, velocity, schedule.step, schedule.flow)
            if progress:
                progress(f"training width {width}", k / max(1, last))
    return _training(task, width, seed, schedule, np.stack(outputs), start, kernels)


def _check_start(kernel: Floats, limit: Floats, dtype: np.dtype[Any]) -> None:
    """Raises TensorProgError for a tangent kernel that overflows, or vanishes where that of the limit does not."""
    if not np.isfinite(kernel).all() or (limit.any() and not kernel.any()):
        raise fail(f"the tangent kernel leaves the range of {dtype}", hint="scale the data"
                   + ("" if dtype == np.float64 else ", or train in float64: dtype='float64', --dtype float64"))


def _check_finite(outputs: Floats, width: int, schedule: Schedule) -> None:
    if not np.isfinite(outputs).all():
        raise fail(f"training at width {width} diverges", hint=f"take a step smaller than {schedule.step:g}")


def _training(
    task: Task, width: int, seed: int, schedule: Schedule, outputs: Floats, start: Floats, kernels: Sequence[Floats]
) -> Training:
    y, n = task.targets, len(task.targets)
    losses = tuple(float(task.loss.value(f[:n], y).mean()) for f in outputs)
    return Training(
        width, seed, task.loss.name, schedule, y, outputs,
        linear_dynamics(start[:, :n], y, outputs[0], task.loss, schedule),
        linear_dynamics(task.kernel, y, outputs[0], task.loss, schedule),
        losses, movement(kernels, y, schedule.times),
    )


Groups = Sequence[Sequence[Group]]
Orders = Sequence[NDArray[np.int64]]


def _outputs(what: Differentiated, network: Weighted, groups: Groups, orders: Orders) -> Floats:
    parts = [outputs_of(what, states_of(what, network, g, gradients=False))[o]
             for g, o in zip(groups, orders, strict=True)]
    return np.concatenate(parts)


def _whole_kernel(what: Differentiated, network: Weighted, groups: Groups, orders: Orders) -> Floats:
    """The tangent kernel between all rows, in the user's order."""
    kernel = measure(what, network, [g for gs in groups for g in gs]).ntk
    assert kernel is not None
    starts = np.cumsum([0, *(len(o) for o in orders[:-1])])
    order = np.concatenate([o + s for o, s in zip(orders, starts, strict=True)])
    sorted_kernel: Floats = kernel[np.ix_(order, order)]
    return sorted_kernel


# ---------------------------------------------------------------- the movement of a kernel


def movement(kernels: Sequence[Floats], y: Floats, times: Sequence[float]) -> Movement:
    """How a kernel moves, from its values [n, n] at these times and the targets [n]."""
    first, norm = kernels[0], float(np.linalg.norm(kernels[0])) or 1.0
    same = np.where(np.sign(y)[:, None] == np.sign(y), 1.0, -1.0)
    steps = zip(kernels[:-1], kernels[1:], np.diff(times), strict=True)
    return Movement(
        tuple(float(np.linalg.norm(k - first)) / norm for k in kernels),
        tuple(_cosine(k, np.outer(y, y)) for k in kernels),
        (math.nan, *((1 - _cosine(a, b)) / float(dt) for a, b, dt in steps)),
        tuple(_cosine(k - k.mean(), same - same.mean()) for k in kernels),
    )


def _cosine(a: Floats, b: Floats) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / norms if norms > 0 else math.nan


def train_study(
    task: Task, widths: Sequence[int], seeds: int, schedule: Schedule, progress: Progress | None = None,
    dtype: DTypeLike = np.float32,
) -> TrainingStudy:
    """Trains `seeds` networks of every width, independent of each other."""
    trainings: Mapping[int, tuple[Training, ...]] = {
        w: tuple(train(task, w, 10_000 * k + s, schedule, progress, dtype) for s in range(seeds))
        for k, w in enumerate(sorted(widths))
    }
    return TrainingStudy(tuple(trainings), tuple(trainings.values()))
