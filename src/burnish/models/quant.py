"""4-bit bases for LoRA (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes (extra `quant`), on CPU and CUDA.

The base's linear layers are stored in 4 bit and never trained; an adapter in float32 is. The output layer and the embeddings stay as they
are. What was trained is the 4-bit base with the adapter on it: saved adapters remember it, and merging takes the base's 4-bit values.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.models.heads import base_of
from burnish.runs import atomic
from burnish.runs.errors import UserError

KINDS = ("nf4", "fp4")
NOTE = "base_quantization.json"


def check(kind: str | None, dtype: str | torch.dtype | None = None, adapted: bool = True, has_model: bool = False) -> None:
    """Raises UserError for a 4-bit base that cannot be: called before anything loads.

    kind: "nf4", "fp4", or None or "none" for no quantisation. adapted: an adapter is trained. has_model: a model object was given.
    """
    if kind in (None, "none"):
        return
    if kind not in KINDS:
        raise UserError(f"model.quantize is {kind!r}; it must be none or one of {', '.join(KINDS)}")
    if has_model:
        raise UserError(
            "model.quantize needs model.path: a model object keeps the numbers it has; quantise it yourself, or give its folder"
        )
    if not adapted:
        raise UserError(f"model.quantize: {kind} needs model.lora (or model.adapter): 4-bit weights cannot be trained themselves")
    if str(dtype).endswith("float64"):
        raise UserError(f"model.quantize: {kind} computes in float32 or bfloat16, not in {dtype}; set model.dtype")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"model.quantize: {kind} needs bitsandbytes, which is not installed; pip install 'burnish[quant]'")


def loading(source: str, kind: str | None, dtype: torch.dtype | None, device: str | torch.device | None) -> dict[str, Any]:
    """What `from_pretrained(source)` takes besides: {} without quantisation. dtype: computed in (None: the checkpoint's own).
    device: None is the CPU.

    nf4 quantises its scales too (the paper's double quantisation). Raises UserError as `check`.
    """
    if kind in (None, "none"):
        return {}
    check(kind, dtype)
    import transformers

    if dtype is None:
        config = transformers.PreTrainedConfig.get_config_dict(source)[0]
        dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=str(kind),
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=kind == "nf4",
    )
    return {"quantization_config": settings, "device_map": {"": str(device or "cpu")}}


def is_quantised(model: nn.Module) -> bool:
    """True where transformers loaded the model with layers that hold other than floating point numbers."""
    return getattr(base_of(model), "hf_quantizer", None) is not None


def refuse_untrainable(model: nn.Module) -> None:
    """Raises UserError for a quantised model without an adapter: nothing of it but norms and embeddings could be trained."""
    if is_quantised(model) and not hasattr(model, "peft_config"):
        raise UserError("the model's weights are quantised and cannot be trained themselves; set model.lora")


def note(model: nn.Module, folder: str | Path) -> None:
    """Leaves beside a saved adapter how its base was quantised when it was loaded, for `noted`."""
    quantizer = getattr(base_of(model), "hf_quantizer", None)
    if quantizer is None or quantizer.pre_quantized or not hasattr(model, "peft_config"):
        return
    atomic.write_text(Path(folder) / NOTE, json.dumps({"quantize": quantizer.quantization_config.bnb_4bit_quant_type}))


def noted(folder: str | Path) -> str | None:
    """How the base of the adapter in `folder` was quantised. UserError where the note is broken, or bitsandbytes is missing."""
    path = Path(folder) / NOTE
    if not path.exists():
        return None
    try:
        kind = str(json.loads(path.read_text(encoding="utf-8"))["quantize"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not readable ({type(error).__name__}); copy it again") from error
    try:
        check(kind)
    except UserError as error:
        raise UserError(f"{path}: the adapter was trained on a 4-bit base: {error}; or delete the file to use the base as it is") from None
    return kind


def dequantised(model: Any) -> Any:
    """The same model with its 4-bit values as floating point numbers in the dtype it computed in; the model given is used up.

    An adapter is taken off and put on again, so that it can be merged afterwards. A model that is not quantised is returned as it is.
    """
    if not is_quantised(model):
        return model
    if not hasattr(model, "peft_config"):
        return _plain(model)
    import peft

    settings, state = model.active_peft_config, peft.get_peft_model_state_dict(model)
    fresh = peft.get_peft_model(_plain(model.unload()), settings)
    peft.set_peft_model_state_dict(fresh, state)
    return fresh.eval()


def _plain(base: Any) -> Any:
    plain = base.dequantize()
    plain.hf_quantizer = None
    if hasattr(plain.config, "quantization_config"):
        del plain.config.quantization_config
    return plain
