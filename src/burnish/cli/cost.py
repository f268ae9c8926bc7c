"""What a model costs: FLOPs, bytes moved, peak memory and a lower bound of the time of prefill, decoding and training.

burnish cost Qwen/Qwen3-0.6B                               on this machine, measured in less than a second
burnish cost runs/rl/checkpoint-100 h100 --rows 64         on a known accelerator, from its data sheet
burnish cost MODEL here --prompt 96 --new 256 --json       one JSON document
"""

from __future__ import annotations

import argparse
import json

HELP = "FLOPs, memory and least time of a model's prefill, decoding and training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the hardware and the shape of the work."""
    parser.add_argument("model", help="local folder, hub id or adapter folder; only its config is read")
    parser.add_argument("hardware", nargs="?", default="here", help="here (measured), or a100, l4, l40s, h100, h200, b200, rtx4090")
    parser.add_argument("--rows", type=int, default=8, help="prompts or completions at once (default 8)")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a prompt (default 512)")
    parser.add_argument("--new", type=int, default=256, help="tokens of a completion (default 256)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights (default bfloat16; float32 here without a GPU)")
    parser.add_argument("--micro-tokens", type=int, default=16384, help="tokens of one training pass (default 16384)")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="recompute activations in the backward pass")


def run(args: argparse.Namespace) -> None:
    """Prints the table."""
    from burnish.recipes.cost import model_costs
    from burnish.reports import tables

    found = model_costs(
        args.model, args.hardware, args.rows, args.prompt, args.new, args.dtype, args.micro_tokens, args.gradient_checkpointing
    )  # fmt: skip
    if args.json:
        print(json.dumps(found.to_dict(), indent=1))
        return
    tables.show(found.rows(), f"{args.model} on {found.machine.name}, weights in {found.dtype}")
    print("\n".join(found.notes))
