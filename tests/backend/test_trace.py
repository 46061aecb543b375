"""Recorded formulas say what the arrays say."""

from __future__ import annotations

import numpy as np
import pytest

from tensorprog.backend.formula import Arguments, frontier, interpreted, ordered, recorded
from tensorprog.backend.trace import NotTraceable, Recorder, Traced
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Sym
from tensorprog.symbolic.expectation import Moments, Request, plan

L, R = Sym("l0"), Sym("r0")
FUNCTIONS = {
    "relu": lambda u: ex.call("max", u, ex.ZERO),
    "step": lambda u: ex.call("step", u),
    "abs": lambda u: ex.call("abs", u),
    "erf": lambda u: ex.call("erf", u),
    "gelu": lambda u: ex.mul(u, ex.call("normcdf", u)),
    "sin": lambda u: ex.call("sin", u),
    "exp": lambda u: ex.call("exp", u),
    "gaussian": lambda u: ex.call("exp", ex.neg(ex.mul(u, u))),
    "cube": lambda u: ex.power(u, ex.num(3)),
    "square of relu": lambda u: ex.power(ex.call("max", u, ex.ZERO), ex.num(2)),
}


def laws(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances and covariances, some of them at correlation one and zero."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.1, 3, (2, count))
    c = np.sqrt(a * b) * rng.uniform(-1, 1, count)
    b[:9], c[:9] = a[:9], a[:9]
    c[9:12] = 0.0
    return a, b, c


def arguments(recorder: Recorder) -> Arguments:
    """Two centred variables."""
    a, b, c = (recorder.input(n) for n in "abc")
    return Arguments((0.0, 0.0), ((a, c), (c, b)), {}, (1, 1))


def pair(f: object) -> Request:
    """E[f(l) f(r)]"""
    assert callable(f)
    left: Expr = f(L)
    right: Expr = f(R)
    return Request(left, ("l0",), right, ("r0",))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_recorded_equals_arrays(name: str) -> None:
    """Where the recorded error settles an entry, its value is that of the array program, up to rounding."""
    expectation = plan(pair(FUNCTIONS[name]))
    assert expectation is not None
    value, error = recorded(expectation, arguments(Recorder()))
    a, b, c = laws(300)
    got, doubt = interpreted([value, error], {"a": a, "b": b, "c": c})
    zero = np.zeros((1, 300))
    wanted, _ = expectation.evaluate(Moments(zero, a[None, None], zero, b[None, None], c[None, None]), {})
    settled = doubt <= 1e-10 * np.abs(got)
    assert settled.mean() > 0.5
    np.testing.assert_allclose(got[settled], wanted[settled], rtol=1e-13)


def test_what_depends_on_one_side_is_split_off() -> None:
    """Roots of variances belong to one example, whatever the other."""
    expectation = plan(pair(FUNCTIONS["relu"]))
    assert expectation is not None
    value, _ = recorded(expectation, arguments(Recorder()))
    left = frontier([value], frozenset("a"))
    assert left and all(n.inputs == {"a"} for n in left)
    rest = ordered([value], frozenset(map(id, left)))
    inner = [x for n in rest for x in n.args if isinstance(x, Traced) and x.inputs == {"a"}]
    assert all(any(x is n for n in left) for x in inner)


def test_equal_operations_are_one_node_and_constants_fold() -> None:
    """x * y twice is one node; 0 * x is 0, x + 0 is x."""
    recorder = Recorder()
    x, y = recorder.input("x"), recorder.input("y")
    assert x * y is x * y
    assert x * 0.0 == 0.0 and (x + 0.0) is x and np.where(True, x, y) is x
    assert np.sqrt(x) is np.sqrt(x)


def test_decisions_about_one_entry_are_refused() -> None:
    """An `if` on an entry cannot be recorded."""
    with pytest.raises(NotTraceable):
        bool(Recorder().input("x") > 0)


def test_quadrature_has_no_scalar_code() -> None:
    """What is integrated numerically says so."""
    expectation = plan(pair(lambda u: ex.call("tanh", u)))
    assert expectation is not None
    with pytest.raises(NotTraceable):
        recorded(expectation, arguments(Recorder()))
