"""FLOPs against a hand count."""

import pytest

from burnish.hardware.flops import forward_flops, matmul_parameters, training_flops
from burnish.models import tiny, tokenizer


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_matmul_parameters_match_torch_counting_flops(kind):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny.make(kind, tokenizer.byte_level(), hidden=32, layers=2, heads=4, kv_heads=2)
    ids = torch.arange(24)[None]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids)
    # torch does not count the CPU's fused attention; its share is checked by hand: queries x keys and weights x values
    assert forward_flops(model, 24) == counter.get_total_flops()
    assert forward_flops(model, 24, mean_keys=24) - forward_flops(model, 24) == 2 * (2 * 2 * 24 * 24 * 32)


def test_a_training_step_costs_three_forwards_and_a_tied_head_counts():
    model = tiny.make("qwen3", tokenizer.byte_level(), hidden=32, layers=2, heads=4, kv_heads=2)
    assert training_flops(model, 10, 5.0) == 3 * forward_flops(model, 10, 5.0)
    assert matmul_parameters(model) >= model.get_output_embeddings().weight.numel()
