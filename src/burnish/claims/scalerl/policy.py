"""A small policy for chains: made, fine-tuned to a wanted pass rate, and sampled by the thousand for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.claims.scalerl.chains import ALPHABET, Chain, careless, chains, check
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_for
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft


def make_policy(hidden: int, seed: int) -> Policy:
    """A two-layer model of Qwen3's kind with one token a character."""
    words = tokenizer.characters(ALPHABET)
    return Policy(tiny.make("qwen3", words, hidden=hidden, layers=2, heads=4, kv_heads=2, max_length=32, seed=seed), words)


def parameters(policy: Policy) -> int:
    """All weights."""
    return sum(weight.numel() for weight in policy.model.parameters())


def fine_tune(
    policy: Policy, folder: Path, seed: int, settings: dict[str, Any], written: Callable[[Chain], Chain] = lambda one: one
) -> tuple[int, float]:
    """SFT on a careless teacher's chains until the pass rate on prompts of their own reaches `wanted`; (steps, that pass rate).

    settings: "steps" at most, "batch", "rate", "rows", "slips" of the teacher, "every" so many steps a check, "wanted"; "prompts" of the
    check and the "share" of random answers among them. written: how a chain is written down, where not as its states alone.
    """
    steps, batch = int(settings["steps"]), int(settings["batch"])
    taught = careless(chains(settings["rows"], seed, "train", longest=settings["longest"]), settings["slips"], seed)
    rows = [written(one).row(f"sft-{place}") for place, one in enumerate(taught)]
    config = SFTConfig(steps=steps, batch_size=batch, learning_rate=settings["rate"], schedule="constant", warmup=0.02, seed=seed)
    asked = [written(one) for one in chains(settings["prompts"], seed + 1000, "test", settings["share"], settings["longest"])]
    seen, rate = [0], [0.0]

    def there() -> bool:
        seen[0] += 1
        if seen[0] % int(settings["every"]) == 0:
            rate[0] = float(pass_rates(policy, asked, 4, seed_for("sft check", seed, seen[0])).mean())
        return rate[0] >= settings["wanted"]

    examples = to_examples(load_rows(rows), policy, "completion", None)
    train_sft(policy, examples, config, Run.create(folder, config), stop_check=there)
    return seen[0], rate[0]


@torch.no_grad()
def pass_rates(policy: Policy, problems: Sequence[Chain], samples: int, seed: int) -> np.ndarray:
    """Each problem's share of right completions at temperature 1 [problems]; all are drawn together, their prompts being equally long."""
    generator = torch.Generator(device=policy.device).manual_seed(seed)
    policy.model.eval()
    prompts = torch.tensor([policy.encode(problem.prompt) for problem in problems], device=policy.device)
    most = max(len(problem.states) for problem in problems) + 1
    out = np.zeros(len(problems))
    for row, ids in enumerate(sample(policy, prompts.repeat_interleave(samples, 0), most, generator).tolist()):
        problem = problems[row // samples]
        out[row // samples] += check(policy.decode(_until_end(ids, policy.eos_ids)), {"answer": problem.answer}) / samples
    return out


@torch.no_grad()
def sample(policy: Policy, ids: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """`most` tokens after each row of ids [rows, length], drawn at temperature 1: [rows, most]. Rows that end go on; cut them after."""
    cache, given, out = None, ids, []
    for _ in range(most):
        found = policy.model(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = found.past_key_values
        given = torch.multinomial(found.logits[:, -1].float().softmax(-1), 1, generator=generator)
        out.append(given)
    return torch.cat(out, 1)


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens before the first end; one that has not ended is cut off, and is judged as it stands."""
    stops = [place for place, token in enumerate(ids) if token in ends]
    return ids[: stops[0]] if stops else ids
