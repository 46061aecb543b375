"""Sign symmetries: affine spaces over the field of two elements, and the expectations that they make vanish."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorprog.ir import expr as ex
from tensorprog.limit.parity import CONSTANT, Characters, function_characters, make, reduce_by

MASKS = st.integers(0, 31)
SPACES = st.builds(make, MASKS, st.lists(MASKS, max_size=4).map(tuple))
FAST = settings(max_examples=60, deadline=None, derandomize=True)
U, V, W = (ex.Sym(s) for s in "uvw")
ODD_U = {"u": Characters(1)}
GROUPS = {"u": Characters(1), "v": Characters(2), "w": Characters(4)}


def members(c: Characters) -> set[int]:
    """All characters of the space, written out."""
    found = {c.offset}
    for b in c.basis:
        found |= {m ^ b for m in found}
    return found


# ---------------------------------------------------------------- the space


@FAST
@given(SPACES)
def test_the_echelon_form_is_reduced(c):
    leading = [b.bit_length() for b in c.basis]
    assert leading == sorted(set(leading), reverse=True) and all(c.basis)
    assert len(members(c)) == 2 ** len(c.basis)
    assert c.offset == reduce_by(c.offset, c.basis) == min(members(c))


@FAST
@given(SPACES, st.data())
def test_equal_spaces_are_equal_data(c, data):
    span = sorted(m ^ c.offset for m in members(c))
    generators = data.draw(st.permutations(span))
    assert make(data.draw(st.sampled_from(sorted(members(c)))), tuple(generators)) == c


@FAST
@given(SPACES, SPACES)
def test_the_characters_of_a_product_are_the_products(a, b):
    assert members(a.times(b)) == {x ^ y for x in members(a) for y in members(b)}


@FAST
@given(SPACES, SPACES)
def test_the_characters_of_a_sum_are_the_smallest_space_that_holds_both(a, b):
    found = members(a.plus(b))
    assert members(a) | members(b) <= found
    triples = {x ^ y ^ z for x, y, z in itertools.product(members(a) | members(b), repeat=3)}
    assert found == {x ^ y ^ z for x, y, z in itertools.product(triples, repeat=3)}


@FAST
@given(SPACES)
def test_functions_of_one_variable(c):
    assert c.has_mean == (0 in members(c))
    assert members(c.even()) == {x ^ y for x in members(c) for y in members(c)}
    assert members(c.any()) == members(c) | members(c.even()) and c.any().has_mean


# ---------------------------------------------------------------- nonlinearities


@pytest.mark.parametrize(
    ("fn", "mean"),
    [
        (ex.call("tanh", U), False),
        (ex.call("cos", U), True),
        (ex.call("max", U, ex.ZERO), True),
        (ex.power(U, ex.num(3)), False),
        (ex.power(U, ex.num(2)), True),
        (ex.power(U, ex.num(Fraction(1, 2))), True),
        (ex.mul(U, ex.call("cos", U)), False),
        (ex.mul(U, ex.call("sign", U)), True),
        (ex.mul(U, ex.call("max", V, ex.ZERO)), False),  # a readout times a feature
        (ex.add(U, ex.call("tanh", U)), False),
        (ex.add(U, ex.ONE), True),
        (ex.mul(ex.add(U, V), U), True),
        (ex.mul(ex.add(U, V), W), False),
        (ex.mul(U, V, ex.call("sin", ex.mul(U, V))), True),
        (ex.mul(U, ex.call("sin", ex.mul(U, V))), False),
        (ex.ONE, True),
    ],
)
def test_which_means_can_differ_from_zero(fn, mean):
    assert function_characters(fn, GROUPS).has_mean == mean


def test_what_is_not_known_is_constant():
    assert function_characters(ex.Sym("theta"), ODD_U) == CONSTANT
    assert function_characters(ex.mul(ex.Sym("theta"), U), ODD_U) == Characters(1)


def compound(inner):
    unary = st.sampled_from(["tanh", "cos", "abs", "sin", "exp", "step", "normpdf", "atan"])
    return st.one_of(
        st.builds(ex.add, inner, inner),
        st.builds(ex.mul, inner, inner),
        st.builds(lambda e, k: ex.power(e, ex.num(k)), inner, st.sampled_from([2, 3])),
        st.builds(lambda f, e: ex.call(f, e), unary, inner),
        st.builds(lambda e: ex.call("max", e, ex.ZERO), inner),
    )


EXPRESSIONS = st.recursive(st.sampled_from([U, V, W, ex.num(2)]), compound, max_leaves=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(EXPRESSIONS)
def test_a_mean_that_is_said_to_vanish_does(fn):
    """Summed over all changes of sign of u, v and w the function is zero at every point."""
    if function_characters(fn, GROUPS).has_mean:
        return
    total, size = 0.0, 1.0
    for signs in itertools.product((1, -1), repeat=3):
        point = {k: s * x for k, s, x in zip("uvw", signs, (0.31, 0.23, 0.47), strict=True)}
        with np.errstate(all="ignore"):
            value = float(ex.evaluate(fn, point))
        total, size = total + value, max(size, abs(value))
    assert not np.isfinite(size) or abs(total) < 1e-9 * size
