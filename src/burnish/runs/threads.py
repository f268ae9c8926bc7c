"""How many threads torch should use."""

from __future__ import annotations

import os

from burnish.runs import ranks

SMALL = 5_000_000
"""Parameters under which one thread is fastest: handing work over costs more than the work (two threads can be 20 times slower)."""


def available_cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_threads(n_params: int) -> int:
    """1 for a small model; else all CPUs there are (shared among the ranks of this machine), or OMP_NUM_THREADS where it is set."""
    if n_params < SMALL:
        return 1
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(wish) if wish.isdigit() and int(wish) > 0 else max(1, available_cpus() // ranks.current().local_world)
