"""The engine computes what transformers computes: greedy ids and log-probs, six model types, ragged prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.inference.modules import ModulePath
from burnish.models import tiny
from burnish.records import Sampling

WINDOW = 12
PROMPTS = 100
NEW = 10


def make(kind: str, dtype: torch.dtype = torch.float32):
    model = tiny.make(kind, window=WINDOW if kind in tiny.WINDOWED else None, dtype=dtype, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():  # random initial weights are so small that a wrong mask would hardly show
            parameter.mul_(1.0 if parameter.dim() < 2 else 4.0)
    return model


def prompts(n: int = PROMPTS) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 250, size=size).tolist() for size in rng.integers(1, 60, size=n)]


def engine_for(model, path: str) -> Engine:
    engine = Engine(model, eos_ids=[model.config.vocab_size])
    assert engine.path == "walker" or model.dtype == torch.float64
    if path == "modules":
        engine._runner = ModulePath(model, engine.facts)
    return engine


@pytest.mark.parametrize("kind", sorted(tiny.KINDS))
@pytest.mark.parametrize("path", ["walker", "modules"])
def test_greedy_ids_equal_generate_on_each_prompt_alone(kind, path):
    model = make(kind)
    rows = prompts(PROMPTS if path == "walker" else 30)
    turns = generate(engine_for(model, path), rows, Sampling(temperature=0), max_new_tokens=NEW)
    differing = 0
    for row, (turn,) in zip(rows, turns):
        ids = torch.tensor([row])
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=model.config.vocab_size,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        theirs = out.sequences[0, len(row) :].tolist()
        assert turn.context_ids == row
        if theirs != turn.output_ids:
            first = next(i for i in range(NEW) if theirs[i] != turn.output_ids[i])
            top = out.logits[first][0].topk(2).values
            assert top[0] - top[1] < 1e-5, f"prompt of {len(row)} tokens differs at token {first}"
            differing += 1
    assert differing <= 0.001 * len(rows) * NEW


@pytest.mark.parametrize("kind", sorted(tiny.KINDS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logprobs_equal_a_plain_forward(kind, dtype):
    model = make(kind, dtype)
    if kind == "gemma2" and dtype == torch.float64:
        # Its eager attention rounds the softmax to float32; a float64 reference needs the soft-cap left out.
        model.config.attn_logit_softcapping = None
        for layer in model.model.layers:
            layer.self_attn.attn_logit_softcapping = None
        model.config._attn_implementation = "sdpa"
    rows = prompts(40)
    turns = generate(engine_for(model, "walker"), rows, Sampling(temperature=0.8), n=2, max_new_tokens=24, seeds=3)
    gaps = []
    with torch.no_grad():
        for turn in (turn for group in turns for turn in group):
            logits = model(torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0, len(turn.context_ids) - 1 : -1]
            wanted = torch.log_softmax(logits / 0.8, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0]
            gaps.append((wanted - torch.from_numpy(turn.logprobs)).abs())
    gap = torch.cat(gaps)
    assert gap.max() < (2e-5 if dtype == torch.float32 else 1e-10)
    assert gap.mean() < (2e-6 if dtype == torch.float32 else 1e-10)
    assert turn.logprobs.dtype == (np.float32 if dtype == torch.float32 else np.float64)


def test_long_rows_and_long_prompts_cross_every_chunk():
    model = tiny.make("llama", max_length=1400)
    engine = Engine(model, eos_ids=[model.config.vocab_size])
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 250, size=size).tolist() for size in (700, 3, 256, 257, 1100)]
    for turn in (group[0] for group in generate(engine, rows, Sampling(), max_new_tokens=40)):
        with torch.no_grad():
            logits = model(torch.tensor([turn.context_ids + turn.output_ids])).logits[0, len(turn.context_ids) - 1 : -1]
        wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0]
        assert (wanted - torch.from_numpy(turn.logprobs)).abs().max() < 2e-5


def test_adapters_and_hooks_take_the_modules_and_stay_right():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make("qwen3"), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    engine = Engine(model, eos_ids=[10_000])
    assert (engine.path, engine.mode) == ("modules", "exact")
    assert "Lora" in engine.why or "peft" in engine.why.lower() or "stock" in engine.why
    turn = generate(engine, [[5, 6, 7]], Sampling(), max_new_tokens=12)[0][0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([turn.context_ids + turn.output_ids])).logits[0, 2:-1]
    wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0]
    assert (wanted - torch.from_numpy(turn.logprobs)).abs().max() < 2e-5
    hooked = make("llama")
    hooked.model.layers[0].mlp.register_forward_hook(lambda module, inputs, output: output * 2)
    assert Engine(hooked).path == "modules"
