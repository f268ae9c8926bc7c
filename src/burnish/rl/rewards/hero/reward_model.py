"""A Hugging Face sequence-classification model as a scorer or a reward: one logit for a conversation. Safetensors only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from burnish.models.load import PICKLED, dtype_of, load_tokenizer
from burnish.records import Score
from burnish.rl.rewards.judging import question_of
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class RewardModel:
    """score = logit `label` of a sequence-classification model that reads prompt and completion.

    path: a folder, or a hub id. Loaded at the first score; a folder's files are checked at once. batch_size: completions of one forward
    pass. label: which logit, where there are several. question: the column that holds the prompt's text, for data whose prompts are text
    rather than messages. max_length: in tokens; None: the model's own positions. device, dtype: of the model.
    A prompt of messages goes through the model's own chat template; where it has none, or the prompt is text, prompt and completion are
    joined as they stand. A completion that does not fit has no score (as a reward: invalid), it is not cut.

    Raises UserError for folders without safetensors weights, for other models than sequence classifiers, and for several logits without
    a choice.
    """

    def __init__(
        self,
        path: str,
        batch_size: int = 8,
        label: int | None = None,
        question: str | None = None,
        max_length: int | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        name: str = "reward_model",
    ):
        if batch_size < 1:
            raise UserError(f"{name}: batch_size is {batch_size}; it must be at least 1")
        self.path, self.batch_size, self.label, self.question = str(path), batch_size, label, question
        self.max_length, self.device, self.dtype, self.name = max_length, device, dtype_of(dtype), name
        self.model: Any = None
        self.tokenizer: Any = None
        self.folder = _checked(self.path, name)

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """As a reward: the logits; success is not known. A completion that does not fit is invalid."""
        out = []
        for value in self.scores(group):
            if value is None:
                out.append(Score(reward=0.0, invalid=True, extras={"reason": f"{self.name}: longer than the model can read"}))
            else:
                out.append(Score(reward=value, parts={self.name: value}))
        return out

    @torch.no_grad()
    def scores(self, group: Completions) -> list[float | None]:
        """One for each completion, None where it does not fit; batches of like lengths."""
        self._load()
        rows = [self.ids(group, text) for text in group.texts]
        limit = self.max_length or getattr(self.model.config, "max_position_embeddings", None) or 10**9
        out: list[float | None] = [None] * len(rows)
        fits = sorted((place for place, row in enumerate(rows) if 0 < len(row) <= limit), key=lambda place: len(rows[place]))
        for start in range(0, len(fits), self.batch_size):
            chosen = fits[start : start + self.batch_size]
            for place, value in zip(chosen, self._logits([rows[place] for place in chosen])):
                out[place] = value
        return out

    def ids(self, group: Completions, text: str) -> list[int]:
        """What the model reads of one completion."""
        self._load()
        if group.item.is_chat and getattr(self.tokenizer, "chat_template", None):
            messages = [*group.item.messages, {"role": "assistant", "content": text}]
            rendered = self.tokenizer.apply_chat_template(messages, tokenize=False)
            return list(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])
        asked = question_of(group.item, self.question, None, self.name)
        return list(self.tokenizer(asked + text)["input_ids"])

    def _logits(self, rows: Sequence[list[int]]) -> list[float]:
        width, pad = max(map(len, rows)), self.model.config.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        return [float(value) for value in logits[:, self.label or 0].float()]

    def _load(self) -> None:
        if self.model is not None:
            return
        import transformers

        tokenizer = load_tokenizer(self.path)
        try:
            auto: Any = transformers.AutoModelForSequenceClassification
            model, info = auto.from_pretrained(
                str(self.folder or self.path), dtype=self.dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # transformers and safetensors have many types
            text = " ".join(str(error).split())[:200]
            raise UserError(f"{self.name}: {self.path} cannot be loaded as a sequence-classification model: {text}") from error
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])[0]
            raise UserError(f"{self.name}: {self.path} lacks the weight {missing!r}; it is no trained reward model: name another")
        _check_labels(model.config.num_labels, self.label, f"{self.name}: {self.path}")
        if model.config.pad_token_id is None:
            pads = (tokenizer.pad_token_id, tokenizer.eos_token_id)
            model.config.pad_token_id = next((pad for pad in pads if pad is not None), 0)
        self.model, self.tokenizer = model.to(self.device).eval(), tokenizer


def _checked(path: str, name: str) -> Path | None:
    """The folder, or None for a hub id. Raises UserError for one that could not be loaded."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.exists() or folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1 or not path:
            raise UserError(f"{name}: {path!r} is no model folder; give the folder of a saved sequence-classification model, or a hub id")
        return None
    if not (folder / "config.json").exists():
        raise UserError(f"{name}: {path} has no config.json; give the folder of a saved sequence-classification model")
    if not any(folder.glob("*.safetensors")):
        pickled = [one.name for one in folder.iterdir() if one.suffix in PICKLED]
        why = f"it holds pickled weights ({pickled[0]}), which are not loaded, for unpickling runs code" if pickled else "it has no weights"
        raise UserError(f"{name}: {path}: {why}; save the model as safetensors")
    try:
        kinds = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    except (ValueError, AttributeError):
        raise UserError(f"{name}: {path}/config.json is not readable as JSON; copy it again") from None
    if kinds and not any("ForSequenceClassification" in kind for kind in kinds):
        raise UserError(f"{name}: {path} is a {kinds[0]}; a reward model is one for sequence classification")
    return folder


def _check_labels(count: int, label: int | None, where: str) -> None:
    if label is None and count != 1:
        raise UserError(f"{where} has {count} logits; say which is the score with label: 0 ... {count - 1}")
    if label is not None and not 0 <= label < count:
        raise UserError(f"{where} has {count} logits and label is {label}; it must be 0 ... {count - 1}")


part = RewardModel
