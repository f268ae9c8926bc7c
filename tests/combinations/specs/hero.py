"""HERO's shapers need a scorer; its reward model is made on the spot."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import transformers

from burnish.models import tokenizer

USER = Path(__file__).parents[1] / "user_parts.py"


@functools.cache
def reward_model() -> str:
    """A folder with a tiny sequence-classification model."""
    folder = tempfile.mkdtemp(prefix="burnish-reward-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = tokenizer.byte_level()
    config = transformers.Qwen3Config(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, num_labels=1, pad_token_id=words.pad_token_id,
    )  # fmt: skip
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


SCORER = {"scorer": f"{USER}:more_letters"}
SPECS = {
    "rewards": {
        "blend": SCORER,
        "gated_fallback": SCORER,
        "hero": SCORER,
        "reward_model": {"path": reward_model(), "question": "question"},
        "scorer_only": SCORER,
    }
}
