"""Calibration: how fast this machine does one thing. Times only the callables handed to it."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

from burnish.hardware.cost import Cost


@dataclasses.dataclass(frozen=True)
class Machine:
    """flops: floating-point operations a second in matrix products. bandwidth: bytes a second. memory: bytes; 0 where unknown."""

    name: str
    flops: float
    bandwidth: float
    memory: float = 0.0

    def seconds(self, cost: Cost) -> float:
        """The roofline: whatever takes longer, arithmetic or memory. A lower bound; real runs take more."""
        return max(cost.flops / self.flops, cost.bytes / self.bandwidth)

    def fits(self, cost: Cost) -> bool | None:
        """Whether the peak memory is there; None where the machine's is not known."""
        return None if not self.memory else cost.memory <= self.memory


# Dense bfloat16 peak and memory as the vendors' data sheets give them; a run reaches a part of it.
KNOWN = {
    "a100": Machine("A100 80 GB SXM", 312e12, 2.04e12, 80e9),
    "l4": Machine("L4", 121e12, 0.30e12, 24e9),
    "l40s": Machine("L40S", 362e12, 0.86e12, 48e9),
    "h100": Machine("H100 80 GB SXM", 989e12, 3.35e12, 80e9),
    "h200": Machine("H200", 989e12, 4.8e12, 141e9),
    "b200": Machine("B200", 2250e12, 8.0e12, 192e9),
    "rtx4090": Machine("RTX 4090", 165e12, 1.01e12, 24e9),
}


def rate(work: Callable[[], object], amount: float, seconds: float = 0.2, rounds: int = 3) -> float:
    """`amount` a call over the median time of a call, after one call to warm up; each round lasts about `seconds`."""
    work()
    start = time.perf_counter()
    work()
    calls = max(1, int(seconds / rounds / max(time.perf_counter() - start, 1e-7)))
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        found.append((time.perf_counter() - start) / calls)
    return amount / statistics.median(found)


def machine(
    name: str, product: tuple[Callable[[], object], float], copy: tuple[Callable[[], object], float], memory: float = 0.0
) -> Machine:
    """A Machine from two timed callables: (matrix product, its FLOPs) and (copy, its bytes read and written)."""
    return Machine(name, rate(*product), rate(*copy), memory)
