"""The data sets that come with scikit-learn, in the shape that a program wants.

    x: [d]             the features              x[H, W]: [c]   the 8 x 8 image, one channel (digits)
    x[T]: [d]          the rows of the image     x[B]: [d], output f[i in B]   batches of examples
    A[V, V], x[V]: [d] a ring of the rows of the image, every node joined to itself and its two neighbours
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail
from tensorprog.ir.program import Input, Program

BUNDLED = ("digits", "iris", "wine", "breast_cancer", "diabetes")
BATCH = 8

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Labelled:
    """Inputs by name and `targets`, [N] or [batches, B]: class labels, or numbers when not `classes`."""

    name: str
    x: dict[str, Floats]
    targets: NDArray[Any]
    classes: bool

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, n: int) -> Labelled:
        """The first n examples."""
        return Labelled(self.name, {k: v[:n] for k, v in self.x.items()}, self.targets[:n], self.classes)


def bundled(name: str, program: Program) -> Labelled:
    """The data set `name`, shuffled, features of mean 0 and variance 1, shaped for the inputs of `program`.

    Raises TensorProgError when the program wants a shape that the set does not have.
    """
    features, targets = _load(name)
    chosen = _layout(program)
    if chosen is None:
        raise fail(f"the data set {name} has no layout for the inputs of '{program.name}'", program.span,
                   "give data of your own: --data FILE.npz with one entry per input")
    x, y = chosen(program, features, targets)
    return Labelled(name, x, y, name != "diabetes")


def _load(name: str) -> tuple[Floats, NDArray[Any]]:
    from sklearn import datasets

    if name not in BUNDLED:
        raise fail(f"there is no data set '{name}'", hint=f"bundled sets: {', '.join(BUNDLED)}; files: .npy .npz .csv")
    loaded = getattr(datasets, f"load_{name}")()
    order = np.random.default_rng(0).permutation(len(loaded.target))
    features = np.asarray(loaded.images if name == "digits" else loaded.data, dtype=np.float64)[order]
    each = None if name == "digits" else 0  # the pixels of images share one scale
    return (features - features.mean(axis=each)) / features.std(axis=each), np.asarray(loaded.target)[order]


Layout = Callable[[Program, Floats, NDArray[Any]], tuple[dict[str, Floats], NDArray[Any]]]


def _layout(program: Program) -> Layout | None:
    """How data is laid out for the inputs of a program."""
    inputs = program.inputs
    if len(inputs) == 1:
        return _batches if is_batched(program) else _single
    graphs = [i for i in inputs if _is_matrix(i)]
    nodes = [i for i in inputs if len(i.axes) == 1 and i.dim is not None]
    matching = len(inputs) == 2 and any(g.axes[0].extent == n.axes[0].extent for g in graphs for n in nodes)
    return _ring if matching else None


def is_batched(program: Program) -> bool:
    """Whether the axis of the one input comes back in the outputs: each example is a batch of examples."""
    only = program.inputs[0]
    outputs = [program.var(o.var).axes for o in program.outputs]
    return len(only.axes) == 1 and any(a.extent == only.axes[0].extent for axes in outputs for a in axes)


def _is_matrix(i: Input) -> bool:
    return len(i.axes) == 2 and i.dim is None and i.axes[0].extent == i.axes[1].extent


def _single(program: Program, features: Floats, targets: NDArray[Any]) -> tuple[dict[str, Floats], NDArray[Any]]:
    """Each example by itself, with as many axes as the input has."""
    only = program.inputs[0]
    images = features if features.ndim == 3 else features[:, :, None]
    rank = len(only.axes) + (only.dim is not None)
    shaped = {1: features.reshape(len(features), -1), 2: images, 3: features[..., None]}.get(rank)
    if shaped is None or shaped.ndim != rank + 1:
        raise fail(f"the data set has no examples with {rank} axes, which input '{only.name}' wants", only.span)
    return {only.name: shaped}, targets


def _batches(program: Program, features: Floats, targets: NDArray[Any]) -> tuple[dict[str, Floats], NDArray[Any]]:
    """Batches of examples, the vector of each its features."""
    count = len(features) // BATCH
    x = features[: count * BATCH].reshape(count, BATCH, -1)
    return {program.inputs[0].name: x}, targets[: count * BATCH].reshape(count, BATCH)


def _ring(program: Program, features: Floats, targets: NDArray[Any]) -> tuple[dict[str, Floats], NDArray[Any]]:
    """The rows of an image (or single features) as nodes of a ring, with the normalized adjacency matrix."""
    nodes = features if features.ndim == 3 else features[:, :, None]
    ring = np.eye(nodes.shape[1])
    adjacency = (ring + np.roll(ring, 1, axis=0) + np.roll(ring, -1, axis=0)) / 3
    graph = next(i.name for i in program.inputs if _is_matrix(i))
    other = next(i.name for i in program.inputs if i.name != graph)
    return {graph: np.repeat(adjacency[None], len(nodes), axis=0), other: nodes}, targets
