"""One step of fine-tuning and one of GRPO of a 0.5B Qwen3-type model with random weights on a GPU: tokens a second and peak memory.

    python -m benchmarks.gpu_step [--tiny] [--device cuda] [--json FILE]

Each is run as `burnish train` runs it, one step to warm up and one that counts. Tokens of the fine-tuning step are those that went through
the model; those of the GRPO step are the completions' (drawn, scored and trained on). Where there is no GPU it says so and writes nothing.
--tiny: a model of a few thousand parameters, to try the script; nothing is written unless --json says where.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import tempfile
from typing import Any

import torch
from benchmarks.provenance import provenance

from burnish.models import tiny
from burnish.models.tokenizer import byte_level
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.runs.config import build

TARGET = "docs/benchmarks/gpu_step.json"
HALF_BILLION = {
    "hidden": 896, "layers": 24, "heads": 14, "kv_heads": 2, "vocab": 151936, "intermediate_size": 4864, "max_length": 2048,
    "tie_word_embeddings": True,
}  # fmt: skip
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "max_length": 128}
PROMPT = 96
"""Tokens of a prompt, one a letter."""


def letters(draw: random.Random, count: int) -> str:
    """Text of so many tokens."""
    return "".join(draw.choices(string.ascii_lowercase, k=count))


def variety(completions: list[str], **_: Any) -> list[float]:
    """The reward: different letters, as a share of 64."""
    return [len(set(text)) / 64 for text in completions]


def settings(stage: str, device: str, small: bool, folder: str) -> tuple[TrainConfig, list[dict[str, str]]]:
    """The run and its rows: 8 prompts; 8 examples of 512 tokens, or 8 completions of at most 256 tokens for each prompt."""
    new, draw = (8 if small else 416 if stage == "sft" else 256), random.Random(0)
    rows = [{"prompt": letters(draw, 16 if small else PROMPT), "completion": letters(draw, new)} for _ in range(8)]
    both: dict[str, Any] = {"stage": stage, "output": folder, "model": {"device": device}}
    if stage == "sft":
        both["sft"] = {"steps": 2, "batch_size": len(rows), "learning_rate": 1e-5, "save_steps": None}
    else:
        rows = [{"prompt": row["prompt"]} for row in rows]
        both["rl"] = {
            "steps": 2, "prompts_per_step": len(rows), "group_size": 2 if small else 8, "max_new_tokens": new, "objective": "grpo",
            "beta": 0.0, "rewards": ["in place"], "keep_rollouts": 0, "save_steps": None,
        }  # fmt: skip
    return build(TrainConfig, both), rows


def measure(stage: str, device: str, small: bool) -> dict[str, Any]:
    """{"seconds", "tokens", "tokens_per_second", "peak_memory_bytes", "parameters", ...} of the second step."""
    tokenizer = byte_level(chat_template=None)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = tiny.make("qwen3", tokenizer, dtype=dtype, **(SMALL if small else HALF_BILLION))
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as parent:
        config, rows = settings(stage, device, small, f"{parent}/run")
        reward = variety if stage == "rl" else None
        done = train(config, model=model, tokenizer=tokenizer, data=rows, reward=reward, command="benchmarks.gpu_step")
        first, last = [row for row in done["run"].metrics() if "time/step" in row]
    if stage == "sft":
        tokens = last["num_tokens"] - first["num_tokens"]
    else:
        tokens = last["completions/mean_length"] * last["rollouts/drawn"]
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else last["memory/peak_mb"] * 2**20
    return {
        "step": {"sft": "fine-tuning", "rl": "GRPO"}[stage],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": last["time/step"],
        "tokens": tokens,
        "tokens_per_second": tokens / last["time/step"],
        "peak_memory_bytes": int(peak),
    }


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--device", default="cuda", help="where it computes (default cuda)")
    parser.add_argument("--json", help=f"write everything there (default {TARGET}; nothing with --tiny)")
    args = parser.parse_args()
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here: nothing is measured and nothing is written.")
        return
    found = [measure(stage, args.device, args.tiny) for stage in ("sft", "rl")]
    for row in found:
        print(json.dumps(row), flush=True)
    target = args.json or (None if args.tiny else TARGET)
    if target:
        gpu = torch.cuda.get_device_name(args.device) if torch.device(args.device).type == "cuda" else args.device
        with open(target, "w", encoding="utf-8") as file:
            json.dump({"provenance": provenance(), "device": gpu, "gpu_step": found}, file, indent=1)


if __name__ == "__main__":
    main()
