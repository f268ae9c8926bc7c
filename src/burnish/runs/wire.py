"""What ranks send one another: plain values as safetensors and JSON, gradients in buckets, digests of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

BUCKET = 32 << 20
"""Numbers summed in one go."""


def pack(value: Any) -> bytes:
    """Whatever `stateio` can write, as bytes. Raises TypeError naming what it cannot."""
    from safetensors.torch import save

    from burnish.runs import stateio

    tensors, tree = stateio.flatten(value)
    head = stateio.dumps(tree).encode()
    return len(head).to_bytes(8, "big") + head + (save(tensors) if tensors else b"")


def unpack(data: bytes) -> Any:
    """The inverse of `pack`; tensors on the CPU."""
    from safetensors.torch import load

    from burnish.runs import stateio

    end = 8 + int.from_bytes(data[:8], "big")
    return stateio.unflatten(load(data[end:]) if len(data) > end else {}, json.loads(data[8:end]))


def buckets(parameters: Sequence[Any]) -> Iterator[list[Any]]:
    """Neighbours of one dtype and device, at most BUCKET numbers together."""
    bucket: list[Any] = []
    for p in parameters:
        if bucket and ((p.dtype, p.device) != (bucket[0].dtype, bucket[0].device) or sum(q.numel() for q in bucket) + p.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def reachable(tensor: Any) -> Any:
    """The tensor where the process group can read it: gloo knows the CPU, nccl CUDA; others (mps) go through the CPU."""
    return tensor if tensor.device.type in ("cpu", "cuda") else tensor.cpu()


def digest(tensors: Mapping[str, Any]) -> str:
    """A hash of names and bits."""
    import torch

    found = hashlib.blake2b(digest_size=16)
    for name, value in tensors.items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
