"""At positive variances their powers cancel, without changing values."""

from __future__ import annotations

import numpy as np

from tensorprog.backend.formula import interpreted, ordered
from tensorprog.backend.positive import where_positive
from tensorprog.backend.separate import separated
from tensorprog.backend.trace import Recorder, Scalar
from tensorprog.symbolic.orthant import minor, ratio

SIDES = frozenset("a"), frozenset("b")


def formulas(a: Scalar, b: Scalar, c: Scalar) -> list[Scalar]:
    """What expectations of half-lines are made of."""
    det = minor(a, b, c)
    rho = np.clip(ratio(c, np.sqrt(a * b)), -1.0, 1.0)
    rest = np.sqrt(np.where(a * b > 0, ratio(det, a * b), 1.0))
    return [
        np.arctan2(rest, -rho),
        np.arctan2(rho, rest),
        0.4 * np.sqrt(a) * (0.3 * np.where(a > 0, np.sqrt(b) * rest, 1.0)),
        np.where(rho < -0.9, 1.0, 0.0),
        np.where(rho > 0.5, rho * rho, np.exp(rho)),
        ratio(c, a) + a * b / (1.0 + c * c),
    ]


def recordings() -> tuple[list[Scalar], list[Scalar]]:
    """Formulas before and after."""
    recorder = Recorder()
    plain = separated(formulas(*(recorder.input(n) for n in "abc")), SIDES, recorder)
    return plain, where_positive(plain, ("a", "b"), recorder)


def test_values_stay() -> None:
    """On random laws, among them equal and opposite arguments."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, (2, 300))
    c = np.sqrt(a * b) * rng.uniform(-1, 1, 300)
    a[:100], c[:50], c[50:100] = b[:100], b[:50], -b[50:100]
    inputs = {"a": a, "b": b, "c": c}
    before, after = (interpreted(v, inputs) for v in recordings())
    for x, y in zip(before, after, strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-14, atol=1e-16)


def test_an_angle_needs_variances_only() -> None:
    """No roots and inverses of these; and the choice between guards is made."""
    _, found = recordings()
    nodes = ordered(found[:4])
    assert sum(n.op == "sqrt" for n in nodes) == 1
    assert not any(n.op in ("div", "max", "min") for n in nodes)
    assert sum(n.op == "where" for n in nodes) == 2


def test_an_angle_turns_only_where_its_complement_comes_first() -> None:
    """Angles beside c = 0 keep relative errors; a root with a sign is no complement that is not negative."""
    recorder = Recorder()
    a, b, c = (recorder.input(n) for n in "abc")
    rho, rest = np.clip(ratio(c, np.sqrt(a * b)), -1.0, 1.0), np.sqrt(ratio(minor(a, b, c), a * b))
    angles = [np.arctan2(rest, rho), np.arctan2(rho, rest), np.arctan2(-rest, rho)]
    found = where_positive(separated(angles, SIDES, recorder), ("a", "b"), recorder)
    assert [v.op for v in found] == ["turn", "atan2", "atan2"]


def test_a_cut_beside_something_else_stays() -> None:
    """The complement of another correlation is no reason to leave out a cut."""
    recorder = Recorder()
    a, b, c, d = (recorder.input(n) for n in "abcd")
    rho, rest = np.clip(ratio(c, np.sqrt(a * b)), -1.0, 1.0), np.sqrt(ratio(minor(a, b, d), a * b))
    plain = separated([np.arctan2(rest, rho)], SIDES, recorder)
    assert any(n.op == "max" for n in ordered(where_positive(plain, ("a", "b"), recorder)))
