"""PolicyChat against a stand-in engine that says what it is told: contexts, records, seeds, failures."""

import asyncio
import dataclasses

import numpy as np
import pytest

from burnish.chat.in_process import ContextFull, PolicyChat
from burnish.models import tokenizer as tokenizers
from burnish.records import Sampling, Turn
from burnish.runs.errors import UserError


@dataclasses.dataclass
class FakePolicy:
    tokenizer: object
    max_length: int = 10_000

    @property
    def eos_ids(self):
        return tokenizers.end_ids(self.tokenizer)


@dataclasses.dataclass
class FakeEngine:
    """replies: token ids by call; delays: event-loop turns each call takes."""

    replies: list
    delays: tuple = ()
    freed: int = 0
    made: list = dataclasses.field(default_factory=list)

    def prefill(self, ids, **settings):
        self.made.append((list(ids), settings))
        return len(self.made) - 1

    async def decode(self, handle):
        for _ in range(self.delays[handle] if self.delays else 0):
            await asyncio.sleep(0)
        ids, settings = self.made[handle]
        out = self.replies[handle]
        return Turn(ids, list(out), np.zeros(len(out)), sampling=settings["sampling"], stop="eos")

    async def free(self, handle):
        self.freed += 1


def _make(template, *replies, delays=(), **options):
    tokenizer = tokenizers.byte_level(template)
    engine = FakeEngine(
        [tokenizer(text, add_special_tokens=False)["input_ids"] if isinstance(text, str) else text for text in replies], delays
    )
    return tokenizer, engine, PolicyChat(FakePolicy(tokenizer), engine, **options)


def _ask(text):
    return {"role": "user", "content": text}


END = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "<|eos|>"}


@pytest.mark.parametrize("template", END)
def test_own_ids_are_kept_where_the_history_extends(template):
    end = END[template]
    tokenizer = tokenizers.trained(["first second"] * 9, 300, template)
    odd = [*(tokenizer.convert_tokens_to_ids(c) for c in "Ġfirst"), tokenizer.convert_tokens_to_ids(end)]
    assert len(odd) > len(tokenizer(" first" + end)["input_ids"])  # the same text, but never what the tokenizer would make of it
    engine = FakeEngine([odd, tokenizer(" second" + end)["input_ids"]])
    chat = PolicyChat(FakePolicy(tokenizer), engine)
    messages = [_ask("q1")]
    one = asyncio.run(chat.complete(messages))
    messages += [one.message, _ask("q2")]
    two = asyncio.run(chat.complete(messages))
    assert (one.text, two.text) == (" first", " second")
    if template in ("llama3", "gemma"):  # these trim the reply: what stands in the history is not what was written
        assert two.turn.context_ids[len(one.turn.context_ids) :][: len(odd) - 1] == odd[1:]
    else:
        assert two.turn.context_ids[: len(one.turn.context_ids) + len(odd)] == one.turn.context_ids + odd
    assert tokenizer.decode(two.turn.context_ids) == chat.render(messages)
    assert chat.recorder == [one.turn, two.turn]
    assert one.usage.prompt_tokens == len(one.turn.context_ids)
    assert chat.usage.completion_tokens == len(odd) + len(two.turn.output_ids)
    assert chat.usage.calls == 2


def test_undecodable_output_is_kept_and_never_encoded_again():
    _tokenizer, _engine, chat = _make("chatml", [0xE9, 0xFF, 65], "ok<|im_end|>")
    encoded = []
    encode = chat._history.encode
    chat._history.encode = lambda text: encoded.append(text) or encode(text)
    one = asyncio.run(chat.complete([_ask("q")]))
    assert one.text == "\ufffd\ufffdA"
    two = asyncio.run(chat.complete([_ask("q"), one.message, _ask("r")]))
    ids = [*one.turn.context_ids, 233, 255, 65]
    assert two.turn.context_ids[: len(ids)] == ids
    assert encoded[1].startswith("<|im_end|>\n<|im_start|>user\nr")  # only the new text


def test_a_template_that_drops_earlier_thinking_makes_a_context_of_its_own():
    tokenizer, _engine, chat = _make("thinking", "<think>\nhm\n</think>\n\n4<|im_end|>", "<think>\n</think>\n\n5<|im_end|>", "6<|im_end|>")
    one = asyncio.run(chat.complete([_ask("q1")]))
    assert one.message == {"role": "assistant", "content": "4", "reasoning_content": "hm"}
    # inside one tool episode nothing is dropped: the context extends the call before it
    tool = [_ask("q1"), one.message, {"role": "tool", "content": "ok"}]
    two = asyncio.run(chat.complete(tool))
    whole = one.turn.context_ids + one.turn.output_ids
    assert two.turn.context_ids[: len(whole)] == whole
    # after the next question the template leaves the thinking out
    three = asyncio.run(chat.complete([_ask("q1"), one.message, _ask("q2")]))
    text = tokenizer.decode(three.turn.context_ids)
    assert "hm" not in text
    assert text == chat.render([_ask("q1"), one.message, _ask("q2")])


