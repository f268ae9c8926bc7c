"""LoRA adapters: put one on a model, merge it for export."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pydantic
import torch
from torch import nn

from burnish.models import quant
from burnish.models.heads import base_of
from burnish.runs.config import Config
from burnish.runs.errors import UserError, did_you_mean


class LoraConfig(Config):
    """rank: of the update. alpha: the update is scaled by alpha / rank (by alpha / sqrt(rank) with rslora).

    targets: "all-linear" (every linear layer but the head) or names of modules. There is no dropout: log-probs must repeat.
    bias: which biases are trained. seed: of the initial values.
    """

    rank: int = pydantic.Field(default=16, ge=1, description="rank of the update")
    alpha: float = pydantic.Field(default=32.0, gt=0, description="the update is scaled by alpha / rank")
    targets: Literal["all-linear"] | tuple[str, ...] = pydantic.Field(default="all-linear", description="'all-linear' or module names")
    rslora: bool = pydantic.Field(default=False, description="scale by alpha / sqrt(rank)")
    bias: Literal["none", "all", "lora_only"] = pydantic.Field(default="none", description="which biases are trained")
    seed: int = pydantic.Field(default=0, description="seed of the adapter's initial values")


def add_lora(model: nn.Module, config: LoraConfig | None = None) -> Any:
    """The model wrapped by PEFT with a fresh adapter (its own weights frozen), in eval mode; the global random state is not touched.

    The adapter's weights are float32 even on a narrower model (PEFT's own default, kept for the optimiser's sake).
    Raises UserError where a target names no module of the model.
    """
    import peft

    config = config or LoraConfig()
    if config.targets != "all-linear":
        # GPT-2's layers are transformers' Conv1D, hence the look at the weight rather than at the class.
        known = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if getattr(module, "weight", None) is not None}
        for target in config.targets:
            if not any(name == target or name.endswith("." + target) for name, _ in model.named_modules()):
                raise UserError(f"lora.targets: the model has no module {target!r}; {did_you_mean(target, known)}")
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        target_modules=config.targets if config.targets == "all-linear" else list(config.targets),
        use_rslora=config.rslora,
        bias=config.bias,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return peft.get_peft_model(model, settings).eval()


def is_adapted(model: nn.Module) -> bool:
    """True where PEFT wraps the model."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def merge(model: nn.Module) -> Any:
    """The plain model with its adapter's update added to the weights; the model given is used up. A plain model is returned as it is.

    A 4-bit base becomes floating point first, with the values that it had in 4 bit, for these are what the adapter was trained on.
    Raises UserError where the adapter cannot be merged (prompt learning), or where merging makes weights that are not finite.
    """
    if not is_adapted(model):
        return model
    model = quant.dequantised(model)
    _untie(base_of(model))
    try:
        merged = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    except (ValueError, AttributeError) as error:
        raise UserError(f"the adapter cannot be merged: {' '.join(str(error).split())}") from error
    for parameter in merged.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return merged


def merged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The plain model's state dict with the adapter's update added, under the plain names; the model itself is not touched.

    Layers are merged one at a time, so that one layer is copied at most beside the result. A plain model's state dict as it is.
    Raises UserError where the base is quantised, where the adapter is no LoRA, and where it changes one of two tied weights.
    """
    if not is_adapted(model):
        return dict(model.state_dict())
    inner: Any = base_of(model)
    if quant.is_quantised(inner):
        raise UserError("a 4-bit base cannot be merged in place; use `burnish export`, or model.quantize: none")
    head, embedding = inner.get_output_embeddings(), inner.get_input_embeddings()
    if getattr(inner.config.get_text_config(), "tie_word_embeddings", False) and (_wrapped(head) or _wrapped(embedding)):
        raise UserError("the adapter changes one of two tied weights (head and embedding); leave them out of lora.targets")
    out: dict[str, torch.Tensor] = {}
    names = [name for name, module in inner.named_modules() if _wrapped(module)]
    for name, value in inner.state_dict().items():
        if not any(name.startswith(layer + ".") for layer in names):
            out[name] = value
    for name in names:
        one: Any = copy.deepcopy(inner.get_submodule(name))
        if hasattr(one, "modules_to_save"):
            plain = one.modules_to_save[one.active_adapters[0]]
        elif hasattr(one, "merge") and hasattr(one, "get_base_layer"):
            one.merge(safe_merge=True)
            plain = one.get_base_layer()
        else:
            raise UserError(f"the adapter on {name} is no LoRA and cannot be merged; use rl.backend: built_in")
        out |= {f"{name}.{key}": value for key, value in plain.state_dict().items()}
    return out


def _untie(inner: Any) -> None:
    """Gives the head a weight of its own where it shares the embedding's and an adapter changes one of the two."""
    head, embedding = inner.get_output_embeddings(), inner.get_input_embeddings()
    config = inner.config.get_text_config()
    if not getattr(config, "tie_word_embeddings", False) or not (_wrapped(head) or _wrapped(embedding)):
        return
    bare = getattr(head, "base_layer", head)
    if not hasattr(bare, "modules_to_save"):
        bare.weight = nn.Parameter(bare.weight.detach().clone(), requires_grad=bare.weight.requires_grad)
    config.tie_word_embeddings = inner.config.tie_word_embeddings = False


def _wrapped(module: Any) -> bool:
    return any(hasattr(module, name) for name in ("base_layer", "modules_to_save", "token_adapter"))
