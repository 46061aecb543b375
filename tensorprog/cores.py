"""How many threads there may be."""

import os


def cores() -> int:
    """The processors that this process may use; fewer than there are under taskset or in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
