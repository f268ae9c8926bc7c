"""A policy of this process as a judge: a ChatModel that reads each conversation anew, with weights that stay as they are."""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from burnish.chat.in_process import PolicyChat
from burnish.chat.messages import check
from burnish.chat.model import Reply
from burnish.inference.engine import Engine
from burnish.inference.session import AsyncEngine
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.runs.errors import UserError, did_you_mean

ANSWER = 16
"""Tokens of an answer: the longest grade, where every letter is a token, and its end."""


class FrozenChat:
    """policy: read and never trained. max_new_tokens: of an answer, where the call says nothing (a judge that thinks needs more).

    live: the policy is the one in training, so that its weights move. Raises UserError for a conversation that is longer than the
    model's context: nothing is cut.
    """

    def __init__(self, policy: Policy, max_new_tokens: int = ANSWER, live: bool = False, template_args: Mapping[str, Any] | None = None):
        self.policy, self.max_new_tokens, self.live, self.template_args = policy, max_new_tokens, live, dict(template_args or {})
        self._engine: Engine | None = None
        self._session: tuple[Any, AsyncEngine] | None = None
        self._version = 0
        self._id = ""

    @property
    def id(self) -> str:
        """A hash of the weights: the same weights give the same grades."""
        if not self._id:
            self._id = f"policy:{digest(self.policy.model)}"
        return self._id

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Reply:
        """One reply; see `PolicyChat.complete` for the options."""
        limit = int(options.get("max_new_tokens") or self.max_new_tokens)
        size, context = len(self.policy.encode(check(messages), **self.template_args)), self.policy.max_length
        if context is not None and size + limit > context:
            raise UserError(
                f"judge in this process: text and instruction have {size} tokens, the answer {limit}, and its context is {context}; "
                "take one with a longer context or shorten rl.max_new_tokens: a part of a text is never judged for the whole"
            )
        chat = PolicyChat(self.policy, self._here(), max_new_tokens=limit, template_args=self.template_args, train=False)
        return await chat.complete(messages, tools, **{**options, "max_new_tokens": limit})

    def _here(self) -> AsyncEngine:
        """The engine's view for the running loop; every batch of questions runs on a loop of its own."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._session[0] is not loop:
            if self._engine is None:
                self._engine = Engine(self.policy.model, self.policy.tokenizer, tuple(self.policy.eos_ids), mode="fast")
            if self.live:
                self._version += 1
                self._engine.refresh(self._version)
            self._session = (loop, AsyncEngine(self._engine))
        return self._session[1]


def freeze(policy: Policy) -> Policy:
    """A copy of the policy as it is now. Weights that are frozen anyway (under an adapter) are shared."""
    shared: dict[int, Any] = {id(weight): weight for weight in policy.model.parameters() if not weight.requires_grad}
    twin = copy.deepcopy(policy.model, shared).eval()
    for weight in twin.parameters():
        weight.requires_grad_(False)
    return Policy(twin, policy.tokenizer, name="judge")


def load_frozen(spec: Mapping[str, Any], where: str) -> FrozenChat:
    """The judge of {"policy": folder or hub id}, with adapter, dtype, device, max_new_tokens and template_args where wanted."""
    known = ("policy", "adapter", "dtype", "device", "max_new_tokens", "template_args")
    for name in spec:
        if name not in known:
            raise UserError(f"{where}: unknown argument {name!r}; {did_you_mean(str(name), known)}")
    if isinstance(spec["policy"], Policy):
        policy = spec["policy"]
    else:
        policy = Policy(*load_model(spec["policy"], spec.get("dtype"), spec.get("adapter")), name="judge")
    if spec.get("device") is not None:
        policy.model.to(spec["device"])
    for weight in policy.model.parameters() if not isinstance(spec["policy"], Policy) else ():
        weight.requires_grad_(False)
    return FrozenChat(policy, int(spec.get("max_new_tokens") or ANSWER), template_args=spec.get("template_args"))


@torch.no_grad()
def digest(model: torch.nn.Module) -> str:
    """Of all weights."""
    found = hashlib.blake2b(digest_size=8)
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return found.hexdigest()