def test_an_answer_keeps_its_ids_where_the_thinking_before_it_is_dropped_or_the_conversation_cut():
    tokenizer = tokenizers.trained(["first second"] * 9, 300, "thinking")
    thought, end = tokenizer("<think>\nhm\n</think>\n\n")["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")
    said = [tokenizer.convert_tokens_to_ids(c) for c in "first<|im_end|>"]  # the special token spelled out: encoded, it would be one
    later = [tokenizer.convert_tokens_to_ids(c) for c in "second"]
    engine = FakeEngine([[*thought, *said, end], [*later, end], [end], [end]])
    chat = PolicyChat(FakePolicy(tokenizer), engine)
    one = asyncio.run(chat.complete([_ask("q1")]))
    assert one.message == {"role": "assistant", "content": "first<|im_end|>", "reasoning_content": "hm"}
    messages = [_ask("q1"), one.message, _ask("q2")]
    two = asyncio.run(chat.complete(messages))
    ids = two.turn.context_ids
    assert tokenizer.decode(ids) == chat.render(messages)
    assert "hm" not in tokenizer.decode(ids)
    assert ids.count(end) == 3  # what closes the three messages, and nothing the model only spelled out
    at = len(one.turn.context_ids)
    assert ids[at : at + len(said)] == said
    cut = [_ask("q2"), two.message, _ask("q3"), one.message, _ask("q4")]
    three = asyncio.run(chat.complete(cut)).turn.context_ids
    assert tokenizer.decode(three) == chat.render(cut)
    assert three.count(end) == 5
    assert any(three[place : place + len(later)] == later for place in range(len(three)))
    # An edited copy is the agent's own text, and is encoded like any other.
    edited = [_ask("q1"), {**one.message, "content": "first"}, _ask("q2")]
    assert asyncio.run(chat.complete(edited)).turn.context_ids == tokenizer(chat.render(edited), add_special_tokens=False)["input_ids"]


def test_a_prompt_that_opens_the_thinking():
    _, _, chat = _make("thinking", "hm</think>7<|im_end|>")
    chat.policy.tokenizer.chat_template += "{{- '<think>\\n' }}"
    reply = asyncio.run(chat.complete([_ask("q")]))
    assert reply.message == {"role": "assistant", "content": "7", "reasoning_content": "hm"}


def test_concurrent_calls_of_two_roles_keep_their_order_seeds_and_names():
    recorder = []
    tokenizer, engine, one = _make("chatml", *["x<|im_end|>"] * 6, delays=(5, 0, 3, 4, 1, 0), recorder=recorder, agent="red", seed=7)
    two = PolicyChat(one.policy, engine, agent="blue", seed=7, recorder=recorder, train=False)

    async def use():
        return await asyncio.gather(*(chat.complete([_ask(f"{n}")]) for n, chat in enumerate([one, two, one, two, one, two])))

    asyncio.run(use())
    asked = {agent: [tokenizer.decode(turn.context_ids) for turn in recorder if turn.agent == agent] for agent in ("red", "blue")}
    assert [[t.split("user\n")[1][0] for t in asked[agent]] for agent in ("red", "blue")] == [["0", "2", "4"], ["1", "3", "5"]]
    assert [turn.train for turn in recorder if turn.agent == "blue"] == [False] * 3
    seeds = [settings["seed"] for _, settings in engine.made]
    assert len(set(seeds)) == 6
    assert engine.freed == 6


def test_options_cancellation_and_refusals():
    _, engine, chat = _make("chatml", "a<|im_end|>", "b<|im_end|>", delays=(0, 10**6), sampling=Sampling(temperature=0.5))
    asyncio.run(chat.complete([_ask("q")], temperature=0.0, max_new_tokens=3, seed=11))
    assert engine.made[0][1] == {"sampling": Sampling(temperature=0.0), "seed": 11, "max_new_tokens": 3, "agent": "policy"}

    async def cancel():
        task = asyncio.create_task(chat.complete([_ask("q")]))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert engine.freed == 2
    assert len(chat.recorder) == 1
    with pytest.raises(UserError, match="chat option 'temprature' is unknown; did you mean 'temperature'"):
        asyncio.run(chat.complete([_ask("q")], temprature=1))
    chat.policy.max_length = 5
    with pytest.raises(ContextFull, match="the model's context 5"):
        asyncio.run(chat.complete([_ask("q")]))
    _, _, gemma = _make("gemma")
    with pytest.raises(UserError, match="the chat template refuses the messages: System role not supported"):
        asyncio.run(gemma.complete([{"role": "system", "content": "s"}]))
    _, _, bare = _make(None)
    with pytest.raises(UserError, match="no chat template"):
        asyncio.run(bare.complete([_ask("q")]))
