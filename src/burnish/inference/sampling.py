"""Drawing tokens, vectorised over rows, without any random state: a draw is a pure function of (logits row, seed, position).

The uniform number behind a token is a hash of the row's seed and the token's position, so that a row's draws do not depend
on how many other rows were sampled before, beside or after it. Every operation works on each row by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from burnish.records import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """The output function of splitmix64 (Steele, Lea & Flood 2014) on uint64 arrays; wraps around on purpose."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seeds: Sequence[int] | np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """float64 numbers in [0, 1), one for each (seed, position) pair."""
    with np.errstate(over="ignore"):
        key = _mix(_as_uint64(seeds) + _GOLDEN)
        bits = _mix(key + (np.asarray(positions).astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def child_seed(seed: int, index: int) -> int:
    """A seed for fork number `index` of a handle with `seed`: 63 bits, different for each index."""
    with np.errstate(over="ignore"):
        mixed = _mix(_mix(_as_uint64([seed]) + _GOLDEN) ^ (np.uint64(index + 1) * _GOLDEN))
    return int(mixed[0] >> np.uint64(1))


def _as_uint64(seeds: Sequence[int] | np.ndarray) -> np.ndarray:
    if isinstance(seeds, np.ndarray) and seeds.dtype == np.uint64:
        return seeds
    return np.array([int(seed) & 0xFFFFFFFFFFFFFFFF for seed in seeds], dtype=np.uint64)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What `draw` needs to know of its rows; made once while the rows stay the same."""

    seeds: np.ndarray  # uint64 [S]
    temperature: torch.Tensor | None  # [S, 1] in the logits' dtype (greedy rows: 1), None where all are 1
    greedy: torch.Tensor | None  # bool [S], None where none is greedy
    all_greedy: bool
    truncated: tuple[tuple[int, Sampling], ...]  # (row, settings) of rows that do not draw from the whole distribution

    @classmethod
    def of(cls, samplings: Sequence[Sampling], seeds: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Rows:
        """Prepare rows with these settings."""
        temperatures = [s.temperature if s.temperature > 0 else 1.0 for s in samplings]
        greedy = [s.temperature == 0 for s in samplings]
        plain = all(t == 1.0 for t in temperatures)
        return cls(
            seeds=_as_uint64(seeds),
            temperature=None if plain else torch.tensor(temperatures, dtype=dtype, device=device)[:, None],
            greedy=torch.tensor(greedy, device=device) if any(greedy) else None,
            all_greedy=all(greedy),
            truncated=tuple((row, s) for row, s in enumerate(samplings) if s.truncates),
        )


def sample(
    logits: torch.Tensor, samplings: Sequence[Sampling], seeds: Sequence[int], positions: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw one token for each row.

    logits: float [S, V]; half precision is raised to float32. positions: index of the drawn token in its row.
    Returns ids int64 [S]; logprobs [S]: the model's own at the sampling temperature (temperature 0: at 1), in nats;
    sample_logprobs [S]: the same after truncation and bans (equal to logprobs in rows that do neither).
    """
    return draw(logits, Rows.of(samplings, seeds, _score_dtype(logits), logits.device), np.asarray(positions))


def draw(logits: torch.Tensor, rows: Rows, positions: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`sample` with prepared rows."""
    logits = logits.to(_score_dtype(logits))
    logp = torch.log_softmax(logits if rows.temperature is None else logits / rows.temperature, dim=-1)
    sample_logp = logp
    if rows.truncated:
        sample_logp = logp.clone()
        for row, settings in rows.truncated:
            sample_logp[row] = truncate(logp[row], settings)
    if rows.all_greedy:
        ids = (logits if not rows.truncated else sample_logp).argmax(-1)
    else:
        ids = _inverse_cdf(sample_logp, uniforms(rows.seeds, positions))
        if rows.greedy is not None:
            ids = torch.where(rows.greedy, (logits if not rows.truncated else sample_logp).argmax(-1), ids)
    chosen = logp.gather(1, ids[:, None])[:, 0]
    return ids, chosen, sample_logp.gather(1, ids[:, None])[:, 0] if rows.truncated else chosen


def scores(logits: torch.Tensor, ids: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Log-probs [S] of given ids [S] under logits [S, V] at temperature [S] (0 counts as 1)."""
    logits = logits.to(_score_dtype(logits))
    temperature = torch.where(temperature > 0, temperature, 1.0).to(logits.dtype)
    return torch.log_softmax(logits / temperature[:, None], dim=-1).gather(1, ids[:, None])[:, 0]


def truncate(logp: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Renormalised log-probs [V] of one row after bans, top-k, top-p and min-p, in this order; dropped tokens get -inf.

    As in transformers, top-p looks at the distribution that bans and top-k leave; ties at the k-th place go to the lower id.
    """
    logp = logp.clone()
    if settings.bans:
        logp[torch.tensor(settings.bans, device=logp.device)] = -torch.inf
    ordered, order = logp.sort(descending=True, stable=True)
    if 0 < settings.top_k < len(logp):
        ordered[settings.top_k :] = -torch.inf
    if settings.top_p < 1:
        p = torch.softmax(ordered, dim=-1)
        before = p.cumsum(-1) - p
        ordered = ordered.masked_fill(before >= settings.top_p, -torch.inf)
    if settings.min_p > 0:
        ordered = ordered.masked_fill(ordered < ordered[0] + float(np.log(settings.min_p)), -torch.inf)
    return torch.log_softmax(torch.full_like(logp, -torch.inf).scatter_(0, order, ordered), dim=-1)


def _inverse_cdf(logp: torch.Tensor, u: np.ndarray) -> torch.Tensor:
    # softmax of log-probs rather than exp: its kernel treats every row alike, whatever the tensor's total size.
    mass = torch.softmax(logp, dim=-1).cumsum(-1)
    total = mass[:, -1:]
    # Rounded down to 24 bits in float32, so that target < total always and no token without mass can be drawn.
    u = np.floor(u * 2.0**24) * 2.0**-24 if logp.dtype == torch.float32 else u
    target = torch.from_numpy(u).to(device=logp.device, dtype=logp.dtype)[:, None] * total
    found = torch.searchsorted(mass, target, right=True)[:, 0]
    return found.clamp_max_(logp.shape[1] - 1)


def _score_dtype(logits: torch.Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
