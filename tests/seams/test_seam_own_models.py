"""Seams of models that are not plain: a window cache of their own, a path through the layers for each row, no left-to-right order."""

import copy

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, Qwen3ForCausalLM

from burnish.models import tiny, tokenizer
from burnish.models.rows import flat
from burnish.records import Rollout, Turn
from burnish.rl.session import as_finished

# A window cache of its own ------------------------------------------------------------------------------------------------

WINDOW = 4


class Ring(DynamicCache):
    """Keeps the last tokens of the window only (transformers' sliding layers drop the others)."""

    def rows(self):
        return self.layers[0].keys.shape[0]

    def fork(self):
        return copy.deepcopy(self)

    def select(self, rows):
        out = self.fork()
        out.batch_select_indices(torch.tensor(rows))
        return out

    def join(self, others):
        out = self.fork()
        for layer, *theirs in zip(out.layers, *(other.layers for other in others)):
            layer.keys = torch.cat([layer.keys, *(other.keys for other in theirs)])
            layer.values = torch.cat([layer.values, *(other.values for other in theirs)])
        return out


class Windowed(Qwen3ForCausalLM):
    """Brings its cache; rows share a pass where they are equally long."""

    widths: set  # rows of each decoding pass
    held: int = 0  # most keys that a layer held after a pass

    def make_cache(self):
        return Ring(config=self.config)

    def batch_key(self, handle):
        return handle.fed

    def forward(self, *args, past_key_values=None, **kwargs):
        out = super().forward(*args, past_key_values=past_key_values, **kwargs)
        if isinstance(past_key_values, Ring):
            self.held = max(self.held, *(layer.keys.shape[-2] for layer in past_key_values.layers))
            self.widths.add(past_key_values.rows())
        return out


def test_a_models_own_window_cache_serves_and_the_learner_agrees_without_it(wire, fixed, dtype):
    words = tokenizer.byte_level(chat_template=None)
    model = tiny.make("qwen3", words, hidden=32, layers=2, window=WINDOW, dtype=dtype)
    model.__class__, model.widths = Windowed, set()
    run = wire(model=model, curriculum=fixed(group_size=3, max_new_tokens=9))
    assert run.source.engine.path == "own cache"
    for version in (0, 1):
        batch, _ = run.step()
        kept = run.agrees(batch)
        assert set(flat(kept, "version").tolist()) == {version}
        assert max(len(turn.context_ids + turn.output_ids) for r in kept for turn in r.turns) > 3 * WINDOW
    assert model.held == WINDOW - 1
    assert max(model.widths) > 1


# A path through the layers for each row -----------------------------------------------------------------------------------


class Routed(Qwen3ForCausalLM):
    """Rows skip layers: `handle.extras["skips"]` names them, `Turn.replay["skips"]` keeps them for the learner."""

    def batch_key(self, handle):
        return handle.extras.get("skips", ())

    def begin_batch(self, key):
        for number, layer in enumerate(self.model.layers):
            layer.skipped = number in key

    def burnish_score(self, policy, rollouts, needs, grad):
        assert [need.key for need in needs if need.kind == "logp"] == ["policy.logp"]
        found = []
        for turn in (turn for rollout in rollouts for turn in rollout.turns):
            self.begin_batch(turn.replay["skips"].tolist())
            with torch.set_grad_enabled(grad):
                logits = self(input_ids=torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0]
            logp = (logits[len(turn.context_ids) - 1 : -1] / turn.sampling.temperature).log_softmax(-1)
            found.append(logp.gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0][torch.from_numpy(turn.loss_mask)])
        self.begin_batch(())
        return {"policy.logp": torch.cat(found)}


def routed(words, dtype, layers=3):
    model = tiny.make("qwen3", words, hidden=32, layers=layers, dtype=dtype)
    model.__class__ = Routed
    kind = type(model.model.layers[0])

    class Skipping(kind):
        skipped = False

        def forward(self, hidden_states, **kwargs):
            return hidden_states if self.skipped else super().forward(hidden_states, **kwargs)

    for layer in model.model.layers:
        layer.__class__ = Skipping
    return model


class Paths:
    """Gives each rollout a path of its own through the layers."""

    choices = ((), (1,), (2,), (0, 2))

    async def think(self, items, session):
        async for rollout in as_finished(self.one(item, index, session) for item in items for index in range(item.group_size)):
            yield rollout

    async def one(self, item, index, session):
        skips = self.choices[index % len(self.choices)]
        handle = session.engine.prefill(
            session.prompt_ids(item),
            sampling=session.sampling,
            seed=session.seed_of(item, index),
            max_new_tokens=item.limits.max_new_tokens,
            extras={"skips": skips},
            replay={"skips": np.array(skips, dtype=np.int64)},
        )
        turn = await session.engine.decode(handle)
        session.engine.free(handle)
        return Rollout(item.id, index, [turn], turn.stop)


