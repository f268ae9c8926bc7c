"""The engine's log-probs are the trainer's: six model types, float32 and float64, on a trained model too."""

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.records import Rollout, Sampling

BOUNDS = {torch.float32: (2e-5, 2e-6), torch.float64: (1e-10, 1e-10)}
SAMPLING = Sampling(temperature=0.8)


def gaps(policy: Policy, prompts: list[list[int]], n: int = 4, tokens: int = 24) -> np.ndarray:
    """|sampler - trainer| of every sampled token, the trainer on its shared-prompt path."""
    engine = Engine(policy.model, policy.tokenizer, policy.eos_ids)
    groups = generate(engine, prompts, SAMPLING, n=n, max_new_tokens=tokens, seeds=3)
    rollouts = [Rollout(str(i), j, [turn], turn.stop) for i, turns in enumerate(groups) for j, turn in enumerate(turns)]
    sampled = np.concatenate([turn.logprobs for turns in groups for turn in turns])
    scored = policy.score(rollouts, share_prefix="always")["policy.logp"].double().numpy()
    assert len(sampled) == len(scored) > 100
    return np.abs(sampled.astype(np.float64) - scored)


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("kind", list(tiny.KINDS))
def test_every_type_agrees(kind, dtype):
    torch.set_num_threads(1)
    window = 7 if kind in tiny.WINDOWED else None
    model = tiny.make(kind, tokenizer.byte_level(), hidden=32, layers=2, heads=4, kv_heads=2, window=window, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)  # far from uniform, as after training
    rng = np.random.default_rng(0)
    prompts = [rng.integers(32, 120, size=rng.integers(1, 40)).tolist() for _ in range(6)]
    found = gaps(Policy(model, tokenizer.byte_level()), prompts)
    most, mean = BOUNDS[dtype]
    assert found.max() <= most
    assert found.mean() <= mean


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
def test_a_trained_model_agrees(dtype, tmp_path):
    import burnish
    from burnish.tasks.sort import Sort

    torch.set_num_threads(1)
    vocabulary = tokenizer.byte_level()
    model = tiny.make("qwen3", vocabulary, hidden=64, layers=2, heads=4, kv_heads=2)
    rows = [problem.row() for problem in Sort().items(800, 0)]
    trained = burnish.train(
        model=model, tokenizer=vocabulary, data=rows, stage="sft", output=tmp_path / "sft",
        sft={"steps": 60, "batch_size": 32, "learning_rate": 3e-3},
    )  # fmt: skip
    assert trained["loss"] < 1.5
    policy = Policy(trained["policy"].model.to(dtype), vocabulary)
    found = gaps(policy, [policy.encode(row["prompt"]) for row in rows[:40]])
    most, mean = BOUNDS[dtype]
    assert found.max() <= most
    assert found.mean() <= mean
