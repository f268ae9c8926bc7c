"""token_values against the naive reference, its gradients, its memory, and its errors."""

import subprocess
import sys

import pytest
import torch

from burnish.models import heads, logprobs, tiny
from burnish.runs.errors import UserError

torch.set_num_threads(1)
K, V = 37, 261


def made(kind="gemma2", dtype=torch.float64, **overrides):
    torch.manual_seed(0)
    model = tiny.make(kind, hidden=32, dtype=dtype, **overrides)
    hidden = torch.randn(K, 32, dtype=dtype) * 20
    return model, heads.head_of(model), hidden, torch.randint(0, V, (K,))


def distance(logits, ids, extras):
    """A vocabulary term: KL of the policy to a teacher's distribution, as distillation has it."""
    log_probs = torch.log_softmax(logits, -1)
    return (log_probs.exp() * (log_probs - torch.log_softmax(extras["teacher"], -1))).sum(-1) * extras["weight"]


def all_gradients(value, inputs):
    weights = {name: torch.linspace(-1, 1, K, dtype=tensor.dtype) for name, tensor in value.items()}
    return torch.autograd.grad(sum((value[name] * weights[name]).sum() for name in value), inputs)


@pytest.mark.parametrize("kind", ["gemma2", "qwen3"])
@pytest.mark.parametrize("temperature", [1.0, 0.7, "per token"])
def test_values_and_gradients_are_the_naive_ones(kind, temperature):
    _model, head, hidden, ids = made(kind)
    if temperature == "per token":
        temperature = torch.linspace(0.5, 2, K, dtype=torch.float64)
        temperature[3] = 0  # greedy: counts as 1
    extras = {"kl": {"teacher": torch.randn(K, V, dtype=torch.float64), "weight": torch.rand(K, dtype=torch.float64)}}
    hidden.requires_grad_()
    inputs = [hidden, head.module.weight]
    naive = logprobs._naive(head, hidden, ids, {"kl": distance}, extras, temperature)
    wanted = all_gradients(naive, inputs)
    arguments = {"want": ("logp", "entropy"), "terms": {"kl": distance}, "extras": extras, "temperature": temperature}
    for chunk in (5, 1024):
        found = logprobs.token_values(head, hidden, ids, chunk=chunk, grad=True, **arguments)
        plain = logprobs.token_values(head, hidden, ids, chunk=chunk, **arguments)
        assert found["logp"].requires_grad
        assert not plain["logp"].requires_grad
        for name, value in naive.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)
            torch.testing.assert_close(plain[name], value, rtol=0, atol=1e-12)
        for mine, its in zip(all_gradients(found, inputs), wanted):
            torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("want", ["logp", "entropy", "kl"])
def test_each_value_alone_has_its_gradient(want):
    _model, head, hidden, ids = made("gemma2", final_logit_softcapping=5.0)
    extras = {"kl": {"teacher": torch.randn(K, V, dtype=torch.float64), "weight": 1.0}}
    terms = {"kl": distance} if want == "kl" else {}
    hidden.requires_grad_()
    found = logprobs.token_values(head, hidden, ids, [want] if want != "kl" else [], terms, extras, temperature=1.3, chunk=8, grad=True)
    naive = logprobs._naive(head, hidden, ids, terms, extras, 1.3)
    assert list(found) == [want]
    inputs = [hidden, head.module.weight]
    for mine, its in zip(all_gradients(found, inputs), all_gradients({want: naive[want]}, inputs)):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


def test_bias_scale_and_frozen_weight():
    model, _, hidden, ids = made("llama")
    model.lm_head = torch.nn.Linear(32, V, bias=True, dtype=torch.float64)
    head = heads.head_of(model)
    head.scale = 0.5
    hidden.requires_grad_()
    inputs = [hidden, head.module.weight, head.module.bias]
    found = logprobs.token_values(head, hidden, ids, chunk=10, grad=True)
    for mine, its in zip(all_gradients(found, inputs), all_gradients({"logp": logprobs._naive(head, hidden, ids)["logp"]}, inputs)):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)
    head.module.weight.requires_grad_(False)
    logprobs.token_values(head, hidden, ids, grad=True)["logp"].sum().backward()
    assert head.module.weight.grad is None
    assert head.module.bias.grad is not None
    assert hidden.grad is not None


def test_lora_on_the_head():
    peft = pytest.importorskip("peft")
    model, _, hidden, ids = made("llama")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False))
    wrapped.double().eval()
    head = heads.head_of(wrapped)
    assert head.plain is None
    hidden.requires_grad_()
    inputs = [hidden, *(p for p in head.module.parameters() if p.requires_grad)]
    assert len(inputs) == 3
    found = logprobs.token_values(head, hidden, ids, ("logp", "entropy"), chunk=10, grad=True, temperature=0.8)
    naive = logprobs._naive(head, hidden, ids, temperature=0.8)
    for name in naive:
        torch.testing.assert_close(found[name], naive[name], rtol=0, atol=1e-12)
    for mine, its in zip(all_gradients(found, inputs), all_gradients(naive, inputs)):
        torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)
    with wrapped.disable_adapter():  # the reference model of a LoRA run: the same head object, without the adapter
        assert head.plain is not None
        off = logprobs.token_values(head, hidden, ids)["logp"]
        torch.testing.assert_close(off, logprobs._naive(head, hidden, ids)["logp"], rtol=0, atol=1e-12)
    assert (off - found["logp"]).abs().max() > 1e-3


