"""The training forward: every way to run it gives one gradient, and what cannot be packed is run plainly."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from burnish.models import attention, forward, tiny
from burnish.models.heads import backbone_of
from burnish.models.rows import Row

WINDOW = 5  # shorter than every prompt


def make(kind, dtype=torch.float64, **more):
    return tiny.make(kind, hidden=32, layers=3, vocab=270, dtype=dtype, **({"window": WINDOW} if kind in tiny.WINDOWED else {}), **more)


def make_rows(seed=0, prompts=(13, 9, 13), group=3):
    rng = np.random.default_rng(seed)
    rows = []
    for size in prompts:
        prompt = rng.integers(0, 256, size)
        for _ in range(group):
            n = int(rng.integers(1, 12))
            targets = np.sort(rng.choice(np.arange(1, size + n), size=min(4, size + n - 1), replace=False))  # some inside the prompt
            rows.append(Row(np.concatenate([prompt, rng.integers(0, 256, n)]), targets))
    return rows


def one_by_one(model, rows):
    """The oracle: each row alone, whole, by the model's backbone."""
    parts = []
    for row in rows:
        ids = torch.from_numpy(row.ids)[None]
        parts.append(backbone_of(model)(input_ids=ids, use_cache=False).last_hidden_state[0, row.targets - 1])
    return torch.cat(parts)


def gradient(model, hidden):
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=hidden.dtype).view_as(hidden).sin()
    model.zero_grad()
    (hidden * weights).sum().backward()
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()])


def set_checkpointing(model, on):
    (model.activation_checkpointing_enable if on else model.activation_checkpointing_disable)()


def gap(a, b):
    return float((a.detach() - b.detach()).abs().max() / b.detach().abs().max())


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_all_ways_give_one_gradient(kind):
    model, rows = make(kind), make_rows()
    forward.hidden_at_targets(model, rows[:1])  # float64 norms from here on
    implementation = attention.DENSE if kind == "gemma2" else None  # its own softmax goes down to float32
    with attention.implementation(attention.configs_of(model), implementation):
        hidden = one_by_one(model, rows)
    wanted = gradient(model, hidden)
    runs = [(share, checkpointing, "right", 1) for share in (False, "always") for checkpointing in (False, True)]
    for share, checkpointing, padding, multiple in [*runs, (False, False, "right", 16), (False, True, "left", 8)]:
        set_checkpointing(model, checkpointing)
        report = []
        found = forward.hidden_at_targets(model, rows, share, padding=padding, pad_multiple=multiple, report=report)
        assert report[0].path == ("packed" if share else "plain"), report
        assert gap(found, hidden) < 1e-12, (share, checkpointing, padding)
        assert gap(gradient(model, found), wanted) < 1e-12, (share, checkpointing, padding)
    assert not any("forward" in vars(m) for m in model.modules() if type(m).__name__.endswith(("Layer", "Block")))
    assert model.config._attn_implementation not in (attention.PACKED, attention.DENSE)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_equals_the_models_own_forward_in_its_dtype(kind, dtype):
    model, rows = make(kind, dtype), make_rows(1)
    report = []
    with torch.no_grad():
        packed = forward.hidden_at_targets(model, rows, "always", report=report)
        alone = one_by_one(model, rows)
    assert report[0].path == "packed"
    assert packed.dtype == dtype
    assert gap(packed.float(), alone.float()) < (1e-5 if dtype == torch.float32 else 5e-2)


def test_window_is_felt():
    """The test above would not see a forgotten window if windows did nothing."""
    rows = make_rows()
    narrow, wide = make("mistral"), tiny.make("mistral", hidden=32, layers=3, vocab=270, dtype=torch.float64)
    assert gap(forward.hidden_at_targets(narrow, rows, "always"), forward.hidden_at_targets(wide, rows, "always")) > 1e-3


