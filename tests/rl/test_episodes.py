"""A thousand random tool episodes: what the learner sees is what was sampled: ids and masks exactly, log-probs to float32 rounding."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.models.rows import flat, lengths, rows_of, sequence_index
from burnish.records import Item, Limits, Rollout, Sampling, Score
from burnish.rl.batch import Batch
from burnish.rl.learner import LOGP, Learner
from burnish.rl.measure import Measurer
from burnish.rl.objectives import presets
from burnish.rl.queue import LagQueue
from burnish.rl.session import as_finished
from burnish.rl.source import Source
from burnish.runs.seeds import rng

KINDS = {"qwen3": None, "llama": None, "mistral": 12, "gemma2": 12, "gpt2": None, "opt": None}  # kind -> sliding window in tokens
ITEMS, GROUP, STEPS = 21, 4, 2  # 6 kinds x 2 steps x 21 items x 4 episodes = 1,008
WORDS = tokenizer.byte_level()
SPECIAL = [WORDS.convert_tokens_to_ids(token) for token in WORDS.get_added_vocab()]
COUNTED = ("episodes", "turns", "extending", "reset", "empty", "listening", "untrained", "special", "tokens")
SHARP = 12.0
HEATS = (0.7, 1.0, 1.5)


@dataclasses.dataclass
class Noted:
    """What the thinker saw happen in one turn, written down apart from the engine's own records."""

    context: list[int]
    train: bool
    ids: list[int] = dataclasses.field(default_factory=list)
    injected: list[bool] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)

    def force(self, ids: list[int]) -> None:
        self.ids += ids
        self.injected += [True] * len(ids)
        self.logprobs += [np.nan] * len(ids)

    def heard(self, event: Any) -> None:
        self.ids.append(event.token)
        self.injected.append(False)
        self.logprobs.append(event.logprob)


class Wanderer:
    """Random episodes: observations injected before, between and after actions, turns that extend the last one and turns that do not,
    turns without a single token, turns that only listen, turns kept out of training, special tokens as ids and spelled out as text."""

    def __init__(self) -> None:
        self.noted: dict[tuple[str, int], list[Noted]] = {}

    async def think(self, items, session):
        async for rollout in as_finished(self.episode(item, index, session) for item in items for index in range(item.group_size)):
            yield rollout

    async def episode(self, item: Item, index: int, session: Any) -> Rollout:
        dice = rng("episode", session.seed, session.step, item.id, index)
        engine, turns, notes = session.engine, [], []
        handle = self.fresh(session.prompt_ids(item), session, dice, item, index, 0)
        for number in range(int(dice.integers(1, 6))):
            note = Noted(list(handle.ids), train=bool(dice.random() < 0.9))
            for _ in range(int(dice.choice([0, 1, 1, 2]))):
                await self.act(engine, handle, note, dice)
            turn = handle.turn()
            turn.train = note.train
            turns.append(turn)
            notes.append(note)
            handle.new_turn()
            if dice.random() < 0.3:  # the context is reset: cut, or begun anew
                kept = handle.ids[: int(dice.integers(1, len(handle.ids) + 1))] if dice.random() < 0.5 else session.prompt_ids(item)
                engine.free(handle)
                handle = self.fresh(kept + observation(dice), session, dice, item, index, number + 1)
        engine.free(handle)
        self.noted[item.id, index] = notes
        return Rollout(item.id, index, turns, "terminated")

    def fresh(self, ids, session, dice, item, index, number):
        sampling = Sampling(temperature=float(dice.choice(HEATS)), top_k=int(dice.choice([0, 0, 40])))
        return session.engine.prefill(ids, sampling=sampling, seed=session.seed_of(item, index, number), max_new_tokens=9)

    async def act(self, engine, handle, note, dice) -> None:
        forced = observation(dice) if dice.random() < 0.5 else []
        engine.append(handle, forced)
        note.force(forced)
        if dice.random() < 0.85:
            await engine.decode(handle, int(dice.integers(1, 8)), stream=note.heard)


