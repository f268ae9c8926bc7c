"""Every pair of parts from different folders of `rl/`: it runs, or is refused before anything loads, with a reason."""

import copy
import math

import pytest
import torch

from burnish.models import tiny, tokenizer
from burnish.recipes.config import TrainConfig
from burnish.recipes.refusals import refuse_impossible
from burnish.recipes.train import train
from burnish.runs.config import build
from burnish.runs.errors import UserError
from combinations.matrix import ROOMS, every_pair, every_part, fields, names, specs

PAIRS = every_pair()
ARGUMENTS = specs()
COLUMNS = {"answer": "1", "tests": ["assert True"], "horizon": 1, **ARGUMENTS["columns"]}
ROWS = [{"prompt": f"{letter}?", "question": f"{letter}?", "letter": letter, **COLUMNS} for letter in "abcd"]


@pytest.fixture(scope="module")
def model():
    words = tokenizer.characters("abcd?=", chat_template=True)
    return tiny.make("qwen3", words, hidden=16, layers=1, heads=2, kv_heads=1, max_length=64, seed=0), words


def config_of(rl, folder):
    small = {
        "steps": 2, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 8, "learning_rate": 1e-2, "engine_mode": "fast",
        "save_steps": None, "keep_rollouts": 0, "max_rounds": 2,
    }  # fmt: skip
    return build(TrainConfig, {"stage": "rl", "output": str(folder), "threads": 1, "rl": {**small, **rl}})


def run(config, model):
    """(what the training returned, whether any weight moved)"""
    policy = copy.deepcopy(model[0])
    before = [weight.detach().clone() for weight in policy.parameters()]
    found = train(config, model=policy, tokenizer=model[1], data=ROWS)
    return found, any(not torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))


def refusal(rl, folder):
    """What is said before anything loads; None where nothing is."""
    try:
        refuse_impossible(config_of(rl, folder), True, None, True)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.combinations
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "+".join(name for _, name in pair))
def test_a_pair_runs_or_is_refused(pair, model, tmp_path):
    rl = fields(pair, ARGUMENTS)
    if (why := refusal(rl, tmp_path / "run")) is not None:
        print(f"refused: {' + '.join(name for _, name in pair)}: {why}")
        assert len(why) > 30
        return
    found, moved = run(config_of(rl, tmp_path / "run"), model)
    assert found["step"] == 2
    assert all(math.isfinite(row["loss"]) for row in found["run"].metrics())
    assert moved


@pytest.mark.combinations
@pytest.mark.parametrize("part", every_part(), ids="/".join)
def test_every_part_runs_by_itself(part, model, tmp_path):
    """So a pair is refused for what the two are together, and never for how one of them was asked for."""
    found, moved = run(config_of(fields((part,), ARGUMENTS), tmp_path / "run"), model)
    assert found["step"] == 2
    assert moved


def test_the_matrix_holds_every_part_of_every_folder():
    seen = {part for pair in PAIRS for part in pair}
    assert seen == {(room, name) for room in ROOMS for name in names(room)}
    assert len(PAIRS) > 1000


def test_a_run_without_anything_to_learn_from_would_be_seen(model, tmp_path):
    found, moved = run(config_of({"rewards": [{"name": "format", "pattern": "9"}], "objective": "dr_grpo"}, tmp_path / "run"), model)
    assert found["step"] == 2
    assert not moved
