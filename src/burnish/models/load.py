"""Load a model and its tokenizer from a folder, the hub, a PEFT adapter or as an object. Pickled weights are refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from burnish.models import lora, quant
from burnish.runs.errors import UserError, did_you_mean

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def load_model(
    source: str | Path | nn.Module,
    dtype: str | torch.dtype | None = None,
    adapter: str | Path | None = None,
    trust_remote_code: bool = False,
    tokenizer: Any = None,
    quantize: str | None = None,
    device: str | torch.device | None = None,
) -> tuple[Any, Any]:
    """(model, tokenizer), the model in eval mode with every dropout at 0, so that log-probs repeat.

    source: a folder, a hub id, a folder that holds a PEFT adapter (its base is found from adapter_config.json) or a model object.
    dtype: a torch dtype or its name ("bfloat16"); None keeps the checkpoint's own.
    adapter: folder of a PEFT adapter to put on the model; it stays trainable.
    tokenizer: an object, a folder or a hub id; None takes the model's own (needed for a model object that came from nowhere).
    quantize: "nf4" or "fp4" loads the base in 4 bit on `device` (None: the CPU), for an adapter to be trained on (models/quant.py); None
    does so where `source` or `adapter` is an adapter folder that was trained on such a base; "none" never does. A 4-bit model stays on
    its device, other models are loaded to the CPU.

    Raises UserError for folders that are missing or incomplete, pickled weights, unknown model types, missing weights, hub ids that
    cannot be reached, and a tokenizer with more tokens than the model has.
    """
    wanted = dtype_of(dtype)
    model: Any
    if isinstance(source, nn.Module):
        model = source
        if wanted is not None:
            model.to(wanted)
        origin = str(getattr(model, "name_or_path", "") or "")
        if tokenizer is None and not origin:
            raise UserError("a model object was given without a tokenizer; give tokenizer=..., too")
    else:
        origin = str(source)
        folder = _folder(origin)
        if folder is not None and (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
            if adapter is not None:
                raise UserError(f"{folder} is an adapter itself; merge it first (burnish export), then put {adapter} on the result")
            base = _base_of_adapter(folder)
            own = folder if any(folder.glob("tokenizer*")) else None
            with _of_adapter(folder):
                return load_model(base, dtype, folder, trust_remote_code, tokenizer if tokenizer is not None else own, quantize, device)
        if quantize is None and adapter is not None:
            quantize = quant.noted(adapter)
        model = _pretrained(origin, folder, wanted, trust_remote_code, quant.loading(origin, quantize, wanted, device))
    if adapter is not None:
        model = _with_adapter(model, Path(adapter))
    found = tokenizer if tokenizer is not None and not isinstance(tokenizer, str | Path) else None
    if found is None:
        found = load_tokenizer(str(tokenizer or origin), trust_remote_code)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(found) > rows:
        raise UserError(f"the tokenizer has {len(found)} tokens but the model only {rows}; use the model's own tokenizer")
    disable_dropout(model)
    return model.eval(), found


def check_source(source: str, adapter: str | Path | None = None, trust_remote_code: bool = False) -> None:
    """Raises the UserErrors of `load_model` that need no weights: missing or incomplete folders, pickled weights, unknown model types.

    A hub id is taken on trust here.
    """
    folder = _folder(source)
    if folder is not None and (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        _check_adapter(folder)
        with _of_adapter(folder):
            check_source(_base_of_adapter(folder), None, trust_remote_code)
    elif folder is not None:
        _check_folder(folder, trust_remote_code)
        _check_tokenizer(folder)
    if adapter is not None:
        _check_adapter(Path(adapter))


def load_tokenizer(source: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a folder or hub id. UserError where there is none."""
    import transformers

    folder = _folder(source)
    if folder is not None:
        _check_tokenizer(folder)
    try:
        return transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except Exception as error:  # tokenizers raise bare Exceptions
        raise UserError(f"{source}: its tokenizer cannot be loaded: {_line(error)}") from error


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A dtype from its name; None and "auto" stay None. UserError naming the nearest."""
    if dtype is None or dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if dtype == "auto" else dtype  # type: ignore[return-value]
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise UserError(f"dtype {dtype!r} is unknown; {did_you_mean(name, DTYPES)}")
    return DTYPES[name]


def disable_dropout(model: nn.Module) -> None:
    """Sets every dropout rate to 0, modules and the numbers that attention layers keep, so that train mode computes what eval mode does."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and value > 0 and (name.endswith("dropout") or name == "layerdrop"):
                setattr(module, name, 0.0)


