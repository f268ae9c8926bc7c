"""Hidden states at the places that predict loss tokens: the one forward pass of training and of measuring.

Two ways to the same numbers. Plain: rows right-padded in batches of like length, the model's own attention; every model can do it.
Packed: one row without padding in which rows with a common prefix share it (models/sharing.py, models/attention.py); a model is
probed once, on a few tokens, and takes the plain way where its hidden states differ. Both run in eval mode (no dropout: the
sampler had none), and gradient checkpointing, where the model has it switched on, works in eval mode too.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from burnish.models.attention import DENSE, PACKED, CannotPack, configs_of, implementation
from burnish.models.eval_mode import checkpointing, evaluation
from burnish.models.heads import backbone_of
from burnish.models.merged import MERGED, is_merged, merged_row
from burnish.models.precision import keep_double
from burnish.models.rows import Row
from burnish.models.sharing import Cost, Layout, Shared, groups_of, packed_cost
from burnish.runs.errors import UserError

PACKED_OVERHEAD = 1.1  # packed work counts this much more: it gathers, and masks where the plain way is plainly causal
PLAIN_WASTE = 1.15  # rows join a plain batch while its padded tokens stay under this much of the real ones


@dataclasses.dataclass
class Way:
    """How a forward went: path "packed" or "plain", why, tokens that passed the layers, and tokens the rows hold."""

    path: str
    why: str
    tokens: int
    row_tokens: int


def hidden_at_targets(
    model: nn.Module,
    rows: Sequence[Row],
    share_prefix: bool | str = True,
    padding: str = "right",
    pad_multiple: int = 1,
    report: list[Way] | None = None,
) -> Tensor:
    """Final, normed hidden states [K, d] at j - 1 for every target j of every row, in row order; differentiable.

    share_prefix: True takes the packed way where the model can and it costs less; "always" wherever the model can; False never.
    padding: "right" or "left", and pad_multiple (row length rounded up to it): for the plain way.
    report: receives a `Way` for each call.
    Gradient checkpointing is honoured where it is enabled on the model. The model's training flags are as before afterwards, and
    a layer computed again in the backward pass runs without dropout whatever they are then.
    """
    ids = [row.needed for row in rows]
    used = [index for index, row in enumerate(rows) if len(row.targets)]
    if not used:
        return _empty(model)
    keep_double(model)
    rows, ids = [rows[index] for index in used], [ids[index] for index in used]
    apart = [index for index, row in enumerate(rows) if is_merged(row)]
    if apart:
        others = [index for index in range(len(rows)) if index not in set(apart)]
        rest = hidden_at_targets(model, [rows[index] for index in others], share_prefix, padding, pad_multiple, report)
        return _joined(rows, others, rest, apart, [_merged(model, rows[index], ids[index], report) for index in apart])
    groups, why = _choose(model, ids, share_prefix)
    if groups is not None:
        way = Way("packed", why, packed_cost(ids, groups).tokens, sum(map(len, ids)))
        hidden = _packed(model, rows, ids, groups)
    else:
        batches = _buckets([len(row) for row in ids])
        way = Way("plain", why, sum(len(batch) * max(len(ids[i]) for i in batch) for batch in batches), sum(map(len, ids)))
        hidden = _plain(model, rows, ids, batches, padding, pad_multiple)
    if report is not None:
        report.append(way)
    return hidden


def _choose(model: nn.Module, ids: list[np.ndarray], share: bool | str) -> tuple[list[Shared] | None, str]:
    """(groups, why) for the packed way, (None, why) for the plain one."""
    if not share:
        return None, "prefix sharing is switched off"
    groups = groups_of(ids)
    if share != "always" and len(groups) == len(ids) and len({len(row) for row in ids}) == 1:
        return None, "no two rows share a prefix"
    refusal = why_not_packed(model)
    if refusal is not None:
        return None, refusal
    packed, plain = _work(model, packed_cost(ids, groups)), _work(model, _plain_cost([len(row) for row in ids]))
    if share != "always" and packed * PACKED_OVERHEAD >= plain:
        return None, f"the packed row would cost {packed / plain:.2f} of the plain batch"
    return groups, f"the packed row costs {packed / plain:.2f} of the plain batch"


def _work(model: nn.Module, cost: Cost) -> float:
    """Multiplications of one forward: linear layers by token, attention by pair."""
    facts = _facts(model)
    return cost.tokens * facts.weights + 2.0 * cost.pairs * facts.width


def _plain_cost(lengths: list[int]) -> Cost:
    batches = [[lengths[i] for i in batch] for batch in _buckets(lengths)]
    return Cost(sum(len(b) * max(b) for b in batches), sum(len(b) * max(b) ** 2 // 2 for b in batches))


def _buckets(lengths: list[int]) -> list[list[int]]:
    """Rows (indices) by like length: a batch is closed where the next row would waste too much padding."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    real = 0
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= PLAIN_WASTE * (real + lengths[index]):
            batches[-1].append(index)
            real += lengths[index]
        else:
            batches.append([index])
            real = lengths[index]
    return batches


