"""`burnish cost`: what prefill, decoding and training of a model cost on a machine, named or measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import psutil
import torch

from burnish.hardware import architecture, calibrate, cost
from burnish.hardware.architecture import Architecture
from burnish.hardware.calibrate import KNOWN, Machine
from burnish.hardware.cost import Cost
from burnish.recipes.config import ModelConfig
from burnish.runs.errors import UserError, did_you_mean

BOUND = "times are lower bounds (the roofline); small models take several times longer"
WIDTHS = {"auto": 4.0, "float32": 4.0, "bfloat16": 2.0, "float64": 8.0}
SIDE = 1024


@dataclasses.dataclass(frozen=True)
class Estimate:
    """machine: what the times are for. parts: by name, of one step. step: their sum. steps: how many. notes: what was assumed.

    dtype: of the weights, where it is known.
    """

    machine: Machine
    parts: dict[str, Cost]
    steps: float
    notes: tuple[str, ...] = ()
    dtype: str = ""

    @property
    def step(self) -> Cost:
        """One step; its memory is the largest of its parts'."""
        return sum(self.parts.values(), Cost())

    @property
    def seconds(self) -> float:
        """At least, for all steps: each part at the machine's limit."""
        return self.steps * sum(map(self.machine.seconds, self.parts.values()))

    def rows(self) -> list[dict[str, Any]]:
        """For a table."""
        named = [*self.parts.items(), ("one step", self.step), ("all steps", self.step.times(self.steps))]
        per_step = sum(map(self.machine.seconds, self.parts.values()))
        at_least = {"one step": per_step, "all steps": self.seconds}
        return [
            {
                "part": name,
                "flops": one.flops,
                "bytes": f"{one.bytes:.2e}",
                "memory_mb": one.memory / 1e6,
                "seconds": at_least.get(name, self.machine.seconds(one)),
            }
            for name, one in named
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "machine": dataclasses.asdict(self.machine),
            **({"dtype": self.dtype} if self.dtype else {}),
            "steps": self.steps,
            "flops": self.step.flops * self.steps,
            "peak_memory_bytes": self.step.memory,
            "fits": self.machine.fits(self.step),
            "seconds_at_least": self.seconds,
            "parts": {name: dataclasses.asdict(one) | {"seconds": self.machine.seconds(one)} for name, one in self.parts.items()},
            "notes": list(self.notes),
        }


def machine_named(name: str = "here", dtype: str = "float32") -> Machine:
    """One of the known accelerators, or "here": this machine, measured in less than a second. Raises UserError."""
    if name == "here":
        return machine_here(dtype)
    if name.lower() not in KNOWN:
        raise UserError(f"hardware {name!r} is not known; {did_you_mean(name.lower(), ['here', *KNOWN])}")
    return KNOWN[name.lower()]


def machine_here(dtype: str = "float32", device: str | None = None) -> Machine:
    """Matrix products and copies timed on the CPU, or on the device, with torch's present thread count."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    left, right = (torch.randn(SIDE, SIDE, device=where).to(kind) for _ in range(2))
    source = torch.zeros(64 << 20, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)

    def finished(work: Any) -> Any:
        def run() -> None:
            work()
            if where.type == "cuda":
                torch.cuda.synchronize(where)

        return run

    memory = torch.cuda.mem_get_info(where)[1] if where.type == "cuda" else psutil.virtual_memory().total
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"this machine, {torch.get_num_threads()} threads"
    product = (finished(lambda: left @ right), 2.0 * SIDE**3)
    return calibrate.machine(name, product, (finished(lambda: target.copy_(source)), 2.0 * source.numel()), float(memory))


def model_costs(
    path: str,
    hardware: str,
    rows: int,
    prompt: int,
    new: int,
    dtype: str | None = None,
    micro_tokens: int = 16384,
    checkpointing: bool = False,
) -> Estimate:
    """Prefill of `rows` prompts, decoding of `rows` completions, and one training step over both.

    dtype: of the weights; None: bfloat16 on a GPU, and on this machine's CPU what `burnish train` uses. Raises UserError.
    """
    for name, value in (("--rows", rows), ("--prompt", prompt), ("--new", new), ("--micro-tokens", micro_tokens)):
        if value < 1:
            raise UserError(f"burnish cost: {name} is {value}; it must be at least 1")
    arch = Architecture.of(architecture.read(path))
    if dtype is None:
        dtype = ModelConfig().dtype if hardware == "here" and not torch.cuda.is_available() else "bfloat16"
    width = WIDTHS[dtype]
    tokens = rows * (prompt + new)
    parts = {
        "prefill": cost.forward(arch, prompt, rows=rows, width=width),
        "decode": cost.decode(arch, rows, prompt, new, width),
        "training": cost.train(arch, tokens, arch.keys_seen(0, prompt + new), micro_tokens, width, checkpointing=checkpointing),
    }
    size = f"{arch.parameters / 1e6:,.1f} M parameters, {cost.cache_bytes(arch, 1, width) / 1e3:,.1f} kB of keys and values a token"
    return Estimate(machine_named(hardware, dtype), parts, 1, (size, BOUND), dtype)
