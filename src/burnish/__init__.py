"""burnish: post-train a language model, change it, run agents on it, and measure whether it got better."""

__version__ = "0.1.0"
