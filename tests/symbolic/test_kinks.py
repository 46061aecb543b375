"""Where expressions are smooth."""

from __future__ import annotations

import pytest

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import HALF, ONE, Sym
from tensorprog.symbolic.kinks import is_smooth

U = Sym("u")


@pytest.mark.parametrize(
    ("e", "smooth"),
    [
        (ex.call("erf", U), True),
        (ex.power(ex.call("tanh", ex.add(U, ONE)), ex.num(2)), True),
        (ex.div(ONE, ex.add(ONE, ex.call("exp", U))), True),
        (ex.power(ex.add(ONE, ex.mul(U, U)), HALF), False),
        (ex.mul(U, ex.call("step", U)), False),
        (ex.call("erf", ex.call("abs", U)), False),
        (ex.call("ge", U, ONE), False),
    ],
)
def test_is_smooth(e: ex.Expr, smooth: bool) -> None:
    """Roots may bend at 0, comparisons jump."""
    assert is_smooth(e) is smooth