def observation(dice: np.random.Generator) -> list[int]:
    """0 to 9 ids: text, special tokens, special tokens spelled byte by byte (which no tokenizer would give back as they are)."""
    kind = int(dice.integers(0, 4))
    if kind == 0:
        return list(b"<|im_end|>")[: int(dice.integers(1, 10))]
    if kind == 1:
        return [int(token) for token in dice.choice(SPECIAL, size=int(dice.integers(1, 4)))]
    return [int(byte) for byte in dice.integers(0, 256, size=int(dice.integers(0, 7)))]


class Prompts:
    """Ragged prompts, with special tokens inside."""

    def draw(self, n, state):
        out = []
        for k in range(n):
            dice = rng("prompt", state["seed"], state["step"], k)
            text = "word " * int(dice.integers(0, 5)) + str(dice.choice(["a <|im_start|>user b", "<|eos|>", "é <|pad|>?", "plain"]))
            ids = WORDS(text, add_special_tokens=False)["input_ids"]
            out.append(Item(f"s{state['step']}p{k}", ids, GROUP, Limits(max_new_tokens=9)))
        return out


def parity(group, measured):
    return [Score(sum(token % 2 for token in r.output_ids) / 8 + r.index / 50, success=0.0) for r in group.rollouts]


class Witness:
    """An objective that keeps what its loss was given."""

    def __init__(self, objective: Any) -> None:
        self.objective, self.steps = objective, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def plan(self, table, tokens):
        plan = self.objective.plan(table, tokens)
        self.steps.append({"table": table, **tokens, "logp": torch.full((table.n_tokens,), torch.nan).double(), "seen": 0})
        return plan

    def loss(self, table, scored, tokens, plan, index):
        self.steps[-1]["logp"][index] = scored[LOGP.key].detach().double()
        self.steps[-1]["seen"] += len(index)
        return self.objective.loss(table, scored, tokens, plan, index)


