"""Drawing: the right distribution, the right support, and no dependence on neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from burnish.inference.sampling import child_seed, sample, truncate, uniforms
from burnish.records import Sampling


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]))
    n = 20_000
    ids, logp, same = sample(logits.expand(n, 5), [Sampling()] * n, [7] * n, range(n))
    share = torch.bincount(ids, minlength=5) / n
    assert (share - logits.exp()).abs().max() < 0.015
    assert torch.allclose(logp, logits[ids])
    assert torch.equal(logp, same)


def test_uniforms_are_uniform_and_depend_on_both_keys():
    u = uniforms(np.arange(200, dtype=np.uint64).repeat(50), np.tile(np.arange(50), 200))
    assert len(np.unique(u)) == 10_000
    assert abs(u.mean() - 0.5) < 0.01
    assert abs(u.std() - 12**-0.5) < 0.01
    assert (uniforms([-1, 2**70], [0, 0]) < 1).all()
    assert len({child_seed(5, i) for i in range(1000)}) == 1000


def test_a_row_does_not_feel_its_neighbours():
    torch.manual_seed(0)
    logits = torch.randn(40, 97)
    settings = [Sampling(temperature=0.7), Sampling(top_k=3), Sampling(temperature=0), Sampling(top_p=0.8, bans=(4,)), Sampling(min_p=0.1)]
    rows = [(settings[i % 5], i * 11, i) for i in range(40)]
    together = sample(logits, *zip(*rows))
    for i in (0, 1, 2, 3, 4, 39):
        alone = sample(logits[i : i + 1], *zip(rows[i]))
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone, together))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.5), {0}),
        (Sampling(top_p=0.51), {0, 1}),
        (Sampling(min_p=0.3), {0, 1}),
        (Sampling(bans=(0,)), {1, 2, 3, 4}),
        (Sampling(top_k=3, bans=(0,)), {1, 2, 3}),
        (Sampling(top_k=2, top_p=0.6), {0}),  # the two kept have 2/3 and 1/3: the first alone reaches 0.6
    ],
)
def test_truncation_keeps_the_right_tokens(settings, kept):
    p = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625])
    out = truncate(p.log(), settings).exp()
    assert set(out.nonzero().flatten().tolist()) == kept
    wanted = torch.where(torch.tensor([i in kept for i in range(5)]), p, 0.0)
    assert torch.allclose(out, wanted / wanted.sum())


def test_truncation_agrees_with_transformers():
    from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    torch.manual_seed(1)
    for _ in range(20):
        logits = torch.randn(1, 50) * 3
        theirs = logits
        for warper in (TopKLogitsWarper(20), TopPLogitsWarper(0.9), MinPLogitsWarper(0.02)):
            theirs = warper(None, theirs)
        ours = truncate(torch.log_softmax(logits[0], -1), Sampling(top_k=20, top_p=0.9, min_p=0.02))
        assert torch.equal(ours.isfinite(), theirs[0].isfinite())


def test_greedy_and_scores():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    ids, logp, _ = sample(logits, [Sampling(temperature=0)], [0], [0])
    assert ids.tolist() == [1]
    assert torch.equal(logp, torch.log_softmax(logits, -1)[:, 1])
    ids, logp, cut = sample(logits, [Sampling(temperature=0, bans=(1,))], [0], [0])
    assert ids.tolist() == [2]
    assert torch.equal(logp, torch.log_softmax(logits, -1)[:, 2])
    assert cut[0] > logp[0]
