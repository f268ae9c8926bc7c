"""Losses and gradients against the frameworks' own numbers."""

import numpy as np
import pytest
import torch
from golden_rl import Flat, load, run, tensor

from burnish.rl.objectives.kl import KL, AdaptiveBeta, estimate
from burnish.rl.objectives.objective import Objective

CLIP20 = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2}
CLIP28 = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}


def objective(surrogate, weights, ratio="token", correction="none", kl=None):
    return Objective(credit="none", ratio=ratio, surrogate=surrogate, weights=weights, correction=correction, kl=kl or KL())


def ppo(correction):
    return objective(CLIP28, "token_mean", correction=correction)


TIS = {"name": "truncate", "level": "token"}
K3 = {"estimator": "k3", "beta": 0.04}

# name -> (objective, advantage, which log-probs); "_gap" cases are the same under the other mask
CASES = {
    "ppo_clip_20_20_token_mean": (objective(CLIP20, "token_mean"), "adv_token", {}),
    "ppo_clip_20_28_token_mean": (objective(CLIP28, "token_mean"), "adv_token", {}),
    "ppo_clip_20_28_prompt_mean": (objective(CLIP28, "prompt_mean"), "adv_token", {}),
    "grpo_sequence_mean": (objective(CLIP20, "sequence_mean"), "adv_seq", {}),
    "grpo_k3_004": (objective(CLIP20, "sequence_mean", kl=KL(**K3)), "adv_seq", {}),
    "grpo_k3_004_times_rho": (objective(CLIP20, "sequence_mean", kl=KL(**K3, times_rho=True)), "adv_seq", {}),
    "dr_grpo_Lmax12": (objective(CLIP20, {"name": "sequence_sum", "max_length": 12}), "adv_seq", {}),
    "dual_clip_3": (objective({**CLIP28, "dual": 1.2}, "token_mean"), "3*adv_token", {}),
    "two_sided_delta_15": (objective({**CLIP28, "delta": 1.5}, "token_mean"), "adv_token", {}),
    "gspo_20_28": (objective(CLIP28, "sequence_mean", ratio="sequence"), "adv_seq", {}),
    "gspo_3e4_4e4": (
        objective({"name": "ppo_clip", "clip_low": 3e-4, "clip_high": 4e-4}, "sequence_mean", ratio="sequence"),
        "adv_seq",
        {"logp": "logp_near"},
    ),
    "gspo_token_20_28": (objective(CLIP28, "sequence_mean", ratio="sequence_token"), "adv_token", {"tol": 1e-8}),
    "cispo_0_5_token_mean": (objective("cispo", "token_mean"), "adv_token", {}),
    "cispo_08_128_token_mean": (objective({"name": "cispo", "min_ratio": 0.8, "max_ratio": 1.28}, "token_mean"), "adv_token", {}),
    "cispo_0_1_prompt_mean_sampler": (
        objective({"name": "cispo", "max_ratio": 1.0}, "prompt_mean", ratio={"name": "token", "against": "sampler"}),
        "adv_token",
        {},
    ),
    "reinforce_log_sequence_sum": (objective("log", "sequence_sum", ratio="none"), "adv_seq", {}),
    "gmpo_40_40": (objective("gmpo", "sequence_mean", ratio="geometric"), "adv_seq", {"tol": 1e-8}),
    "gmpo_10_20": (
        objective({"name": "gmpo", "clip_low": 0.1, "clip_high": 0.2}, "sequence_mean", ratio="geometric"),
        "adv_seq",
        {"tol": 1e-8},
    ),
    "sapo": (objective("soft_gate", "sequence_mean"), "adv_token", {}),
    "dppo_02_02": (objective("prob_mask", "token_mean", ratio={"name": "token", "against": "sampler"}), "adv_token", {}),
    "dppo_005_01": (
        objective({"name": "prob_mask", "low": 0.05, "high": 0.1}, "token_mean", ratio={"name": "token", "against": "sampler"}),
        "adv_token",
        {},
    ),
    "ppo_truncate_token_2": (ppo({**TIS, "cap": 2.0}), "adv_token", {}),
    "ppo_truncate_token_1": (ppo({**TIS, "cap": 1.0}), "adv_token", {}),
    "ppo_mask_token_05_2": (ppo({"name": "mask", "lower": 0.5, "upper": 2.0}), "adv_token", {}),
    "ppo_truncate_sequence_1": (ppo({"name": "truncate", "level": "sequence", "reduce": "sum", "cap": 1.0}), "adv_token", {}),
    "ppo_mask_sequence_08_125": (
        ppo({"name": "mask", "level": "sequence", "reduce": "sum", "lower": 0.8, "upper": 1.25}),
        "adv_token",
        {},
    ),
    "ppo_mask_geometric_09_105": (
        ppo({"name": "mask", "level": "sequence", "reduce": "mean", "lower": 0.9, "upper": 1.05, "factor": "token"}),
        "adv_token",
        {},
    ),
    "ppo_drop_stale_negative": (ppo({"name": "drop_stale_negative", "delta": 0.05}), "adv_seq", {}),
}
ONCE = {
    "clip_cov_all": (objective({**CLIP28, "name": "clip_cov", "share": 1.0}, "token_mean"), "3*adv_token", {"logp": "logp_near"}),
    "kl_cov_20pct": (objective({**CLIP28, "name": "kl_cov", "share": 0.2}, "token_mean"), "3*adv_token", {"logp": "logp_near"}),
}
ALL = {**CASES, **{f"{name}_gap": case for name, case in CASES.items()}, **ONCE}
EXTREME = {
    "ppo_clip_dual_3": objective({**CLIP28, "dual": 3.0}, "token_mean"),
    "cispo_0_5": objective("cispo", "token_mean"),
    "sapo": objective("soft_gate", "sequence_mean"),
}
KLS = {
    "k1": KL(beta=1.0, estimator="k1", place="reward"),
    "k2": KL(estimator="k2"),
    "k3": KL(estimator="k3"),
    "abs": KL(estimator="abs"),
    "k3+": KL(estimator="k3+"),
}
AGGREGATIONS = {
    "token_mean": "token_mean",
    "sequence_mean": "sequence_mean",
    "sequence_sum": "sequence_sum",
    "sequence_sum_Lmax12": {"name": "sequence_sum", "max_length": 12},
    "prompt_mean": "prompt_mean",
}
DROPPED = {
    "token_mean_row3_masked": "token_mean",
    "sequence_mean_row3_dropped": "sequence_mean",
    "sequence_sum_row3_dropped": "sequence_sum",
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("cut", [None, [[0, 5], [1], [2, 3, 4, 11], [10, 6, 7, 8, 9]]], ids=["whole", "cut"])
def test_loss_and_gradient(name, cut):
    chosen, advantage, more = ALL[name]
    batch, golden = load("batch"), load("losses")
    flat = Flat(gap=name.endswith("_gap"))
    logp = batch[more.get("logp", "logp_new")]
    scale = 3.0 if advantage.startswith("3*") else 1.0
    loss, grad, _ = run(
        chosen,
        flat,
        logp,
        batch["logp_old"],
        scale * batch[advantage.removeprefix("3*")],
        batch["logp_sampler"],
        batch["logp_ref"],
        current=logp,
        cut=cut,
    )
    tolerance = more.get("tol", 1e-10)
    assert loss == pytest.approx(float(golden[f"{name}.loss"]), abs=tolerance)
    np.testing.assert_allclose(grad.numpy(), golden[f"{name}.grad"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", EXTREME)
def test_extreme_ratios(name):
    golden = load("extreme_ratio")
    flat = Flat(mask=np.ones_like(golden["logp_old"]), prompt=np.zeros(4, dtype=np.int64))
    loss, grad, _ = run(EXTREME[name], flat, golden["logp_new"], golden["logp_old"], golden["adv"])
    longer = 1 + 1e-8 / golden["logp_old"].shape[1] if name == "sapo" else 1.0  # verl adds 1e-8 to the lengths of its sequence means
    assert loss == pytest.approx(float(golden[f"{name}.loss"]) * longer, rel=1e-10)
    np.testing.assert_allclose(grad.numpy(), golden[f"{name}.grad"] * longer, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", KLS)
def test_kl_estimators(name):
    batch = load("batch")
    logp = torch.from_numpy(batch["logp_new"]).requires_grad_()
    value = KLS[name].value(logp, torch.from_numpy(batch["logp_ref"]))
    (value * torch.from_numpy(batch["mask"])).sum().backward()
    torch.testing.assert_close(value.detach(), tensor("kl", f"{name}.value"), rtol=0, atol=1e-12)
    torch.testing.assert_close(logp.grad, tensor("kl", f"{name}.grad"), rtol=0, atol=1e-12)


def test_adaptive_beta():
    beta, rule = 0.2, AdaptiveBeta(target=6, horizon=100)
    for kl, wanted in zip(load("kl")["adaptive.kl"], load("kl")["adaptive.beta"], strict=True):
        beta = rule.next(beta, float(kl), 16)
        assert beta == pytest.approx(float(wanted), abs=1e-12)


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations(name, gap):
    flat = Flat(gap=gap)
    weights = objective("linear", AGGREGATIONS[name]).weights(flat.table)
    loss = float((weights * flat.tokens(load("aggregation")["loss_matrix"])).sum())
    assert loss == pytest.approx(float(load("aggregation")[name + ("_gap" if gap else "")]), abs=1e-8 if name == "sequence_mean" else 1e-12)


@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_row_leaves_every_count(name):
    flat = Flat(kept=[row != 3 for row in range(12)])
    values = flat.tokens(load("aggregation")["loss_matrix"])
    weights = objective("linear", DROPPED[name]).weights(flat.table)
    tolerance = 1e-8 if DROPPED[name] == "sequence_mean" else 1e-12
    assert float((weights * values).sum()) == pytest.approx(float(load("aggregation")[name]), abs=tolerance)
    assert bool((weights[flat.table.sequence == 3] == 0).all())


def test_reward_with_kl():
    batch, flat = load("batch"), Flat()
    kl = estimate("k1", flat.tokens(batch["logp_old"]) - flat.tokens(batch["logp_ref"]))
    at_end = (flat.table.from_end() == 0) * flat.tokens(batch["reward_graded"])
    torch.testing.assert_close(flat.padded(at_end - 0.05 * kl), tensor("kl", "reward_with_kl"), rtol=0, atol=1e-12)


def test_every_array_is_used():
    """A new or renamed array fails here until a test reads it."""
    pair = ("loss", "grad")
    assert set(load("losses")) == {f"{name}.{what}" for name in ALL for what in pair}
    assert set(load("extreme_ratio")) == {f"{name}.{what}" for name in EXTREME for what in pair} | {"logp_old", "logp_new", "adv"}
    assert set(load("kl")) == {f"{name}.{what}" for name in KLS for what in ("value", "grad")} | {
        "adaptive.kl",
        "adaptive.beta",
        "reward_with_kl",
    }
    assert set(load("aggregation")) == {"loss_matrix", *DROPPED} | {name + tail for name in AGGREGATIONS for tail in ("", "_gap")}
    logps = {"logp_new", "logp_near", "logp_old", "logp_ref", "logp_sampler"}
    assert set(load("batch")) == logps | {"mask", "mask_gap", "prompt", "reward", "reward_graded", "adv_token", "adv_seq"}
