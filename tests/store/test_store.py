"""Kernels to disk: the same as in memory, whatever the format and the cuts, and whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.evaluate import analytic, zonal
from tensorprog.store import formats, plan
from tensorprog.store.journal import Journal
from tests.agreement.comparing import EXAMPLES, example_inputs

MLP = (EXAMPLES / "mlp.tp").read_text()
STEPS = """program steps(phi = relu):
    width n = 64
    input x[T]: [d]
    weight W: [n, d] ~ N(0, 2 / d)
    weight v: [n]    ~ N(0, 1 / n)
    output y[t in T] = dot(v, phi(W @ x[t]))
"""
DATA = np.random.default_rng(0).normal(size=(23, 6))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 5 x 5 examples: 15 of them for 23 examples."""
    monkeypatch.setattr(plan, "LARGEST", 36)


@pytest.fixture
def mlp():
    return tensorprog.load(MLP)


def read(path: Path, kernel: str) -> np.ndarray:
    if path.suffix == ".zarr":
        return zarr.open_group(path, mode="r")[kernel][:]
    if path.suffix == ".npz":
        return np.load(path)[kernel]
    return np.load(path.with_name(f"{path.stem}.{kernel}.npy"), mmap_mode="r")


def same(path: Path, direct, rtol=1e-13) -> None:
    for name in ("nngp", "ntk"):
        expected, found = getattr(direct, name), read(path, name)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def ragged(lengths=(3, 2, 3, 4, 2, 2, 3)):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(t, 2)) for t in lengths]


# ---------------------------------------------------------------- the same as in memory


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
@pytest.mark.parametrize("second", [None, DATA[4:11] + 1])
def test_equals_the_kernel_in_memory(mlp, tmp_path, suffix, second):
    out = tmp_path / f"K{suffix}"
    written = mlp.write_kernels(out, DATA, second)
    direct = mlp.kernels(DATA, second)
    same(out, direct)
    assert written.blocks == (10 if second is None else 8) and written.kept == 0
    assert written.mean("ntk") == pytest.approx(direct.ntk.mean(), rel=1e-12)
    assert written.statistics["nngp"].largest == pytest.approx(direct.nngp.max(), rel=1e-12)
    assert [r.expectation for r in written.report.rows] == [r.expectation for r in direct.report.rows]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("suffix", [".zarr", ".npy"])
@pytest.mark.parametrize("make", [lambda: np.random.default_rng(2).normal(size=(7, 3, 2)), ragged])
def test_outputs_with_axes(tmp_path, suffix, make):
    """[N1, T, N2, T]; rows are (example, index) pairs where the lengths differ."""
    net, x = tensorprog.load(STEPS), make()
    for second in (None, x[:3]):
        net.write_kernels(tmp_path / f"K{suffix}", x, second)
        same(tmp_path / f"K{suffix}", net.kernels(x, second))


@pytest.mark.parametrize("name", ["rnn_average", "cnn_strided", "tied", "gcn", "transformer"])
def test_examples(name, tmp_path):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    x = example_inputs(net, 9)
    net.write_kernels(tmp_path / "K.npy", x)
    same(tmp_path / "K.npy", net.kernels(x), 1e-9)


def test_sequences_of_different_length(tmp_path):
    net, x = tensorprog.load(EXAMPLES / "rnn.tp"), ragged()
    net.write_kernels(tmp_path / "K.zarr", x)
    same(tmp_path / "K.zarr", net.kernels(x), 1e-8)


def test_float32_and_no_reductions(mlp, tmp_path, monkeypatch):
    for module in (analytic, zonal):
        monkeypatch.setattr(module, "TABULATED", {True: 0, False: 0})
    net = tensorprog.load(MLP, sb=0.0)  # homogeneous: a table of the cosine would do
    for reductions in (True, False):
        found = net.write_kernels(tmp_path / f"K{reductions}.npy", DATA, dtype="float32", reductions=reductions)
        same(tmp_path / f"K{reductions}.npy", net.kernels(DATA, dtype="float32"), 1e-6)
        assert np.load(tmp_path / f"K{reductions}.ntk.npy").dtype == np.float32
        assert any(row.tier == "table" for row in found.report.rows) is reductions
    with pytest.raises(TensorProgError, match="float16"):
        mlp.write_kernels(tmp_path / "L.npy", DATA, dtype="float16")


def test_quadrature_and_float32(tmp_path):
    net = tensorprog.load(MLP, phi="tanh")
    net.write_kernels(tmp_path / "K.npy", DATA.astype(np.float32))
    same(tmp_path / "K.npy", net.kernels(DATA.astype(np.float32)), 1e-6)


