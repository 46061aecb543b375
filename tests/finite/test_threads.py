"""Work on several threads: in order, with errors, on threads that are started once."""

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tensorprog.finite import threads


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(threads, "workers", lambda: 1 if getattr(threads._inside, "busy", False) else 2)


def _named(item):
    time.sleep(0.01)
    return item, threading.get_ident()


def test_results_are_in_order(two):
    assert [k for k, _ in threads.parallel(_named, range(7))] == list(range(7))


def test_a_team_keeps_its_threads(two):
    with threads.team():
        first = {name for _, name in threads.parallel(_named, range(2))}
        again = {name for _, name in threads.parallel(_named, range(2))}
    assert first == again
    assert len(first) == 2


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_on_any_thread_is_raised_when_all_are_done(two, bad):
    done = []

    def work(item):
        if item == bad:
            raise ValueError(item)
        time.sleep(0.02)
        done.append(item)

    with threads.team(), pytest.raises(ValueError, match=str(bad)):
        threads.parallel(work, range(2))
    assert done == [1 - bad]


def blas():
    """The threads of every BLAS that is loaded; other tests load libraries that have threads besides."""
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_a_crew_has_a_blas_of_one_thread_and_all_threads_for_itself():
    before = blas()
    number = threads.workers()
    with threads.crew():
        assert threads.workers() == number
        assert set(blas()) == {1}
        assert threads.parallel(lambda k: (k, threads.workers()), range(4)) == [(k, 1) for k in range(4)]
        assert set(blas()) == {1}
    assert blas() == before
    assert threads.workers() == number


def test_made_once(two):
    """Whoever asks first makes it; the others wait and get the same."""
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    value = threads.once(make)
    assert threads.parallel(lambda _: value(), range(8)) == [0] * 8 and made == [0]


def test_symmetric_numbers_are_looked_at_once(two):
    """An entry above the diagonal, or on it."""
    values = np.zeros((700, 700))
    assert threads.are_finite(values, symmetric=True)
    values[699, 0] = np.nan
    assert threads.are_finite(values, symmetric=True) and not threads.are_finite(values)
    values[0, 699] = np.nan
    assert not threads.are_finite(values, symmetric=True)
