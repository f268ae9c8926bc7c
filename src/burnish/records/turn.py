"""Turn: one stretch of sampling, exactly as the policy saw and wrote it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from burnish.records.sampling import Sampling


@dataclasses.dataclass
class Turn:
    """Token ids are the truth; text is only a view of them.

    context_ids: exactly what the policy saw before the first output token.
    output_ids: what followed, sampled and injected tokens alike.
    logprobs: float32 (float64 for a float64 model) per output token, the policy's own at the sampling temperature (at 1 where that
        is 0), in nats: what the trainer reproduces. NaN is allowed where `injected`.
    sample_logprobs: float32 per output token after truncation and bans, or None where `sampling.truncates` is False.
    injected: True per output token that was forced rather than sampled (never trained on).
    version: weights version per output token.
    agent: who spoke. train: False keeps the whole turn out of the loss.
    stop: why the turn ended (a `StopReason` value).
    replay: named arrays that a model needs to recompute log-probs (positions, layer routes ...), stored and batched untouched.

    Raises ValueError where the arrays' lengths differ.
    """

    context_ids: list[int]
    output_ids: list[int]
    logprobs: np.ndarray
    # None means none injected and version 0; __post_init__ makes arrays of it
    injected: np.ndarray = None  # type: ignore[assignment]
    version: np.ndarray = None  # type: ignore[assignment]
    sample_logprobs: np.ndarray | None = None
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    agent: str = "policy"
    train: bool = True
    stop: str = "eos"
    replay: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.output_ids)
        keeps_double = isinstance(self.logprobs, np.ndarray) and self.logprobs.dtype == np.float64
        self.logprobs = np.asarray(self.logprobs, dtype=np.float64 if keeps_double else np.float32)
        self.injected = np.zeros(n, dtype=bool) if self.injected is None else np.asarray(self.injected, dtype=bool)
        self.version = np.zeros(n, dtype=np.int64) if self.version is None else np.asarray(self.version, dtype=np.int64)
        if self.sample_logprobs is not None:
            self.sample_logprobs = np.asarray(self.sample_logprobs, dtype=self.logprobs.dtype)
        for name in ("logprobs", "injected", "version", "sample_logprobs"):
            value = getattr(self, name)
            if value is not None and value.shape != (n,):
                raise ValueError(f"turn.{name} has shape {value.shape}; there are {n} output tokens")

    @property
    def loss_mask(self) -> np.ndarray:
        """bool [len(output_ids)]: the tokens that may be trained on (sampled by the policy in a trained turn)."""
        return ~self.injected if self.train else np.zeros(len(self.output_ids), dtype=bool)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats keep every bit."""
        out: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        out["sampling"] = self.sampling.to_dict()
        out["replay"] = {key: _array(np.asarray(value)) for key, value in self.replay.items()}
        out["dtype"] = str(self.logprobs.dtype)
        for name in ("logprobs", "injected", "version", "sample_logprobs"):
            out[name] = None if out[name] is None else [None if v != v else v for v in out[name].tolist()]
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Turn:
        """The inverse of `to_dict`."""
        data = dict(data)
        dtype = data.pop("dtype", "float32")
        for name in ("logprobs", "sample_logprobs"):
            if data.get(name) is not None:
                data[name] = np.array([np.nan if v is None else v for v in data[name]], dtype=dtype)
        data["sampling"] = Sampling(**data["sampling"])
        data["replay"] = {
            key: np.array(value["data"], dtype=value["dtype"]).reshape(value["shape"]) for key, value in data["replay"].items()
        }
        return cls(**data)


def _array(value: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(value.dtype), "shape": list(value.shape), "data": value.ravel().tolist()}
