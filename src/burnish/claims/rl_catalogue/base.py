"""What all presets of a seed start from: a model of 0.1M parameters, fine-tuned on a careless teacher's answers to a pass rate near 0.2."""

from __future__ import annotations

from pathlib import Path

from burnish.claims.rl_catalogue.settings import MODEL, SFT_RATE, TASK, scale
from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.runs import checkpoints
from burnish.runs.config import build
from burnish.tasks.demonstrations import careless
from burnish.tasks.task import alphabet


def make_base(seed: int, folder: Path, size: str) -> None:
    """Fills `folder/model`. Weights, demonstrations and slips follow from the seed."""
    numbers = scale(size)
    vocabulary = tokenizer.characters(alphabet(TASK, 2000))
    save_model(tiny.make("qwen3", vocabulary, seed=seed, **MODEL), vocabulary, folder / "start")
    rows = [problem.row() for problem in careless(TASK.items(numbers.demonstrations, seed), numbers.slips, seed)]
    sft = {"steps": numbers.sft_steps, "batch_size": numbers.sft_batch, "learning_rate": SFT_RATE, "save_total_limit": 1}
    fields = {
        "stage": "sft",
        "seed": seed,
        "threads": 1,
        "output": str(folder / "sft"),
        "model": {"path": str(folder / "start")},
        "sft": sft,
    }
    train(build(TrainConfig, fields), data=rows, command="claims rl-catalogue: base model")


def base_of(folder: Path) -> str:
    """The fine-tuned model in what `make_base` filled."""
    found = checkpoints.newest(folder / "sft")
    assert found is not None, f"{folder} holds no base model"
    return str(found)
