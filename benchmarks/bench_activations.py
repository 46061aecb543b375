"""The table of activations, docs/activations.md: who serves their expectations, how fast, and how far from 24 digits.

    python -m benchmarks.bench_activations            prints the table and writes docs/activations.md
    python -m benchmarks.bench_activations --check    prints it only

The reference values are those of `tests/oracles/gaussian_reference.npz`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import TensorProgError
from tensorprog.ir.expr import derivative_of, differentiate
from tensorprog.symbolic.expectation import Expectation, Moments, Request, plan
from tests.oracles.activations import ACTIVATIONS
from tests.oracles.gaussian_reference import FILE

PAGE = Path(__file__).parent.parent / "docs" / "activations.md"
ENTRIES = 300  # rows and columns of the timed matrix
SMALL = 1e-12  # of the scale: values below are compared with the scale
ROUNDING = 4 * float(np.finfo(float).eps)  # of value and reference, that no estimate needs to cover
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """What the engine does with one expectation."""

    form: str
    nanoseconds: float
    error: float  # the worst relative one
    covered: int  # laws where the reported error covers the true one
    laws: int
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As columns of the table."""
        speed = f"{self.nanoseconds:.0f} ns" if self.nanoseconds < 1000 else f"{self.nanoseconds / 1000:.1f} us"
        return self.form, speed, f"{self.error:.0e}", f"{self.covered}/{self.laws}{self.note}"


def row(name: str, order: int, data: dict[str, Array]) -> Row:
    """Evaluate one activation (order 0) or its slope (order 1) on all laws."""
    e = derivative_of(ACTIVATIONS[name].text)
    e = differentiate(e, "u") if order else e
    p = plan(Request(e, ("u",), e, ("u",)))
    assert p is not None, name
    wanted, scale = data[f"{name}/value"][order], data[f"{name}/scale"][order]
    exists, finite = ~np.isnan(wanted), np.isfinite(wanted)
    value, bound = evaluate(p, data["laws"][finite])
    gap = np.abs(value - wanted[finite])
    size = np.where(finite & np.isfinite(scale), scale, 0.0)[finite]
    against = np.where(np.abs(wanted[finite]) < SMALL * size, size, np.abs(wanted[finite]))
    relative = np.divide(gap, against, out=np.where(gap > 0, np.inf, 0.0), where=against > 0)
    covered = gap <= bound + ROUNDING * np.abs(wanted[finite]) + ROUNDING * SMALL * size
    refused = [law for law in data["laws"][~exists] if not refuses(p, law)]
    return Row(
        p.tier,
        speed(p, 2.0 if ACTIVATIONS[name].growth else 4.0),
        float(np.max(relative)),
        int(np.sum(covered)),
        int(np.sum(finite)),
        note(exists, finite) + (" (not refused!)" if refused else ""),
    )


def note(exists: Array, finite: Array) -> str:
    """What the table says about laws without a value."""
    text = "" if np.all(exists) else f", {np.sum(~exists)} do not exist"
    return text + ("" if np.all(exists <= finite) else f", {np.sum(exists & ~finite)} too large for float64")


def evaluate(p: Expectation, laws: Array) -> tuple[Array, Array]:
    """Values and error estimates at laws [L, 4] of mean zero."""
    a, b, c, _ = laws.T
    zero = np.zeros((1, len(laws)))
    return p.evaluate(Moments(zero, a[None, None], zero, b[None, None], c[None, None]), {})


def refuses(p: Expectation, law: Array) -> bool:
    """Whether the engine says that an expectation does not exist."""
    try:
        evaluate(p, law[None])
    except TensorProgError:
        return True
    return False


def speed(p: Expectation, largest: float) -> float:
    """Nanoseconds per entry of a matrix with variances up to `largest`, the best of three runs."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, ENTRIES, 8))
    a, b = (np.minimum(np.sum(z * z, axis=1) / 8, largest) for z in (x, y))
    c = 0.9 * (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1) * np.sqrt(np.outer(a, b))
    zero = np.zeros((1, 1, 1))
    moments = Moments(zero, a[None, None, :, None], zero, b[None, None, None, :], c[None, None])
    return min(timed(p, moments) for _ in range(3)) / ENTRIES**2 * 1e9


def timed(p: Expectation, moments: Moments) -> float:
    """Seconds of one evaluation."""
    start = time.perf_counter()
    p.evaluate(moments, {})
    return time.perf_counter() - start


HEADER = """# Activations

Made by `python -m benchmarks.bench_activations`. Every activation `f` with the expectations that its kernels need,
`E[f(u) f(v)]` (NNGP) and `E[f'(u) f'(v)]` (NTK), as they follow from the rules; none of these functions is known to the
engine by its name.

- *form*: a finite formula derived by rules (closed), or quadrature with an error estimate.
- *time*: per entry of a 300 by 300 matrix, one core.
- *error*: the worst relative error over {laws} laws: variances (1e-6, 1e-6), (1e-6, 1e6), (0.1, 100), (1, 1) and
  (1e6, 1e6), each with the correlations -1, -1 + 1e-12, -0.6, 0, 0.9, 1 - 1e-4, 1 - 1e-12, 1. The reference
  (`tests/oracles/gaussian_reference.npz`: mpmath, 24 digits or more, functions and slopes written by hand) belongs to
  the very floats that the engine is given. Where a value is below 1e-12 of `sqrt(E f(u)^2 E f(v)^2)`, as for odd
  functions of independent variables, the error is relative to that product of norms instead.
- *covered*: at how many of the laws the error that the engine reports is at least the true one. Products of point
  masses at one place (the NTK of a step at equal inputs) do not exist, and the engine refuses them.

| activation | definition | E[f f] form | time | error | covered | E[f' f'] form | time | error | covered |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main() -> None:
    """Print the table; write it."""
    data = dict(np.load(FILE))
    page = HEADER.format(laws=len(data["laws"]))
    for name, activation in ACTIVATIONS.items():
        cells = [c for order in (0, 1) for c in row(name, order, data).cells]
        line = "| " + " | ".join([name, f"`{activation.text}`", *cells]) + " |\n"
        print(line, end="", flush=True)
        page += line
    if "--check" not in sys.argv:
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
