"""Is what the engine computes what the model computes? Asked at every start, so that no model is served wrongly."""

from __future__ import annotations

from typing import Any

import torch

from burnish.inference.attention import DecodePlan, PrefillPlan, Segment, as_positions
from burnish.inference.cache import Cache
from burnish.inference.modules import ModulePath
from burnish.inference.prefill import Path
from burnish.inference.support import Facts
from burnish.inference.weights import walker_for
from burnish.runs.errors import UserError

_STEPS = 3
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the logits' own spread; other dtypes: 0.2


def choose_path(model: Any, facts: Facts) -> tuple[Path, str]:
    """The way to run this model: the flat walker where it is known and equal, its own modules otherwise (and why).

    Raises UserError, naming the model, where even its modules under the session's cache differ from its plain forward pass.
    """
    if not facts.takes_positions and not hasattr(model, "peft_config"):
        raise UserError(f"{facts.name} takes no position_ids; the engine cannot tell it where a token stands")
    ids = _probe_ids(facts)
    with torch.no_grad():
        reference = model(input_ids=ids[None], use_cache=False).logits[0]
        modules = ModulePath(model, facts)
        gap = _gap(reference, _through_cache(modules, facts, ids))
        tolerance = _TOLERANCE.get(facts.dtype, 0.2)
        if not gap <= tolerance:
            raise UserError(
                f"{facts.name} cannot be served: through the engine's cache its logits differ from its own forward pass "
                f"by {gap:.1e} of their spread"
            )
        walker, why = walker_for(model, facts)
        if walker is not None:
            gap = _gap(reference, _through_cache(walker, facts, ids))
            if gap <= tolerance:
                return walker, ""
            why = f"the flat walker's logits differ from the model's by {gap:.1e} of their spread"
    return modules, why


def _probe_ids(facts: Facts) -> torch.Tensor:
    windows = [w for w in facts.windows if w is not None and w <= 256]
    length = min(facts.max_length, max([24] + [w + 9 for w in windows]))
    return torch.randint(0, facts.vocab, (length,), generator=torch.Generator().manual_seed(2)).to(facts.device)


def _gap(reference: torch.Tensor, ours: torch.Tensor) -> float:
    reference, ours = reference.cpu().double(), ours.cpu().double()
    spread = reference.std().clamp_min(1e-30)
    return float((torch.log_softmax(reference, -1) - torch.log_softmax(ours, -1)).abs().max() / spread)


def _through_cache(path: Path, facts: Facts, ids: torch.Tensor) -> torch.Tensor:
    """Logits [n, V] of a row: most of it prefilled in two chunks, the last tokens decoded in slot 3 of 8."""
    n = len(ids)
    cut, split = max(1, n - _STEPS), max(1, n // 2)
    out, block = [], None
    for start, end in ((0, split), (split, cut)):
        if start == end:
            continue
        positions = as_positions(list(range(start, end)), facts.device)
        segment = Segment(0, end - start, block, positions)
        out.append(path.logits(ids[start:end], positions, PrefillPlan([segment]), None, decode=False))
        if len(segment.keys) != facts.layers:
            raise UserError(f"{facts.name} does not use transformers' attention interface in all its layers; the engine cannot serve it")
        block = segment.block()
    assert block is not None
    cache = Cache(facts.device)
    cache.reserve(8, n + 1)
    cache.insert(3, block)
    for index in range(cut, n):
        positions = torch.zeros(8, dtype=torch.int64, device=facts.device)
        tokens = torch.zeros(8, dtype=torch.int64, device=facts.device)
        positions[3], tokens[3] = index, ids[index]
        plan = DecodePlan(cache, 8, positions, False, 1 << 30)
        out.append(path.logits(tokens, positions, plan, None, decode=True)[3:4])
        cache.lengths[3] += 1
    return torch.cat(out)
