"""The session's verbs: what each leaves in the Turn, checked against a plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.records import Sampling
from burnish.runs.errors import UserError

BIG = 10_000


@pytest.fixture(scope="module")
def model():
    return tiny.make("qwen3")


@pytest.fixture
def engine(model):
    return Engine(model, eos_ids=[BIG], slots=8)


def wanted(model, turn, temperature=1.0):
    """Log-probs of a turn's output under a plain forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0, len(turn.context_ids) - 1 : -1]
    return torch.log_softmax(logits / temperature, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()


def close(model, turn, temperature=1.0):
    assert np.abs(wanted(model, turn, temperature) - turn.logprobs).max() < 2e-5


def test_forced_tokens_are_scored_and_marked(model, engine):
    h = engine.prefill([1, 2, 3], sampling=Sampling(temperature=0.5), seed=4)
    engine.append(h, [10, 11])  # before anything was sampled
    engine.decode([h], max_new_tokens=5)
    engine.append(h, [20])
    engine.append(h, [21, 22])
    assert h.turn().injected.tolist() == [True] * 2 + [False] * 5 + [True] * 3
    turn = engine.decode([h], max_new_tokens=3)[0]
    assert turn.injected.tolist() == [True] * 2 + [False] * 5 + [True] * 3 + [False] * 3
    assert turn.output_ids[:2] + turn.output_ids[7:10] == [10, 11, 20, 21, 22]
    assert (turn.context_ids, turn.stop) == ([1, 2, 3], "length")
    close(model, turn, 0.5)


def test_new_turn_makes_the_past_its_context(model, engine):
    h = engine.prefill([5, 6], agent="a", max_new_tokens=4)
    first = engine.decode([h])[0]
    engine.append(h, [9, 9])
    h.new_turn()
    second = engine.decode([h])[0]
    assert second.context_ids == [5, 6, *first.output_ids, 9, 9]
    assert len(second.output_ids) == 4
    assert not second.injected.any()
    assert second.agent == "a"
    close(model, second)


def test_appending_to_a_live_row_and_until(model, engine):
    h, other = engine.prefill([5, 6], seed=1), engine.prefill([7], seed=2)
    engine.start([h, other], 20)
    for _ in range(5):
        events = engine.step()
    assert {event.handle for event in events} == {h, other}
    engine.append(h, [1, 2, 3])
    while h.running or other.running:
        engine.step()
    assert h.turn().injected.tolist() == [False] * 5 + [True] * 3 + [False] * 15
    close(model, h.turn())
    alone = engine.decode([engine.prefill([7], seed=2)], max_new_tokens=20)[0]
    assert alone.output_ids == other.turn().output_ids
    cut = engine.decode([engine.prefill([7], seed=2)], until=lambda handle: len(handle.output_ids) == 6, max_new_tokens=20)[0]
    assert (cut.output_ids, cut.stop) == (alone.output_ids[:6], "stop")


def test_forks_share_the_past_and_differ_by_seed(model, engine):
    h = engine.prefill(list(range(30)), seed=3)
    before = engine.stats["prefilled"]
    forks = engine.fork(h, 12)
    turns = engine.decode(forks, max_new_tokens=8)
    assert engine.stats["prefilled"] - before == 30
    assert len({tuple(turn.output_ids) for turn in turns}) > 8
    same = engine.decode(engine.fork(h, 2, seeds=[7, 7]), max_new_tokens=8)
    assert same[0].output_ids == same[1].output_ids
    live = engine.fork(h, 1, seeds=[7])[0]
    engine.start([live], 8)
    engine.step()
    copy = engine.fork(live, 1, seeds=[7])[0]  # of a row that is decoding
    rest = engine.decode([copy], max_new_tokens=7)[0]
    assert rest.output_ids == same[0].output_ids
    for turn in (*turns, rest):
        close(model, turn)


def test_merged_paths_keep_their_positions(model, engine):
    """Two paths from one prefix, then a summary that attends to both: as a forward pass with that mask and those positions."""
    h = engine.prefill([1, 2, 3, 4])
    a, b = engine.fork(h, 2, seeds=[1, 2])
    engine.decode([a, b], max_new_tokens=3)
    merged = engine.merge([a, b], [(a, 0, 7), (b, 4, 7)])
    with pytest.raises(UserError, match="append"):
        engine.decode([merged])
    engine.append(merged, [50])
    turn = engine.decode([merged], max_new_tokens=4)[0]
    assert turn.context_ids == a.ids + b.ids[4:7]
    positions, segments = turn.replay["positions"], turn.replay["segments"]
    assert positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7, 8, 9, 10, 11]
    assert segments.tolist() == [0] * 7 + [1] * 3
    n = len(positions)
    seen = torch.tril(torch.ones(n, n, dtype=torch.bool))
    seen[7:10, 4:7] = False  # the second path does not see the first
    mask = torch.zeros(1, 1, n, n).masked_fill(~seen, -torch.inf)
    with torch.no_grad():
        ids = torch.tensor([turn.context_ids + turn.output_ids])
        logits = model(ids, attention_mask=mask, position_ids=torch.from_numpy(positions)[None], use_cache=False).logits[0, 9:-1]
    plain = torch.log_softmax(logits, -1).gather(1, ids[0, 10:, None])[:, 0].numpy()
    assert np.isnan(turn.logprobs[0])
    assert np.abs(plain - turn.logprobs)[1:].max() < 2e-5
    assert turn.injected.tolist() == [True, False, False, False, False]


