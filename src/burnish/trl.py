"""`from burnish.trl import GRPOTrainer, GRPOConfig, SFTTrainer, SFTConfig`: TRL's trainers on burnish; see docs/from_trl.md."""

from burnish.recipes.trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

__all__ = ["GRPOConfig", "GRPOTrainer", "SFTConfig", "SFTTrainer"]
