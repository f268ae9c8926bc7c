"""Architecture: the sizes of a causal language model that its cost follows from, read from its config alone: no weight is loaded."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from burnish.hardware.flops import matmul_parameters
from burnish.runs.errors import UserError

GATED = ("gate_proj", "gate_up_proj", "w1")
"""Names of the first half of a gated MLP."""
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
SAVED_BY_ACTIVATION = {"gelu_new": 5, "gelu_fast": 5, "relu": 1}
"""Tensors of the MLP's width that autograd keeps for an activation and the product after it, where it is not 2."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """parameters: all weights. matmul: weights that multiply every token (experts counted as often as they are used).

    query, key_value: widths of all query heads, and of all key (or value) heads of a layer together. window: keys a token sees at most.
    mlp: width of the MLP. mlp_saved: tensors of that width kept for the backward pass. norms: of the hidden width in a layer;
    norm_saved: tensors kept for each. qk_norm: queries and keys are normed.
    """

    kind: str
    parameters: int
    matmul: float
    layers: int
    hidden: int
    query: int
    key_value: int
    mlp: int
    mlp_saved: int
    vocabulary: int
    norms: int = 2
    norm_saved: int = 3
    qk_norm: bool = False
    window: int | None = None

    @classmethod
    def of(cls, config: Any, trust_remote_code: bool = False) -> Architecture:
        """From a transformers config; the model is laid out on the meta device, which holds no numbers.

        Raises UserError for a config that is no causal language model.
        """
        import transformers

        try:
            with torch.device("meta"):
                model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        except ValueError as error:
            raise UserError(
                f"{getattr(config, 'model_type', config)!r} is no causal language model: {str(error).splitlines()[0]}"
            ) from None
        return cls.of_model(model)

    @classmethod
    def of_model(cls, model: Any) -> Architecture:
        """From a model, on whichever device."""
        config = model.config.get_text_config()
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        names = [name for name, _ in model.named_modules()]
        gated = any(name.rsplit(".", 1)[-1] in GATED for name in names)
        act = str(next((getattr(config, name) for name in ACTIVATIONS if getattr(config, name, None)), ""))
        norms = [module for module in model.modules() if "Norm" in type(module).__name__ and module.weight.numel() == config.hidden_size]
        return cls(
            kind=config.model_type,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            matmul=matmul_parameters(model),
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            query=heads * head,
            key_value=(getattr(config, "num_key_value_heads", None) or heads) * head,
            mlp=_mlp_width(config),
            mlp_saved=SAVED_BY_ACTIVATION.get(act, 2) + (2 if gated else 0),
            vocabulary=model.get_output_embeddings().weight.shape[0],
            norms=max(1, round((len(norms) - 1) / config.num_hidden_layers)),
            norm_saved=3 if any("RMSNorm" in type(module).__name__ for module in norms) else 2,
            qk_norm=any(name.endswith("q_norm") for name in names),
            window=getattr(config, "sliding_window", None),
        )

    def keys_seen(self, start: int, tokens: int) -> float:
        """Mean number of keys that `tokens` tokens after `start` others attend to, themselves included."""
        mean = start + (tokens + 1) / 2
        return min(mean, self.window) if self.window else mean


def read(path: str, trust_remote_code: bool = False) -> Any:
    """The transformers config of a folder or hub id; of an adapter folder, that of its base. Raises UserError."""
    import json
    from pathlib import Path

    import transformers

    adapter = Path(path) / "adapter_config.json"
    if adapter.exists() and not (Path(path) / "config.json").exists():
        return read(str(json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path", "")), trust_remote_code)
    try:
        return transformers.AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no model config can be read: {str(error).strip().splitlines()[0]}") from None


def _mlp_width(config: Any) -> int:
    """Of one token: the experts it uses together, in a mixture of experts."""
    if getattr(config, "num_experts_per_tok", None) and getattr(config, "moe_intermediate_size", None):
        return config.moe_intermediate_size * config.num_experts_per_tok
    for name in ("intermediate_size", "ffn_dim", "n_inner"):
        if getattr(config, name, None):
            return getattr(config, name)
    return 4 * config.hidden_size
