"""A float32 head under a bfloat16 model: the same product in the engine, the trainer and by hand; names, ties and files stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.heads import head_of
from burnish.models.load import load_model
from burnish.models.lora import LoraConfig, add_lora
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.models.wide_head import WideLinear, widen_head
from burnish.recipes.config import ModelConfig
from burnish.recipes.policy import load_policy
from burnish.records import Rollout, Sampling
from burnish.runs.errors import UserError


def model_of(dtype=torch.bfloat16, **settings):
    """A tiny model with peaked logits, so that half precision shows."""
    words = tokenizer.byte_level()
    model = tiny.make("qwen3", words, hidden=64, layers=2, dtype=dtype, **settings)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model, words


def gap(wide):
    """Mean |difference| of the engine's and the trainer's log-probs."""
    model, words = model_of()
    if wide:
        widen_head(model)
    policy = Policy(model, words)
    engine = Engine(model, words, policy.eos_ids, mode="fast", slots=8)
    turns = generate(engine, [words(f"say {n}")["input_ids"] for n in range(8)], Sampling(), n=2, max_new_tokens=16)
    rollouts = [Rollout(str(n), place, [turn]) for n, group in enumerate(turns) for place, turn in enumerate(group)]
    own = policy.score(rollouts)["policy.logp"].double().numpy()
    return rollouts, policy, float(np.abs(own - np.concatenate([one.turns[0].logprobs for one in rollouts])).mean())


def test_both_sides_compute_the_head_in_float32():
    torch.manual_seed(0)
    rollouts, policy, _ = gap(wide=True)
    model = policy.model
    own = policy.score(rollouts)["policy.logp"]
    turn = rollouts[0].turns[0]
    ids = torch.tensor([[*turn.context_ids, *turn.output_ids]])
    hidden = model.model(input_ids=ids).last_hidden_state[0, len(turn.context_ids) - 1 : -1]
    by_hand = (hidden.float() @ model.lm_head.weight.float().T).log_softmax(-1)[range(len(turn.output_ids)), turn.output_ids]
    assert model(input_ids=ids).logits.dtype == torch.float32
    torch.testing.assert_close(own[: len(by_hand)].float(), by_hand.detach(), atol=2e-2, rtol=0)  # the hidden states' own rounding
    head = head_of(model)
    assert head.fp32
    assert head.plain is not None
    torch.testing.assert_close(head(hidden), hidden.float() @ model.lm_head.weight.float().T)
    narrow = head_of(model_of()[0])
    assert not narrow.fp32
    assert float((narrow(hidden).float() - head(hidden)).abs().max()) > 1e-3, "half precision was as good: the test shows nothing"


def test_the_gradient_reaches_weight_and_hidden():
    model, words = model_of()
    widen_head(model)
    policy = Policy(model, words)
    rollout = Rollout("a", 0, [_turn(words)])
    policy.score([rollout], grad=True)["policy.logp"].sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    assert all(one is not None and one.isfinite().all() and one.dtype == torch.bfloat16 for one in grads)
    wide, _ = model_of(dtype=torch.float32)
    wide.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    Policy(wide, words).score([rollout], grad=True)["policy.logp"].sum().backward()
    a, b = model.lm_head.weight.grad.float().flatten(), wide.lm_head.weight.grad.flatten()
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.999


def _turn(words):
    from burnish.records import Turn

    ids = words("hello there")["input_ids"]
    return Turn(ids[:4], ids[4:], np.zeros(len(ids) - 4, np.float32))


def test_names_ties_and_files_stay_and_a_float32_model_is_not_changed(tmp_path):
    model, words = model_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    widen_head(model)
    widen_head(model)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert {name: value.dtype for name, value in model.state_dict().items()} == {name: value.dtype for name, value in before.items()}
    save_model(model, words, tmp_path / "saved")
    again = load_model(str(tmp_path / "saved"), "bfloat16")[0]
    assert type(again.lm_head) is nn.Linear
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    policy = load_policy(ModelConfig(path=str(tmp_path / "saved"), dtype="bfloat16", head_dtype="float32"), threads=1)
    assert type(policy.model.lm_head) is WideLinear
    adapted = load_policy(
        ModelConfig(path=str(tmp_path / "saved"), dtype="bfloat16", head_dtype="float32", lora=LoraConfig(rank=2)), threads=1
    )
    assert isinstance(adapted.model.get_base_model().lm_head, WideLinear)
    whole, _ = model_of(dtype=torch.float32)
    ids = torch.tensor([words("hello")["input_ids"]])
    same = whole(input_ids=ids).logits.clone()
    widen_head(whole)
    assert torch.equal(whole(input_ids=ids).logits, same)


def test_a_head_that_is_no_linear_layer_is_refused():
    model, _ = model_of()
    with pytest.raises(UserError, match="not a plain linear layer; leave it out"):
        widen_head(add_lora(model, LoraConfig(rank=2, targets=("lm_head",))).get_base_model())
