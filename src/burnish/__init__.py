"""burnish: post-train a language model, change it, run agents on it, and measure whether it got better."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["GRPOConfig", "GRPOTrainer", "SFTConfig", "SFTTrainer", "__version__", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    """`burnish.train`, `burnish.evaluate` and TRL's trainers, loaded when first used: importing the package costs nothing."""
    if name in ("train", "evaluate"):
        from burnish.recipes import python

        return getattr(python, name)
    if name in ("GRPOConfig", "GRPOTrainer", "SFTConfig", "SFTTrainer"):
        from burnish.recipes import trl

        return getattr(trl, name)
    raise AttributeError(f"module 'burnish' has no attribute {name!r}")
