"""Advantages and whole presets against the frameworks' own numbers."""

import numpy as np
import pytest
import torch
from golden_rl import Flat, load, run, tensor

from burnish.rl.credit.chain import make_chain
from burnish.rl.credit.steps import at_last_token
from burnish.rl.credit.value import value_loss
from burnish.rl.objectives.presets import preset

ROWS = {
    "group_std_eps1e6": ["group_mean", "group_std"],
    "group_std_eps1e4": ["group_mean", {"name": "group_std", "eps": 1e-4}],
    "group_mean": "group_mean",
    "leave_one_out": "leave_one_out",
    "length_weighted": "length_weighted",
    "greedy": "greedy",
}
TOKENS = {
    "group_mean_batch_whiten": "group_mean >> batch_whiten",
    "to_go_gamma1.0_batch_whiten": ["none", "to_go", "batch_whiten"],
    "to_go_gamma0.9_batch_whiten": ["none", {"name": "to_go", "gamma": 0.9}, "batch_whiten"],
}
REWARDS = ("reward", "reward_graded")
GAE = {"gae_g1.0_l0.95": (1.0, 0.95), "gae_g0.99_l0.9": (0.99, 0.9), "gae_g1.0_l1.0": (1.0, 1.0)}
SINGLE = {
    "reinforce++_k1_001(reward_graded)",
    "rloo_k1_005(reward_graded)",
    "by_group_mean(reward)",
    "by_group_mean(zeros)",
    "moving_095_two_agents(reward_graded)",
    "scalerl_batch_std(reward)",
    "scalerl_kept_prompts(reward)",
    "values",
    "value_new",
    "value_loss",
    "value_loss.grad",
    "entropy",
    "top20_entropy_mask",
}
PRESETS = {
    "grpo": (preset("grpo"), {}),
    "dr_grpo": (preset("dr_grpo").for_run(group_size=4, max_new_tokens=9), {}),
    "dapo_formula": (preset("dapo"), {}),
    "dapo_code": (preset("dapo").with_(weights="token_mean"), {}),
    "dapo_zero_variance_dropped": (preset("dapo").with_(weights="token_mean"), {"reward": "reward", "drop": True}),
    "gspo": (preset("gspo"), {"logp": "logp_near"}),
    "cispo": (preset("cispo"), {}),
    "gmpo": (preset("gmpo"), {}),
    "rloo": (preset("rloo"), {}),
    "reinforce++": (preset("reinforce++"), {"tol": 1e-6}),
    "reinforce++-baseline_k2_001": (preset("reinforce++-baseline"), {"tol": 1e-6}),
    "ppo": (preset("ppo"), {"tol": 1e-6}),
    "scalerl": (preset("scalerl"), {"reward": "reward", "drop": True}),
}