@pytest.mark.parametrize("share", [False, "always"])
def test_checkpointing_computes_layers_again_in_eval_mode_without_dropout(share):
    model = make("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    model.train()
    model.config.use_cache = False
    rows = make_rows()
    wanted = gradient(model, forward.hidden_at_targets(model, rows, share))
    calls = []
    for module in model.transformer.h:
        module.attn.register_forward_hook(lambda module, *_: calls.append(module.training))
    set_checkpointing(model, True)
    hidden = forward.hidden_at_targets(model, rows, share)
    first = len(calls)
    assert first in (3, 6)  # three layers, for each plain batch
    assert model.training
    assert model.transformer.h[0].attn.attn_dropout.training
    assert gap(gradient(model, hidden), wanted) < 1e-12
    assert calls == [False] * 2 * first
    assert model.transformer.h[0].mlp.training


def test_checkpointing_holds_less_memory():
    def saved_bytes(checkpointing):
        model = make("qwen3", torch.float32)
        set_checkpointing(model, checkpointing)
        sizes = {}

        def keep(tensor):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            forward.hidden_at_targets(model, make_rows(), "always")
        return sum(sizes.values())

    assert saved_bytes(True) < 0.5 * saved_bytes(False)


def test_choice_by_cost_and_its_reason():
    model = make("llama", torch.float32)
    report = []
    rng = np.random.default_rng(0)
    shared = make_rows(prompts=(60,), group=6)
    forward.hidden_at_targets(model, shared, report=report)
    distinct = [Row(rng.integers(0, 256, 20), np.arange(10, 20)) for _ in range(5)]
    forward.hidden_at_targets(model, distinct, report=report)
    forward.hidden_at_targets(model, shared, share_prefix=False, report=report)
    assert [way.path for way in report] == ["packed", "plain", "plain"]
    assert report[0].tokens < 0.5 * report[0].row_tokens
    assert "share" in report[1].why
    assert "switched off" in report[2].why


class Summing(nn.Module):
    """A recurrent layer in place of attention: no packed row can be right for it."""

    def __init__(self, layer):
        super().__init__()
        self.layer_idx = layer

    def forward(self, hidden_states, **_):
        return hidden_states.cumsum(1) / 10, None


def test_a_model_that_cannot_pack_takes_the_plain_way():
    model = make("llama", torch.float32)
    for index, layer in enumerate(model.model.layers):
        layer.self_attn = Summing(index)
    report = []
    found = forward.hidden_at_targets(model, make_rows(), "always", report=report)
    assert report[0].path == "plain"
    assert "other hidden states" in report[0].why
    assert gap(found, one_by_one(model, make_rows())) < 1e-5


def test_unknown_attention_arguments_are_refused():
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}
    config = transformers.GptOssConfig(**sizes, **heads, **rope, num_local_experts=2, num_experts_per_tok=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert "s_aux" in (forward.why_not_packed(model) or "")


def test_bloom_makes_its_own_masks_and_is_run_plainly():
    config = transformers.BloomConfig(vocab_size=270, hidden_size=32, n_layer=2, n_head=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    report = []
    found = forward.hidden_at_targets(model, make_rows(), report=report)
    assert report[0].path == "plain"
    assert "BloomForCausalLM" in report[0].why
    assert gap(found, one_by_one(model, make_rows())) < 1e-5


def test_lora_adapters_are_seen_by_the_packed_way():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(make("qwen3"), peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    rows = make_rows()
    plain = forward.hidden_at_targets(model, rows, False)
    packed = forward.hidden_at_targets(model, rows, "always")
    with model.disable_adapter():
        base = forward.hidden_at_targets(model, rows, "always")
    assert gap(packed, plain) < 1e-12
    assert gap(base, plain) > 1e-3


def test_float64_model_survives_copying():
    model = make("gemma2")
    rows = make_rows()
    hidden = forward.hidden_at_targets(model, rows)
    twin = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(forward.hidden_at_targets(twin, rows), hidden)


def test_packed_attention_outside_its_forward_says_so():
    model = make("llama", torch.float32)
    with attention.implementation(attention.configs_of(model), attention.PACKED), pytest.raises(RuntimeError, match="packed rows"):
        model(torch.tensor([[1, 2]]))