def play(kind: str) -> tuple[Wanderer, Policy, list[tuple[Batch, dict[str, Any], torch.Tensor]]]:
    """STEPS updates on random episodes: (batch, what the loss saw, Policy.score under the weights that sampled) of each."""
    model = tiny.make(kind, WORDS, hidden=32, layers=2, window=KINDS[kind], max_length=384)
    with torch.no_grad():  # as sure of itself as a trained model: log-probs of a flat distribution would agree too easily
        for parameter in model.parameters():
            parameter.mul_(SHARP if parameter.dim() > 1 else 1)
    policy = Policy(model, WORDS)
    measurer, wanderer = Measurer({"policy": policy}), Wanderer()
    engine, seed = Engine(model, WORDS, policy.eos_ids, slots=16), list(KINDS).index(kind)
    source = Source(policy, engine, Prompts(), wanderer, parity, measurer, prompts=ITEMS, seed=seed)
    objective = presets.make("grpo")
    witness = Witness(objective.with_(beta=0.0) if objective.kl.active else objective)
    learner, queue = Learner(policy, witness, measurer, micro_tokens=700), LagQueue(source)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def mover(names=None):
        optimizer.step()
        optimizer.zero_grad()
        return {}

    found = []
    for step in range(1, STEPS + 1):
        batch = queue.get(step, STEPS)
        scored = policy.score([rollout for group in batch.groups for rollout in group.rollouts])[LOGP.key]
        learner.update(batch, step, mover)
        found.append((batch, witness.steps[-1], scored))
    return wanderer, policy, found


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_learner_sees_what_was_sampled(kind: str, record_property: Any) -> None:
    wanderer, _policy, found = play(kind)
    counts: dict[str, int] = dict.fromkeys(COUNTED, 0)
    gaps = []
    for step, (batch, seen, scored) in enumerate(found, 1):
        rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
        notes = [wanderer.noted[rollout.item_id, rollout.index] for rollout in rollouts]
        for rollout, noted in zip(rollouts, notes):
            same_turns(rollout, noted, step - 1)
            same_rows(rollout, noted)
            count(counts, noted)
        own = [note for noted in notes for note in noted if note.train]
        ids = [token for note in own for token, forced in zip(note.ids, note.injected) if not forced]
        sampled = torch.tensor([value for note in own for value, forced in zip(note.logprobs, note.injected) if not forced])
        assert flat(rollouts, "output_ids").tolist() == ids
        assert torch.equal(flat(rollouts, "logprobs").double(), sampled.double())
        sizes = [sum(not forced for note in noted if note.train for forced in note.injected) for noted in notes]
        assert lengths(rollouts) == sizes
        assert sequence_index(rollouts).tolist() == [n for n, size in enumerate(sizes) for _ in range(size)]
        # A rollout whose turns are all kept out of training is dropped before the loss; nothing else is, and nothing twice.
        chosen = [n for n, noted in enumerate(notes) if any(note.train for note in noted)]
        assert [flag for flags in batch.keep for flag in flags] == [n in set(chosen) for n in range(len(rollouts))]
        assert seen["table"].lengths.tolist() == [sizes[n] for n in chosen]
        assert seen["seen"] == len(ids) == seen["table"].n_tokens
        assert torch.equal(seen["sample_logp"].double(), sampled.double())
        gaps += [(scored.double() - sampled.double()).abs(), (seen["logp"] - sampled.double()).abs()]
        again = [Rollout.from_dict(json.loads(json.dumps(rollout.to_dict()))) for rollout in rollouts]
        assert [rollout.to_dict() for rollout in again] == [rollout.to_dict() for rollout in rollouts]
        for name in ("output_ids", "logprobs", "version"):
            assert torch.equal(flat(again, name), flat(rollouts, name))
    gap = torch.cat(gaps)
    counts["tokens"] = len(gap) // 2
    figures = {"gap_max": float(gap.max()), "gap_mean": float(gap.mean()), "surprise": -float(seen["logp"].mean())}
    for name, value in {**counts, **figures}.items():
        record_property(name, value)
        print(f"{kind} {name} {value}")
    assert float(gap.max()) <= 2e-5
    assert float(gap.mean()) <= 2e-6
    assert counts["episodes"] * len(KINDS) >= 1000
    assert all(counts.values()), counts


def same_turns(rollout: Rollout, noted: list[Noted], version: int) -> None:
    """Contexts, ids, masks, log-probs and versions of every turn, as they happened."""
    assert len(rollout.turns) == len(noted)
    for turn, note in zip(rollout.turns, noted):
        assert turn.context_ids == note.context
        assert turn.output_ids == note.ids
        assert turn.injected.tolist() == note.injected
        assert turn.loss_mask.tolist() == [note.train and not forced for forced in note.injected]
        own = ~np.array(note.injected, dtype=bool)
        assert np.array_equal(turn.logprobs[own], np.array(note.logprobs, dtype=np.float32)[own])
        assert (turn.version == version).all()


def same_rows(rollout: Rollout, noted: list[Noted]) -> None:
    """Every trained token stands in its row after exactly the tokens that the policy had seen, and is a target once."""
    wanted = [
        (note.context + note.ids[:place], token)
        for note in noted
        if note.train
        for place, (token, forced) in enumerate(zip(note.ids, note.injected))
        if not forced
    ]
    rows, order = rows_of([rollout])
    found = [(row.ids[:target].tolist(), int(row.ids[target])) for row in rows for target in row.targets]
    assert [found[place] for place in order] == wanted


def count(counts: dict[str, int], noted: list[Noted]) -> None:
    counts["episodes"] += 1
    counts["turns"] += len(noted)
    for before, note in itertools.pairwise(noted):
        whole = before.context + before.ids
        counts["extending" if note.context[: len(whole)] == whole else "reset"] += 1
    counts["empty"] += sum(not note.ids for note in noted)
    counts["listening"] += sum(bool(note.ids) and all(note.injected) for note in noted)
    counts["untrained"] += sum(not note.train for note in noted)
    counts["special"] += sum(token in SPECIAL for note in noted for token, forced in zip(note.ids, note.injected) if not forced)
