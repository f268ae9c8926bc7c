"""Twenty healthy runs of different kinds."""

from __future__ import annotations

from typing import Any

from doctor_plants.faults import Trial
from doctor_plants.world import LIMIT


def healthy(task: str) -> list[Trial]:
    """Easy, saturated, sparse and ordinary problems; objectives, temperatures, adapters, lag, chat; both stages."""
    out: list[Trial] = []

    def rl(name: str, base: str = "plain", **changes: Any) -> None:
        rest = {key: changes.pop(key) for key in ("sampling", "model", "seed") if key in changes}
        out.append(Trial(f"ok-rl-{name}", 0, "healthy", "rl", base=base, changes={"rl": changes, **rest}))

    def sft(name: str, base: str = "raw", **changes: Any) -> None:
        rest = {key: changes.pop(key) for key in ("model", "seed") if key in changes}
        out.append(Trial(f"ok-sft-{name}", 0, "healthy", "sft", base=base, changes={"sft": changes, **rest}))

    lora = {"model": {"lora": {"rank": 8}}}
    for objective in ("grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo"):
        rl(objective, objective=objective)
    rl("minibatches", objective="lite_ppo", minibatches=4)
    rl("lag", lag=2)
    rl("cool", sampling={"temperature": 0.7})
    rl("hot", sampling={"temperature": 1.2})
    easy = {"rows": lambda world: world.easiest(400), "held_out": lambda world: world.easiest(60, "test")}
    out.append(Trial("ok-rl-saturated", 0, "healthy", "rl", base="good", **easy))
    rl("sparse", base="poor")
    rl("lora", learning_rate=1e-3, **lora)
    rl("chat", base="chat")
    rl("long", steps=60)
    rl("overlong", shapers=[{"name": "overlong", "max_length": LIMIT, "cache": 4}])
    sft("plain")
    sft("lora", base="plain", learning_rate=1e-3, **lora)
    sft("chat", base="raw-chat")
    sft("continued", base="plain", learning_rate=1e-3)
    return out