def _folder(source: str) -> Path | None:
    """The folder that `source` names, or None for a hub id. UserError for a path that is none or a file."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        if path.suffix in PICKLED:
            raise UserError(f"{path}: pickled weights are not loaded, for unpickling runs code; convert the model to safetensors")
        raise UserError(f"{path} is a file; give the folder of the model (with config.json)")
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or not source:
        raise UserError(f"model folder {source!r} does not exist; check the path")
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON: {_line(error)}; copy it again or mend it") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: it must hold a JSON object")
    return found


def _check_folder(folder: Path, trust_remote_code: bool) -> None:
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} has no config.json; give the folder of a saved Hugging Face model")
    config = _json(folder / "config.json")
    _check_type(str(folder), config.get("model_type"), bool(config.get("auto_map")), trust_remote_code)
    _check_weights(folder, "*.safetensors")


def _check_weights(folder: Path, pattern: str) -> None:
    if any(folder.glob(pattern)):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled:
        raise UserError(
            f"{folder} holds pickled weights ({pickled[0]}), which are not loaded, for unpickling runs code; "
            "convert them: load them once in a tool you trust and call save_pretrained(folder) of a recent transformers"
        )
    raise UserError(f"{folder} has no weights ({pattern}); copy them there")


def _check_type(where: str, model_type: str | None, remote: bool, trust_remote_code: bool) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if remote and trust_remote_code:
        return
    if remote and model_type not in CONFIG_MAPPING_NAMES:
        raise UserError(f"{where}: model type {model_type!r} brings its own code; read it, then allow it with trust_remote_code")
    if model_type not in CONFIG_MAPPING_NAMES:
        hint = did_you_mean(str(model_type), MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        hint = hint if hint.startswith("did") else "a newer transformers may know it"
        raise UserError(f"{where}: model type {model_type!r} is unknown to transformers; {hint}")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UserError(f"{where}: model type {model_type!r} is no causal language model; choose one that writes text")


def _pretrained(source: str, folder: Path | None, dtype: torch.dtype | None, trust_remote_code: bool, more: dict[str, Any]) -> Any:
    import transformers

    if folder is not None:
        _check_folder(folder, trust_remote_code)
    try:
        if folder is None:
            config = transformers.PreTrainedConfig.get_config_dict(source)[0]
            _check_type(source, config.get("model_type"), bool(config.get("auto_map")), trust_remote_code)
        # The full path, so that an adapter made on this model finds its base from any folder.
        auto: Any = transformers.AutoModelForCausalLM
        model, info = auto.from_pretrained(
            source if folder is None else str(folder.resolve()),
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **more,
        )
    except UserError:
        raise
    except OSError as error:
        if folder is not None:
            raise UserError(f"{folder}: the model cannot be loaded: {_line(error)}; copy it again") from error
        raise UserError(
            f"model {source!r} is neither a folder here nor to be had from the hub (offline, private, misspelt, or without "
            f"safetensors weights): {_line(error)}"
        ) from error
    except Exception as error:  # safetensors and size mismatches have types of their own
        raise UserError(f"{source}: the model cannot be loaded: {_line(error)}; its files do not fit together: copy them again") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise UserError(
            f"{source}: {len(missing)} weights are missing from its files, the first {missing[0]!r}; the checkpoint is incomplete"
        )
    return model


def _base_of_adapter(folder: Path) -> str:
    base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not base:
        raise UserError(f"{folder}/adapter_config.json names no base model; load the base and give adapter={folder}")
    beside = folder / base
    return str(beside) if not Path(base).is_absolute() and beside.is_dir() else str(base)


def _with_adapter(model: nn.Module, folder: Path) -> Any:
    import peft

    if lora.is_adapted(model):
        raise UserError("the model has an adapter already; merge it first (burnish export)")
    _check_adapter(folder)
    try:
        return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except Exception as error:  # size mismatches and unknown targets have many types
        raise UserError(f"{folder}: the adapter does not fit the model: {_line(error)}") from error


@contextlib.contextmanager
def _of_adapter(folder: Path) -> Iterator[None]:
    """Errors of the base tell which adapter asked for it."""
    try:
        yield
    except UserError as error:
        if "adapter_config.json" in str(error):
            raise
        raise UserError(f"{folder} (base_model_name_or_path in adapter_config.json): {error}") from error


def _check_tokenizer(folder: Path) -> None:
    if not any((folder / name).exists() for name in ("tokenizer_config.json", "tokenizer.json", "tokenizer.model")):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json, tokenizer_config.json); save one there or give tokenizer=...")


def _check_adapter(folder: Path) -> None:
    if not (folder / "adapter_config.json").exists():
        raise UserError(f"{folder} is no adapter folder: adapter_config.json is missing; give one that PEFT saved")
    _json(folder / "adapter_config.json")
    _check_weights(folder, "adapter_model.safetensors")


def _line(error: Exception) -> str:
    """The first sentence of an error on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."