def test_rows_take_their_own_paths_through_the_layers(wire, fixed, dtype):
    model = routed(tokenizer.byte_level(chat_template=None), dtype)
    run = wire(Paths(), model=model, curriculum=fixed(group_size=4, max_new_tokens=7))
    assert run.source.engine.path == "modules"
    batch, _ = run.step()
    kept = run.agrees(batch)
    assert [tuple(rollout.turns[0].replay["skips"].tolist()) for rollout in kept] == list(Paths.choices) * 2
    # The paths matter: under the full path the same tokens have other log-probs.
    sampled = flat(kept, "logprobs")
    for rollout in kept:
        rollout.turns[0].replay["skips"] = np.zeros(0, dtype=np.int64)
    full = run.policy.score(kept)["policy.logp"]
    lengths = [rollout.n_loss_tokens for rollout in kept]
    for n, part in enumerate((full - sampled).abs().split(lengths)):
        assert n % 4 == 0 or float(part.max()) > 1e-3
    # The gradient went through the paths and the next step samples with the moved weights.
    batch, _ = run.step()
    assert set(flat(run.agrees(batch), "version").tolist()) == {1}


# A generator that is not autoregressive -----------------------------------------------------------------------------------

MASK = 256


class Denoiser(nn.Module):
    """Sees the whole sequence in both directions and fills masks in any order; `Turn.replay["order"]` is the step of each token."""

    def __init__(self, width=24):
        super().__init__()
        self.embed, self.places, self.mix = (
            nn.Embedding(257, width),
            nn.Embedding(64, width),
            nn.MultiheadAttention(width, 2, batch_first=True),
        )
        self.head = nn.Linear(width, 256)

    def forward(self, ids):
        x = self.embed(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(x + self.mix(x, x, x, need_weights=False)[0])

    def burnish_score(self, policy, rollouts, needs, grad):
        found = []
        with torch.set_grad_enabled(grad):
            for turn in (turn for rollout in rollouts for turn in rollout.turns):
                order, out, logp = turn.replay["order"], torch.tensor(turn.output_ids), torch.zeros(len(turn.output_ids)).to(policy.dtype)
                for step in range(order.max() + 1):
                    known = torch.where(torch.from_numpy(order < step), out, MASK)
                    logits = self(torch.cat([torch.tensor(turn.context_ids), known])[None])[0, len(turn.context_ids) :]
                    mine = torch.from_numpy(order == step)
                    logp = torch.where(mine, logits.log_softmax(-1).gather(1, out[:, None])[:, 0], logp)
                found.append(logp[torch.from_numpy(turn.loss_mask)])
        return {"policy.logp": torch.cat(found)}


class Sampler:
    """In the engine's place: it only has to know the version of the weights it draws with."""

    version = 0

    def refresh(self, version):
        self.version = version


class Unmask:
    """Fills `max_new_tokens` masks, two at a time, those the model is surest of first."""

    async def think(self, items, session):
        for item in items:
            for index in range(item.group_size):
                yield self.one(item, index, session)

    @torch.no_grad()
    def one(self, item, index, session):
        context, n = session.prompt_ids(item), item.limits.max_new_tokens
        generator = torch.Generator().manual_seed(session.seed_of(item, index) % 2**31)
        out, order, logps = torch.full((n,), MASK), np.full(n, -1), np.zeros(n)
        for step in range((n + 1) // 2):
            logp = session.policy.model(torch.cat([torch.tensor(context), out])[None])[0, len(context) :].log_softmax(-1)
            sure = torch.where(out == MASK, logp.max(-1).values, -torch.inf)
            for place in sure.topk(min(2, int((out == MASK).sum()))).indices.tolist():
                token = int(torch.multinomial(logp[place].exp(), 1, generator=generator))
                out[place], order[place], logps[place] = token, step, float(logp[place, token])
        logps = logps.astype(np.float64 if session.policy.dtype == torch.float64 else np.float32)
        version = np.full(n, session.engine.engine.version)
        turn = Turn(context, out.tolist(), logps, version=version, stop="length", replay={"order": order})
        return Rollout(item.id, index, [turn], "length")


def test_a_generator_that_is_not_autoregressive(wire, fixed, dtype):
    torch.manual_seed(0)
    run = wire(Unmask(), model=Denoiser().to(dtype), engine=Sampler(), curriculum=fixed(max_new_tokens=7), objective="dr_grpo")
    for version in (0, 1):
        batch, metrics = run.step()
        kept = run.agrees(batch)
        assert set(flat(kept, "version").tolist()) == {version}
        for rollout in kept:
            (turn,) = rollout.turns
            assert sorted(turn.replay["order"].tolist()) == [0, 0, 1, 1, 2, 2, 3]
            assert turn.replay["order"].tolist() != sorted(turn.replay["order"].tolist())
            assert MASK not in turn.output_ids
        assert metrics["sampling/sampling_logp_difference/max"] <= 2e-5
    # Another order is another distribution: it is the replayed one that the learner used.
    sampled = flat(kept, "logprobs")
    for rollout in kept:
        rollout.turns[0].replay["order"] = np.arange(7)
    assert float((run.policy.score(kept)["policy.logp"] - sampled).abs().max()) > 1e-3
