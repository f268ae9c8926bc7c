"""Policy: a causal LM and its tokenizer, and the one call that measures or differentiates its log-probs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from burnish.models.eval_mode import evaluation
from burnish.models.forward import hidden_at_targets, why_not_packed
from burnish.models.heads import Head, base_of, head_of
from burnish.models.logprobs import token_values
from burnish.models.measured import Measured, Prepared, cut, prepare, same_tokens, take
from burnish.models.needs import Need
from burnish.models.precision import keep_double
from burnish.models.rows import flat, temperatures
from burnish.models.tokenizer import end_ids
from burnish.records import Rollout
from burnish.runs.errors import UserError

MEASURE_TOKENS = 4096  # tokens of one forward without gradient: enough to keep the matrix products busy, little memory


class Policy:
    """model: a Hugging Face causal LM (bare or PEFT), or any module with `burnish_score`. tokenizer: its tokenizer, or None.

    name: which `Need.model` this policy answers. value_head: module hidden [K, d] -> [K] or [K, 1] for needs of "value".
    """

    def __init__(self, model: nn.Module, tokenizer: Any = None, name: str = "policy", value_head: nn.Module | None = None):
        self.model, self.tokenizer, self.name, self.value_head = model, tokenizer, name, value_head
        self._head: Head | None = None
        keep_double(model)

    @property
    def head(self) -> Head:
        """The verified head. UserError where the model's is unknown."""
        if self._head is None:
            self._head = head_of(self.model)
        return self._head

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int | None:
        """Positions the model has, or None where its config names no limit."""
        config: Any = getattr(base_of(self.model), "config", None)
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        found = getattr(config, "max_position_embeddings", None)
        return None if found is None else int(found)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends a turn: the generation config's, else the config's, then the tokenizer's end-of-turn tokens."""
        inner: Any = base_of(self.model)
        own = [getattr(getattr(inner, part, None), "eos_token_id", None) for part in ("generation_config", "config")]
        given: Any = next((ids for ids in own if ids is not None), [])
        ids = list(given) if isinstance(given, Iterable) else [given]
        return tuple(dict.fromkeys([int(i) for i in ids] + list(end_ids(self.tokenizer) if self.tokenizer is not None else ())))

    @property
    def pad_id(self) -> int | None:
        """The tokenizer's pad id, else the first end id (padding is never read), else None."""
        own = getattr(self.tokenizer, "pad_token_id", None)
        return own if own is not None else next(iter(self.eos_ids), None)

    def encode(self, prompt: str | Sequence[dict[str, Any]], tools: Any = None, **template_args: Any) -> list[int]:
        """Token ids of a text (with the tokenizer's own leading special tokens) or of chat messages through its template."""
        if not isinstance(prompt, str):
            from burnish.models import template

            return template.render(self._tokenizer, list(prompt), tools=tools, **template_args)
        ids = list(self._tokenizer(prompt)["input_ids"])
        plain = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        # Some tokenizers end every text with eos: a prompt must stay open.
        while len(ids) > len(plain) and ids and ids[-1] in self.eos_ids and (not plain or plain[-1] != ids[-1]):
            ids.pop()
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text, for reading only: it is never encoded again."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)

    def stop_check(self, chat: bool = False) -> list[str]:
        """What is missing for sampling, a line each with its remedy; empty where all is well. chat: the prompts are messages."""
        found = []
        if not self.eos_ids:
            found.append("the model has no end-of-sequence id: set tokenizer.eos_token, or nothing but max_new_tokens ends a completion")
        if getattr(self.tokenizer, "pad_token_id", None) is None:
            found.append("the tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token")
        if chat and not getattr(self.tokenizer, "chat_template", None):
            found.append("the tokenizer has no chat template: set tokenizer.chat_template, or give prompts as text")
        return found

    def score(
        self,
        rollouts: Sequence[Rollout],
        needs: Sequence[Need] = (Need(),),
        grad: bool = False,
        temperature: float | Tensor | None = None,
        share_prefix: bool | str = True,
        chunk: int = 1024,
        micro_tokens: int | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Measured:
        """Measure every loss token of the rollouts, in flat order (see models/rows.py).

        needs: each with `need.model == self.name`. grad: keep the results differentiable (reduces never are); else no graph is built.
        temperature: None for each turn's own (0 counts as 1), a number for all, or a tensor [K].
        share_prefix: True where it costs less, "always" where the model can, False never. chunk: tokens whose logits exist at a time.
        micro_tokens: most tokens of one forward pass, rollouts kept whole (None: all at once with grad, else MEASURE_TOKENS).
        extras: key of a Term -> what it is given; tensors of length K are in flat order.

        Dropout is off, with gradient too: the sampler had none, and a ratio of two dropout masks would be noise.
        A model with `burnish_score(policy, rollouts, needs, grad)` (returning key -> values) does all of it itself.
        Raises UserError for another model's needs, a value need without `value_head`, and rollouts longer than the context.
        """
        for need in needs:
            if need.model != self.name:
                raise UserError(f"need {need.key!r} asks for model {need.model!r}; this policy is {self.name!r}")
        if hasattr(self.model, "burnish_score"):
            return Measured(self.model.burnish_score(self, rollouts, needs, grad))  # type: ignore[operator]
        if self.value_head is None and any(need.kind == "value" for need in needs):
            raise UserError(
                f"a value is needed of {self.name!r}, which has no value_head: set policy.value_head, or use a credit without a critic"
            )
        result = Measured()
        for context in dict.fromkeys(need.context for need in needs):
            mine = [need for need in needs if need.context is context]
            seen = same_tokens(rollouts, mine[0])
            result_part = self._score(seen, mine, grad, temperature, share_prefix, chunk, micro_tokens, extras or {})
            result.update(result_part)
            result.ways.extend(result_part.ways)
        return result

    def _score(
        self,
        rollouts: list[Rollout],
        needs: list[Need],
        grad: bool,
        temperature: float | Tensor | None,
        share_prefix: bool | str,
        chunk: int,
        micro_tokens: int | None,
        extras: Mapping[str, Any],
    ) -> Measured:
        prepared = prepare(rollouts, self.max_length)
        ids = flat(rollouts, "output_ids").to(self.device)
        heat = (temperatures(rollouts) if temperature is None else torch.as_tensor(temperature, dtype=torch.float64)).expand(len(ids))
        share = bool(share_prefix) and why_not_packed(self.model) is None
        batches = cut(prepared, micro_tokens if micro_tokens is not None or grad else MEASURE_TOKENS, share)
        result = Measured()
        found: list[dict[str, Any]] = []
        with torch.set_grad_enabled(grad and torch.is_grad_enabled()), evaluation(self.model):
            for batch in batches or [[]]:
                index = prepared.flat_index(batch)
                rows = [row for i in batch for row in prepared.rows[i]]
                hidden = hidden_at_targets(self.model, rows, share_prefix, report=result.ways)
                cuts = {key: take(value, index, prepared.total) for key, value in extras.items()}
                lengths = [prepared.lengths[i] for i in batch]
                found.append(self._values(needs, hidden, ids[index.to(ids.device)], heat[index], lengths, chunk, cuts, grad))
        _gather(result, found, batches or [[]], prepared, needs)
        return result

    def _values(
        self,
        needs: list[Need],
        hidden: Tensor,
        ids: Tensor,
        heat: Tensor,
        lengths: list[int],
        chunk: int,
        extras: Mapping[str, Any],
        grad: bool,
    ) -> dict[str, Any]:
        """All needs of one batch: need.key -> Tensor [tokens] or list."""
        fns: dict[str, dict[str, Any]] = {kind: {n.key: n.what.fn for n in needs if n.kind == kind} for kind in ("term", "reduce")}  # type: ignore[union-attr]
        want = {need.kind for need in needs} & {"logp", "entropy"}
        values = token_values(
            self.head,
            hidden,
            ids,
            want,
            terms=fns["term"],
            extras={key: value for key, value in extras.items() if key in fns["term"]},
            reduces=fns["reduce"],
            temperature=1.0 if bool((heat == 1).all()) else heat.to(torch.promote_types(self.dtype, torch.float32)).to(hidden.device),
            chunk=chunk,
            grad=grad,
            segments=lengths,
        )
        named = {need.key: values[need.kind if need.kind in want else need.key] for need in needs if need.kind != "value"}
        if any(need.kind == "value" for need in needs):
            assert self.value_head is not None
            value = self.value_head(hidden).reshape(len(ids))
            named.update({need.key: value for need in needs if need.kind == "value"})
        return named

    @property
    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise UserError(f"the policy {self.name!r} has no tokenizer; load one, or work on token ids")
        return self.tokenizer


def _gather(result: Measured, found: list[dict[str, Any]], batches: list[list[int]], prepared: Prepared, needs: list[Need]) -> None:
    """Batches back into flat order (tensors) and rollout order (lists)."""
    index = torch.cat([prepared.flat_index(batch) for batch in batches])
    back = None if bool((index == torch.arange(len(index))).all()) else torch.argsort(index)
    owners = [i for batch in batches for i in batch]
    for need in needs:
        parts = [values[need.key] for values in found]
        if need.kind == "reduce":
            results = [value for part in parts for value in part]
            result[need.key] = [value for _, value in sorted(zip(owners, results), key=lambda pair: pair[0])]
        else:
            joined = torch.cat(parts) if len(parts) > 1 else parts[0]
            result[need.key] = joined if back is None else joined.index_select(0, back.to(joined.device))
