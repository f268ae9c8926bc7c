"""From GRPOConfig to the six knobs of an objective: TRL's loss types."""

from __future__ import annotations

from typing import Any

from burnish.runs.errors import UserError, did_you_mean

HERE = "burnish.recipes.trl.parts"
LOSSES: dict[str, tuple[str, Any]] = {
    "dapo": ("clip", "token_mean"),
    "bnpo": ("clip", "token_mean"),
    "grpo": ("clip", "sequence_mean"),
    "dr_grpo": ("clip", {"name": "sequence_sum", "max_length": "limit"}),
    "luspo": ("clip", "sequence_sum"),
    "sapo": ("sapo", "sequence_mean"),
    "cispo": ("cispo", "token_mean"),
    "vespo": ("vespo", "token_mean"),
}
"""loss_type -> kind of surrogate, weights."""


def objective(args: Any) -> dict[str, Any]:
    """The knobs, as `presets.make` takes them. Raises UserError for what TRL does and these knobs do not."""
    if args.loss_type not in LOSSES:
        raise UserError(f"GRPOConfig.loss_type is {args.loss_type!r}; {did_you_mean(str(args.loss_type), LOSSES)}")
    kind, weights = LOSSES[args.loss_type]
    if args.loss_type == "bnpo" and args.gradient_accumulation_steps > 1:
        raise UserError(
            "GRPOConfig.loss_type 'bnpo' with gradient_accumulation_steps > 1 depends on how a step is cut, which no loss does here; "
            "use 'dapo', or a larger per_device_train_batch_size without accumulation"
        )
    if args.importance_sampling_level not in ("token", "sequence"):
        raise UserError(f"GRPOConfig.importance_sampling_level is {args.importance_sampling_level!r}; it must be 'token' or 'sequence'")
    return {
        "name": f"trl_{args.loss_type}",
        "credit": credit(args),
        "ratio": args.importance_sampling_level,
        "surrogate": surrogate(args, kind),
        "correction": correction(args),
        "kl": {"estimator": "k3", "beta": args.beta, "times_rho": bool(args.use_bias_correction_kl)},
        "weights": weights,
        "entropy": {"eta": entropy(args, weights)},
    }


def credit(args: Any) -> list[Any]:
    """Group mean, the scale that scale_rewards names, and the most uncertain tokens alone where top_entropy_quantile asks for it."""
    scales: dict[str, list[Any]] = {
        "group": [{"name": "group_std", "eps": 1e-4, "ddof": 1}],
        "batch": [{"name": f"{HERE}:RawBatchStd", "eps": 1e-4}],
        "none": [],
    }
    if args.scale_rewards not in scales:
        raise UserError(f"GRPOConfig.scale_rewards is {args.scale_rewards!r}; {did_you_mean(str(args.scale_rewards), scales)}")
    share = args.top_entropy_quantile
    if not 0 < share <= 1:
        raise UserError(f"GRPOConfig.top_entropy_quantile is {share}; it must lie above 0 and be at most 1")
    return ["group_mean", *scales[args.scale_rewards], *([{"name": "top_entropy", "share": share}] if share < 1 else [])]


def surrogate(args: Any, kind: str) -> dict[str, Any]:
    """What is maximised."""
    high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    if kind == "cispo":
        return {"name": "cispo", "min_ratio": 0.0, "max_ratio": high}
    if kind == "sapo":
        return {"name": "soft_gate", "tau_positive": args.sapo_temperature_pos, "tau_negative": args.sapo_temperature_neg}
    if kind == "vespo":
        numbers = {"k_positive": args.vespo_k_pos, "rate_positive": args.vespo_lambda_pos}
        return {"name": f"{HERE}:Vespo", **numbers, "k_negative": args.vespo_k_neg, "rate_negative": args.vespo_lambda_neg}
    return {"name": "ppo_clip", "clip_low": args.epsilon, "clip_high": high, "delta": args.delta}


def correction(args: Any) -> list[Any]:
    """Stale rollouts with a negative advantage are masked where off_policy_mask_threshold is set."""
    threshold = args.off_policy_mask_threshold
    return [] if threshold is None else [{"name": "drop_stale_negative", "delta": threshold}]


def entropy(args: Any, weights: Any) -> float:
    """The coefficient of the mean entropy of the step's tokens; here an entropy bonus has the weights of the loss."""
    if args.entropy_coef and (weights != "token_mean" or args.gradient_accumulation_steps > 1 or args.top_entropy_quantile < 1):
        raise UserError(
            "GRPOConfig.entropy_coef is the mean over all tokens of a step, which here goes with loss_type 'dapo', 'bnpo', 'cispo' or "
            "'vespo', without gradient accumulation and with top_entropy_quantile 1; change these or leave it 0"
        )
    return float(args.entropy_coef)
