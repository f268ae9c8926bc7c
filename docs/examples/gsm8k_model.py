"""A Qwen3 of two million parameters with a tokenizer trained on GSM8K: python gsm8k_model.py data/gsm8k_train.jsonl.gz models/gsm8k"""

import sys

from burnish.data.formats import load_rows
from burnish.models import tiny, tokenizer
from burnish.models.save import save_model


def make(data: str, folder: str) -> int:
    """Writes model and tokenizer to `folder`; returns the number of parameters."""
    rows = load_rows(data, map="burnish.tasks.math:gsm8k_row")
    words = tokenizer.trained((f"{row['prompt']}\n{row['completion']}" for row in rows[:2000]), vocab_size=1536)
    model = tiny.make("qwen3", words, hidden=192, layers=4, max_length=640)
    save_model(model, words, folder)
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    print(f"{make(sys.argv[1], sys.argv[2]):,} parameters")
