"""Seeds derived from names, and the state of the global random generators."""

from __future__ import annotations

import hashlib
import json
import operator
import random
from typing import Any

import numpy as np


def seed_for(*keys: int | str) -> int:
    """A seed in [0, 2**63) that depends on the keys alone: the same in every process, on every machine.

    `seed_for(1, "a")` and `seed_for("1", "a")` differ; so do `("ab", "c")` and `("a", "bc")`.
    """
    text = json.dumps([key if isinstance(key, str) else operator.index(key) for key in keys])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng(*keys: int | str) -> np.random.Generator:
    """A numpy generator seeded with `seed_for(*keys)`."""
    return np.random.default_rng(seed_for(*keys))


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's and torch's global generators (all devices)."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_rng_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global generators, in a form that `stateio` can write."""
    import torch

    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    out: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (str(name), np.array(keys), int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        out["cuda"] = list(torch.cuda.get_rng_state_all())
    return out


def set_rng_state(state: dict[str, Any]) -> None:
    """The inverse of `get_rng_state`. CUDA states are set where the machine has as many devices as were saved."""
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    saved = state.get("cuda")
    if saved and torch.cuda.is_available() and torch.cuda.device_count() == len(saved):
        torch.cuda.set_rng_state_all(saved)
