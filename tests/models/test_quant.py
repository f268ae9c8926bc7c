"""4-bit bases: loading, training an adapter on one, sampling from it, saving and merging; and the refusals."""

import importlib.util

import pytest
import torch

import burnish
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import lora, quant, save, tiny, tokenizer
from burnish.models.load import load_model
from burnish.recipes.config import ModelConfig
from burnish.recipes.export import export
from burnish.recipes.policy import frozen_copy, load_policy
from burnish.recipes.refusals import refuse_model
from burnish.records import Rollout
from burnish.runs.errors import UserError

IDS = torch.arange(14).view(2, 7)
HERE = importlib.util.find_spec("bitsandbytes") is not None
needs_bitsandbytes = pytest.mark.skipif(not HERE, reason="bitsandbytes is not installed (extra: quant)")


@pytest.fixture
def base(tmp_path):
    return save.save_model(tiny.make("qwen3"), tokenizer.byte_level(), tmp_path / "base")


def adapted(base, kind="nf4"):
    return load_policy(ModelConfig(path=str(base), quantize=kind, lora=lora.LoraConfig(rank=4)))


def shaken(policy):
    """The policy with an adapter that does something."""
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02)
    return policy


@pytest.mark.parametrize(
    ("fields", "has_model", "message"),
    [
        ({"quantize": "nf4"}, False, "needs model.lora"),
        ({"quantize": "nf4", "lora": {}}, True, "needs model.path"),
        ({"quantize": "fp4", "lora": {}, "dtype": "float64"}, False, "not in float64"),
    ],
)
def test_refusals_before_anything_loads(fields, has_model, message, base):
    with pytest.raises(UserError, match=message):
        refuse_model(ModelConfig(path=str(base), **fields), has_model)


def test_where_bitsandbytes_is_absent(base, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find(name, *more))
    with pytest.raises(UserError, match=r"not installed; pip install 'burnish\[quant\]'"):
        refuse_model(ModelConfig(path=str(base), quantize="nf4", lora=lora.LoraConfig()))
    saved = save.save_model(lora.add_lora(load_model(base)[0]), tokenizer.byte_level(), tmp_path / "adapter")
    assert load_model(saved)[0] is not None
    (saved / quant.NOTE).write_text('{"quantize": "nf4"}')
    with pytest.raises(UserError, match=r"trained on a 4-bit base.*delete the file") as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)
    assert load_model(saved, quantize="none")[0] is not None
    (saved / quant.NOTE).write_text("[]")
    with pytest.raises(UserError, match="not readable"):
        load_model(saved)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", quant.KINDS)
def test_a_base_in_4_bit(kind, base):
    import bitsandbytes

    policy = adapted(base, kind)
    inner = policy.model.get_base_model()
    layer = inner.model.layers[0].mlp.up_proj.base_layer
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    assert layer.weight.numel() * layer.weight.element_size() * 8 == 4 * layer.in_features * layer.out_features
    assert type(inner.lm_head) is torch.nn.Linear  # the head stays as it is
    plain = tiny.make("qwen3")(IDS).logits.detach()
    gap = float((policy.model(IDS).logits.detach() - plain).norm() / plain.norm())
    assert 0.01 < gap < 0.4  # rounded to 16 values, and no more than that
    with pytest.raises(UserError, match="cannot be trained themselves"):
        load_policy(ModelConfig(path=str(base), quantize=kind))


@needs_bitsandbytes
def test_the_engine_samples_what_the_trainer_scores(base):
    policy = shaken(adapted(base))
    engine = Engine(policy.model, policy.tokenizer, policy.eos_ids, slots=8)
    assert engine.path == "modules"
    turns = generate(engine, [[5, 6, 7, 8], [9, 10]], n=2, max_new_tokens=10)
    rollouts = [Rollout("a", index, [turn], "length") for index, turn in enumerate(turn for row in turns for turn in row)]
    scored = policy.score(rollouts)
    sampled = torch.cat([torch.from_numpy(rollout.turns[0].logprobs) for rollout in rollouts])
    torch.testing.assert_close(next(iter(scored.values())).float(), sampled, rtol=0, atol=1e-4)
    twin = frozen_copy(policy)
    shared = policy.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    assert twin.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight is shared  # no second copy of the base
    assert torch.equal(twin.model(IDS).logits, policy.model(IDS).logits)


@needs_bitsandbytes
def test_saved_adapters_remember_their_base_and_merging_keeps_its_values(base, tmp_path):
    policy = shaken(adapted(base))
    logits = policy.model(IDS).logits
    saved = save.save_model(policy, None, tmp_path / "adapter")
    again, _ = load_model(saved)
    assert quant.is_quantised(again)
    assert torch.equal(again(IDS).logits, logits)
    assert not quant.is_quantised(load_model(saved, quantize="none")[0])
    with pytest.raises(UserError, match="4-bit base cannot be merged"):
        lora.merged_state(again)
    merged, _ = load_model(export(saved, tmp_path / "merged"))
    assert not quant.is_quantised(merged)
    assert not hasattr(merged.config, "quantization_config")
    torch.testing.assert_close(merged(IDS).logits, logits, rtol=0, atol=1e-4)


@needs_bitsandbytes
def test_training_on_a_4_bit_base(base, tmp_path):
    rows = [{"prompt": "ab", "completion": "cdcdcd"}] * 8
    model_args = {"quantize": "nf4", "lora": {"rank": 8}}
    found = burnish.train(
        model=str(base), model_args=model_args, data=rows, stage="sft", output=str(tmp_path / "sft"),
        sft={"steps": 12, "batch_size": 8, "learning_rate": 0.02},
    )  # fmt: skip
    losses = [line["loss"] for line in found["run"].metrics() if "loss" in line]
    assert losses[-1] < losses[0] - 0.8  # the frozen random head bounds the logits: the floor is about 4.4
    found = burnish.train(
        model=str(base), model_args=model_args, data=[{"prompt": "ab"}] * 4, reward=shorter, output=str(tmp_path / "rl"),
        rl={"steps": 1, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 5, "learning_rate": 1e-3},
    )  # fmt: skip
    assert found["step"] == 1
    assert any(float(p.detach().abs().max()) > 0 for name, p in found["policy"].model.named_parameters() if "lora_B" in name)


def shorter(completion_ids, **_):
    return [float(ids[0] % 7) for ids in completion_ids]
