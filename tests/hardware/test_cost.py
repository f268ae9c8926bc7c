"""Costs from a config alone, against what torch counts on a real model."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from burnish.hardware import calibrate, cost
from burnish.hardware.architecture import Architecture
from burnish.models import tiny, tokenizer
from burnish.runs.errors import UserError

KINDS = ("qwen3", "llama", "gemma2", "mistral", "gpt2", "opt")


def made(kind):
    return tiny.make(kind, tokenizer.byte_level(), hidden=64, layers=3, heads=4, kv_heads=2).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_says_what_the_model_is(kind):
    model = made(kind)
    arch = Architecture.of(model.config)
    assert arch == Architecture.of_model(model)
    assert arch.parameters == sum(parameter.numel() for parameter in model.parameters())
    cache = model(torch.arange(10)[None], use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cost.cache_bytes(arch, 10) == held


@pytest.mark.parametrize("kind", KINDS)
def test_activations_match_what_autograd_keeps(kind):
    model = made(kind)
    kept, alive = {}, []
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def pack(tensor):
        alive.append(tensor)
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.base_model(torch.randint(0, 200, (2, 64)), use_cache=False)
    measured = sum(size for storage, size in kept.items() if storage not in weights)
    # gemma2's soft-capped attention also keeps its weights, which grow with the length and are left out
    assert cost.activation_bytes(Architecture.of(model.config), 128) == pytest.approx(measured, rel=0.25 if kind == "gemma2" else 0.06)


def test_training_and_decoding_flops_match_torch():
    model = made("qwen3")
    arch = Architecture.of(model.config)
    ids = torch.randint(0, 200, (2, 32))
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    # torch leaves the CPU's fused attention out, and the first layer needs no gradient of its input: none of the embeddings is a product
    assert cost.train(arch, 64, 0.0, 64).flops == pytest.approx(counter.get_total_flops(), rel=1e-9)
    one = cost.decode(arch, 3, 10, 1).flops - 3 * 2 * arch.matmul
    assert one == 3 * 4 * arch.layers * arch.query * 11
    assert cost.decode(arch, 3, 10, 4).flops == pytest.approx(sum(cost.decode(arch, 3, 10 + n, 1).flops for n in range(4)))


def test_frozen_weights_recomputation_and_memory():
    arch = Architecture.of(made("qwen3").config)
    full = cost.train(arch, 4096, 100, 1024)
    adapter = cost.train(arch, 4096, 100, 1024, trained=1000)
    again = cost.train(arch, 4096, 100, 1024, checkpointing=True)
    assert again.flops == pytest.approx(full.flops * 4 / 3)
    assert 2 / 3 <= adapter.flops / full.flops < 0.68
    assert full.memory - adapter.memory == pytest.approx((arch.parameters - 1000) * 12)
    assert again.memory < full.memory
    assert cost.train(arch, 4096, 100, 4096).memory > full.memory


def test_a_mixture_of_experts_pays_for_the_experts_it_uses():
    import transformers

    config = transformers.Qwen3MoeConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        moe_intermediate_size=8, num_experts=16, num_experts_per_tok=2, tie_word_embeddings=False,
    )  # fmt: skip
    arch = Architecture.of(config)
    experts = 2 * 3 * 32 * 8
    attention = 2 * (2 * 32 * 32 + 2 * 32 * 16)
    router = 2 * 16 * 32
    assert arch.matmul == 2 * experts + attention + router + 100 * 32
    assert arch.parameters > arch.matmul


def test_a_window_bounds_the_keys():
    arch = Architecture.of(made("qwen3").config)
    assert arch.keys_seen(0, 9) == 5
    assert Architecture(**{**arch.__dict__, "window": 3}).keys_seen(100, 9) == 3


def test_the_roofline_takes_the_slower_side():
    machine = calibrate.Machine("toy", flops=10.0, bandwidth=2.0, memory=5.0)
    assert machine.seconds(cost.Cost(flops=100.0, bytes=2.0)) == 10.0
    assert machine.seconds(cost.Cost(flops=1.0, bytes=20.0)) == 10.0
    assert machine.fits(cost.Cost(memory=4.0))
    assert not machine.fits(cost.Cost(memory=6.0))


def test_calibration_times_only_what_it_is_given():
    calls = []
    found = calibrate.rate(lambda: calls.append(1), amount=7.0, seconds=0.001)
    assert found > 0
    assert len(calls) >= 5


def test_a_config_without_a_language_model_is_refused():
    import transformers

    with pytest.raises(UserError, match="no causal language model"):
        Architecture.of(transformers.ViTConfig())
