"""Throughput of burnish's engine against transformers.generate: paired in one run, CPU seconds with prefill, one thread.

Run `python -m benchmarks.engine [--rounds 5] [--kind qwen3] [--modules]`. Each round times both, one after the other, on the same
model and prompts, sampling at temperature 1, in exact and in fast mode; the ratio printed is the median of the rounds' ratios
(above 1: burnish is faster).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from benchmarks.provenance import provenance
from transformers import GenerationConfig

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.inference.modules import ModulePath
from burnish.models import tiny
from burnish.records import Sampling

NEW_TOKENS = 64
CASES = {  # name: (prompts, tokens in each, completions of each, wanted ratio)
    "8 prompts of 96 tokens x 8 completions": (8, 96, 8, 2.0),
    "64 distinct prompts of 32 tokens": (64, 32, 1, 1.4),
    "8 rows of 32 tokens": (8, 32, 1, 1.5),
}


def theirs(model: torch.nn.Module, prompts: torch.Tensor, n: int) -> float:
    """CPU seconds of transformers.generate."""
    config = GenerationConfig(max_new_tokens=NEW_TOKENS, do_sample=True, temperature=1.0, top_k=0, pad_token_id=0)
    ids = prompts.repeat_interleave(n, 0)
    start = time.process_time()
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, eos_token_id=None)
    seconds = time.process_time() - start
    assert out.shape[1] == ids.shape[1] + NEW_TOKENS
    return seconds


def ours(engine: Engine, prompts: torch.Tensor, n: int) -> float:
    """CPU seconds of burnish."""
    rows = prompts.tolist()
    start = time.process_time()
    turns = generate(engine, rows, Sampling(), n=n, max_new_tokens=NEW_TOKENS)
    seconds = time.process_time() - start
    assert sum(len(turn.output_ids) for group in turns for turn in group) == len(rows) * n * NEW_TOKENS
    return seconds


def main() -> None:
    """Print one line of JSON for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="qwen3", choices=sorted(tiny.KINDS))
    parser.add_argument("--modules", action="store_true", help="run the model's own modules instead of the flat walker")
    parser.add_argument("--json", help="write everything there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = tiny.make(args.kind, hidden=192, layers=6, heads=6, kv_heads=2, vocab=512)
    engines = {mode: Engine(model, eos_ids=[model.config.vocab_size], mode=mode) for mode in ("exact", "fast")}
    engine = engines["exact"]
    for each in engines.values():
        if args.modules:
            each._runner = ModulePath(model, each.facts)
    parameters = sum(p.numel() for p in model.parameters())
    about = {"kind": args.kind, "parameters": parameters, "modes": list(engines), "path": engine.path, "why": engine.why}
    print(json.dumps(about))
    rows = []
    generator = torch.Generator().manual_seed(0)
    for name, (count, length, n, wanted) in CASES.items():
        prompts = torch.randint(0, 256, (count, length), generator=generator)
        rounds = [
            (theirs(model, prompts, n), {mode: ours(each, prompts, n) for mode, each in engines.items()}) for _ in range(args.rounds + 1)
        ][1:]  # the first warms everything up
        for mode in engines:
            ratios = [a / b[mode] for a, b in rounds]
            row = {
                "case": name,
                "mode": mode,
                "transformers_s": round(statistics.median(a for a, _ in rounds), 3),
                "burnish_s": round(statistics.median(b[mode] for _, b in rounds), 3),
                "ratio": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "wanted": wanted,
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"provenance": provenance(), "about": about, "engine": rows}, file, indent=1)


if __name__ == "__main__":
    main()
