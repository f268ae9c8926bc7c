"""Time by part and peak memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import psutil


def peak_memory_mb() -> float:
    """The most memory this process has held so far, in MiB (resident set; on a GPU, what torch's allocator held at most is added)."""
    try:
        import resource

        peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / (2**20 if sys.platform == "darwin" else 2**10)
    except ImportError:  # Windows
        peak = float(psutil.Process().memory_info().rss) / 2**20
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak += sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())) / 2**20
    return peak


class Timer:
    """Accumulates wall seconds by name: `with timer("generate"): ...`. Blocks inside each other both count."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Counts seconds measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """The tally as metrics `time/<name>`, and starts again from zero."""
        out = {f"time/{name}": value for name, value in self.seconds.items()}
        self.seconds = {}
        return out
