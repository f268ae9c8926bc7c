"""Weights on their way from the learner to the generator: one safetensors file in the run folder, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from burnish.runs import atomic
from burnish.runs.errors import UserError

NAME = "weights.safetensors"


def moving(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that training moves (an adapter's alone, where one is trained), each once."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def write(folder: Path, model: Any, version: int) -> None:
    """Replaces the file. Who reads meanwhile gets the old weights or the new ones, with the version that is theirs."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in moving(model).items()}
    target = folder / NAME
    temporary = folder / f"{atomic.TEMPORARY}{NAME}"
    with atomic.explained(target):
        save_file(tensors, temporary, metadata={"version": str(version)})
        os.replace(temporary, target)


def read(folder: Path, model: Any) -> int:
    """Copies the file's weights into the model, in place; returns their version. Raises UserError where they are not this model's."""
    path = folder / NAME
    own = moving(model)
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            names = set(file.keys())
            if names != set(own):
                odd = sorted(names ^ set(own))[0]
                raise UserError(f"{path} and the generator's model do not hold the same weights ({odd!r} is in one only)")
            for name, value in own.items():
                found = file.get_tensor(name)
                if found.shape != value.shape:
                    raise UserError(f"{path}: {name} has shape {tuple(found.shape)}; the generator's model has {tuple(value.shape)}")
                value.copy_(found)
            return int(file.metadata()["version"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is missing or broken ({' '.join(str(error).split())}); resume the run") from None