def close(found, name, tolerance=1e-10):
    torch.testing.assert_close(found, tensor("advantages", name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("name", ROWS)
def test_one_value_a_rollout(name, reward):
    flat = Flat()
    greedy = torch.from_numpy(load("batch")["reward_graded"][::4].copy())
    close(flat.rows(make_chain(ROWS[name])(flat.batch(load("batch")[reward], greedy=greedy))), f"{name}({reward})")


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("name", TOKENS)
def test_values_by_token(name, reward):
    flat = Flat()
    close(flat.padded(make_chain(TOKENS[name])(flat.batch(load("batch")[reward])).tokens), f"{name}({reward})", 1e-7)


def k1_rewards(flat, beta):
    batch = load("batch")
    return -beta * (flat.tokens(batch["logp_old"]) - flat.tokens(batch["logp_ref"]))


def test_kl_in_the_token_rewards():
    flat, graded = Flat(), load("batch")["reward_graded"]
    plus = make_chain("none >> to_go >> batch_whiten")(flat.batch(graded, token_rewards=k1_rewards(flat, 0.01)))
    close(flat.padded(plus.tokens), "reinforce++_k1_001(reward_graded)", 1e-7)
    close(flat.rows(make_chain("leave_one_out")(flat.batch(graded, token_rewards=k1_rewards(flat, 0.05)))), "rloo_k1_005(reward_graded)")


def test_by_group_mean():
    flat = Flat()
    close(flat.rows(make_chain("group_mean >> by_group_mean")(flat.batch(load("batch")["reward"]))), "by_group_mean(reward)")
    zeros = Flat(mask=np.ones((4, 2)), prompt=np.zeros(4, dtype=np.int64))
    close(zeros.rows(make_chain("group_mean >> by_group_mean")(zeros.batch(np.zeros(4)))), "by_group_mean(zeros)")


def test_moving_baseline_is_kept_by_agent_and_outlives_the_batch():
    flat, graded = Flat(), load("batch")["reward_graded"]
    agents = ["even", "odd"] * 6
    chain, memory = make_chain({"name": "moving", "decay": 0.95}), {}
    close(flat.rows(chain(flat.batch(graded, agent=agents), memory)), "moving_095_two_agents(reward_graded)")
    before = dict(memory["moving"])
    again = flat.rows(chain(flat.batch(graded, agent=agents), memory))
    assert again[0] == pytest.approx(graded[0] - before["even"])


def test_batch_std_over_the_kept_groups():
    reward = load("batch")["reward"]
    prompts = load("batch")["prompt"]
    kept = [len(set(reward[prompts == prompts[row]])) > 1 for row in range(12)]
    flat = Flat(kept=kept)
    close(flat.rows(make_chain("group_mean >> batch_std")(flat.batch(reward))), "scalerl_batch_std(reward)")
    assert sorted(set(prompts[kept])) == tensor("advantages", "scalerl_kept_prompts(reward)").tolist()


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("name", GAE)
def test_critic(name, gap):
    flat, golden, tail = Flat(gap=gap), load("advantages"), "_gap" if gap else ""
    gamma, lam = GAE[name]
    values = flat.tokens(golden["values"])
    last = load("batch")["mask"].sum(1).astype(int) - 1  # the reward sits there, whichever mask counts
    rewards = np.zeros((12, 9))
    rewards[np.arange(12), last] = load("batch")["reward_graded"]
    batch = flat.batch(np.zeros(12), token_rewards=flat.tokens(rewards) + 0.1 * values, measured={"critic.value": values})
    step = {"name": "critic", "gamma": gamma, "lam": lam}
    plain, white = make_chain(step)(batch), make_chain([step, "batch_whiten"])(batch)
    mask = flat.mask.double()
    close(flat.padded(plain.tokens), name + tail)
    torch.testing.assert_close(flat.padded(white.tokens), mask * tensor("advantages", f"{name}{tail}.whitened"), rtol=0, atol=1e-7)
    torch.testing.assert_close(flat.padded(white.value_target), mask * tensor("advantages", f"{name}{tail}.return"), rtol=0, atol=1e-10)


def test_value_loss():
    flat, golden = Flat(), load("advantages")
    value = flat.tokens(golden["value_new"]).requires_grad_()
    per_token = value_loss(value, flat.tokens(golden["values"]), flat.tokens(golden["gae_g1.0_l0.95.return"]))
    loss = (per_token / flat.table.n_tokens).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(golden["value_loss"]), abs=1e-10)
    close(flat.padded(value.grad), "value_loss.grad")


def test_top_entropy_tokens():
    flat = Flat(gap=True)
    batch = flat.batch(np.ones(12), measured={"policy.entropy": flat.tokens(load("advantages")["entropy"])})
    found = flat.padded(make_chain(["none", {"name": "top_entropy", "share": 0.2}])(batch).tokens)
    assert torch.equal(found.bool(), tensor("advantages", "top20_entropy_mask"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_from_rewards_to_gradient(name):
    objective, more = PRESETS[name]
    batch, golden = load("batch"), load("presets")
    reward, prompts = batch[more.get("reward", "reward_graded")], batch["prompt"]
    kept = [not more.get("drop") or len(set(reward[prompts == prompts[row]])) > 1 for row in range(12)]
    flat = Flat(kept=kept)
    measured = {
        "policy.logp": flat.tokens(batch["logp_old"]),
        "reference.logp": flat.tokens(batch["logp_ref"]),
        "critic.value": flat.tokens(load("advantages")["values"]),
    }
    advantages = objective.advantages(flat.batch(reward, measured=measured))
    padded = flat.padded(advantages.tokens)
    critic = None if advantages.value_target is None else (measured["critic.value"], advantages.value_target)
    logp = batch[more.get("logp", "logp_new")]
    loss, grad, metrics = run(objective, flat, logp, batch["logp_old"], padded, batch["logp_sampler"], batch["logp_ref"], critic=critic)
    loss -= metrics.get("critic/loss", 0.0)  # the golden loss is the policy's
    tolerance = more.get("tol", 1e-8)
    assert loss == pytest.approx(float(golden[f"{name}.loss"]), abs=tolerance)
    np.testing.assert_allclose(grad.numpy(), golden[f"{name}.grad"], rtol=0, atol=tolerance)


def test_every_array_is_used():
    """A new or renamed array fails here until a test reads it."""
    pairs = {f"{name}({reward})" for name in (*ROWS, *TOKENS) for reward in REWARDS}
    gae = {f"{name}{tail}{what}" for name in GAE for tail in ("", "_gap") for what in ("", ".whitened", ".return")}
    assert set(load("advantages")) == pairs | gae | SINGLE
    assert set(load("presets")) == {f"{name}.{what}" for name in PRESETS for what in ("loss", "grad")}


def test_a_terminal_reward_is_lost_only_with_its_tokens():
    flat = Flat(mask=np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]]), prompt=np.zeros(3, dtype=np.int64))
    assert at_last_token(flat.table, torch.tensor([1.0, 2.0, 3.0])).tolist() == [0.0, 1.0, 3.0]
