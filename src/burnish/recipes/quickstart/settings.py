"""What the quickstart does, in numbers."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from burnish.recipes.config import TrainConfig
from burnish.runs.config import Config, build
from burnish.tasks.sort import Sort


class QuickstartConfig(Config):
    """Sorting letters: a task with an exact verifier and millions of prompts.

    The demonstrations come from a careless teacher: most of them hold two neighbouring letters in each other's place. Imitation learns
    the teacher's slips along with the skill; a verifier can tell them apart, and its answers are all that RL gets beyond SFT.
    Sampled success therefore rises mostly because the slips go, which continued imitation cannot do; greedy success is printed beside it.
    """

    seed: int = Field(0, ge=0, description="everything random follows from it")
    output: str = Field("", description="run folder; unset: runs/quickstart-seed<seed>")
    length: int = Field(6, ge=2, le=20, description="letters to sort")
    slips: float = Field(0.7, ge=0, le=1, description="share of demonstrations with two neighbouring letters swapped")
    demonstrations: int = Field(16000, ge=1, description="problems the models are trained on")
    held_out: int = Field(1000, ge=1, description="problems all models are measured on; none is trained on")
    hidden: int = Field(96, ge=8, description="width of the model")
    layers: int = Field(2, ge=1, description="layers of the model")
    sft_steps: int = Field(250, ge=1, description="steps of supervised fine-tuning")
    sft_batch: int = Field(64, ge=1, description="examples of one step")
    sft_rate: float = Field(3e-3, gt=0, description="learning rate of supervised fine-tuning")
    rl_steps: int = Field(120, ge=1, description="steps of RL, and of the control")
    rl_prompts: int = Field(32, ge=1, description="problems of one step")
    group_size: int = Field(8, ge=2, description="completions for each problem")
    rl_rate: float = Field(2e-4, gt=0, description="learning rate of RL")
    objective: str = Field("dr_grpo", description="RL objective; see `burnish.rl.objectives.presets`")
    workers: int = Field(2, ge=1, description="arms trained at once, each on one thread")

    @property
    def task(self) -> Sort:
        """The task with this length."""
        return Sort(length=self.length)

    @property
    def reward(self) -> dict[str, Any]:
        """The task as a reward spec."""
        return {"name": "task", "task": "sort", "length": self.length}

    @property
    def control(self) -> dict[str, Any]:
        """Rewards thrown by a coin; true success is still logged."""
        return {"name": "random", "p": 0.5, "seed": self.seed, "truth": self.reward}

    def sft(self, output: str, data: str, model: str, steps: int) -> TrainConfig:
        """Supervised fine-tuning on the demonstrations."""
        sft = {"steps": steps, "batch_size": self.sft_batch, "learning_rate": self.sft_rate, "save_total_limit": 1}
        return self._config({"stage": "sft", "output": output, "model": {"path": model}, "data": {"path": data}, "sft": sft})

    def rl(self, output: str, data: str, model: str, rewards: list[dict[str, Any]], eval_path: str) -> TrainConfig:
        """RL with these rewards."""
        rl = {
            "steps": self.rl_steps,
            "learning_rate": self.rl_rate,
            "prompts_per_step": self.rl_prompts,
            "group_size": self.group_size,
            "max_new_tokens": self.length + 3,
            "objective": self.objective,
            "rewards": rewards,
            "slots": self.rl_prompts * self.group_size,
            "save_steps": None,
            "save_total_limit": 1,
            "keep_rollouts": 10,
        }
        ev = {"path": eval_path, "limit": 200, "steps": 20, "metric_for_best": None}
        return self._config({"stage": "rl", "output": output, "model": {"path": model}, "data": {"path": data}, "rl": rl, "eval": ev})

    def _config(self, fields: dict[str, Any]) -> TrainConfig:
        return build(TrainConfig, {"seed": self.seed, **fields})
