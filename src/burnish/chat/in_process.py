"""PolicyChat: a ChatModel on a policy in this process. Every call is recorded as a Turn with exactly the ids that were seen and sampled."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.chat.history import History
from burnish.chat.messages import Message, check, check_tools
from burnish.chat.model import Reply, Usage
from burnish.chat.parse import THINKING, parse_reply
from burnish.models import template
from burnish.records import Sampling, Turn
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.seeds import seed_for

_SAMPLING = tuple(field.name for field in dataclasses.fields(Sampling))
OPTIONS = (*_SAMPLING, "max_new_tokens", "seed")


class ContextFull(UserError):
    """The conversation leaves no room for a single token; an episode ends here as truncated."""


class PolicyChat:
    """One role of one episode: make one PolicyChat for each (they may share the engine, the policy and the recorder).

    policy: a models.policy.Policy. engine: an inference.session.AsyncEngine on the same weights. sampling, max_new_tokens, seed: the
    defaults of each call. agent: the name on the turns. train: False keeps its turns out of the loss. recorder: a list that receives the
    turns, those of one chat in the order in which the calls were made, whichever finished first. template_args: handed to the chat
    template. thinking: the marks to take out of the reply into `reasoning_content`, or None.

    The seed of call i is made of (seed, agent, i), so an agent whose calls are made in a fixed order repeats bit for bit.
    """

    def __init__(
        self,
        policy: Any,
        engine: Any,
        sampling: Sampling | None = None,
        *,
        agent: str = "policy",
        seed: int = 0,
        recorder: list[Turn] | None = None,
        template_args: Mapping[str, Any] | None = None,
        max_new_tokens: int = 256,
        thinking: tuple[str, str] | None = THINKING,
        train: bool = True,
    ) -> None:
        self.policy, self.engine, self.sampling = policy, engine, sampling or Sampling()
        self.agent, self.seed, self.max_new_tokens, self.train, self.thinking = agent, seed, max_new_tokens, train, thinking
        self.template_args = dict(template_args or {})
        self.recorder: list[Turn] = [] if recorder is None else recorder
        self.usage = Usage(calls=0)
        self._calls = 0
        self._own: list[tuple[int, Turn]] = []
        tokenizer = policy.tokenizer
        self._history = History(
            lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
            lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        )
        source = str(getattr(tokenizer, "chat_template", "") or "")
        # Some templates read the thinking from `reasoning_content`, others split it off the content themselves.
        self._joins_thinking = thinking is not None and "reasoning_content" not in source and thinking[1] in source

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Reply:
        """One reply. options: the fields of Sampling, `max_new_tokens` and `seed`, for this call only.

        The reply's content is the output without its end-of-sequence token, thinking and tool calls taken out. Raises UserError for bad
        messages, an unknown option or a missing template, and ContextFull where no token fits any more.
        """
        number, self._calls = self._calls, self._calls + 1
        sampling, limit, seed = self._settings(options, number)
        tools = check_tools(tools)
        text = self.render(messages, tools)
        ids, _ = self._history.context(text, messages, lambda marked: self.render(marked, tools))
        context = self.policy.max_length
        if context is not None and len(ids) >= context:
            raise ContextFull(f"{self.agent}: the conversation has {len(ids)} tokens and the model's context {context}")
        turn = await self._generate(ids, sampling, limit if context is None else min(limit, context - len(ids)), seed)
        message = parse_reply(self._text(turn, sampling), self.thinking, self._starts_open(text), bool(tools))
        self._history.add(text + self._decode(ids, turn.output_ids), ids + turn.output_ids, turn.output_ids, message)
        self._record(number, turn)
        usage = Usage(len(ids), len(turn.output_ids))
        self.usage = self.usage + usage
        return Reply(message, usage, turn, turn.stop)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The text of the conversation with the generation prompt, as the template writes it."""
        shown = [self._join(message) for message in check(messages)]
        return template.render_text(self.policy.tokenizer, shown, tools, **self.template_args)

    def _join(self, message: Message) -> Message:
        if (
            not self._joins_thinking
            or self.thinking is None
            or "reasoning_content" not in message
            or not isinstance(message["content"], str)
        ):
            return message
        rest = {key: value for key, value in message.items() if key != "reasoning_content"}
        opening, closing = self.thinking
        return rest | {"content": f"{opening}\n{message['reasoning_content']}\n{closing}\n\n{message['content']}"}

    def _settings(self, options: dict[str, Any], number: int) -> tuple[Sampling, int, int]:
        for name in options:
            if name not in OPTIONS:
                raise UserError(f"chat option {name!r} is unknown; {did_you_mean(name, OPTIONS)}")
        changed = {name: options[name] for name in _SAMPLING if name in options}
        sampling = dataclasses.replace(self.sampling, **changed) if changed else self.sampling
        limit = options.get("max_new_tokens", self.max_new_tokens)
        if limit < 1:
            raise UserError(f"chat option max_new_tokens is {limit}; it must be at least 1")
        return sampling, limit, options["seed"] if "seed" in options else seed_for(self.seed, self.agent, number)

    async def _generate(self, ids: list[int], sampling: Sampling, limit: int, seed: int) -> Turn:
        handle = await _value(self.engine.prefill(ids, sampling=sampling, seed=seed, max_new_tokens=limit, agent=self.agent))
        try:
            turn: Turn = await _value(self.engine.decode(handle))
        finally:  # a cancelled call gives its slot back too
            await _value(self.engine.free(handle))
        turn.agent, turn.train = self.agent, self.train
        return turn

    def _text(self, turn: Turn, sampling: Sampling) -> str:
        """The output as text without the token that ended it; other special tokens stay visible, so that the text is all that was said."""
        ends = {*self.policy.eos_ids, *sampling.stop_ids}
        ids = turn.output_ids[:-1] if turn.output_ids and turn.output_ids[-1] in ends else turn.output_ids
        return self._decode(turn.context_ids, ids)

    def _decode(self, context: list[int], ids: list[int]) -> str:
        """The text of `ids` standing after `context`: some tokenizers write a leading space only inside a text."""
        decode = self.policy.tokenizer.decode
        tail = context[-8:]
        before = decode(tail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        whole = decode(tail + list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if whole.startswith(before):
            return whole[len(before) :]
        return decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _starts_open(self, text: str) -> bool:
        return self.thinking is not None and text.rstrip().endswith(self.thinking[0])

    def _record(self, number: int, turn: Turn) -> None:
        """Puts the turn before this chat's first turn of a later call, if one was quicker."""
        later = next((place for place, (other, _) in enumerate(self._own) if other > number), None)
        if later is None:
            self.recorder.append(turn)
            self._own.append((number, turn))
            return
        place = next((i for i, one in enumerate(self.recorder) if one is self._own[later][1]), len(self.recorder))
        self.recorder.insert(place, turn)
        self._own.insert(later, (number, turn))


async def _value(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
