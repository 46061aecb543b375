"""Time and memory of a process, for our side and for peers: needs NumPy alone, so that any environment can run it."""

import json
import time

import numpy as np


def peak(reset=False):
    """The most memory that the process has held, in MB, since the last reset (a process starts with its parent's)."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def measured(folder, versions, few, all_of_them, runs):
    """Writes ntk.npy and measured.json: the best time of some runs after a first one, its processor time, and the
    memory that runs take beyond what is held after `few`, two examples; `all_of_them` gives the kernel."""
    few()
    before = peak(reset=True)
    found = all_of_them()
    times = []
    for _ in range(runs):
        start, worked = time.perf_counter(), time.process_time()
        found = all_of_them()
        times.append((time.perf_counter() - start, time.process_time() - worked))
    np.save(f"{folder}/ntk.npy", found)
    seconds, processor = min(times)
    with open(f"{folder}/measured.json", "w") as file:
        numbers = {"seconds": seconds, "processor": processor, "megabytes": peak() - before}
        json.dump(numbers | {"versions": versions}, file)
