"""What a tokenizer has decoded never reaches an encode: not in thinkers, agents, scoring, training, evaluation, checks or reports."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.recipes.check import check
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.reports.report import write_report
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.rewards.weighted import Weighted
from burnish.rl.rollouts.agent import Agent

WINDOW = 5
"""So many characters in a row, decoded and never given by a user before, are taken for the model's own words wherever they turn up."""


class ReEncoded(AssertionError):
    pass


class Tainted(str):
    """Text that came out of a decode. Slices, joins and templates lose the class; the windows of `Watch` see those."""

    def __add__(self, other: str) -> Tainted:
        return Tainted(str(self) + other)

    def __radd__(self, other: str) -> Tainted:
        return Tainted(other + str(self))

    def __getitem__(self, key: Any) -> Tainted:
        return Tainted(str(self)[key])

    def strip(self, *rest: Any) -> Tainted:
        return Tainted(str(self).strip(*rest))

    def replace(self, *rest: Any) -> Tainted:
        return Tainted(str(self).replace(*rest))


class Watch:
    """Stands before every tokenizer's decode and encode; `decoded` and `encoded` count the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = self.encoded = 0
        self.given: set[str] = set()
        self.said: set[str] = set()
        for name in ("decode", "batch_decode"):
            monkeypatch.setattr(PreTrainedTokenizerBase, name, self._decoding(getattr(PreTrainedTokenizerBase, name)))
        for name in ("__call__", "encode", "apply_chat_template"):
            monkeypatch.setattr(PreTrainedTokenizerBase, name, self._encoding(getattr(PreTrainedTokenizerBase, name), name))

    def _decoding(self, original: Any) -> Any:
        def decode(tokenizer: Any, *args: Any, **options: Any) -> Any:
            found = original(tokenizer, *args, **options)
            self.decoded += 1
            texts = [found] if isinstance(found, str) else found
            for text in texts:
                self.said |= windows(text) - self.given
            return Tainted(found) if isinstance(found, str) else [Tainted(text) for text in texts]

        return decode

    def _encoding(self, original: Any, name: str) -> Any:
        def encode(tokenizer: Any, given: Any, *args: Any, **options: Any) -> Any:
            if name == "apply_chat_template" and not options.get("tokenize", True):
                return original(tokenizer, given, *args, **options)  # text for text: whoever encodes it is watched
            self.encoded += 1
            for text in texts_in(given):
                known = windows(text) & self.said
                if known or (isinstance(text, Tainted) and text.strip()):
                    raise ReEncoded(f"{text!r} reaches {name}: {sorted(known)[:3]} were decoded before")
                self.given |= windows(text)
            return original(tokenizer, given, *args, **options)

        return encode


def windows(text: str) -> set[str]:
    """Stretches of plain text; special tokens, which templates write too, part them."""
    parts = re.split(r"<\|\w+\|>|\[/?INST\]|</?think>", str(text))
    return {part[place : place + WINDOW] for part in parts for place in range(len(part) - WINDOW + 1)}


def texts_in(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, dict):
        return [text for value in given.values() for text in texts_in(value)]
    return [text for value in given for text in texts_in(value)] if isinstance(given, list | tuple) else []


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    torch.set_num_threads(1)
    return Watch(monkeypatch)


def policy(template: str = "chatml") -> Policy:
    words = tokenizer.byte_level(template)
    return Policy(tiny.make("qwen3", words, hidden=32, layers=1, max_length=512), words)


def test_the_watch_sees_every_way_from_a_decode_to_an_encode(watch: Watch) -> None:
    one = policy()
    said = one.decode([120, 7, 119, 9, 118, 11, 117])
    message = {"role": "assistant", "content": said}
    ways: list[Any] = [
        lambda: one.encode(said),
        lambda: one.encode(said[2:4]),
        lambda: one.encode("Q: " + said),
        lambda: one.encode(f"Q: {said}!"),
        lambda: one.encode([message]),
        lambda: one.tokenizer.encode("".join([said, "x"])),
        lambda: one.tokenizer([["a"], [said.upper().lower()]], is_split_into_words=True),
        lambda: one.tokenizer(one.tokenizer.apply_chat_template([message], tokenize=False)),
    ]
    for way in ways:
        with pytest.raises(ReEncoded):
            way()
    assert one.encode("a user's own words") == list(b"a user's own words")


def letters(prompts: Any, completions: Any, answer: Any, **columns: Any) -> list[float]:
    texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
    return [sum(char.isascii() for char in text) / (1 + len(text)) + (answer[0] in text) for text in texts]


REWARD: Any = Weighted([TRLReward(letters)])

ROWS: dict[str, list[dict[str, Any]]] = {
    "text": [{"prompt": f"Say {n}{n} <|im_end|> =", "answer": str(n)} for n in range(8)],
    "chat": [{"prompt": [{"role": "user", "content": f"Say {n}{n}!"}], "answer": str(n)} for n in range(8)],
}


def config(tmp_path: Any, **rl: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "output": str(tmp_path / "run"),
            "threads": 1,
            "eval": {"rows": 2, "steps": 1, "samples": 2},
            "sampling": {"stop": ["zq"]},
            "rl": {"steps": 2, "prompts_per_step": 2, "group_size": 2, "max_new_tokens": 9, "learning_rate": 0.01, "filters": [], **rl},
        }
    )


@pytest.mark.parametrize("kind", ROWS)
def test_training_evaluation_check_and_report(watch: Watch, tmp_path: Any, kind: str) -> None:
    one, settings = policy(), config(tmp_path)
    given: dict[str, Any] = {"model": one.model, "tokenizer": one.tokenizer, "data": ROWS[kind], "reward": REWARD}
    check(settings, **given)
    run = train(settings, **given)["run"]
    page = write_report(run.path)
    assert page.stat().st_size > 0
    assert len(run.metrics()) == 3
    assert watch.decoded > 30
    assert watch.encoded > 8


async def talk(item: Any, chat: Any) -> str:
    """Several rounds over its own growing history, a tool's answer, an edited history, and a call on the side."""
    messages = list(item.prompt)
    for number in range(3):
        reply = await chat.complete(messages, max_new_tokens=8)
        messages += [reply.message, {"role": ("user", "tool")[number % 2], "content": f"observation {number}"}]
    await chat.complete([{"role": "user", "content": "aside"}], max_new_tokens=3)
    cut = [messages[0], *messages[3:]]  # the first exchange is forgotten: no earlier call's text begins like this
    last = await chat.complete(cut, max_new_tokens=5)
    return last.text


