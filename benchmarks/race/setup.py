"""What both sides of the race are given: the model, its tokenizer, the prompts, the reward, and the settings of a step."""

from __future__ import annotations

import dataclasses
import math
import random
import string
from typing import Any

import torch

from burnish.models import tiny
from burnish.models.tokenizer import byte_level, end_ids

PROMPT_TOKENS = 96


@dataclasses.dataclass(frozen=True)
class Case:
    """prompts x group completions a step of at most `cap` tokens. mean: wanted mean length in tokens; None: all have `cap`."""

    name: str
    cap: int
    mean: float | None
    prompts: int = 8
    group: int = 8


CASES = {
    "fixed": Case("48 new tokens, fixed", cap=48, mean=None),
    "long-tailed": Case("long-tailed lengths, mean 64, cap 256", cap=256, mean=64.0),
    "smoke": Case("smoke: 6 new tokens at most", cap=6, mean=4.0, prompts=2, group=2),
}
MODEL = {"hidden": 192, "layers": 5, "heads": 6, "kv_heads": 2, "max_length": 512}
SMALL = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "max_length": 512}  # the smoke test's
LEARNING_RATE = 1e-6  # TRL's default: small enough that 30 steps leave the lengths as they are
CLIP, SCALE_EPS, MAX_GRAD_NORM = 0.2, 1e-4, 1.0
ENGINE_MODE = "fast"
"""burnish's fastest setting, as TRL gets its own; "exact", the default on a CPU, costs about a sixth more here."""
STATED = {
    "burnish_engine_mode": ENGINE_MODE,
    "dtype": "float32",
    "loss_type": "dapo (mean over all completion tokens)",
    "beta": 0.0,
    "scale_rewards": "group (std with N-1, plus 1e-4)",
    "updates_per_batch": 1,
    "epsilon": CLIP,
    "temperature": 1.0,
    "optimizer": f"AdamW, learning rate {LEARNING_RATE}, betas 0.9 0.999, no weight decay, gradient clipped to {MAX_GRAD_NORM}",
    "gradient_checkpointing": False,
    "completion_logging": False,
    "threads": 1,
}


def make_model(case: Case, seed: int = 0) -> tuple[Any, Any]:
    """(model, tokenizer): Qwen3-type, float32, random weights, about 1.7M parameters; its end-of-sequence logit is set for the case.

    Nothing else makes completions end or go on: neither side has to force or forbid a token. The first hidden channel is held
    constant, and the head's weight from it to the end token is the bias that gives the wanted mean length; lengths are then nearly
    geometric, with a long tail cut at the cap.
    """
    tokenizer = byte_level(chat_template=None)
    tokenizer.padding_side = "left"
    model = tiny.make("qwen3", tokenizer, vocab=len(tokenizer), seed=seed, **(SMALL if case.prompts < 8 else MODEL))
    eos = tokenizer.eos_token_id
    model.config.eos_token_id = model.generation_config.eos_token_id = eos  # one end token on both sides
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[[end for end in end_ids(tokenizer) if end != eos], 0] = -10.0
        if case.mean is None:
            model.lm_head.weight[eos, 0] = -10.0
        else:
            model.lm_head.weight[eos, 0] = _bias(model, eos, _end_rate(case.mean, case.cap))
    return model, tokenizer


def _end_rate(mean: float, cap: int) -> float:
    """p with (1 - (1 - p)^cap) / p = mean: the rate at which geometric lengths cut at `cap` have this mean."""
    low, high = 1e-6, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - (1 - middle) ** cap) / middle > mean else (low, middle)
    return low


def _bias(model: Any, eos: int, rate: float) -> float:
    """The head's weight from the constant channel to `eos` at which its mean probability is `rate`, over states of random tokens."""
    ids = torch.randint(0, 256, (32, 64), generator=torch.Generator().manual_seed(1))
    hidden = model.model(input_ids=ids).last_hidden_state.flatten(0, 1)
    logits = model.lm_head(hidden)
    own = hidden[:, 0] * model.lm_head.weight[eos, 0]
    rest = logits.clone()
    rest[:, eos] = -torch.inf
    rest_sum = rest.logsumexp(-1)
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        p = torch.sigmoid(logits[:, eos] - own + hidden[:, 0] * middle - rest_sum).mean().item()
        low, high = (low, middle) if p > rate else (middle, high)
    return low if math.isfinite(low) else 0.0


def prompts(count: int = 512, seed: int = 3) -> list[str]:
    """Different texts of PROMPT_TOKENS tokens each (one token a letter)."""
    draw = random.Random(seed)
    return ["".join(draw.choices(string.ascii_lowercase + " ", k=PROMPT_TOKENS)) for _ in range(count)]


def variety(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    """The reward, in TRL's signature: different letters a completion holds, as a share of 64. Costs next to nothing."""
    return [len(set(text)) / 64 for text in completions]
