"""Blocks on processes of a dask cluster, one of which is killed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from distributed import Client, LocalCluster

import tensorprog
from tensorprog.errors import TensorProgError
from tensorprog.store import plan
from tests.agreement.comparing import EXAMPLES

DATA = np.random.default_rng(0).normal(size=(40, 6))


@pytest.fixture(scope="module")
def workers():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None) as c:
        yield c


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(plan, "LARGEST", 36)


def test_a_worker_dies(workers, tmp_path):
    """The result is that of one process, bit for bit, and every block is there once."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="erf")
    killed: list[int] = []
    told: list[float] = []

    def progress(message: str, fraction: float) -> None:
        told.append(fraction)
        if not killed:
            with Client(workers.scheduler_address, set_as_default=False) as client:
                killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    written = net.write_kernels(tmp_path / "K.npz", DATA, cluster=workers.scheduler_address, progress=progress)
    assert killed and len(told) == written.blocks == 28 and told == sorted(told)
    net.write_kernels(tmp_path / "one.npz", DATA)
    both, one = np.load(tmp_path / "K.npz"), np.load(tmp_path / "one.npz")
    for kernel in ("nngp", "ntk"):
        np.testing.assert_array_equal(both[kernel], one[kernel])
    np.testing.assert_allclose(both["ntk"], net.ntk(DATA), rtol=1e-12)


def test_interrupted_on_a_cluster_and_resumed_without(workers, tmp_path):
    net = tensorprog.load(EXAMPLES / "rnn_average.tp")
    x = [np.random.default_rng(t).normal(size=(2 + t % 3, 4)) for t in range(13)]

    def stop(message: str, fraction: float) -> None:
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net.write_kernels(tmp_path / "K.zarr", x, x[:7], cluster=workers.scheduler_address, progress=stop)
    written = net.write_kernels(tmp_path / "K.zarr", x, x[:7])
    assert 0 < written.kept < written.blocks
    import zarr

    direct = net.kernels(x, x[:7])
    for kernel in ("nngp", "ntk"):
        found = zarr.open_group(tmp_path / "K.zarr", mode="r")[kernel][:]
        np.testing.assert_allclose(found, getattr(direct, kernel), rtol=1e-9)


def test_a_mistake_on_a_worker_is_told_as_one(workers, tmp_path):
    """The last examples are not among those that are tried out before."""
    net = tensorprog.load(EXAMPLES / "mlp.tp", phi="relu")
    x = np.concatenate([DATA[:35], 1e160 * DATA[35:]])
    with pytest.raises(TensorProgError, match="out of the range of float64"):
        net.write_kernels(tmp_path / "K.npy", x, cluster=workers.scheduler_address)


def test_nothing_answers(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorprog.store.cluster.WAIT", 0.5)
    with pytest.raises(TensorProgError, match="no dask scheduler"):
        tensorprog.load(EXAMPLES / "mlp.tp").write_kernels(tmp_path / "K.npy", DATA, cluster="tcp://127.0.0.1:9")
