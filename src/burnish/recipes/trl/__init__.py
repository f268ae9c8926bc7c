"""TRL's trainers on burnish: a script that uses GRPOTrainer or SFTTrainer runs after its import line is changed."""

from burnish.recipes.trl.arguments import GRPOConfig, SFTConfig
from burnish.recipes.trl.grpo_trainer import GRPOTrainer
from burnish.recipes.trl.sft_trainer import SFTTrainer

__all__ = ["GRPOConfig", "GRPOTrainer", "SFTConfig", "SFTTrainer"]
