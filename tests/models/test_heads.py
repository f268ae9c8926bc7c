"""The head alone equals the model's own logits, for every type; unknown heads are refused."""

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from burnish.models import heads, tiny
from burnish.runs.errors import UserError

torch.set_num_threads(1)
IDS = torch.arange(14).view(2, 7)
SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OTHERS = {
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "phi": {},  # a bias on the head
    "nanochat": {},  # a soft-cap again
    "gpt_neox": {},
}


def build(name, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "opt, projected":
            return tiny.make("opt", word_embed_proj_dim=32, dtype=dtype)
        if name in tiny.KINDS:
            return tiny.make(name, dtype=dtype)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SMALL, **OTHERS[name])).to(dtype).eval()
        if name == "phi":
            torch.nn.init.normal_(model.lm_head.bias)
        return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*tiny.KINDS, "opt, projected", *OTHERS])
@torch.no_grad()
def test_logits_are_the_models_own(name, dtype):
    model = build(name, dtype)
    head, backbone = heads.head_of(model), heads.backbone_of(model)
    model.get_input_embeddings().weight.mul_(20)  # large logits, so that soft-caps bend
    hidden = backbone(input_ids=IDS, use_cache=False).last_hidden_state
    full = model(IDS, use_cache=False).logits
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(head.logits(hidden), full, rtol=bound, atol=bound)
    torch.testing.assert_close(head.logits(hidden.flatten(0, 1)), full.flatten(0, 1), rtol=bound, atol=bound)
    assert head.vocab_size == full.shape[-1]
    assert {"gemma2": 30.0, "nanochat": 15.0}.get(name) == head.cap
    assert head.scale == {"cohere": 0.0625, "granite": 0.125}.get(name, 1.0)
    assert (head.plain.bias is not None) == (name == "phi")


def test_bfloat16_and_the_wide_head():
    model = tiny.make("gemma2", dtype=torch.bfloat16)
    assert heads.head_of(model).logits(torch.randn(3, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert heads.head_of(model, fp32=True).logits(torch.randn(3, 64, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_on_the_head(kind):
    for settings in ({"target_modules": "all-linear"}, {"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}):
        model = tiny.make(kind)
        plain = model(IDS).logits
        if "modules_to_save" in settings:
            settings = {"target_modules": ["q_proj" if kind == "llama" else "c_attn"], **settings}
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, init_lora_weights=False, **settings)).eval()
        head, backbone = heads.head_of(wrapped), heads.backbone_of(wrapped)
        with torch.no_grad():
            for parameter in head.module.parameters():
                parameter.mul_(1.5)  # after construction, and on the adapter's copy where there is one
            adapted = head.logits(backbone(input_ids=IDS).last_hidden_state)
            torch.testing.assert_close(adapted, wrapped(IDS).logits, rtol=1e-5, atol=1e-5)
            assert (adapted - plain).abs().max() > 1e-2
            with wrapped.disable_adapter():
                torch.testing.assert_close(
                    head.logits(backbone(input_ids=IDS).last_hidden_state), wrapped(IDS).logits, rtol=1e-5, atol=1e-5
                )
            wrapped.merge_adapter()
            torch.testing.assert_close(head.logits(backbone(input_ids=IDS).last_hidden_state), wrapped(IDS).logits, rtol=1e-5, atol=1e-5)


def test_unknown_heads_are_refused():
    class Bent(type(tiny.make("llama"))):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = 5.0 * torch.tanh(out.logits / 5.0)  # a soft-cap that no config field tells of
            return out

    model = tiny.make("llama")
    model.__class__ = Bent
    with pytest.raises(UserError, match=r"model type 'llama'.*refused"):
        heads.head_of(model)
    with pytest.raises(UserError, match="no backbone found"):
        heads.head_of(tiny.make("llama").model)
    prompt = peft.get_peft_model(tiny.make("llama"), peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(UserError, match="virtual tokens"):
        heads.head_of(prompt)


def test_probe_leaves_no_trace():
    model = tiny.make("gpt2").train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    heads.head_of(model)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert model.transformer.training
    assert not heads.backbone_of(model)._forward_hooks
