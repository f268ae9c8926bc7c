"""Nested state as safetensors and strict JSON, every bit kept, nothing unpickled.

State is made of dicts (keys: text or integers), lists, tuples, None, booleans, numbers, text, torch tensors and numpy arrays or scalars.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from burnish.runs.errors import UserError

_TAGS = frozenset({"$tensor", "$array", "$tuple", "$dict", "$float", "$numpy"})


def flatten(state: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """(tensors by path, JSON value that refers to them). Tensors are copied to the CPU.

    Raises TypeError naming the path of anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    return tensors, _encode(state, "", tensors)


def unflatten(tensors: Mapping[str, torch.Tensor], value: Any) -> Any:
    """The inverse of `flatten`; tensors come back on the CPU, arrays as numpy arrays."""
    if isinstance(value, list):
        return [unflatten(tensors, item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value)) if len(value) == 1 else None
    if tag not in _TAGS:
        return {key: unflatten(tensors, item) for key, item in value.items()}
    inner = value[tag]
    if tag == "$tensor":
        return tensors[inner].clone()
    if tag == "$array":
        return tensors[inner].numpy().copy()
    if tag == "$tuple":
        return tuple(unflatten(tensors, item) for item in inner)
    if tag == "$dict":
        return {key: unflatten(tensors, item) for key, item in inner}
    if tag == "$float":
        return float(inner)
    return tensors[inner].numpy()[()]


def copy(state: Any) -> Any:
    """A deep copy on the CPU that shares nothing with `state`."""
    return unflatten(*flatten(state))


def save(folder: Path, name: str, state: Any, head: Callable[[], Mapping[str, Any]] = dict) -> None:
    """Writes `name.safetensors` and `name.json` into a folder (the caller makes the folder atomic).

    head: gives plain JSON values that stand before the state in the JSON file; called when the tensors are on disk.
    """
    tensors, value = flatten(state)
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(dumps({**head(), "state": value}) + "\n", encoding="utf-8")


def load(folder: Path, name: str) -> Any:
    """What `save` wrote. Raises UserError naming the file where it is broken."""
    path = folder / f"{name}.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["state"]
        path = folder / f"{name}.safetensors"
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        return unflatten(tensors, value)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is missing or broken ({reason}); remove that checkpoint and resume from the one before") from None


def dumps(value: Any) -> str:
    """Strict JSON on one line."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        return {"$tensor": _keep(value.detach().cpu().contiguous().clone(), path, tensors)}
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"state {path or '/'}: a numpy array of {value.dtype} cannot be saved; use numbers, or a list")
        native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {"$array" if isinstance(value, np.ndarray) else "$numpy": _keep(torch.from_numpy(native), path, tensors)}
    if isinstance(value, tuple):
        return {"$tuple": [_encode(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]
    if isinstance(value, Mapping):
        return _encode_mapping(value, path, tensors)
    if isinstance(value, (int, float, str)):  # subclasses such as enums
        kind = next(kind for kind in (int, float, str) if isinstance(value, kind))
        return _encode(str.__str__(value) if kind is str else kind(value), path, tensors)
    raise TypeError(f"state {path or '/'}: {type(value).__name__} cannot be saved; use dicts, lists, numbers, text, tensors or arrays")


def _encode_mapping(value: Mapping[Any, Any], path: str, tensors: dict[str, torch.Tensor]) -> Any:
    for key in value:
        if type(key) not in (int, str):
            raise TypeError(f"state {path or '/'}: the key {key!r} is neither text nor an integer")
    items = [(key, _encode(item, f"{path}/{key}", tensors)) for key, item in value.items()]
    if all(type(key) is str for key in value) and not (len(value) == 1 and next(iter(value)) in _TAGS):
        return dict(items)
    return {"$dict": [list(item) for item in items]}


def _keep(tensor: torch.Tensor, path: str, tensors: dict[str, torch.Tensor]) -> str:
    if tensor.is_complex() or tensor.layout is not torch.strided:
        raise TypeError(f"state {path}: a tensor of {tensor.dtype}, {tensor.layout} cannot be saved")
    name = base = path.lstrip("/") or "value"
    count = 1
    while name in tensors:  # the keys 1 and "1", or a key with a slash in it
        count += 1
        name = f"{base}#{count}"
    tensors[name] = tensor
    return name
