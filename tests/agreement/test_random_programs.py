"""Programs put together at random from the primitives: the limit agrees with simulation, and its tiers agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tensorprog
from tensorprog.api import Network

X = np.random.default_rng(11).standard_normal((3, 4))
SMOOTH = ("erf", "tanh", "sin")
ACTIVATIONS = (*SMOOTH, "relu")


@dataclass
class Writer:
    """Lines of a program; `square` are the names of the n by n matrices so far."""

    lines: list[str] = field(default_factory=list)
    square: list[str] = field(default_factory=list)
    count: int = 0

    def fresh(self, prefix: str, law: str) -> str:
        self.count += 1
        name = f"{prefix}_{self.count}"
        self.lines.append(f"weight {name}: {law}")
        return name

    def matrix(self) -> str:
        name = self.fresh("W", "[n, n] ~ N(0, 1 / n)")
        self.square.append(name)
        return name

    def let(self, value: str) -> None:
        self.lines.append(f"h = {value}")

    def text(self) -> str:
        head = ["program p():", "    width n = 64", "    input x: [d]", "    weight U: [n, d] ~ N(0, 1 / d)"]
        tail = ["weight v: [n] ~ N(0, 1 / n)", "output dot(v, h)"]
        return "\n".join([*head, "    h = U @ x", *("    " + line for line in self.lines + tail)]) + "\n"


def layer(choose: Callable, w: Writer, activations: Sequence[str]) -> None:
    """One step: a layer, a residual branch, a gate, a matrix used again, or a matrix and its transpose."""
    f, g = choose(activations), choose(activations)
    kind = choose(["dense", "residual", "gate", "again", "transpose"])
    if kind == "dense":
        bias = w.fresh("b", "[n] ~ N(0, 0.1)")
        w.let(f"{w.matrix()} @ {f}(h) + {bias}")
    elif kind == "residual":
        w.let(f"h + {w.matrix()} @ {f}(h) / 2")
    elif kind == "gate":
        a, b = w.matrix(), w.matrix()
        w.let(f"({a} @ {f}(h)) * {g}({b} @ {f}(h))")
    elif kind == "again":
        a = choose(w.square) if w.square else w.matrix()
        w.let(f"{a} @ {f}({a} @ {g}(h))")
    else:
        a = choose(w.square) if w.square else w.matrix()
        w.let(f"{a}.T @ {f}({a} @ {g}(h)) / 2 + h / 2")


def written(choose: Callable, activations: Sequence[str] = ACTIVATIONS, most: int = 3) -> str:
    """A program; `choose` takes one of several things."""
    w = Writer()
    for _ in range(choose(range(1, most + 1))):
        layer(choose, w, activations)
    w.let(f"{choose(activations)}(h)")
    return w.text()


@st.composite
def programs(draw, activations=ACTIVATIONS, most: int = 3) -> str:
    return written(lambda options: draw(st.sampled_from(options)), activations, most)


def agrees(net: Network) -> None:
    """The means of both kernels, extrapolated to infinite width, are within 4 standard deviations."""
    found = net.validate(X, widths=(64, 128, 256), seeds=16)
    assert found.verdict != "disagrees" and found.nngp is not None and found.ntk is not None, str(found)
    for study in (found.nngp, found.ntk):
        assume(study.extrapolated.noise < 0.4)  # products of relus have heavy tails
        assert study.extrapolated.z < 4, str(found)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(programs())
def test_the_limit_agrees_with_simulation(text):
    agrees(tensorprog.load(text))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs(most=4))
def test_the_limit_of_longer_programs_agrees_with_simulation(text):
    agrees(tensorprog.load(text))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(programs(SMOOTH, 2))
def test_sampling_agrees_with_the_other_tiers(text):
    net = tensorprog.load(text)
    best, drawn = net.kernels(X), net.kernels(X, tier="sampling", samples=1024)
    for kind in ("nngp", "ntk"):
        a, b, error = getattr(best, kind), getattr(drawn, kind), getattr(drawn, f"{kind}_se")
        own = getattr(best, f"{kind}_se")
        noise = np.hypot(error, 0 if own is None else own)
        assert np.linalg.norm(a - b) < 4 * np.linalg.norm(noise) < 0.5 * np.linalg.norm(a), text
