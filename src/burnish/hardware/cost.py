"""What a forward pass, a training step and a decoding step cost: FLOPs, bytes moved and peak memory, from an Architecture.

FLOPs: a multiply-add counts as two; norms, activations and softmax are left out. Bytes: every weight once a pass, and the keys and values
that are read; activations are taken to stay in the caches. Memory: what is alive at the worst moment. Each is checked against torch's own
count in tests/hardware.
"""

from __future__ import annotations

import dataclasses

from burnish.hardware.architecture import Architecture

LOGIT_ROWS = 1024
"""Loss tokens whose logits exist at a time (models/logprobs.py)."""
ADAM_BYTES = 8
"""AdamW keeps two float32 numbers for each trained weight."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """flops: floating-point operations. bytes: read from memory. memory: peak bytes alive; of a sum of parts, the largest."""

    flops: float = 0.0
    bytes: float = 0.0
    memory: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, max(self.memory, other.memory))

    def times(self, count: float) -> Cost:
        """The same so many times over; memory is reused."""
        return Cost(self.flops * count, self.bytes * count, self.memory)


def weight_bytes(arch: Architecture, width: float = 4) -> float:
    """Bytes of all weights. width: bytes of a number (4 float32, 2 bfloat16, about 0.56 in 4-bit blocks)."""
    return arch.parameters * width


def cache_bytes(arch: Architecture, tokens: float, width: float = 4) -> float:
    """Keys and values of so many tokens."""
    return 2.0 * arch.layers * arch.key_value * tokens * width


def forward(arch: Architecture, tokens: float, start: int = 0, rows: int = 1, width: float = 4) -> Cost:
    """`rows` rows of `tokens` new tokens each, after `start` tokens whose keys and values are cached; no gradient, no logits kept."""
    keys = arch.keys_seen(start, int(tokens))
    flops = rows * tokens * (2.0 * arch.matmul + 4.0 * arch.layers * arch.query * keys)
    held = cache_bytes(arch, rows * (start + tokens), width)
    return Cost(flops, weight_bytes(arch, width) + cache_bytes(arch, rows * start, width), weight_bytes(arch, width) + held)


def decode(arch: Architecture, rows: int, start: int, tokens: int, width: float = 4) -> Cost:
    """`tokens` decoding steps of `rows` rows, each after `start` tokens of prompt."""
    keys = arch.keys_seen(start, tokens)
    flops = rows * tokens * (2.0 * arch.matmul + 4.0 * arch.layers * arch.query * keys)
    moved = tokens * (weight_bytes(arch, width) + cache_bytes(arch, rows * keys, width))
    held = cache_bytes(arch, rows * (start + tokens), width) + rows * arch.vocabulary * 4.0
    return Cost(flops, moved, weight_bytes(arch, width) + held)


def activation_bytes(arch: Architecture, tokens: float, width: float = 4) -> float:
    """What autograd keeps of a forward pass over `tokens` tokens, hidden states only (logits come in chunks).

    A layer keeps: the residual stream at its norms, each norm's output (an RMS norm written out in Python also its normalised input);
    queries, keys, values (before their own norm too, where they have one) and the attention's output; and the MLP's inner tensors.
    """
    norm = arch.norm_saved * arch.hidden
    normed = 2 if arch.qk_norm else 0
    heads = (2 + normed) * arch.query + (2 + normed) * arch.key_value
    layer = arch.norms * norm + heads + arch.mlp_saved * arch.mlp
    return tokens * width * (arch.layers * layer + norm)


def train(
    arch: Architecture,
    tokens: float,
    keys: float,
    micro_tokens: float,
    width: float = 4,
    trained: float | None = None,
    checkpointing: bool = False,
) -> Cost:
    """Forward and backward of one optimiser step over `tokens` tokens of which each attends to `keys` keys, and AdamW.

    micro_tokens: tokens of one pass. trained: weights that are trained (default all; their gradients and AdamW's state are float32
    for an adapter). checkpointing: activations are recomputed, a fourth forward pass. A frozen weight costs no gradient of its own.
    """
    trained = arch.parameters if trained is None else trained
    share = min(1.0, trained / arch.parameters)
    once = tokens * (2.0 * arch.matmul + 4.0 * arch.layers * arch.query * keys)
    flops = once * (2.0 + share + (1.0 if checkpointing else 0.0))
    passes = max(1.0, tokens / micro_tokens)
    weights = weight_bytes(arch, width)
    state = trained * (width + ADAM_BYTES)
    one_pass = min(tokens, micro_tokens)
    if checkpointing:
        kept = one_pass * width * arch.hidden * arch.layers + activation_bytes(arch, one_pass, width) / arch.layers
    else:
        kept = activation_bytes(arch, one_pass, width)
    logits = 2.0 * 4.0 * min(LOGIT_ROWS, one_pass) * arch.vocabulary
    return Cost(flops, passes * 3 * weights + 3 * state, weights + state + kept + logits)