def test_how_turns_end(model):
    tok = tokenizer.byte_level()
    plain = Engine(model, tok, eos_ids=[BIG])
    free = plain.decode([plain.prefill([1, 2, 3], seed=9)], max_new_tokens=30)[0]
    assert free.stop == "length"
    token = free.output_ids[5]
    first = free.output_ids.index(token)
    ended = Engine(model, tok, eos_ids=[BIG, token])
    eos = ended.decode([ended.prefill([1, 2, 3], seed=9)], max_new_tokens=30)[0]
    assert (eos.output_ids, eos.stop) == (free.output_ids[: first + 1], "eos")
    by_id = plain.decode([plain.prefill([1, 2, 3], seed=9, sampling=Sampling(stop_ids=(token,)))], max_new_tokens=30)[0]
    assert (by_id.output_ids, by_id.stop) == (free.output_ids[: first + 1], "stop")
    text = "end."
    h = plain.prefill(tok.encode("the end."), sampling=Sampling(stop=(text,)))
    engine_ids = tok.encode(text, add_special_tokens=False)
    engine_turn = plain.decode([h], max_new_tokens=6)[0]
    assert engine_turn.stop == "length"  # the prompt's own text does not count
    banned = Sampling(stop=("ab",), bans=tuple(i for i in range(len(tok)) if i not in tok.encode("ab", add_special_tokens=False)))
    stopped = plain.decode([plain.prefill([1], sampling=banned, seed=1)], max_new_tokens=60)[0]
    assert tok.decode(stopped.output_ids).endswith("ab")
    assert tok.decode(stopped.output_ids).count("ab") == 1
    assert (stopped.stop, len(engine_ids)) == ("stop", 4)
    assert stopped.sample_logprobs is not None
    assert (stopped.sample_logprobs > stopped.logprobs).all()
    short = Engine(model, eos_ids=[BIG], max_length=10)
    assert len(short.decode([short.prefill([1] * 7)])[0].output_ids) == 3
    assert short.decode([short.prefill([1] * 10)])[0].output_ids == []
    with pytest.raises(UserError, match="11 tokens"):
        short.prefill([1] * 11)


def test_refill_from_the_queue_and_paused_rows_give_way(model, engine):
    paused = [engine.prefill([i, 1], seed=i) for i in range(8)]
    firsts = engine.decode(paused, max_new_tokens=3)
    assert engine.paused_slots == 8
    many = [engine.prefill([i, 2], seed=i, max_new_tokens=3 + i % 5) for i in range(30)]
    assert [len(turn.output_ids) for turn in engine.decode(many)] == [3 + i % 5 for i in range(30)]
    for handle, first in zip(paused, firsts):
        turn = engine.decode([handle], max_new_tokens=2)[0]
        assert turn.output_ids[:3] == first.output_ids
        assert len(turn.output_ids) == 5
        close(model, turn)


def test_weights_change_under_live_rows():
    model = tiny.make("qwen3", seed=1)
    other = tiny.make("qwen3", seed=2)
    engine = Engine(model, eos_ids=[BIG], version=5)
    h = engine.prefill([1, 2, 3])
    engine.start([h], 6)
    for _ in range(3):
        engine.step()
    engine.load_weights(other.state_dict(), version=6)
    while h.running:
        engine.step()
    assert h.turn().version.tolist() == [5, 5, 5, 6, 6, 6]
    close(other, engine.decode([engine.prefill([4, 5])], max_new_tokens=5)[0])
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.mul_(1.5)  # the learner's step, without a word to the engine
    turn = engine.decode([engine.prefill([4, 5])], max_new_tokens=5)[0]
    close(model, turn)
    for state, named in (({"nope": torch.zeros(1)}, "nope"), ({}, "lacks"), ({"model.norm.weight": torch.zeros(3)}, "shape")):
        with pytest.raises(UserError, match=named):
            engine.load_weights(state, 7)


def test_prompts_as_embeddings(model, engine):
    ids = [3, 1, 4, 1, 5]
    embeds = model.get_input_embeddings()(torch.tensor(ids))
    by_embeds = engine.decode([engine.prefill(ids, embeds=embeds, seed=2)], max_new_tokens=6)[0]
    by_ids = engine.decode([engine.prefill(ids, seed=2)], max_new_tokens=6)[0]
    assert by_embeds.output_ids == by_ids.output_ids
    assert np.abs(by_embeds.logprobs - by_ids.logprobs).max() < 1e-6
    with pytest.raises(UserError, match="embeds has shape"):
        engine.prefill([1, 2], embeds=embeds)


def test_streaming_and_bad_input(model, engine):
    seen: dict[tuple[int, int], list[int]] = {}
    stream = lambda event, i, j: seen.setdefault((i, j), []).append(event.token)  # noqa: E731
    turns = generate(engine, [[1], [2, 3]], n=3, max_new_tokens=4, stream=stream)
    assert seen == {(i, j): turn.output_ids for i, group in enumerate(turns) for j, turn in enumerate(group)}
    for bad, message in (([], "empty"), ([9999], "vocabulary"), ([-1], "vocabulary")):
        with pytest.raises(UserError, match=message):
            engine.prefill(bad)
    with pytest.raises(UserError, match="tokenizer"):
        engine.prefill([1], sampling=Sampling(stop=("x",)))
    h = engine.prefill([1])
    engine.start([h], 5)
    engine.step()
    engine.cancel(h)
    assert (h.turn().stop, len(h.turn().output_ids), engine.busy) == ("cancelled", 1, False)
    with pytest.raises(ValueError, match="freed"):
        engine.append(h, [1])