@pytest.mark.parametrize("template", ["chatml", "llama3", "mistral", "thinking"])
def test_agents_keep_the_ids_of_their_own_words(watch: Watch, tmp_path: Any, template: str) -> None:
    one = policy(template)
    if template == "thinking":  # every prompt ends with some thinking, which later prompts leave out
        one.tokenizer.chat_template = one.tokenizer.chat_template.replace("<think>\\n\\n</think>\\n\\n", "<think>x</think>").replace(
            "enable_thinking is defined and enable_thinking is false", "true"
        )
    settings = config(tmp_path, thinker="single")
    rows, source = ROWS["chat"], Agent(talk)
    turns = played(settings, one, rows, source)
    assert len(turns) == 8
    for recorded in turns:
        assert len(recorded) == 5
        for turn in recorded[1:3]:  # the words of every earlier reply stand in the context as the ids that were sampled
            earlier = recorded[: recorded.index(turn)]
            for before in earlier:
                ids = [token for token in before.output_ids if token < 256]
                assert spelled(ids) in spelled([token for token in turn.context_ids if token < 256])
    assert watch.decoded > 40


def played(settings: TrainConfig, one: Policy, rows: list[dict[str, Any]], thinker: Any) -> list[list[Any]]:
    """One batch of episodes through the real Source: the turns of each rollout."""
    from burnish.data.formats import load_rows
    from burnish.recipes.rl import build_source
    from burnish.recipes.train import items_of
    from burnish.rl.measure import Measurer
    from burnish.rl.objectives import presets

    items = items_of(settings, one, load_rows(rows), 4)
    source = build_source(settings, one, items, Measurer({"policy": one}), presets.make("grpo"), REWARD)
    source.thinker = thinker
    batch = source.collect(1, 0)
    errors = [rollout.outcome for group in batch.groups for rollout in group.rollouts if rollout.stop == "error"]
    assert not errors
    return [rollout.turns for group in batch.groups for rollout in group.rollouts]


def spelled(ids: list[int]) -> bytes:
    return bytes(ids).strip()
