"""The gradient of a step: equal to the plain computation, for every cut, packed or padded, and without leaks between examples."""

import numpy as np
import pytest
import torch

from burnish.data.examples import Example
from burnish.models import tiny
from burnish.models import tokenizer as tokenizers
from burnish.models.attention import DENSE
from burnish.models.policy import Policy
from burnish.models.precision import keep_double
from burnish.sft.step import Stepper

TOKENIZER = tokenizers.byte_level()


def _policy(kind="qwen3", dtype=torch.float64, **options):
    torch.set_num_threads(1)
    model = tiny.make(kind, TOKENIZER, hidden=16, layers=2, heads=2, kv_heads=1, max_length=64, dtype=dtype, **options)
    keep_double(model)
    return Policy(model, TOKENIZER)


def _examples(n=7, seed=0):
    random = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        length = int(random.integers(3, 30))
        mask = random.random(length) < 0.6
        mask[-1] = True
        out.append(Example(random.integers(0, 256, length).tolist(), mask))
    return out


def _naive(policy, examples):
    """One example after the other through the whole model, by the book."""
    policy.model.zero_grad()
    if policy.model.config.model_type == "gemma2":  # its eager softmax steps down to float32: nothing could agree to 1e-10 with that
        policy.model.set_attn_implementation(DENSE)
    total = sum(one.n_loss_tokens for one in examples)
    loss = torch.zeros((), dtype=torch.float64)
    for one in examples:
        ids = torch.tensor([one.ids])
        nll = torch.nn.functional.cross_entropy(policy.model(ids).logits[0, :-1].double(), ids[0, 1:], reduction="none")
        loss = loss + nll[torch.from_numpy(one.mask[1:])].sum() / total
    loss.backward()
    found = _grads(policy)
    if policy.model.config.model_type == "gemma2":
        policy.model.set_attn_implementation("eager")
    return loss.item(), found


def _grads(policy):
    return torch.cat([p.grad.flatten() for p in policy.model.parameters()])


def _gradient(policy, examples, **options):
    policy.model.zero_grad()
    sums = Stepper(policy, **options).gradient(examples)
    return sums, _grads(policy)


@pytest.mark.parametrize(("kind", "window"), [("qwen3", None), ("mistral", 5), ("gemma2", 5), ("gpt2", None)])
@pytest.mark.parametrize("packing", [True, "always", False])
def test_every_cut_gives_the_gradient_of_the_plain_computation(kind, window, packing):
    policy, examples = _policy(kind, window=window) if window else _policy(kind), _examples()
    loss, wanted = _naive(policy, examples)
    for micro_tokens in (1, 40, 10_000):
        for batch in (examples, examples[::-1]):
            sums, found = _gradient(policy, batch, micro_tokens=micro_tokens, packing=packing)
            assert (found - wanted).abs().max() < 1e-10
            assert sums.nll / sums.tokens == pytest.approx(loss, abs=1e-10)


def test_gradient_checkpointing_changes_nothing():
    policy, examples = _policy(), _examples()
    _, wanted = _naive(policy, examples)
    policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for packing in ("always", False):
        assert (_gradient(policy, examples, packing=packing)[1] - wanted).abs().max() < 1e-10


@pytest.mark.parametrize("packing", ["always", False])
@pytest.mark.parametrize("kind", ["qwen3", "mistral"])
def test_an_example_sees_nothing_of_its_neighbours(kind, packing):
    policy = _policy(kind, window=8) if kind == "mistral" else _policy(kind)
    first, second, third = _examples(3)
    other = Example([(token + 7) % 256 for token in first.ids], first.mask)

    def of_the_second(neighbour):
        """Log-probs of the second example's tokens, and the gradient of their sum alone."""
        policy.model.zero_grad()
        values, _ = Stepper(policy, packing=packing)._values([neighbour, second, third], grad=True)
        own = slice(neighbour.n_loss_tokens, neighbour.n_loss_tokens + second.n_loss_tokens)
        values["logp"][own].sum().backward()
        return values["logp"][own].detach(), _grads(policy)

    values, grads = of_the_second(first)
    changed_values, changed_grads = of_the_second(other)
    assert torch.equal(values, changed_values)
    assert (grads - changed_grads).abs().max() < 1e-12


def test_sums_count_what_they_say():
    policy, examples = _policy(dtype=torch.float32), _examples()
    sums = Stepper(policy, micro_tokens=50).measure(examples)
    logits = [policy.model(torch.tensor([one.ids])).logits[0, :-1].double() for one in examples]
    logp = [torch.log_softmax(one, -1) for one in logits]
    masks = [torch.from_numpy(one.mask[1:]) for one in examples]
    ids = [torch.tensor(one.ids[1:]) for one in examples]
    n = sum(int(mask.sum()) for mask in masks)
    assert (sums.tokens, sums.seen) == (n, sum(len(one.ids) for one in examples))
    wanted = {
        "eval_loss": -sum(p.gather(1, i[:, None])[:, 0][m].sum().item() for p, i, m in zip(logp, ids, masks)) / n,
        "eval_mean_token_accuracy": sum((p.argmax(-1) == i)[m].sum().item() for p, i, m in zip(logp, ids, masks)) / n,
        "eval_entropy": -sum((p.exp() * p).sum(-1)[m].sum().item() for p, m in zip(logp, masks)) / n,
    }
    assert sums.metrics("eval_") == pytest.approx(wanted, abs=1e-6)


def test_bf16_is_close_and_leaves_the_weights_alone():
    policy, examples = _policy(dtype=torch.float32), _examples()
    exact, _ = _gradient(policy, examples)
    rough, grads = _gradient(policy, examples, bf16=True)
    assert rough.nll == pytest.approx(exact.nll, rel=0.02)
    assert grads.dtype == torch.float32
