"""From a ModelConfig to a Policy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from burnish.models.load import load_model
from burnish.models.lora import add_lora
from burnish.models.policy import Policy
from burnish.recipes.config import ModelConfig
from burnish.runs.errors import UserError
from burnish.runs.threads import choose_threads


def load_policy(config: ModelConfig, model: Any = None, tokenizer: Any = None, threads: int | None = None) -> Policy:
    """The policy to train: from config.path, or from a model object; with a fresh LoRA adapter where one is asked for.

    A model object is cast and moved only where dtype and device are set. Sets torch's thread count.
    Raises UserError for everything the loader refuses and for a device that is not there.
    """
    if model is None and not config.path:
        raise UserError("model.path is not set; give a local folder, a hub id or an adapter folder (--model.path ...)")
    kept = config.dtype == "auto" or (model is not None and "dtype" not in config.model_fields_set)
    dtype = None if kept else config.dtype
    network, vocabulary = load_model(config.path if model is None else model, dtype, config.adapter, config.trust_remote_code, tokenizer)
    if config.device is not None:
        network.to(device_named(config.device))
    if config.lora is not None:
        if hasattr(network, "peft_config"):
            raise UserError("model.lora is set but the model carries an adapter already; drop model.lora to continue training it")
        network = add_lora(network, config.lora)
    set_threads(network, threads)
    return Policy(network, vocabulary)


def device_named(name: str) -> torch.device:
    """The device of that name. Raises UserError where there is none here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise UserError(
            f"model.device {name!r} cannot be used here: {str(error).splitlines()[0]}; `burnish info` lists the devices"
        ) from None
    return device


def require_end(policy: Policy, stop: Sequence[str] = ()) -> None:
    """Raises UserError where nothing could ever end a completion but its limit. stop: strings that end one."""
    if not policy.eos_ids and not stop:
        origin = str(getattr(policy.model, "name_or_path", "") or "")
        raise UserError(
            f"{origin + ': ' if origin else ''}the model has no end-of-sequence token, so completions could never end; "
            "set eos_token in its tokenizer_config.json (tokenizer.eos_token) or give sampling.stop"
        )


def set_threads(model: torch.nn.Module, threads: int | None = None) -> int:
    """Sets torch's threads: as told, or by the model's size (tiny models are far slower on two threads than on one)."""
    count = threads or choose_threads(sum(parameter.numel() for parameter in model.parameters()))
    torch.set_num_threads(count)
    return count


def frozen_copy(policy: Policy) -> Policy:
    """A reference policy: the same weights as now, never trained. An adapter may have been trained before, so the copy is whole."""
    twin = copy.deepcopy(policy.model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return Policy(twin, policy.tokenizer, name="reference")
