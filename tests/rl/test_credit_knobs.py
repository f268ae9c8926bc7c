"""Credit without golden numbers against slow references: pass@k, marked tokens, length-dependent lambda, entropy shaping."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
import torch

from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.chain import make_chain
from burnish.rl.credit.pass_at_k import PassAtK
from burnish.rl.objectives import presets
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.errors import UserError


# --- pass@k ---------------------------------------------------------------------------------------------------------------------------
def brute(rewards: list[float], k: int, form: str, by_std: bool) -> list[float]:
    """Over all subsets."""
    sets = list(itertools.combinations(range(len(rewards)), k))
    best = {one: max(rewards[j] for j in one) for one in sets}
    out = []
    for i in range(len(rewards)):
        mine = [one for one in sets if i in one]
        if form == "centred":
            out.append(statistics.fmean(best[one] for one in mine) - statistics.fmean(best.values()))
        else:
            rest = [max([rewards[j] for j in one if j != i], default=0.0) for one in mine]
            out.append(k * statistics.fmean(best[one] - other for one, other in zip(mine, rest)))
    spread = statistics.pstdev(best.values())
    return [value / spread if spread > 1e-12 else 0.0 for value in out] if by_std else out


@pytest.mark.parametrize(("form", "by_std"), [("centred", False), ("centred", True), ("marginal", False)])
@pytest.mark.parametrize("k", range(1, 6))
def test_pass_at_k_is_the_mean_over_all_subsets(k, form, by_std):
    draw = np.random.default_rng(k)
    for n in range(k + 1, 8):
        for rewards in (draw.normal(size=n), draw.integers(0, 2, n), draw.integers(0, 3, n) / 2, np.ones(n), np.zeros(n)):
            found = PassAtK(k=k, form=form, by_std=by_std).credit(rewards.tolist())
            assert found == pytest.approx(brute(rewards.tolist(), k, form, by_std), abs=1e-12)


def test_pass_at_k_of_binary_rewards_is_the_papers_closed_form():
    """Pass@k training: R = 1 - C(neg, k) / C(n, k); positives (1 - R) / s, negatives (1 - R - C(neg-1, k-1) / C(n-1, k-1)) / s."""
    rewards = [1.0, 0, 0, 1, 0, 0, 0, 0]
    found = PassAtK(k=3, by_std=True).credit(rewards)
    share = 1 - 20 / 56
    spread = (share * (1 - share)) ** 0.5
    wanted = {1.0: (1 - share) / spread, 0.0: (1 - share - 10 / 21) / spread}
    assert found == pytest.approx([wanted[reward] for reward in rewards])


def test_pass_at_k_in_a_batch():
    """k = 1 is group_mean; dropped rollouts take no part; too few rollouts get nothing; ties share."""
    table = TokenTable.from_lengths([2, 1, 3, 1, 2, 1, 1, 1], [0] * 5 + [1] * 3, kept=[True, True, False, True, True, True, True, False])
    reward = torch.tensor([0.3, 1.0, torch.nan, -2.0, 1.0, 5.0, 6.0, 7.0], dtype=torch.float64)
    batch = CreditBatch.make(table, reward)
    one = make_chain({"name": "pass_at_k", "k": 1})(batch).tokens
    torch.testing.assert_close(one, make_chain("group_mean")(batch).tokens, rtol=0, atol=1e-12)
    two = make_chain({"name": "pass_at_k", "k": 2})(batch).tokens
    wanted = brute([0.3, 1.0, -2.0, 1.0], 2, "centred", False)
    assert two[[0, 2, 6, 7]].tolist() == pytest.approx(wanted)
    assert two[3:6].tolist() == [0, 0, 0]
    assert two[9:].tolist() == [0, 0, 0], "two rollouts are one set of two"
    with pytest.raises(UserError, match="set group_size to 9 or more"):
        presets.preset("grpo").with_(credit={"name": "pass_at_k", "k": 8}).for_run(8, 4)
    presets.preset("grpo").with_(credit={"name": "pass_at_k", "k": 8, "form": "marginal"}).for_run(8, 4)
    with pytest.raises(UserError, match="by_std belongs to form 'centred'"):
        make_chain({"name": "pass_at_k", "form": "marginal", "by_std": True})


# --- marked tokens --------------------------------------------------------------------------------------------------------------------
def group_of(extras: list[dict], replays: list[dict]) -> Group:
    """Two rollouts of three output tokens, the middle one injected."""
    rollouts = [Rollout("p", n, [Turn([1], [5, 6, 7], np.zeros(3), np.array([0, 1, 0], bool), replay=replays[n])]) for n in range(2)]
    return Group(Item("p", [1], 2), rollouts, [Score(float(n), extras=extras[n]) for n in range(2)])


def test_marked_tokens_get_more_credit_and_less_blame():
    chain = make_chain(["group_mean", {"name": "marked", "alpha": 0.2}])
    assert chain.columns == ("planning",)
    marks = {"planning": np.array([1, 1, 0])}
    for extras, replays in (([{"planning": [1, 0]}] * 2, [{}] * 2), ([{}] * 2, [marks] * 2), ([{"planning": [1, 0]}, {}], [{}, marks])):
        batch = CreditBatch.from_groups([group_of(extras, replays)], columns=chain.columns)
        assert chain(batch).tokens.tolist() == pytest.approx([-0.5 + 0.1, -0.5, 0.5 + 0.1, 0.5])
    none = CreditBatch.from_groups([group_of([{"planning": [0, 0]}] * 2, [{}] * 2)], columns=chain.columns)
    assert torch.equal(chain(none).tokens, make_chain("group_mean")(none).tokens)


def test_a_missing_or_short_column_is_named():
    with pytest.raises(UserError, match=r"item 'p', rollout 1: .*'planning'.*score\.extras"):
        CreditBatch.from_groups([group_of([{"planning": [1, 0]}, {}], [{}, {}])], columns=("planning",))
    with pytest.raises(UserError, match=r"'planning' holds \(3,\) values for 2 loss tokens"):
        CreditBatch.from_groups([group_of([{"planning": [1, 0, 0]}, {}], [{}, {}])], columns=("planning",))
    dropped = CreditBatch.from_groups([group_of([{"planning": [1, 0]}, {}], [{}, {}])], [[True, False]], columns=("planning",))
    assert dropped.measured["column.planning"].tolist() == [1, 0, 0, 0]


# --- critic and entropy ---------------------------------------------------------------------------------------------------------------
def ragged(seed: int):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (6,), generator=draw)
    table = TokenTable.from_lengths(lengths, [0, 0, 0, 1, 1, 1], kept=[True, True, True, False, True, True])

    def normal():
        return torch.randn(table.n_tokens, generator=draw, dtype=torch.float64)

    measured = {"critic.value": normal(), "policy.entropy": normal().abs()}
    return CreditBatch.make(table, normal()[:6], token_rewards=normal(), measured=measured)


@pytest.mark.parametrize("seed", range(3))
def test_length_dependent_lambda_and_the_critics_own(seed):
    batch = ragged(seed)
    found = make_chain({"name": "critic", "gamma": 0.9, "length_alpha": 0.4, "value_lam": 1.0})(batch)
    start = 0
    for row, length in enumerate(batch.table.lengths.tolist()):
        own = slice(start, start + length)
        start += length
        if row == 3:
            assert found.tokens[own].tolist() == [0] * length
            continue
        values = [*batch.measured["critic.value"][own].tolist(), 0.0]
        rewards = batch.token_rewards[own].tolist()
        rewards[-1] += float(batch.reward[row])
        steps = [rewards[t] + 0.9 * values[t + 1] - values[t] for t in range(length)]
        lam = max(0.0, 1 - 1 / (0.4 * length))
        wanted = [sum((0.9 * lam) ** (s - t) * steps[s] for s in range(t, length)) for t in range(length)]
        assert found.tokens[own].tolist() == pytest.approx(wanted, abs=1e-12)
        plain = [sum(0.9 ** (s - t) * rewards[s] for s in range(t, length)) for t in range(length)]
        assert found.value_target[own].tolist() == pytest.approx(plain, abs=1e-12), "lambda 1: the plain discounted return"


@pytest.mark.parametrize("seed", range(3))
def test_entropy_shaping_is_bounded_and_keeps_the_sign(seed):
    batch = ragged(seed)
    found = make_chain(["group_mean", {"name": "entropy_shaped", "alpha": 0.4, "kappa": 2.0}])(batch).tokens
    plain = make_chain("group_mean")(batch).tokens
    for token in range(batch.table.n_tokens):
        row = int(batch.table.sequence[token])
        a = float(plain[token])
        wanted = a + min(0.4 * float(batch.measured["policy.entropy"][token]), abs(a) / 2.0) if row != 3 else 0.0
        assert float(found[token]) == pytest.approx(wanted, abs=1e-12)
        assert float(found[token]) * a >= 0
