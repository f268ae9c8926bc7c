"""Save a model so that `transformers` loads it back: safetensors, config, tokenizer; whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from burnish.models import lora, quant
from burnish.runs import atomic
from burnish.runs.errors import UserError


def save_model(model: Any, tokenizer: Any, path: str | Path) -> Path:
    """Writes weights (safetensors), config, generation config and tokenizer to the folder `path`; returns it.

    model: a causal LM, a PEFT model (its adapter alone is written), or a Policy. tokenizer: None writes none (a Policy brings its own).
    The folder is built beside `path` and renamed; an existing `path` is replaced, but never one that holds something else than a model.
    Raises UserError where the disk is full or not writable.
    """
    path = Path(path)
    refuse_target(path)
    with atomic.folder(path) as temporary:
        write_files(model, tokenizer, temporary)
    return path


def refuse_target(path: str | Path) -> None:
    """Raises UserError where a model cannot be saved to `path`: it holds something else, or lies where nothing can be written."""
    path = Path(path)
    atomic.refuse_unwritable(path)
    if path.is_dir() and any(path.iterdir()) and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise UserError(f"{path} holds files that are no model; choose an empty or new folder")


def write_files(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """The same files straight into an existing folder, for one that is itself built atomically (a checkpoint)."""
    if not isinstance(model, nn.Module):
        model, tokenizer = model.model, tokenizer or model.tokenizer
    model.save_pretrained(folder)
    quant.note(model, folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def export_merged(model: Any, tokenizer: Any, path: str | Path) -> Path:
    """Merges the model's adapter, if it has one (the model is used up), and saves the plain model."""
    if not isinstance(model, nn.Module):
        model, tokenizer = model.model, tokenizer or model.tokenizer
    return save_model(lora.merge(model), tokenizer, path)
