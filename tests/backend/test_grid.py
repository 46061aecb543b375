"""Operations of product tapes: sums turned forward, numbers folded, loops whose arrays do not overlap."""

import ctypes

import numpy as np
import pytest
from numba import cfunc, types

from tensorprog.backend.access import NUMBERS, behind, called, given, results
from tensorprog.backend.grid_forward import folded, forward, ordered_by_key
from tensorprog.backend.grid_ops import Op
from tensorprog.tape.blocks import Key

X, A, SEED, D, E, OUT = ("x",), ("a",), ("seed",), ("d",), ("e",), ("ntk",)
SIZES = {X: (5, 4), A: (5, 4), SEED: (5, 4), D: (5, 4), E: (5, 4), OUT: (2, 2)}


def computed(ops: tuple[Op, ...], sizes: dict[Key, tuple[int, int]], data: dict[Key, np.ndarray]) -> np.ndarray:
    """The slot of OUT, entry by entry."""
    values = {k: data.get(k, np.zeros(n)).copy() for k, n in sizes.items()}
    for op in ops:
        for i, c in zip(op.tables[0], op.coefs[0], strict=True):
            for j, d in zip(op.tables[1], op.coefs[1], strict=True):
                if op.kind != "data":
                    reads = [values[k][i[1 + n], j[1 + n]] for n, k in enumerate(op.reads)]
                    values[op.outs[0]][i[0], j[0]] += c * d * np.prod(reads)
    return values[OUT][1, 1]


def op(kind: str, out: Key, *reads: Key, seed: int = 0) -> Op:
    """Random entries; all in one slot where the result has one."""
    rng = np.random.default_rng(seed)
    tables = []
    for g in (0, 1):
        columns = [rng.integers(1, SIZES[k][g], 6) for k in (out, *reads)]
        tables.append(np.column_stack(columns))
    return Op(kind, (out,), reads, (tables[0], tables[1]), (rng.normal(size=6), rng.normal(size=6)))


ADJOINTS = (
    op("data", X),
    op("data", A),
    op("constant", SEED, seed=1),
    op("times", D, SEED, A, seed=2),
    op("mix", E, D, seed=3),
    op("mix", E, SEED, seed=4),
    op("times", OUT, D, X, seed=5),
    op("times", OUT, E, A, seed=6),
    op("mix", OUT, E, seed=7),
)


@pytest.fixture
def data() -> dict[Key, np.ndarray]:
    """Numbers at all slots but 0."""
    rng = np.random.default_rng(8)
    return {k: np.pad(rng.normal(size=(4, 3)), ((1, 0), (1, 0))) for k in (X, A)}


def test_sums_over_adjoints_turn_forward(data: dict[Key, np.ndarray]) -> None:
    """The same sum, in which no adjoint is left."""
    sizes = dict(SIZES)
    found = forward(ADJOINTS, sizes, OUT, [OUT, X, A])
    assert not {k for x in found for k in (*x.outs, *x.reads)} & {D, E, SEED}
    found = ordered_by_key(folded(found, sizes, [OUT]), [OUT])
    assert np.isclose(computed(found, sizes, data), computed(ADJOINTS, SIZES, data), rtol=1e-13)


def test_adjoints_that_something_else_reads_stay(data: dict[Key, np.ndarray]) -> None:
    """A square of an adjoint is not linear in it."""
    ops = (*ADJOINTS[:6], op("times", OUT, E, E, seed=9))
    assert forward(ops, dict(SIZES), OUT, [OUT, X, A]) == ops
    found = folded(ops, SIZES, [OUT])
    assert np.isclose(computed(found, SIZES, data), computed(ops, SIZES, data), rtol=1e-13)


def test_loops_that_write_apart_become_vectors() -> None:
    """No copies of the loop for arrays that overlap, and no gathers."""
    first, second = results[0], results[1]

    @cfunc(types.void(NUMBERS, *[types.int64] * 4), error_model="numpy")
    def apart(x, n, a, b, c):  # type: ignore[no-untyped-def]
        for q in range(n):
            y = given(x, a + q)
            first(x, b + q, y * y)
            second(behind(x, c), q, 1.0 / y)

    x = np.concatenate([np.arange(1.0, 41.0), np.zeros(80)])
    apart.ctypes(x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), 40, 0, 40, 80)
    assert np.array_equal(x[40:80], x[:40] ** 2)
    assert np.array_equal(x[80:], 1 / x[:40])
    code = apart.inspect_llvm()
    assert "x double> " in code and "gather" not in code and "memcheck" not in code


def test_functions_are_called_by_address() -> None:
    """With the arguments of a tuple, pointers among them."""

    @cfunc(types.int64(NUMBERS, types.int64))
    def last(x, n):  # type: ignore[no-untyped-def]
        return int(x[n - 1])

    @cfunc(types.int64(types.int64, NUMBERS, types.int64))
    def twice(address, x, n):  # type: ignore[no-untyped-def]
        return 2 * called(address, (x, n))

    x = np.array([3.0, 4.0, 5.0])
    assert twice.ctypes(last.address, x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)), 3) == 10
