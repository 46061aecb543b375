"""Data files, and the bundled sets in the shapes that programs want."""

import pickle

import numpy as np
import pytest

from tensorprog.dataset import bind
from tensorprog.errors import TensorProgError
from tensorprog.loading import bundled, gaussian_data, load_file
from tests.writing import program_of


def test_npy_and_npz(tmp_path):
    x = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "one.npz", x)
    np.savez(tmp_path / "two.npz", A=x, x=2 * x)
    np.testing.assert_array_equal(load_file(tmp_path / "x.npy"), x)
    np.testing.assert_array_equal(load_file(tmp_path / "one.npz"), x)
    assert set(load_file(tmp_path / "two.npz")) == {"A", "x"}


def test_ragged_npz_in_the_order_of_the_numbers(tmp_path):
    parts = {f"x.{k}": np.full((k + 1, 2), float(k)) for k in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    np.savez(tmp_path / "r.npz", **parts)
    assert [len(a) for a in load_file(tmp_path / "r.npz")["x"]] == list(range(1, 12))
    np.savez(tmp_path / "gap.npz", **{"x.0": np.ones(1), "x.2": np.ones(1)})
    with pytest.raises(TensorProgError, match=r"x\.0, \.\.\., x\.1"):
        load_file(tmp_path / "gap.npz")


@pytest.mark.parametrize("header", ["", "a,b\n", "\ufeffa,b\n"])
def test_csv(tmp_path, header):
    (tmp_path / "x.csv").write_text(header + "1,2\n3,4.5\n", encoding="utf-8")
    np.testing.assert_array_equal(load_file(tmp_path / "x.csv"), [[1, 2], [3, 4.5]])


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [("x.csv", b"1,2\n3,a\n", "'a'"), ("x.npy", b"nothing", "cannot read"), ("x.npz", b"PK\x03\x04", "cannot read"),
     ("x.npy", pickle.dumps([1]), "cannot read"), ("x.txt", b"1", ".npy, .npz, .csv"), ("x.csv", b"\xff\n1", "cannot")],
)
def test_broken_files(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TensorProgError, match=part):
        load_file(tmp_path / name)


def test_missing_and_objects(tmp_path):
    with pytest.raises(TensorProgError, match="no data file"):
        load_file(tmp_path / "x.npy")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(TensorProgError, match="cannot read"):
        load_file(tmp_path / "o.npy")


READOUTS = {
    "x: [d]": "W @ x", "x[T]: [d]": "mean(t in T) W @ x[t]", "x[H, V]: [d]": "mean(i in H, j in V) W @ x[i, j]",
}


def program_with(declaration: str, readout: str, output: str = "output dot(v, {})"):
    weights = "weight W: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)"
    return program_of(f"input {declaration}\n{weights}\n{output.format(readout)}")


@pytest.mark.parametrize(
    ("declaration", "sizes"),
    [("x: [d]", {"d": 64}), ("x[T]: [d]", {"T": 8, "d": 8}), ("x[H, V]: [d]", {"H": 8, "V": 8, "d": 1})],
)
def test_digits_take_the_shape_of_the_input(declaration, sizes):
    program = program_with(declaration, READOUTS[declaration])
    data = bundled("digits", program).first(5)
    assert bind(program, data.x).groups[0].sizes == sizes
    assert len(data) == 5 and data.classes


def test_batches_and_graphs():
    batched = program_with("x[B]: [d]", "W @ x[i]", "output f[i in B] = dot(v, {})")
    data = bundled("iris", batched)
    assert data.x["x"].shape[1:] == data.targets.shape[1:] + (4,)
    graph = program_with("A[V, V]\ninput x[V]: [d]", "mean(u in V) sum(w in V) A[u, w] * (W @ x[w])")
    x = bundled("digits", graph).x
    assert x["A"].shape[1:] == (8, 8) and x["x"].shape[1:] == (8, 8)
    np.testing.assert_allclose(x["A"].sum(axis=2), 1)


def test_what_a_set_does_not_have():
    with pytest.raises(TensorProgError, match="3 axes"):
        bundled("iris", program_with("x[H, V]: [d]", READOUTS["x[H, V]: [d]"]))
    with pytest.raises(TensorProgError, match="no data set 'mnist'"):
        bundled("mnist", program_with("x: [d]", "W @ x"))


def test_gaussian_data_fits():
    program = program_with("x[T]: [d]", READOUTS["x[T]: [d]"])
    assert bind(program, gaussian_data(program, 3)).count == 3