def test_one_kernel_has_the_name_that_was_given(mlp, tmp_path):
    written = mlp.write_kernels(tmp_path / "K.npy", DATA, want=("ntk",))
    assert written.paths == (tmp_path / "K.npy",)
    np.testing.assert_allclose(np.load(tmp_path / "K.npy"), mlp.ntk(DATA), rtol=1e-13)


def test_kernels_that_vanish_and_that_do_not_exist(tmp_path):
    zero = tensorprog.load(EXAMPLES / "mlp_mup.tp")
    zero.write_kernels(tmp_path / "zero.npz", DATA)
    same(tmp_path / "zero.npz", zero.kernels(DATA))
    none = tensorprog.load(MLP, phi="step")
    written = none.write_kernels(tmp_path / "none.zarr", DATA)
    assert set(written.statistics) == {"nngp"} and "no NTK" in written.report.reason
    np.testing.assert_allclose(read(tmp_path / "none.zarr", "nngp"), none.nngp(DATA), rtol=1e-13)


# ---------------------------------------------------------------- killed and gone on with


def _killed_in_block(path: str, block: int) -> None:
    """A process that is killed when half of a block is written."""
    plan.LARGEST = 36
    store = formats.ZarrGroup if path.endswith(".zarr") else formats.NpyFiles
    write, calls = store.write, []

    def half(self, name, rows, cols, values):
        calls.append(name)
        if len(calls) > 2 * block:
            write(self, name, slice(rows.start, rows.start + 1), cols, values[:1])
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, name, rows, cols, values)

    store.write = half
    tensorprog.load(MLP).write_kernels(path, DATA, want=("ntk",))


def kill(path: Path, block: int) -> None:
    process = multiprocessing.get_context("fork").Process(target=_killed_in_block, args=(str(path), block))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_killed_twice_and_resumed(mlp, tmp_path, suffix):
    """Finished blocks are not computed again, the result is bit for bit that of a run in one go."""
    out = tmp_path / f"K{suffix}"
    kill(out, 3)
    assert not out.exists()
    before = (tmp_path / f"K{suffix}.partial" / "done.jsonl").read_text()
    kill(out, 4)
    after = (tmp_path / f"K{suffix}.partial" / "done.jsonl").read_text()
    assert after.startswith(before) and not out.exists()
    kept = after.count("\n")
    assert kept >= 7
    told: list[str] = []
    written = mlp.write_kernels(out, DATA, want=("ntk",), progress=lambda message, fraction: told.append(message))
    assert written.kept == kept and len(told) == written.blocks - kept
    mlp.write_kernels(tmp_path / f"whole{suffix}", DATA, want=("ntk",))
    both = [load_one(tmp_path / f"{name}{suffix}") for name in ("K", "whole")]
    np.testing.assert_array_equal(*both)
    np.testing.assert_allclose(both[0], mlp.ntk(DATA), rtol=1e-13)


def load_one(path: Path) -> np.ndarray:
    return np.load(path) if path.suffix == ".npy" else read(path, "ntk")


@pytest.fixture
def partial(tmp_path):
    kill(tmp_path / "K.npy", 4)
    return tmp_path / "K.npy.partial"


def resumed(net, partial: Path, x=DATA, **options):
    return net.write_kernels(partial.with_suffix(""), x, **{"want": ("ntk",), **options})


@pytest.mark.parametrize("entry", [1, 7 * len(DATA) + 2])
def test_a_block_that_is_not_as_it_was_computed_is_computed_again(mlp, partial, entry):
    """The entry is one of the first block, or one of the mirror image of the second."""
    recorded = len(Journal(partial).entries())
    with (partial / "ntk.npy").open("r+b") as file:
        file.seek(128 + 8 * entry)
        file.write(b"\0" * 8)
    assert resumed(mlp, partial).kept == recorded - 1
    np.testing.assert_allclose(np.load(partial.with_suffix("")), mlp.ntk(DATA), rtol=1e-13)


def test_a_line_that_was_cut_off_does_not_count(mlp, partial):
    lines = (partial / "done.jsonl").read_text()
    (partial / "done.jsonl").write_text(lines[:-20])
    assert resumed(mlp, partial).kept == lines.count("\n") - 1
    np.testing.assert_allclose(np.load(partial.with_suffix("")), mlp.ntk(DATA), rtol=1e-13)


