"""What belongs to one example is taken out of quotients and roots, without changing values."""

from __future__ import annotations

import numpy as np

from tensorprog.backend.formula import interpreted, ordered
from tensorprog.backend.separate import separated
from tensorprog.backend.trace import Recorder, Scalar, Traced
from tensorprog.symbolic.orthant import minor, ratio

SIDES = frozenset("a"), frozenset("b")


def formulas(a: Scalar, b: Scalar, c: Scalar) -> list[Scalar]:
    """Quotients and roots by products of both sides, by one side, and of none."""
    det = minor(a, b, c)
    return [
        ratio(c, np.sqrt(a * b)),
        np.sqrt(np.where(a * b > 0, ratio(det, a * b), 1.0)),
        np.sqrt(ratio(det, a)),
        c / (a * b),
        ratio(a, b) / (1.0 + c * c),
        np.sqrt(a) / a,
    ]


def test_values_stay() -> None:
    """On random laws, with variances that are zero."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, (2, 200))
    c = np.sqrt(a * b) * rng.uniform(-1, 1, 200)
    a[:3], b[2:5], c[:5] = 0.0, 0.0, 0.0
    recorder = Recorder()
    plain = formulas(*(recorder.input(n) for n in "abc"))
    inputs = {"a": a, "b": b, "c": c}
    with np.errstate(all="ignore"):
        before, after = (interpreted(v, inputs) for v in (plain, separated(plain, SIDES, recorder)))
    for x, y in zip(before, after, strict=True):
        finite = np.isfinite(x)
        np.testing.assert_allclose(np.where(finite, y, 0.0), np.where(finite, x, 0.0), rtol=1e-14)


def test_pairs_are_left_without_quotients() -> None:
    """Of a correlation and its determinant, one root of a pair is left."""
    recorder = Recorder()
    values = separated(formulas(*(recorder.input(n) for n in "abc"))[:4], SIDES, recorder)
    pairs = [n for n in ordered(values) if isinstance(n, Traced) and not any(n.inputs <= s for s in SIDES)]
    assert sum(n.op == "div" for n in pairs) == 0 and sum(n.op == "sqrt" for n in pairs) == 1
