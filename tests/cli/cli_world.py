"""What the tests of the command line share: a tiny model in every state of disrepair, data, rewards, and a look at what a folder holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

ROWS = "".join(json.dumps({"prompt": f"{a}+1=", "completion": str(a + 1), "answer": str(a + 1)}) + "\n" for a in range(6))
CHAT = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"{a}+1"}, {"role": "assistant", "content": str(a + 1)}]}) + "\n" for a in range(6)
)
REWARD = "def score(completions, **kwargs):\n    return [float(len(text) % 3) for text in completions]\n"
FILES = {"data.jsonl": ROWS, "chat.jsonl": CHAT, "reward.py": REWARD}

SMALL = "--threads 1 --rl.steps 1 --rl.prompts_per_step 2 --rl.group_size 2 --rl.max_new_tokens 4 --rl.slots 8 --rl.beta 0"
RL = f"train --stage rl --model.path {{model}} --data.path data.jsonl --rl.rewards [reward.py:score] --output run {SMALL}"
SFT = "train --stage sft --model.path {model} --data.path data.jsonl --output run --threads 1 --sft.steps 2 --sft.batch_size 2"
EVAL = "eval {model} data.jsonl reward.py:score --threads 1 --max_new_tokens 4"


def make_models(root: Path) -> dict[str, str]:
    """name -> folder: "model" is whole, every other one lacks or breaks what its name says."""
    from burnish.models import tiny, tokenizer
    from burnish.models.save import save_model

    words = tokenizer.byte_level()
    save_model(tiny.make("qwen3", words, hidden=32, layers=1, max_length=64), words, root / "model")
    makers: dict[str, Any] = {
        "no_eos": _no_eos,
        "no_pad": lambda path: _edit(path / "tokenizer_config.json", pad_token=None) or _edit(path / "config.json", pad_token_id=None),
        "no_template": lambda path: (path / "chat_template.jinja").unlink(),
        "unknown_type": lambda path: _edit(path / "config.json", model_type="qwen33"),
        "not_causal": lambda path: _edit(path / "config.json", model_type="vit"),
        "own_code": lambda path: _edit(path / "config.json", model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Model"}),
        "pickled": lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"),
        "no_weights": lambda path: (path / "model.safetensors").unlink(),
        "torn_weights": lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:4000]),
        "no_config": lambda path: (path / "config.json").unlink(),
        "torn_config": lambda path: (path / "config.json").write_text('{"model_type": "qwen3",'),
        "no_tokenizer": lambda path: [one.unlink() for one in path.glob("tokenizer*")],
        "no_base": _adapter_without_base,
    }
    out = {"model": str(root / "model")}
    for name, change in makers.items():
        shutil.copytree(root / "model", root / name)
        change(root / name)
        out[name] = str(root / name)
    return out


def _edit(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None removes one."""
    found = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def _no_eos(path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):  # the end-of-turn token would do as well, so it goes too
        (path / name).write_text((path / name).read_text().replace("<|im_end|>", "<|im_fin|>"))
    _edit(path / "tokenizer_config.json", eos_token=None)
    for name in ("config.json", "generation_config.json"):
        _edit(path / name, eos_token_id=None)


def _adapter_without_base(path: Path) -> None:
    _edit(path / "config.json", model_type="qwen3")
    (path / "config.json").rename(path / "adapter_config.json")
    (path / "model.safetensors").rename(path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(path / "gone")}))


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def is_whole(run: Path) -> bool:
    """True where nothing in a run folder is half-written: no temporary files, every line whole, every checkpoint complete."""
    from burnish.runs import checkpoints

    leftovers = list(run.rglob("tmp-*"))
    for path in run.rglob("*.jsonl"):
        assert path.read_text().endswith("\n")
        [json.loads(line) for line in path.read_text().splitlines()]
    broken = [path for path in run.glob("checkpoint-*") if checkpoints.head(path) is None]
    return not leftovers and not broken


def one_line(err: str) -> bool:
    """True for what an error is to look like: one line of burnish's own, no traceback."""
    return err.startswith("burnish: ") and err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
