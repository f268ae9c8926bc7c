"""G2RL: features against automatic differentiation and as published, the exploration score by hand, the shapers' behaviour and refusals."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from burnish import train
from burnish.models import heads, tiny, tokenizer
from burnish.models.lora import LoraConfig, add_lora
from burnish.models.policy import Policy
from burnish.recipes import papers
from burnish.records import Group, Item, Rollout, Sampling, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.objectives import presets
from burnish.rl.rewards.g2rl import G2RL, NgramNovelty, RandomNubar, UpdateGeometry
from burnish.rl.rewards.g2rl.baselines import ngram_counts
from burnish.rl.rewards.g2rl.exploration import cosines, explore, explore_naive, geometry, reference_weights, shaped
from burnish.rl.rewards.g2rl.features import Sensitivity, sensitivity_need, sequence_feature, token_features, token_features_naive
from burnish.rl.rewards.g2rl.inspect import GEOMETRY, read
from burnish.runs import parts
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

GOLDEN = Path(__file__).parent / "golden_g2rl"
CASES = {"mixed_group": 1.0, "temperature_and_graded": 0.8, "edge_identical": 1.0, "edge_empty_completion": 1.0}
KEY = sensitivity_need().key


class Owner(nn.Module):
    """A model that is nothing but a head."""

    def __init__(self, weight, bias=None):
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
        with torch.no_grad():
            self.layer.weight.copy_(weight)
            if bias is not None:
                self.layer.bias.copy_(bias)

    def get_output_embeddings(self):
        return self.layer


def drawn(seed=0, tokens=7, width=5, vocab=11, dtype=torch.float64):
    """(hidden, ids, weight, bias)"""
    generator = torch.Generator().manual_seed(seed)

    def make(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return make(tokens, width), torch.randint(vocab, (tokens,), generator=generator), make(vocab, width), make(vocab)


HEADS = {"plain": {}, "scale": {"scale": 0.5}, "cap": {"cap": 2.0}, "both": {"scale": 1.7, "cap": 1.5}}


# --- features -------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("biased", [False, True])
def test_features_are_derivatives_of_the_log_prob(kind, temperature, biased):
    hidden, ids, weight, bias = drawn()
    head = heads.Head(Owner(weight, bias if biased else None), **HEADS[kind])
    phi = token_features(hidden, head, ids, temperature)
    torch.testing.assert_close(phi, token_features_naive(hidden, head, ids, temperature), atol=1e-12, rtol=0)
    shift = torch.zeros(hidden.shape[1], dtype=hidden.dtype, requires_grad=True)
    logp = torch.log_softmax(head.logits(hidden + shift) / temperature, -1).gather(1, ids[:, None]).mean()
    (derivative,) = torch.autograd.grad(logp, shift)
    whole = sequence_feature(hidden, head, ids, temperature)
    torch.testing.assert_close(whole / temperature, derivative, atol=1e-12, rtol=0)
    torch.testing.assert_close(whole, phi.mean(0), atol=1e-12, rtol=0)


def test_a_plain_heads_feature_by_hand():
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    head = heads.Head(Owner(weight))
    phi = token_features(torch.zeros(2, 2, dtype=torch.float64), head, torch.tensor([1, 0]))
    torch.testing.assert_close(phi, torch.tensor([[0.0, 2 / 3], [1.0, -1 / 3]], dtype=torch.float64))


def test_chunks_hold_few_probabilities_and_masked_tokens_are_never_read(monkeypatch):
    hidden, ids, weight, bias = drawn(tokens=9)
    head, seen = heads.Head(Owner(weight, bias)), []
    whole = sequence_feature(hidden, head, ids)
    linear = heads.Head.linear
    monkeypatch.setattr(heads.Head, "linear", lambda self, states: seen.append(len(states)) or linear(self, states))
    torch.testing.assert_close(sequence_feature(hidden, head, ids, chunk=2), whole, atol=1e-14, rtol=0)
    assert seen == [2, 2, 2, 2, 1]
    mask = torch.ones(9, dtype=torch.bool)
    mask[[2, 5]] = False
    spoilt = torch.where(mask[:, None], hidden, torch.tensor(math.nan, dtype=torch.float64))
    expected = sequence_feature(hidden[mask], head, ids[mask])
    torch.testing.assert_close(Sensitivity()(spoilt, head, ids, mask), expected, atol=0, rtol=0)
    assert Sensitivity()(hidden, head, ids, torch.zeros(9, dtype=torch.bool)).tolist() == [0.0] * 5
    torch.testing.assert_close(Sensitivity(0.0)(hidden, head, ids, mask), expected, atol=0, rtol=0)


def test_narrow_heads_and_adapted_heads(monkeypatch):
    hidden, ids, weight, bias = drawn(tokens=6, width=8, vocab=40, dtype=torch.bfloat16)
    narrow, wide = heads.Head(Owner(weight, bias)), heads.Head(Owner(weight.double(), bias.double()))
    monkeypatch.setattr("burnish.rl.rewards.g2rl.features.ROWS", 16)
    found = sequence_feature(hidden, narrow, ids)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), sequence_feature(hidden.double(), wide, ids), atol=2e-2, rtol=0)
    model = tiny.make("qwen3", hidden=16, layers=1, dtype=torch.float64)
    adapted = add_lora(model, LoraConfig(rank=2, targets=("lm_head",)))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weights, generator=torch.Generator().manual_seed(0))
    head = heads.head_of(adapted)
    assert head.plain is None
    hidden, ids = drawn(tokens=6, width=16, vocab=40)[:2]
    layer = head.module
    merged = layer.base_layer.weight + layer.get_delta_weight("default")
    expected = sequence_feature(hidden, heads.Head(Owner(merged.detach())), ids, 0.9)
    torch.testing.assert_close(sequence_feature(hidden, head, ids, 0.9), expected, atol=1e-12, rtol=0)
    assert all(weights.grad is None for weights in adapted.parameters())


# --- golden vectors -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    data = dict(np.load(GOLDEN / f"{case}.npz"))
    head = heads.Head(Owner(torch.from_numpy(data["head_weight"]), torch.from_numpy(data["head_bias"])))
    near = {"atol": 1e-10, "rtol": 0}
    vectors = []
    for row in range(len(data["reward"])):
        mask = torch.from_numpy(data["mask"][row] > 0)
        hidden, ids = torch.from_numpy(data["hidden"][row]), torch.from_numpy(data["tokens"][row])
        phi = token_features(hidden, head, ids, CASES[case]).numpy()
        np.testing.assert_allclose(phi, data["phi"][row], **near)
        vectors.append(Sensitivity(CASES[case])(hidden, head, ids, mask).numpy())
    np.testing.assert_allclose(np.stack(vectors), data["Phi"], **near)
    found = explore(vectors, data["reward"])
    np.testing.assert_allclose(found.similarity, data["similarity"], **near)
    np.testing.assert_allclose(found.weights, data["reference_weight"], **near)
    np.testing.assert_allclose(found.nu, data["nu"], **near)
    np.testing.assert_allclose(found.nubar, data["nubar"], **near)
    for mode in ("text", "formula"):
        np.testing.assert_allclose(shaped(data["reward"], found.nubar, 0.5, 3.0, mode)[0], data[f"shaped_{mode}"], **near)
        rollouts = Completions(Item("q", [1]), [rollout(n, CASES[case]) for n in range(len(vectors))], [""] * len(vectors))
        shaper = G2RL(CASES[case], mode=mode, wrong=-1.0, right=1.0)
        measured = {shaper.needs[0].key: [torch.from_numpy(one) for one in vectors]}
        rewards = [one.reward for one in shaper.shape(rollouts, [Score(float(r)) for r in data["reward"]], measured)]
        np.testing.assert_allclose(rewards, data[f"shaped_{mode}"], **near)
    told = geometry(found.similarity, found.tiny)
    assert told["mean_cosine"] == pytest.approx(float(data["mean_cosine"]), abs=1e-10)
    assert told["negative_share"] == pytest.approx(float(data["negative_share"]), abs=1e-10)


# --- exploration ----------------------------------------------------------------------------------------------------------------------
def test_exploration_scores_by_hand():
    found = explore([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]], [1.0, 1.0, -1.0])
    e = math.e
    w = e / (e + 1 / e)
    np.testing.assert_allclose(found.weights, [[0, w, 1 - w], [w, 0, 1 - w], [0.5, 0.5, 0]])
    np.testing.assert_allclose(found.nu, [1 - w, 1 - w, 1.0])
    np.testing.assert_allclose(found.nubar, [0.0, 0.0, 1.0])
    opposite = explore([[1.0, 0.0], [-1.0, 0.0]], [1.0, -1.0])
    assert opposite.nu.tolist() == [0.0, 0.0], "the cosine is squared"
    assert opposite.nubar.tolist() == [0.5, 0.5]
    assert geometry(opposite.similarity, opposite.tiny)["negative_share"] == 1.0
    alone = explore([[1.0, 0.0]], [1.0])
    assert (alone.nubar.tolist(), alone.weights.tolist()) == ([0.5], [[0.0]])
    np.testing.assert_allclose(reference_weights(np.array([1e4, 0.0, 0.0]))[0], [0, 0.5, 0.5], err_msg="stable however far apart")


def test_scores_do_not_depend_on_scale_or_order_and_agree_with_the_oracle():
    generator = np.random.default_rng(0)
    for m in (2, 5, 16):
        vectors, reward = generator.normal(size=(m, 7)), generator.choice([-1.0, 1.0], size=m)
        vectors[0] *= 1e-9 if m > 2 else 1.0
        found = explore(vectors, reward)
        np.testing.assert_allclose((found.nu, found.nubar), explore_naive(vectors, reward), atol=1e-12)
        if m == 5:
            continue
        scaled = explore(vectors * 1e3, reward, eps=1e-3)
        np.testing.assert_allclose(scaled.nu, found.nu, atol=1e-12)
        order = generator.permutation(m)
        moved = explore(vectors[order], reward[order])
        np.testing.assert_allclose(moved.nubar, found.nubar[order], atol=1e-12)
        np.testing.assert_allclose(moved.similarity, found.similarity[order][:, order], atol=1e-12)
        assert bool((found.nu >= 0).all() and (found.nu <= 1).all())


def test_common_parts_can_be_taken_away_and_rounding_is_not_blown_up():
    shared = np.array([10.0, 0.0, 0.0])
    own = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    near, far = cosines(shared + own)[0], cosines(shared + own, centre=True)[0]
    assert near[0, 1] > 0.95
    assert far[0, 2] == pytest.approx(-1 / math.sqrt(2))
    assert cosines(shared + own, centre=True)[1].tolist() == [False, False, False, True]
    same = np.ones((3, 4)) + 1e-8 * np.random.default_rng(0).normal(size=(3, 4))
    assert explore(same, [1.0, -1.0, 1.0]).nubar.tolist() == [0.5] * 3


def test_effective_rank():
    assert geometry(*cosines(np.eye(4)))["effective_rank"] == pytest.approx(4.0)
    assert geometry(*cosines(np.ones((4, 4))))["effective_rank"] == pytest.approx(1.0)
    values = np.linalg.eigvalsh(cosines(np.array([[1.0, 0], [1, 1], [0, 2], [0, 0]]))[0])
    told = geometry(*cosines(np.array([[1.0, 0], [1, 1], [0, 2], [0, 0]])))
    assert told["effective_rank"] == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert told["tiny"] == 1.0


# --- the shapers ----------------------------------------------------------------------------------------------------------------------
VECTORS = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


def rollout(place=0, temperature=1.0, agent="policy", stop="eos", version=0):
    turn = Turn([1], [2, 3], np.array([-0.5, -0.5]), version=np.full(2, version), sampling=Sampling(temperature=temperature))
    return Rollout("q", place, [turn], agent=agent, stop=stop)


def group_of(rewards, vectors=VECTORS, invalid=(), agents=None, stops=None):
    """(completions, scores, measured)"""
    made = [rollout(n, agent=agents[n] if agents else "policy", stop=stops[n] if stops else "eos") for n in range(len(rewards))]
    scores = [Score(float(r), success=float(r > 0), invalid=n in invalid) for n, r in enumerate(rewards)]
    measured = {KEY: [torch.tensor(one) for one in vectors[: len(rewards)]]}
    return Completions(Item("q", [1]), made, [f"t{n}" for n in range(len(rewards))]), scores, measured


def rewards_of(shaper, *given):
    return [one.reward for one in shaper.shape(*given)]


def observed(shaper, given, later=None):
    """Its metrics after a round of this one group. later: a change to the scores by another shaper."""
    scores = shaper.shape(*given)
    if later is not None:
        for score, reward in zip(scores, later):
            score.reward = reward
    shaper.observe(Batch(1, 0, [Group(given[0].item, given[0].rollouts, scores)]))
    return shaper.metrics()


def test_rewards_of_one_and_nought_are_shaped_on_their_own_scale():
    given = group_of([1, 0, 0, 1])
    nubar = explore(VECTORS, [1, -1, -1, 1]).nubar
    text = rewards_of(G2RL(), *given)
    r = np.array([1.0, -1, -1, 1])
    np.testing.assert_allclose(text, (r * (1 + 0.5 * (2 * nubar - 1)) + 1) / 2, atol=1e-7)
    assert max(text[1], text[2]) < min(text[0], text[3])
    np.testing.assert_allclose(rewards_of(G2RL(mode="formula"), *given), (r + 0.5 * nubar + 1) / 2, atol=1e-7)
    clipped = rewards_of(G2RL(clip=1.2), *given)
    np.testing.assert_allclose(clipped, np.clip(text, -0.1, 1.1), atol=1e-7)
    scores = G2RL().shape(*given)
    assert [one.success for one in scores] == [1.0, 0.0, 0.0, 1.0]
    assert scores[2].parts["g2rl"] == pytest.approx(scores[2].reward)
    assert json.loads(json.dumps(scores[0].extras["g2rl"], allow_nan=False))["nubar"] == pytest.approx(float(nubar[0]))


def test_nothing_is_done_where_nothing_should_be():
    for rewards in ([1, 1, 1, 1], [0, 0, 0, 0]):
        assert rewards_of(G2RL(), *group_of(rewards)) == rewards, "uniform groups have nothing to shape"
        assert len(set(rewards_of(G2RL(uniform="shape"), *group_of(rewards)))) > 1
    assert rewards_of(G2RL(lam=0.0), *group_of([1, 0, 0, 1])) == [1, 0, 0, 1]
    assert rewards_of(G2RL(), *group_of([1])) == [1]
    assert rewards_of(G2RL(uniform="shape"), *group_of([1])) == [1]
    same = [[1.0, 2.0]] * 4
    assert rewards_of(G2RL(), *group_of([1, 0, 0, 1], same)) == [1, 0, 0, 1], "none is more novel than another"
    assert rewards_of(UpdateGeometry(), *group_of([1, 0, 0, 1])) == [1, 0, 0, 1]


def test_who_is_compared_with_whom():
    broken = group_of([1, 0, 0, 1], invalid=(2,))
    three = group_of([1, 0, 1], [VECTORS[0], VECTORS[1], VECTORS[3]])
    found = G2RL().shape(*broken)
    assert [found[n].reward for n in (0, 1, 3)] == rewards_of(G2RL(), *three)
    assert found[2] is broken[1][2]
    two = group_of([1, 0, 0, 1], agents=["a", "b", "a", "b"])
    mine = [group_of([1, 0], [VECTORS[0], VECTORS[2]]), group_of([0, 1], [VECTORS[1], VECTORS[3]])]
    assert rewards_of(G2RL(), *two)[::2] == rewards_of(G2RL(), *mine[0])
    assert rewards_of(G2RL(), *two)[1::2] == rewards_of(G2RL(), *mine[1])
    cut = G2RL().shape(*group_of([1, 0, 0, 1], stops=["eos", "eos", "eos", "length"]))
    expected = explore(VECTORS, [1, -1, -1, -1]).nu
    np.testing.assert_allclose([one.extras["g2rl"]["nu"] for one in cut], expected, atol=1e-7)
    assert cut[3].extras["g2rl"]["reward"] == 1.0, "as a peer it counts as wrong; its own reward is the verifier's"


def test_what_is_reported():
    told = observed(G2RL(), group_of([1, 0, 0, 1]))
    similarity, tiny = cosines(np.array(VECTORS))
    assert told["g2rl/mean_cosine"] == pytest.approx(similarity[np.triu_indices(4, 1)].mean())
    assert told["g2rl/effective_rank"] == pytest.approx(geometry(similarity, tiny)["effective_rank"])
    assert (told["g2rl/shaped"], told["g2rl/clipped"], told["g2rl/uniform_share"], told["g2rl/tiny"]) == (1.0, 0.0, 0.0, 0.0)
    assert observed(G2RL(uniform="shape"), group_of([1, 1, 1, 1]))["g2rl/uniform_share"] == 1.0
    watch = UpdateGeometry(ngram=2)
    assert watch.metrics() == {}
    told = observed(watch, group_of([1, 1, 1], [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    assert told["update_geometry/negative_share"] == pytest.approx(1 / 3)
    assert (told["update_geometry/tiny"], told["update_geometry/uniform_share"]) == (1.0, 0.0)
    assert told["update_geometry/text_cosine"] == 0.0
    assert observed(watch, group_of([1, 1, 1]), later=[1.0, 0.5, 0.0])["update_geometry/uniform_share"] == 1.0
    mixed = Batch(1, 0, [])
    for rewards, later in (([1, 1], [1.0, 0.0]), ([1, 0], [1.0, 0.0]), ([0, 0], [0.0, 0.0])):
        completions, scores, measured = group_of(rewards)
        scores = watch.shape(completions, scores, measured)
        scores[0].reward, scores[1].reward = later
        mixed.groups.append(Group(completions.item, completions.rollouts, scores))
    watch.observe(mixed)
    assert watch.metrics()["update_geometry/uniform_share"] == pytest.approx(0.5)
    assert watch.metrics() == {}


def test_the_control_deals_the_same_numbers_out_at_random():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(8, 4)).tolist()
    given = group_of([1, 0] * 4, vectors)
    true = [one.extras["g2rl"]["nubar"] for one in G2RL().shape(*given)]
    dealt = [one.extras["random_nubar"]["nubar"] for one in RandomNubar().shape(*given)]
    assert sorted(dealt) == pytest.approx(sorted(true))
    assert dealt != true
    assert rewards_of(RandomNubar(), *given) == rewards_of(RandomNubar(), *given)
    assert rewards_of(RandomNubar(), *given) != rewards_of(RandomNubar(seed=1), *given)
    for one in given[0].rollouts:
        one.turns[0].version[:] = 5
    assert [one.extras["random_nubar"]["nubar"] for one in RandomNubar().shape(*given)] != dealt, "another deal at another step"
    assert RandomNubar().needs == G2RL().needs


def test_novelty_of_the_text():
    counts = ngram_counts(["abab", "ab", "", "x"], 2)
    assert counts.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    completions, scores, _ = group_of([1, 1, 1, 0])
    completions.texts = ["abcd", "abcd", "wxyz", "abcd"]
    shaper = NgramNovelty(2)
    assert not hasattr(shaper, "needs")
    e = math.e
    nu = np.array([1 - (e + 1 / e) / (2 * e + 1 / e)] * 2 + [1.0, 1 / 3])
    r, u = np.array([1.0, 1, 1, -1]), 2 * (nu - nu.min()) / (1 - nu.min()) - 1
    assert rewards_of(shaper, completions, scores) == pytest.approx(((r * (1 + 0.5 * u) + 1) / 2).tolist())


def test_refusals():
    for fields, message in (
        ({"lam": 1.0}, "in mode 'text' it must be below 1"),
        ({"lam": 2.0, "mode": "formula"}, "in mode 'formula' it must be below 2"),
        ({"lam": -0.1}, "lam"),
        ({"mode": "txt"}, "mode"),
        ({"uniform": "all"}, "uniform"),
        ({"clip": 0.0}, "clip"),
        ({"wrong": 1.0}, "wrong must be below right"),
        ({"lamb": 0.5}, "lam"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ):
        with pytest.raises(UserError, match=message):
            parts.make("burnish.rl.rewards", {"name": "g2rl", **fields})
    assert G2RL(lam=1.5, mode="formula").fields.lam == 1.5
    with pytest.raises(UserError, match="n is 0"):
        NgramNovelty(0)
    with pytest.raises(UserError, match="ngram is -1"):
        UpdateGeometry(ngram=-1)
    completions, scores, measured = group_of([1, 0])
    with pytest.raises(UserError, match="which this caller does not"):
        G2RL().shape(completions, scores, {})
    with pytest.raises(UserError, match="are not finite"):
        G2RL().shape(completions, scores, {KEY: [torch.tensor([math.nan, 0.0])] * 2})
    completions.rollouts[1].turns[0].sampling = Sampling(temperature=0.8)
    with pytest.raises(UserError, match=r"drawn at 0.8; give it the temperature: \{name: g2rl, temperature: 0.8\}"):
        G2RL().shape(completions, scores, measured)


# --- in a run -------------------------------------------------------------------------------------------------------------------------
def test_measured_features_of_rollouts_do_not_depend_on_their_batch():
    words = tokenizer.byte_level()
    policy = Policy(tiny.make("gemma2", words, hidden=16, layers=1, heads=2, dtype=torch.float64, final_logit_softcapping=2.0), words)
    generator = np.random.default_rng(0)
    made = []
    for place, size in enumerate((3, 6, 4)):
        ids = [int(one) for one in generator.integers(5, 90, size=size)]
        turn = Turn([7, 8, 9], ids, np.zeros(size), injected=np.arange(size) == 1)
        made.append(Rollout("q", place, [turn]))
    need = sensitivity_need()
    together = policy.score(made, (need,))[need.key]
    for one, found in zip(made, together):
        torch.testing.assert_close(policy.score([one], (need,), share_prefix=False)[need.key][0], found, atol=1e-10, rtol=0)
    with torch.no_grad():
        states = policy.model.model(torch.tensor([[7, 8, 9, *made[0].turns[0].output_ids]])).last_hidden_state[0, 2:-1]
    chosen = torch.tensor([0, 2])
    own = token_features_naive(states[chosen], policy.head, torch.tensor(made[0].turns[0].output_ids)[chosen]).mean(0)
    torch.testing.assert_close(together[0], own, atol=1e-10, rtol=0)


def more_letters(text, columns):
    return sum(character.isalpha() for character in text) % 2


def short_run(folder, **rl):
    words = tokenizer.byte_level()
    model = tiny.make("qwen3", words, hidden=16, layers=1, heads=2, kv_heads=1, seed=1)
    rows = [{"prompt": f"q{n}"} for n in range(4)]
    fields = {"steps": 2, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 4, "learning_rate": 1e-2, "save_steps": None, **rl}
    done = train(model=model, tokenizer=words, data=rows, output=str(folder), reward=more_letters, rl=fields, threads=1)
    weights = torch.cat([one.detach().flatten() for one in done["policy"].model.parameters()])
    return weights, [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_runs_of_the_recipe_and_of_the_watcher(tmp_path):
    plain, _ = short_run(tmp_path / "plain", objective="dr_grpo")
    watched, rows = short_run(tmp_path / "watched", objective="dr_grpo", shapers=["update_geometry"])
    assert torch.equal(plain, watched), "watching changes nothing"
    assert all(-1 <= row["update_geometry/mean_cosine"] <= 1 for row in rows if "reward" in row)
    shaped_run, rows = short_run(tmp_path / "recipe", recipe="g2rl", group_size=4, minibatches=1, beta=0.0, learning_rate=1e-2)
    assert bool(torch.isfinite(shaped_run).all())
    assert "g2rl/nu" in rows[0]
    both, rows = short_run(tmp_path / "both", objective="dr_grpo", shapers=["g2rl", "update_geometry"])
    assert not torch.equal(both, plain)
    assert rows[0]["g2rl/mean_cosine"] == rows[0]["update_geometry/mean_cosine"], "one measurement for both"


def test_the_recipe():
    values = papers.settings("g2rl", {})
    assert (values["group_size"], values["prompts_per_step"], values["minibatches"], values["learning_rate"]) == (16, 16, 8, 5e-7)
    objective = presets.make(values["objective"])
    assert (objective.ratio.name, objective.kl.beta, objective.kl.place) == ("sequence", 0.001, "loss")
    assert papers.settings("g2rl", {"prompts_per_step": 4})["minibatches"] == 2


def test_the_geometry_of_a_recorded_run(tmp_path, capsys):
    folder = tmp_path / "run"
    short_run(folder, objective="dr_grpo", shapers=["update_geometry"], save_steps=1)
    assert GEOMETRY.run(argparse.Namespace(run=str(folder), model=None, centre=False, ngram=2, json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["steps"]) == [path.stem for path in sorted((folder / "rollouts").glob("*.jsonl"))]
    first = next(iter(folder.glob("checkpoint-*1")))
    second = list(told["steps"])[1]
    assert GEOMETRY.run(argparse.Namespace(run=str(folder), model=str(first), centre=False, ngram=0, json=True)) == 0
    again = json.loads(capsys.readouterr().out)["steps"][second]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = {name.rpartition("/")[2]: value for name, value in rows[1].items() if name.startswith("update_geometry/")}
    for name in ("mean_cosine", "negative_share", "effective_rank"):
        assert again[name] == pytest.approx(logged[name], abs=1e-4), "what the run told, measured again under the weights that sampled"
    assert "text_cosine" in told["steps"][second]
    assert GEOMETRY.run(argparse.Namespace(run=str(folder), model=None, centre=True, ngram=0, json=False)) == 0
    assert "effective_rank" in capsys.readouterr().out
    with pytest.raises(UserError, match="has no rollouts"):
        read(tmp_path)
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"bad.jsonl, line 1: not a group"):
        read(tmp_path / "bad.jsonl")