def test_bfloat16_is_softmaxed_in_float32_and_close():
    model, head, hidden, ids = made("gemma2", dtype=torch.bfloat16)
    exact = logprobs._naive(heads.Head(model.float(), head.scale, head.cap), hidden.float(), ids)
    model.to(torch.bfloat16)
    for fp32, bound in ((False, 0.15), (True, 1e-4)):
        head.fp32 = fp32
        states = hidden.clone().requires_grad_()
        found = logprobs.token_values(head, states, ids, ("logp", "entropy"), chunk=8, grad=True)
        assert found["logp"].dtype == torch.float32
        assert (found["logp"] - exact["logp"]).abs().max() < bound
        gradients = all_gradients(found, [states, head.module.weight])
        assert [g.dtype for g in gradients] == [torch.bfloat16, torch.bfloat16]
        assert all(torch.isfinite(g).all() for g in gradients)


def test_masked_vocabulary_and_empty_input():
    model, head, hidden, ids = made("llama", dtype=torch.float32)
    model.lm_head = torch.nn.Linear(32, V, bias=True)
    with torch.no_grad():
        model.lm_head.bias[7] = -torch.inf  # a token the model can never say
    ids = ids.masked_fill(ids == 7, 8)
    hidden.requires_grad_()
    head = heads.Head(model)
    found = logprobs.token_values(head, hidden, ids, ("logp", "entropy"), grad=True)
    gradient = torch.autograd.grad(found["logp"].sum() + found["entropy"].sum(), hidden)[0]
    assert torch.isfinite(found["entropy"]).all()
    assert torch.isfinite(gradient).all()
    empty = logprobs.token_values(head, hidden[:0], ids[:0], ("logp", "entropy"), grad=True)
    assert empty["logp"].shape == (0,)
    assert torch.autograd.grad(empty["logp"].sum(), hidden)[0].abs().sum() == 0


def test_reduces_see_each_rollout_once():
    _model, head, hidden, ids = made("llama")
    mean = lambda states, its_head, tokens, mask: (states[mask].mean(0), len(tokens), its_head is head)  # noqa: E731
    found = logprobs.token_values(head, hidden, ids, (), reduces={"mean": mean}, segments=[30, 0, 7])
    assert list(found) == ["mean"]
    assert [length for _, length, _ in found["mean"]] == [30, 0, 7]
    torch.testing.assert_close(found["mean"][2][0], hidden[30:].mean(0))
    with pytest.raises(ValueError, match="segments hold 5 tokens"):
        logprobs.token_values(head, hidden, ids, (), reduces={"mean": mean}, segments=[5])


def test_errors():
    _model, head, hidden, ids = made("llama")
    with pytest.raises(UserError, match="may hold logp and entropy"):
        logprobs.token_values(head, hidden, ids, ("logprob",))
    with pytest.raises(ValueError, match="wanted are"):
        logprobs.token_values(head, hidden, ids[:-1])
    with pytest.raises(ValueError, match="temperature is negative"):
        logprobs.token_values(head, hidden, ids, temperature=-1.0)
    with pytest.raises(ValueError, match="one value a token"):
        logprobs.token_values(head, hidden, ids, terms={"odd": lambda logits, ids, extras: logits.sum()})


MEASURE = """
import resource, torch
torch.set_num_threads(1)
from burnish.models import heads, logprobs
K, D, V = 512, 256, 152_000
class Owner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lm_head = torch.nn.Linear(D, V, bias=False)
    def get_output_embeddings(self):
        return self.lm_head
owner = Owner()
owner.lm_head.weight.grad = torch.ones_like(owner.lm_head.weight)  # the gradient is resident before, and counted so
owner.lm_head.weight.grad = None
hidden = torch.randn(K, D, requires_grad=True)
ids = torch.randint(0, V, (K,))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
found = logprobs.token_values(heads.Head(owner), hidden, ids, ("logp", "entropy"), grad=True)
sum(value.mean() for value in found.values()).backward()
print((peak() - before) / (4096 * V * 4))
assert owner.lm_head.weight.grad[0].any()
"""


@pytest.mark.slow
def test_peak_memory_is_a_tenth_of_the_logits():
    """Forward and backward above the weight and its gradient; hidden 256, vocabulary 152,000.

    The peak does not grow with the tokens but for [K, d], so 512 of them stand for the 4,096 whose logits are the measure.
    """
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 0.10
