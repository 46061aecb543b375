"""Index maps as integers."""

from __future__ import annotations

import pytest

from tensorprog.ir.expr import Sym, add, div, num, sub
from tensorprog.ir.program import Axis
from tensorprog.ir.tables import read_table


@pytest.mark.parametrize("q", [3, 5, 6, 7, 10])
def test_parts_of_an_index_add_up_to_a_whole_number(q: int) -> None:
    """i/q + (L - i)/q is L/q for every i, whatever rounding does to the parts."""
    i, size = Sym("i"), Sym("L")
    parts = add(div(i, num(q)), div(sub(size, i), num(q)))
    for k in range(1, 30):
        found = read_table((parts,), (Axis("i", size),), (Axis("j", size),), {"L": q * k})
        assert (found == k).all()