@pytest.mark.parametrize(
    ("source", "params", "change", "part"),
    [
        (MLP + "# other words\n", {}, {}, "program"),
        (MLP, {"sw": 1.5}, {}, "sw"),
        (MLP, {}, {"x": DATA + 1e-15}, "data"),
        (MLP, {}, {"x2": DATA}, "data2"),
        (MLP, {}, {"x": DATA[::-1]}, "data"),
        (MLP, {}, {"tier": "quadrature"}, "tier"),
        (MLP, {}, {"want": ("nngp", "ntk")}, "kernels"),
        (MLP, {}, {"x": DATA.astype(np.float32)}, "float32"),
        (MLP, {}, {"dtype": "float32"}, "precision"),
        (MLP, {}, {"reductions": False}, "reductions"),
    ],
)
def test_another_request_is_refused(partial, source, params, change, part):
    before = {p.name: p.read_bytes() for p in partial.iterdir()}
    with pytest.raises(TensorProgError, match="begun for another kernel") as error:
        resumed(tensorprog.load(source, **params), partial, **change)
    assert part in str(error.value)
    assert {p.name: p.read_bytes() for p in partial.iterdir()} == before


@pytest.mark.parametrize("name", ["request.json", "done.jsonl"])
@pytest.mark.parametrize("text", ["nonsense\n", "[]\n", "{}\n"])
def test_a_damaged_record_is_refused(mlp, partial, name, text):
    (partial / name).write_text(text)
    with pytest.raises(TensorProgError, match="damaged"):
        resumed(mlp, partial)


def test_killed_while_results_move_to_their_place(mlp, tmp_path, monkeypatch):
    replace, moved = os.replace, []

    def once(source, target):
        if Path(target).name == "K.ntk.npy" and not moved:
            moved.append(target)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        mlp.write_kernels(tmp_path / "K.npy", DATA)
    written = mlp.write_kernels(tmp_path / "K.npy", DATA)
    assert written.kept == written.blocks and not (tmp_path / "K.npy.partial").exists()
    same(tmp_path / "K.npy", mlp.kernels(DATA))


def test_two_processes_do_not_write_to_one_store(mlp, partial):
    with Journal(partial).locked(), pytest.raises(TensorProgError, match="another process"):
        resumed(mlp, partial)


# ---------------------------------------------------------------- what is refused


def test_results_are_replaced_and_other_things_are_not(mlp, tmp_path):
    for _ in range(2):
        mlp.write_kernels(tmp_path / "K.zarr", DATA)
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.zarr").touch()
    (tmp_path / "folder.ntk.npy").mkdir()
    for name in ("folder.zarr", "file.zarr", "folder.npy"):
        with pytest.raises(TensorProgError, match="something else"):
            mlp.write_kernels(tmp_path / name, DATA)
    with pytest.raises(TensorProgError, match=r"\.zarr, \.npy, \.npz"):
        mlp.write_kernels(tmp_path / "K.txt", DATA)


@pytest.mark.parametrize(
    ("name", "options"), [("attention_sqrt", {}), ("gru", {}), ("mlp", {"tier": "sampling"})]
)
def test_sampling_cannot_go_block_by_block(tmp_path, name, options):
    net = tensorprog.load(EXAMPLES / f"{name}.tp")
    with pytest.raises(TensorProgError, match="jointly"):
        net.write_kernels(tmp_path / "K.npy", example_inputs(net, 3), **options)
    assert not list(tmp_path.iterdir())


def test_too_little_memory_or_disk(mlp, tmp_path, monkeypatch):
    with pytest.raises(TensorProgError, match="too little"):
        mlp.write_kernels(tmp_path / "K.npy", DATA, memory="1MB")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(TensorProgError, match="on disk"):
        mlp.write_kernels(tmp_path / "K.npy", DATA)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("500mb", 5 * 10**8), (1000, 1000), ("7", 7)]
)
def test_amounts_of_memory(text, size):
    assert plan.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 XB", "1e9", "2GB2"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(TensorProgError, match="no amount"):
        plan.parse_size(text)


# ---------------------------------------------------------------- memory


BOUNDED = """
import re, sys
import numpy as np
import tensorprog
x = np.random.default_rng(0).normal(size=(2500, 10))
tensorprog.load(sys.argv[1]).write_kernels(sys.argv[2], x, memory="340MB")
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of the process by itself is told by Linux")
def test_memory_is_obeyed(tmp_path):
    """The two kernels alone are 100 MB, in memory 200 MB with their parts.

    The peak is that of the process since it was started: `ru_maxrss` would count the one that started it, too.
    """
    command = [sys.executable, "-c", BOUNDED, str(EXAMPLES / "mlp.tp"), str(tmp_path / "K.npy")]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(out.stdout) < 340e6


def test_what_is_asked_for_is_kept_for_people(mlp, tmp_path):
    mlp.write_kernels(tmp_path / "K.zarr", DATA)
    about = zarr.open_group(tmp_path / "K.zarr", mode="r").attrs["tensorprog"]
    assert about["program"] == MLP and json.dumps(about["parameters"]).count("relu") == 1