# The two ways ------------------------------------------------------------------------------------------------------------


def _packed(model: nn.Module, rows: Sequence[Row], ids: list[np.ndarray], groups: list[Shared]) -> Tensor:
    device = next(model.parameters()).device
    layout = Layout(ids, groups, device)
    hidden = _run(model, PACKED, layout.ids[None], layout.positions[None], torch.ones_like(layout.ids)[None], layout)[0]
    places = np.concatenate([layout.where(number, row.targets - 1) for number, row in enumerate(rows)])
    return hidden.index_select(0, torch.from_numpy(places).to(device))


def _plain(model: nn.Module, rows: Sequence[Row], ids: list[np.ndarray], batches: list[list[int]], padding: str, multiple: int) -> Tensor:
    """Right padding needs no mask: no real token can see what follows it."""
    device = next(model.parameters()).device
    states, owners = [], []
    for batch in batches:
        length = -(-max(len(ids[index]) for index in batch) // multiple) * multiple
        shift = [length - len(ids[index]) if padding == "left" else 0 for index in batch]
        tokens = np.stack([_pad(ids[index], length, before) for index, before in zip(batch, shift)])
        positions = mask = None
        if padding == "left":
            steps = np.arange(length) - np.array(shift)[:, None]
            positions, mask = torch.from_numpy(steps.clip(min=0)).to(device), torch.from_numpy((steps >= 0).astype(np.int64)).to(device)
        hidden = _run(model, _own_attention(model), torch.from_numpy(tokens).to(device), positions, mask)
        places = np.concatenate([n * length + shift[n] + rows[index].targets - 1 for n, index in enumerate(batch)])
        states.append(hidden.flatten(0, 1).index_select(0, torch.from_numpy(places).to(device)))
        owners.append(np.concatenate([np.full(len(rows[index].targets), index) for index in batch]))
    if len(states) == 1 and batches[0] == sorted(batches[0]):
        return states[0]
    order = np.argsort(np.concatenate(owners), kind="stable")
    return torch.cat(states).index_select(0, torch.from_numpy(order).to(device))


def _merged(model: nn.Module, row: Row, ids: np.ndarray, report: list[Way] | None) -> Tensor:
    """A row that the engine merged of several, alone, under the mask that its replay arrays describe."""
    device = next(model.parameters()).device
    if not _facts(model).configs:
        raise UserError(f"{type(model).__name__} cannot score merged rows: it does not take its attention from transformers")
    tokens = torch.from_numpy(ids).to(device)[None]
    with merged_row(row, len(ids), device) as positions:
        hidden = _run(model, MERGED, tokens, positions[None], torch.ones_like(tokens))[0]
    if report is not None:
        report.append(Way("plain", "a merged row has a mask of its own", len(ids), len(ids)))
    return hidden.index_select(0, torch.from_numpy(row.targets - 1).to(device))


def _joined(rows: Sequence[Row], others: list[int], rest: Tensor, apart: list[int], merged: list[Tensor]) -> Tensor:
    """Both kinds back in row order."""
    parts = dict(zip(apart, merged)) | dict(zip(others, rest.split([len(rows[index].targets) for index in others])))
    return torch.cat([parts[index] for index in range(len(rows))])


def _pad(ids: np.ndarray, length: int, before: int) -> np.ndarray:
    """Padding repeats a real token: any id does, and no model warns of pad ids."""
    out = np.full(length, ids[-1])
    out[before : before + len(ids)] = ids
    return out


def _own_attention(model: nn.Module) -> str | None:
    """None (the model's own), or `DENSE` for float64 models whose own softmax steps down to float32."""
    facts = _facts(model)
    double = next(model.parameters()).dtype == torch.float64
    return DENSE if double and any(config._attn_implementation_internal == "eager" for config in facts.configs) else None


def _run(
    model: nn.Module, name: str | None, ids: Tensor, positions: Tensor | None, mask: Tensor | None, layout: Layout | None = None
) -> Tensor:
    """The backbone's last hidden state [B, T, d]."""
    given = {"position_ids": positions, "attention_mask": mask}
    configs = _facts(model).configs
    with evaluation(model), checkpointing(model, configs, name), implementation(configs, name, layout):
        out = backbone_of(model)(input_ids=ids, use_cache=False, **{key: value for key, value in given.items() if value is not None})
    return out[0] if isinstance(out, tuple) else out.last_hidden_state


# What is known of a model ---------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Facts:
    """configs: that name an attention. weights: parameters of the backbone that multiply each token. width: of all layers' attention."""

    configs: list[Any]
    weights: int
    width: int
    probed: bool = False
    refusal: str | None = None


_known: weakref.WeakKeyDictionary[nn.Module, _Facts] = weakref.WeakKeyDictionary()


def _facts(model: nn.Module) -> _Facts:
    if model not in _known:
        backbone = backbone_of(model)
        tables = {id(m.weight) for m in backbone.modules() if isinstance(m, nn.Embedding)}
        weights = sum(p.numel() for p in backbone.parameters() if p.dim() > 1 and id(p) not in tables)
        config: Any = getattr(backbone, "config", None)
        heads, layers = getattr(config, "num_attention_heads", 1), getattr(config, "num_hidden_layers", 1)
        size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", heads) // heads
        _known[model] = _Facts(configs_of(model), weights, heads * layers * size)
    return _known[model]


def why_not_packed(model: nn.Module) -> str | None:
    """None where the model's packed hidden states equal the plain ones on a probe of a few tokens, else the reason (kept)."""
    facts = _facts(model)
    if not facts.probed:
        keep_double(model)
        facts.refusal, facts.probed = _probe(model, facts), True
    return facts.refusal


@torch.no_grad()
def _probe(model: nn.Module, facts: _Facts) -> str | None:
    name = type(model).__name__
    if not facts.configs:
        return f"{name} does not take its attention from transformers"
    embeddings: Any = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None  # type: ignore[operator]
    vocab = getattr(embeddings, "num_embeddings", 32)
    draw = np.random.default_rng(0).integers(0, vocab, 64)
    long, short = draw[:7], draw[50:53]
    parts = [(long, draw[20:24]), (long, draw[30:31]), (long, draw[40:46]), (short, draw[53:58]), (short, draw[60:62])]
    rows = [Row(np.concatenate([a, b]), np.arange(1, len(a) + len(b))) for a, b in parts]
    ids = [row.needed for row in rows]
    try:
        plain = _plain(model, rows, ids, [[0, 1, 2, 3, 4]], "right", 1)
        packed = _packed(model, rows, ids, [Shared((0, 1, 2), 7), Shared((3, 4), 3)])
    except CannotPack as error:
        return f"{name} cannot share prefixes: {error}"
    except Exception as error:
        return f"{name} cannot run a packed row ({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''})"
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(plain.dtype, 5e-2)
    if not bool((plain - packed).abs().max() <= tolerance * plain.abs().max().clamp(min=1e-3)):
        return f"{name} gives other hidden states in a packed row than in a plain one"
    return None


def _empty(model: nn.Module) -> Tensor:
    weight = model.get_output_embeddings().weight  # type: ignore[operator]
    return torch.zeros(0, weight.shape[-1], dtype=weight.dtype, device=weight.device)
