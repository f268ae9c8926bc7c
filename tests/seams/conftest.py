"""A tiny model wired to the real Source and Learner, and a witness of what reaches the loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from burnish.inference.engine import Engine
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.models.rows import flat
from burnish.records import Item, Limits, Rollout, Sampling, Score
from burnish.rl.batch import Batch
from burnish.rl.learner import LOGP, Learner
from burnish.rl.measure import Measurer
from burnish.rl.objectives import presets
from burnish.rl.queue import LagQueue
from burnish.rl.rollouts.single import Single
from burnish.rl.source import Source
from burnish.rl.trainer import Trainer, parts_of
from burnish.runs.folder import Run
from burnish.runs.loop import Loop, ParamGroup

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Witness:
    """An objective that remembers what its loss was given: `steps[i]` holds flat tensors of the i-th optimiser step."""

    def __init__(self, objective: Any):
        self.objective, self.steps = objective, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def plan(self, table, tokens):
        plan = self.objective.plan(table, tokens)
        self.steps.append({"table": table, "weights": plan.weights, **tokens, "logp": torch.full((table.n_tokens,), torch.nan).double()})
        return plan

    def loss(self, table, scored, tokens, plan, index):
        self.steps[-1]["logp"][index] = scored[LOGP.key].detach().double()
        return self.objective.loss(table, scored, tokens, plan, index)


class Fixed:
    """A curriculum of `n` prompts that never change."""

    def __init__(self, n: int = 2, group_size: int = 2, **limits: int):
        prompts = [[104, 101, 108, 108, 111, 48 + k] for k in range(n)]
        self.items = [Item(f"p{k}", prompt, group_size, Limits(**limits)) for k, prompt in enumerate(prompts)]

    def draw(self, n, state):
        return self.items[:n]


def parity(group, measured):
    """A reward that varies: the share of odd token ids."""
    return [Score(sum(t % 2 for t in r.output_ids) / max(len(r.output_ids), 1), success=float(r.index % 2)) for r in group.rollouts]


@dataclasses.dataclass
class Wired:
    """One run's parts. `step()` is one learner step; `seen` is what the loss of the last optimiser step was given."""

    policy: Policy
    source: Source
    learner: Learner
    queue: LagQueue
    optimizer: Any
    updates: int = 0

    @property
    def seen(self) -> dict[str, Any]:
        return self.learner.objective.steps[-1]

    def mover(self, names=None):
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {}

    def step(self, total: int = 1000) -> tuple[Batch, dict[str, float]]:
        self.updates += 1
        batch = self.queue.get(self.updates, total)
        return batch, self.learner.update(batch, self.updates, self.mover)

    def agrees(self, batch: Batch, logps: bool = True) -> list[Rollout]:
        """The kept rollouts, after asserting that the loss saw their sampled tokens in order, each log-prob equal to the sampler's."""
        kept = [r for g, flags in zip(batch.groups, batch.keep) for r, flag in zip(g.rollouts, flags) if flag and r.n_loss_tokens]
        seen = self.seen
        assert seen["table"].lengths.tolist() == [r.n_loss_tokens for r in kept]
        sampled = flat(kept, "logprobs").double()
        assert torch.equal(seen["sample_logp"].double(), sampled)
        assert seen["logp"].isfinite().all()
        if logps:
            assert float((seen["logp"] - sampled).abs().max()) <= TOLERANCE[self.policy.dtype]
        return kept

    def trainer(self, path, total: int, save_steps: int, resume: bool = False, after=None) -> Trainer:
        """The real Trainer and Loop over these parts, in a run folder."""
        run = Run.create(path, {"total": total}, "seam", resume=resume)
        groups = {"policy": ParamGroup(self.policy.model, self.optimizer)}
        loop = Loop(run, groups, parts_of(self.queue, self.learner), total_steps=total, save_steps=save_steps)
        return Trainer(self.queue, self.learner, loop, run, loop.timer, observers=(after,) if after else ())


def make(
    thinker: Any = None,
    reward: Any = parity,
    curriculum: Any = None,
    *,
    model: Any = None,
    engine: Any = None,
    dtype: torch.dtype = torch.float32,
    objective: Any = "grpo",
    kind: str = "qwen3",
    lag: int = 0,
    prompts: int = 2,
    sampling: Sampling | None = None,
    template: Any = None,
    learning_rate: float = 1e-3,
    **options: Any,
) -> Wired:
    """Source, Learner and queue over a tiny model. The objective has no reference model unless one is asked for."""
    words = tokenizer.byte_level(chat_template=template)
    model = tiny.make(kind, words, hidden=32, layers=2, dtype=dtype) if model is None else model
    policy = Policy(model, words)
    engine = Engine(model, words, policy.eos_ids, slots=8) if engine is None else engine
    measurer = Measurer({"policy": policy})
    found = presets.make(objective)
    found = found.with_(beta=0.0) if found.kl.active else found
    source = Source(
        policy,
        engine,
        Fixed(max_new_tokens=8) if curriculum is None else curriculum,
        Single() if thinker is None else thinker,
        reward,
        measurer,
        prompts=prompts,
        sampling=sampling or Sampling(),
        **options,
    )
    learner = Learner(policy, Witness(found.for_run(2, 8, source.sampling)), measurer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    return Wired(policy, source, learner, LagQueue(source, lag), optimizer)


@pytest.fixture
def wire():
    """See `make`."""
    return make


@pytest.fixture
def fixed():
    """See `Fixed`."""
    return Fixed


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param
