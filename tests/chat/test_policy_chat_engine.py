"""PolicyChat on the real engine: what is recorded is what was sampled, and a two-role episode repeats bit for bit."""

import asyncio
import itertools

import numpy as np
import pytest
import torch

from burnish.chat.in_process import PolicyChat
from burnish.inference.engine import Engine
from burnish.inference.session import AsyncEngine
from burnish.models import tiny
from burnish.models import tokenizer as tokenizers
from burnish.models.policy import Policy
from burnish.records import Sampling

END = "<|im_end|>"


def _policy(template="chatml"):
    tokenizer = tokenizers.byte_level(template)
    model = tiny.make("qwen3", tokenizer, hidden=32, layers=1, max_length=400)
    return Policy(model, tokenizer)


def _engine(policy):
    return AsyncEngine(Engine(policy.model, policy.tokenizer, policy.eos_ids))


async def _episode(policy, seed):
    """Two roles talk in turn, and each also asks itself aside, at the same time."""
    engine, recorder = _engine(policy), []
    red, blue = (
        PolicyChat(policy, engine, Sampling(), agent=name, seed=seed, recorder=recorder, max_new_tokens=6) for name in ("red", "blue")
    )
    views = {red: [{"role": "user", "content": "go"}], blue: []}
    for _ in range(3):
        for speaker, listener in ((red, blue), (blue, red)):
            reply, _ = await asyncio.gather(speaker.complete(views[speaker]), speaker.complete([{"role": "user", "content": "aside"}]))
            views[speaker].append(reply.message)
            views[listener].append({"role": "user", "content": reply.text})
    return recorder


@pytest.fixture(scope="module")
def recorded():
    torch.set_num_threads(1)
    policy = _policy()
    return policy, asyncio.run(_episode(policy, 3)), asyncio.run(_episode(policy, 3)), asyncio.run(_episode(policy, 4))


def test_a_two_role_episode_repeats_bit_for_bit(recorded):
    _, one, two, other = recorded
    assert [turn.to_dict() for turn in one] == [turn.to_dict() for turn in two]
    assert [turn.output_ids for turn in one] != [turn.output_ids for turn in other]
    assert [turn.agent for turn in one].count("red") == [turn.agent for turn in one].count("blue") == 6


def test_recorded_logprobs_are_the_models_own_for_exactly_these_ids(recorded):
    policy, turns, _, _ = recorded
    for turn in turns:
        ids = torch.tensor([turn.context_ids + turn.output_ids])
        with torch.no_grad():
            logp = torch.log_softmax(policy.model(ids).logits[0, :-1].double(), -1)
        own = logp[len(turn.context_ids) - 1 :].gather(1, ids[0, len(turn.context_ids) :, None])[:, 0].numpy()
        np.testing.assert_allclose(turn.logprobs, own, atol=2e-5)


def test_each_role_extends_its_own_context(recorded):
    policy, turns, _, _ = recorded
    aside = policy.tokenizer.apply_chat_template([{"role": "user", "content": "aside"}], add_generation_prompt=True)["input_ids"]
    for name in ("red", "blue"):
        main = [turn for turn in turns if turn.agent == name and turn.context_ids != aside]
        assert len(main) == 3
        for before, after in itertools.pairwise(main):
            whole = before.context_ids + before.output_ids
            assert after.context_ids[: len(whole)] == whole


def test_several_end_ids_end_a_reply_and_are_no_content():
    policy = _policy()
    for token in ("<|im_end|>", "<|eos|>"):
        with torch.no_grad():  # whatever comes in, this token comes out
            head = policy.model.get_output_embeddings().weight
            head.zero_()
            norm = policy.model.model.norm.weight
            norm.zero_()
        policy.model.get_output_embeddings().bias = torch.nn.Parameter(torch.zeros(len(head)))
        policy.model.get_output_embeddings().bias.data[policy.tokenizer.convert_tokens_to_ids(token)] = 50.0
        reply = asyncio.run(PolicyChat(policy, _engine(policy)).complete([{"role": "user", "content": "q"}]))
        assert (reply.text, reply.stop, reply.usage.completion_tokens) == ("", "eos", 1)
        assert reply.turn.output_ids == [policy.tokenizer.convert_tokens_to_ids(token)]


def test_a_cancelled_call_gives_its_slot_back():
    policy = _policy()

    async def use():
        engine = _engine(policy)
        chat = PolicyChat(policy, engine, max_new_tokens=300)
        task = asyncio.create_task(chat.complete([{"role": "user", "content": "q"}]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not engine.engine.busy
        return await chat.complete([{"role": "user", "content": "q"}], max_new_tokens=2), chat

    reply, chat = asyncio.run(use())
    assert len(reply.turn.output_ids) <= 2
    assert chat.recorder == [reply.turn]
