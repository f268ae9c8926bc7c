"""From a ModelConfig to a Policy."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from burnish.models import quant
from burnish.models.heads import base_of
from burnish.models.load import load_model
from burnish.models.lora import add_lora
from burnish.models.policy import Policy
from burnish.models.wide_head import widen_head
from burnish.recipes.config import ModelConfig
from burnish.rl.credit.value import ValueHead
from burnish.runs import ranks
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
    quant.check(config.quantize, dtype, has_model=model is not None)
    device = device_for(config.device, model is not None)
    place = None if device is None else device_named(device)
    network, vocabulary = load_model(
        config.path if model is None else model,
        dtype,
        config.adapter,
        config.trust_remote_code,
        tokenizer,
        config.quantize,
        place,
    )
    if place is not None and not quant.is_quantised(network):
        network.to(place)
    if config.head_dtype == "float32":
        widen_head(network.get_base_model() if hasattr(network, "get_base_model") else network)
    if config.lora is not None:
        if hasattr(network, "peft_config"):
            raise UserError("model.lora is set but the model carries an adapter already; drop model.lora to continue training it")
        network = add_lora(network, config.lora)
    quant.refuse_untrainable(network)
    set_threads(network, threads)
    return Policy(network, vocabulary)


def device_for(name: str | None, given: bool = False) -> str | None:
    """Where this process computes: as told; under several ranks "cuda" is each rank's own, and so is the choice where nothing is told.

    given: a model object stays where it is, unless told. None: stay.
    """
    here = ranks.current()
    if here.device is not None and (name == here.device.type or (name is None and not given)):
        return str(here.device)
    return name


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
    """A reference policy: the same weights as now, never trained. Weights that are frozen anyway (under an adapter) are shared."""
    twin = _copy(policy.model)
    for parameter in twin.parameters():
        parameter.requires_grad_(False)
    return Policy(twin, policy.tokenizer, name="reference")


def critic_copy(policy: Policy) -> Policy:
    """A critic: the policy's layers as they are now with a value head that starts at 0, trained by itself from there.

    It trains what the policy trains (all weights, or an adapter of its own; frozen weights are shared) and costs that memory again,
    with the optimiser's. The output layer is not used; where it is no embedding too, it is shared and stays as it is.
    Raises UserError for a model that scores itself.
    """
    if hasattr(policy.model, "burnish_score"):
        raise UserError(
            f"{type(policy.model).__name__} scores itself and cannot be a critic; choose an objective without one (grpo, rloo ...)"
        )
    inner: Any = base_of(policy.model)
    output, table = inner.get_output_embeddings(), inner.get_input_embeddings()
    tied = {id(parameter) for parameter in table.parameters()}
    shared = [parameter for parameter in output.parameters() if parameter.requires_grad and id(parameter) not in tied]
    twin = _copy(policy.model, {id(parameter): torch.nn.Parameter(parameter.detach(), requires_grad=False) for parameter in shared})
    width = getattr(output, "base_layer", output).weight.shape[-1]
    return Policy(twin, policy.tokenizer, name="critic", value_head=ValueHead(width, policy.dtype, policy.device))


COPIES = {"reference": frozen_copy, "critic": critic_copy}
"""Models beside the policy that a need may name, and how each is made of the policy at the start of a run."""


def _copy(model: torch.nn.Module, instead: dict[int, torch.nn.Parameter] | None = None) -> torch.nn.Module:
    """A copy that shares the parameters without gradient. instead: id of a parameter -> what the copy has in its place."""
    frozen: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, frozen | (instead or {})).eval()
