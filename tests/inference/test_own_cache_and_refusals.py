"""Models that bring their own cache or batch keys, and models that are refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny
from burnish.records import Sampling
from burnish.runs.errors import UserError

WINDOW = 3


class WindowCache:
    """The embeddings of each row's last three tokens: [rows, <= WINDOW, d]."""

    def __init__(self, held=None):
        self.held = held

    def rows(self):
        return 0 if self.held is None else len(self.held)

    def select(self, rows):
        return WindowCache(self.held[list(rows)].clone())

    def join(self, others):
        most = WINDOW
        pads = [torch.nn.functional.pad(c.held, (0, 0, most - c.held.shape[1], 0)) for c in (self, *others)]
        return WindowCache(torch.cat(pads))

    def fork(self):
        return WindowCache(None if self.held is None else self.held.clone())

    def reset(self):
        self.held = None


class WindowModel(torch.nn.Module):
    """A toy causal LM: a token's logits come from the sum of the last three embeddings."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(50, 16)
        self.head = torch.nn.Linear(16, 50)
        self.config = SimpleNamespace(vocab_size=50, max_position_embeddings=256, eos_token_id=None)
        self.batches = []

    def make_cache(self):
        return WindowCache()

    def batch_key(self, handle):
        return handle.extras.get("route", 0)

    def forward(self, input_ids, position_ids=None, past_key_values=None, use_cache=False):
        x = self.embedding(input_ids)
        self.batches.append(tuple(input_ids.shape))
        before = torch.zeros(len(x), WINDOW, 16)
        if past_key_values is not None and past_key_values.held is not None:
            before[:, WINDOW - past_key_values.held.shape[1] :] = past_key_values.held
        full = torch.cat([before, x], dim=1)
        if past_key_values is not None:
            past_key_values.held = full[:, -WINDOW:]
        summed = sum(full[:, 1 + i : 1 + i + x.shape[1]] for i in range(WINDOW))
        return SimpleNamespace(logits=self.head(summed))


@pytest.mark.parametrize("mode", ["auto", "exact"])
def test_a_window_cache_of_its_own(mode):
    model = WindowModel()
    engine = Engine(model, eos_ids=[99], mode=mode)
    assert (engine.mode, engine.path) == ("fast" if mode == "auto" else "exact", "own cache")
    h = engine.prefill([1, 2, 3, 4], seed=1)
    engine.append(h, [5])
    turns = engine.decode(engine.fork(h, 3), max_new_tokens=7)
    other = engine.prefill([9, 8], extras={"route": 1}, seed=4)
    model.batches.clear()
    turns += engine.decode([other, *engine.fork(h, 2)], max_new_tokens=7)
    assert max(rows for rows, _ in model.batches) == (2 if mode == "auto" else 1)
    for turn in turns:
        with torch.no_grad():
            logits = model(torch.tensor([turn.context_ids + turn.output_ids])).logits[0, len(turn.context_ids) - 1 : -1]
        plain = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()
        assert np.abs(plain - turn.logprobs).max() < 2e-5
    assert turns[0].injected.tolist() == [True] + [False] * 7


class Routed(transformers.LlamaForCausalLM):
    """Rows skip layer 0 or not, by their batch key."""

    skip = False

    def batch_key(self, handle):
        return bool(handle.extras.get("skip"))

    def begin_batch(self, key):
        self.skip = bool(key)

    def __init__(self, config):
        super().__init__(config)
        layer = self.model.layers[0]
        stock = layer.forward
        layer.forward = lambda hidden, **kwargs: self._maybe(stock, hidden, kwargs)

    def _maybe(self, stock, hidden, kwargs):
        out = stock(hidden, **kwargs)  # keys and values are kept in step; the row goes past the layer
        return hidden if self.skip else out


def test_rows_with_different_keys_never_share_a_pass():
    config = tiny.make("llama").config
    torch.manual_seed(0)
    model = Routed(config).eval()
    engine = Engine(model, eos_ids=[10_000])
    assert engine.path == "modules"
    handles = [engine.prefill([5, 6, 7 + i], seed=i, extras={"skip": i % 2 == 1}) for i in range(6)]
    for i, turn in enumerate(engine.decode(handles, max_new_tokens=6)):
        model.skip = i % 2 == 1
        with torch.no_grad():
            logits = model(torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0, 2:-1]
        plain = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()
        assert np.abs(plain - turn.logprobs).max() < 2e-5


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64, "intermediate_size": 64}
REFUSED = {
    "t5": ({"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 64}, "encoder-decoder"),
    "bloom": (SMALL | {"n_layer": 2, "n_head": 2}, "ALiBi"),
    "mpt": ({"d_model": 32, "n_heads": 2, "n_layers": 2, "vocab_size": 64}, "ALiBi"),
    "mamba": (SMALL, "recurrent"),
    "gptj": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 64, "rotary_dim": 8}, "attention interface"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_models_it_cannot_serve_are_refused_by_name(kind):
    fields, reason = REFUSED[kind]
    config = transformers.AutoConfig.for_model(kind, **fields)
    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    model = auto.from_config(config).eval()
    with pytest.raises(UserError, match=reason) as caught:
        Engine(model)
    assert type(model).__name__ in str(caught.value)


def test_a_model_whose_cache_path_differs_is_refused():
    class Shifted(transformers.LlamaForCausalLM):
        def forward(self, *args, position_ids=None, use_cache=None, **kwargs):
            return super().forward(*args, position_ids=position_ids + 1 if use_cache else position_ids, use_cache=use_cache, **kwargs)

    torch.manual_seed(0)
    model = Shifted(tiny.make("llama").config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0 if parameter.dim() < 2 else 4.0)
    # A shift of all positions changes nothing under rotary positions: served. Absolute ones show it.
    assert Engine(model).path == "modules"

    class ShiftedGPT2(transformers.GPT2LMHeadModel):
        def forward(self, *args, position_ids=None, use_cache=None, **kwargs):
            return super().forward(*args, position_ids=position_ids + 1 if use_cache else position_ids, use_cache=use_cache, **kwargs)

    torch.manual_seed(0)
    with pytest.raises(UserError, match="cannot be served"):
        Engine(ShiftedGPT2(tiny.make("gpt2").config).eval())


def test_other_modern_types_are_served():
    extra = {"num_key_value_heads": 1, "max_position_embeddings": 128, "head_dim": 16, "pad_token_id": 0}
    kinds = {
        "qwen2": {},
        "gemma3_text": {"sliding_window": 8},
        "phi3": {},
        "gpt_neox": {},
        "olmo2": {},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    }
    for kind, more in kinds.items():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **(SMALL | extra | more))
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        engine = Engine(model, eos_ids=[99])
        turn = generate(engine, [[1, 2, 3, 4, 5]], Sampling(), max_new_tokens=12)[0][0]
        with torch.no_grad():
            logits = model(torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0, 4:-1]
        plain = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()
        assert np.abs(plain - turn.logprobs).max() < 2e-5, kind
