"""Backends: the built-in engine behind `submit`, the session verbs on any backend, vLLM's arguments and answers, and refusals."""

import asyncio
import importlib.util
import json
import types

import pytest
import torch
from transformers import AutoModelForCausalLM

import burnish
from burnish.chat.in_process import PolicyChat
from burnish.inference.backends import protocol, vllm
from burnish.inference.backends.built_in import BuiltIn
from burnish.inference.backends.loop_thread import LoopThread
from burnish.inference.backends.protocol import Chunk, Request, collect, make_backend
from burnish.inference.backends.verbs import SubmitEngine
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.inference.session import AsyncEngine
from burnish.models import lora, tiny, tokenizer
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.refusals import refuse_impossible
from burnish.records import Sampling
from burnish.runs.config import build
from burnish.runs.errors import UserError

TOKENS = tokenizer.byte_level()
PROMPT = [72, 101, 108, 108, 111]

# A backend of the user's own that has only what plain sampling needs: a real engine behind `submit` and nothing else.
OWN = """
from burnish.inference.backends.built_in import BuiltIn

class Plain(BuiltIn):
    capabilities = frozenset({"token_ids", "logprobs", "load_weights"})

class Mute(BuiltIn):
    capabilities = frozenset({"token_ids", "load_weights"})

class Odd(BuiltIn):
    capabilities = frozenset({"telepathy"})

class NoSubmit:
    capabilities = frozenset()
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def engine():
    return Engine(tiny.make("llama", seed=3), TOKENS, slots=8)


def test_submit_is_the_session_engine_bit_for_bit():
    sampling, seeds = Sampling(temperature=0.9, stop_ids=(65,)), (5, 6, 7)
    (expected,) = generate(engine(), [PROMPT], sampling, n=3, max_new_tokens=12, seeds=[seeds])
    found = asyncio.run(collect(BuiltIn(engine()), Request(PROMPT, 3, sampling, 12, seeds)))
    assert [turn.to_dict() for turn in found] == [turn.to_dict() for turn in expected]


def test_closing_a_stream_gives_the_slots_back():
    backend = BuiltIn(engine())

    async def some():
        stream = backend.submit(Request(PROMPT, 4, max_new_tokens=200))
        first = await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0)
        return first

    assert len(asyncio.run(some()).token_ids) == 1
    assert not backend._bound.engine.busy


def test_the_verbs_of_plain_sampling_and_the_refusal_of_others():
    sampling = Sampling()

    async def turns(session):
        first = session.prefill(PROMPT, sampling=sampling, seed=11, max_new_tokens=8)
        rows = [first, *session.fork(first, 2, seeds=[12, 13])]
        return [turn.to_dict() for turn in await asyncio.gather(*(session.decode(row) for row in rows))]

    backend = BuiltIn(engine())
    assert asyncio.run(turns(SubmitEngine(backend))) == asyncio.run(turns(AsyncEngine(engine())))

    async def cut(session, seen):
        row = session.prefill(PROMPT, seed=11, max_new_tokens=8)
        return await session.decode(row, stream=lambda event: seen.append(event.token) or len(seen) == 3)

    seen, other = [], []
    assert asyncio.run(cut(SubmitEngine(backend), seen)).to_dict() == asyncio.run(cut(AsyncEngine(engine()), other)).to_dict()
    assert seen == other
    assert len(seen) == 3
    session = SubmitEngine(backend)
    row = session.prefill(PROMPT, max_new_tokens=1)
    with pytest.raises(UserError, match="needs the capability inject"):
        session.append(row, [1])
    with pytest.raises(UserError, match="needs the capability fork"):
        session.merge([row])
    with pytest.raises(UserError, match="needs the capability inject"):
        session.prefill(embeds=torch.zeros(2, 64))
    asyncio.run(session.decode(row))
    with pytest.raises(UserError, match="needs the capability fork"):
        session.fork(row, 2)


def test_a_chat_on_a_backend_is_the_chat_on_the_engine():
    model = tiny.make("llama", seed=3)
    policy = Policy(model, TOKENS)
    messages = [{"role": "user", "content": "hi"}]

    def reply(session):
        return asyncio.run(PolicyChat(policy, session, seed=4, max_new_tokens=6).complete(messages)).turn.to_dict()

    backend = BuiltIn()
    backend.bind(policy)
    assert reply(SubmitEngine(backend)) == reply(AsyncEngine(Engine(model, TOKENS, policy.eos_ids)))


def settings(own=None, **rl):
    return {"steps": 2, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 6, "learning_rate": 1e-3} | rl


def mean_id(completion_ids, **_):
    return [float(sum(ids)) / (256.0 * len(ids)) for ids in completion_ids]


def test_a_run_on_a_backend_of_ones_own_is_the_run_on_the_engine(own, tmp_path):
    rows = [{"prompt": f"say {word}:"} for word in ("one", "two", "three", "four")]
    lines = {}
    for name, backend in (("built_in", "built_in"), ("own", f"{own}:Plain")):
        model = tiny.make("llama", seed=1)
        found = burnish.train(
            model=model, tokenizer=TOKENS, data=rows, reward=mean_id, output=str(tmp_path / name), rl=settings(backend=backend)
        )
        metrics = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        lines[name] = [{key: line[key] for key in ("reward", "loss", "grad_norm") if key in line} for line in metrics]
        assert found["step"] == 2
    assert lines["own"] == lines["built_in"]
    assert any("grad_norm" in line for line in lines["own"])


@pytest.mark.parametrize(
    ("rl", "message"),
    [
        ({"backend": "own:Mute"}, r"'.*Mute' lacks logprobs, which reinforcement learning needs .*; use rl.backend: built_in"),
        ({"backend": "own:Odd"}, "declares the capability 'telepathy'"),
        ({"backend": "own:NoSubmit"}, "is no backend: it has no `check`"),
        ({"backend": "vlm"}, "unknown backend 'vlm'; did you mean 'vllm'"),
        ({"backend": {"name": "vllm", "gpus": 2}}, "unknown argument 'gpus'"),
        ({"backend": {"name": "vllm", "engine_args": {"logprobs_mode": "raw_logprobs"}}}, "logprobs_mode is set by burnish"),
        ({"backend": "own:Plain", "engine_mode": "exact"}, "engine_mode exact is the built-in engine's"),
        ({"backend": "own:Plain", "thinker": "own_thinker"}, r"lacks inject, fork, which the thinker .* \(it declares no `requires`"),
    ],
)
def test_refusals_before_anything_loads(rl, message, own, tmp_path):
    thinker = tmp_path / "thinker.py"
    thinker.write_text("class Part:\n    async def think(self, items, session):\n        yield None\n")
    named = {"own": own, "own_thinker": f"{thinker}:Part"}
    rl = {key: named.get(value, value.replace("own:", f"{own}:")) if isinstance(value, str) else value for key, value in rl.items()}
    config = build(TrainConfig, {"rl": rl})
    with pytest.raises(UserError, match=message) as caught:
        refuse_impossible(config, True, mean_id, True)
    assert "\n" not in str(caught.value)


def test_vllm_is_refused_by_name_where_it_cannot_work(monkeypatch):
    config = build(TrainConfig, {"rl": {"backend": "vllm"}})
    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(UserError, match=r"vllm is not installed; pip install 'burnish\[cluster\]'"):
            refuse_impossible(config, True, mean_id, True)
    backend = make_backend({"name": "vllm", "gpu_memory_utilization": 0.3})
    for sampling, message in ((Sampling(top_k=5), "top_k"), (Sampling(temperature=2.5), "2.5"), (Sampling(temperature=0.001), "0.001")):
        with pytest.raises(UserError, match=message):
            backend.check(sampling)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="several training ranks"):
        backend.check(Sampling())
    with pytest.raises(UserError, match="no Hugging Face model"):
        backend.bind(Policy(torch.nn.Linear(2, 2), None))


def test_vllm_arguments():
    policy = Policy(tiny.make("llama", dtype=torch.bfloat16), TOKENS)
    backend = make_backend({"name": "vllm", "tensor_parallel_size": 2, "engine_args": {"load_format": "safetensors"}})
    assert vllm.engine_kwargs(backend.settings, "/models/x", policy) == {
        "dtype": "bfloat16",
        "max_model_len": 512,
        "disable_log_stats": True,
        "gpu_memory_utilization": 0.4,
        "tensor_parallel_size": 2,
        "enforce_eager": False,
        "load_format": "safetensors",
        "model": "/models/x",
        "skip_tokenizer_init": False,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
    }
    request = Request(PROMPT, 2, Sampling(temperature=0.7, stop=("###",), stop_ids=(9,)), 33, (1, -1))
    assert vllm.sampling_kwargs(request, 0, (258, 260)) == {
        "n": 1,
        "temperature": 0.7,
        "seed": 1,
        "stop": ["###"],
        "stop_token_ids": [9, 258, 260],
        "ignore_eos": True,
        "max_tokens": 33,
        "logprobs": 0,
        "detokenize": True,
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
    }
    assert vllm.sampling_kwargs(request, 1, ())["seed"] == 2**63 - 1  # never vLLM's "no seed"
    assert vllm.sampling_kwargs(Request(PROMPT), 0, ())["detokenize"] is False


def output(ids, logprobs, finish=None, stop=None):
    """The fields of vllm.outputs.CompletionOutput that are read."""
    entries = [
        {token: types.SimpleNamespace(logprob=value), 7777: types.SimpleNamespace(logprob=-9.0)} for token, value in zip(ids, logprobs)
    ]
    return types.SimpleNamespace(token_ids=ids, logprobs=entries, finish_reason=finish, stop_reason=stop)


@pytest.mark.parametrize(
    ("finish", "stop", "expected"),
    [
        (None, None, None),
        ("stop", 258, "eos"),
        ("stop", None, "eos"),
        ("stop", 9, "stop"),
        ("stop", "###", "stop"),
        ("length", None, "length"),
        ("abort", None, "cancelled"),
        ("error", None, "error"),
    ],
)
def test_vllm_answers(finish, stop, expected):
    found = vllm.chunk_of(output([4, 258], [-0.5, -1.5], finish, stop), 3, 17, (258,))
    assert found == Chunk(3, (4, 258), (-0.5, -1.5), 17, expected)
    if expected is not None:
        turn = protocol.turn_of(Request(PROMPT), [Chunk(3, (1,), (-2.0,), 16), found])
        assert (turn.output_ids, turn.logprobs.tolist(), turn.version.tolist()) == ([1, 4, 258], [-2.0, -0.5, -1.5], [16, 17, 17])


def test_vllm_answers_without_log_probs_are_an_error():
    with pytest.raises(RuntimeError, match="0 log-probs for 1 tokens"):
        vllm.chunk_of(types.SimpleNamespace(token_ids=[1], logprobs=None, finish_reason=None, stop_reason=None), 0, 0, ())
    with pytest.raises(UserError, match="without saying why"):
        protocol.turn_of(Request(PROMPT), [Chunk(0, (1,), (-1.0,))])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # gpt2: Conv1D layers and a tied head
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_handed_over_are_the_merged_policy(kind, tmp_path):
    model = lora.add_lora(tiny.make(kind), lora.LoraConfig(rank=4, bias="all"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    vllm.write_weights(Policy(model, TOKENS), tmp_path / "out" / "model")
    vllm.write_weights(Policy(model, TOKENS), tmp_path / "out" / "model")  # a refresh replaces it
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").eval()
    ids = torch.arange(14).view(2, 7)
    torch.testing.assert_close(plain(ids).logits, model(ids).logits, rtol=0, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(plain.state_dict()) == set(tiny.make(kind).state_dict())
    fresh = tiny.make(kind)
    assert not torch.allclose(plain(ids).logits, fresh(ids).logits, atol=1e-2)  # the adapter does something


def test_a_tied_head_is_not_split_behind_its_back():
    with pytest.raises(UserError, match="tied weights"):
        lora.merged_state(lora.add_lora(tiny.make("gpt2"), lora.LoraConfig(targets=("wte",))))


def test_one_loop_outlives_those_that_read_from_it():
    thread, ended = LoopThread(), []

    async def numbers(fail=False):
        try:
            for number in range(3):
                yield number
                await asyncio.sleep(0)
            if fail:
                raise ValueError("broken there")
            await asyncio.sleep(60)
        finally:
            ended.append(asyncio.get_running_loop())

    async def read(count):
        stream = thread.stream(numbers)
        out = [await anext(stream) for _ in range(count)]
        await stream.aclose()
        return out

    assert asyncio.run(read(2)) == [0, 1]
    assert asyncio.run(read(3)) == [0, 1, 2]

    async def broken():
        return [number async for number in thread.stream(lambda: numbers(True))]

    with pytest.raises(ValueError, match="broken there"):
        asyncio.run(broken())

    async def settled():
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop()

    here = thread.run(settled())
    thread.close()
    assert ended == [here] * 3  # two cancelled, one failed, all on the loop that stays
