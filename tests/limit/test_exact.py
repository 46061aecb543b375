"""Limits as exact numbers and polynomials in the ratios of the widths."""

from __future__ import annotations

import pytest
import sympy

import tensorprog
from tensorprog.limit.exact import NotExact, exact_value
from tests.agreement.comparing import EXAMPLES
from tests.oracles import facts
from tests.writing import program_of


def test_semicircle_moments_are_integers():
    """1, 2, 5, 14, 42 (TP0 section 7)."""
    program = tensorprog.load(EXAMPLES / "semicircle.tp", order=5).program
    found = [exact_value(program, f"m_{k}") for k in range(1, 6)]
    assert all(isinstance(m, sympy.Integer) for m in found)
    assert [int(m) for m in found] == [facts.catalan(k) for k in range(1, 6)]


def test_marchenko_pastur_moments_are_narayana_polynomials():
    """sum_k C(r-1, 2k) Cat_k a^k (1 + a)^(r-1-2k) in the ratio a = m/n, whatever the widths of the file."""
    program = tensorprog.load(EXAMPLES / "marchenko_pastur.tp").program
    a = sympy.Symbol("a")
    for r in range(1, 5):
        found = exact_value(program, f"m_{r}")
        (ratio,) = found.free_symbols or {a}
        expected = sympy.expand(facts.marchenko_pastur_moment(r, a))
        assert sympy.expand(found.subs(ratio, a) - expected) == 0
    assert str(ratio) == "(m/n)"


def test_fractions_stay_fractions():
    program = program_of("weight W: [n, n] ~ N(0, 1 / (3 * n))\nweight x: [n] ~ N(0, 1)\ng = W.T @ (W @ x)\n"
                         "output avg(g^2 - x * g / 7)")
    assert exact_value(program, "output") == sympy.Rational(2, 9) - sympy.Rational(1, 21)


@pytest.mark.parametrize(
    "body",
    [
        "input x: [d]\nweight U: [n, d] ~ N(0, 1)\noutput avg((U @ x)^2)",
        "weight u: [n] ~ N(0, 1)\noutput avg(tanh(u)^2)",
        "weight u: [n] ~ N(0, 1)\nweight v: [n] ~ N(0, 1 / n)\noutput dot(u, v)",
        "weight u: [n] ~ N(0, 1)\noutput u",
    ],
    ids=["data", "tanh", "random", "vector"],
)
def test_what_is_not_a_number_of_the_program(body):
    with pytest.raises(NotExact):
        exact_value(program_of(body), "output" if "output u" not in body else "u")
