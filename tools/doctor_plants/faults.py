"""The ten faults, each as a user could bring it about, at two strengths; where a setting cannot do it, the part at fault is replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from burnish.records import Score
from burnish.rl.rollouts.single import Single
from doctor_plants.world import RL_RATE, TASKS, TUNE_RATE, World


@dataclasses.dataclass
class Trial:
    """One run. fault: its number, 0 for a healthy one. expected: ids of findings any of which names the fault."""

    id: str
    fault: int
    strength: str
    stage: str
    expected: tuple[str, ...] = ()
    base: str = "plain"
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: Callable[[World], list[dict[str, Any]]] | None = None
    held_out: Callable[[World], list[dict[str, Any]]] | None = None
    reward: Callable[[World], Any] | None = None
    template: Callable[[str], str] | None = None
    patch: Callable[[], Any] = contextlib.nullcontext

    @property
    def chat(self) -> bool:
        return self.base.endswith("chat")


def bucket(text: str, of: int = 100) -> int:
    """A number below `of` from a text."""
    return int(hashlib.blake2b(text.encode(), digest_size=4).hexdigest(), 16) % of


# --- 1: rewards that never differ inside a group


def deaf(share: float):
    """A reward that looks at the problem in place of the completion, for a share of the problems."""

    def make(world: World):
        def score(text: str, columns: dict[str, Any]) -> float:
            name = columns["answer"]
            return float(bucket(name + "?", 2)) if bucket(name) < 100 * share else float(text.strip() == name)

        return score

    return make


# --- 3: no end of sequence in the loss


@contextlib.contextmanager
def without_ends(share: float):
    """A share of the examples loses the loss on its end-of-sequence token, as under a template that leaves it out of its marks."""
    from burnish.recipes import train as module

    real = module.examples_of

    def stripped(config: Any, policy: Any, rows: Any) -> Any:
        found = real(config, policy, rows)
        ends = np.array(policy.eos_ids)
        for place, example in enumerate(found):
            if bucket(f"{place}") < 100 * share:
                example.mask &= ~np.isin(example.ids, ends)
        return found

    with mock.patch.object(module, "examples_of", stripped):
        yield


# --- 4: templates


def no_invitation(template: str) -> str:
    """chatml without its generation prompt."""
    return template[: template.index("{%- if add_generation_prompt %}")]


def half_invitation(template: str) -> str:
    """chatml whose generation prompt names no role."""
    return no_invitation(template) + "{%- if add_generation_prompt %}{{- '<|im_start|>' }}{%- endif %}"


# --- 5: sampled at one temperature, recorded as another


class Warm(Single):
    """Samples at another temperature than it records."""

    def __init__(self, true: float):
        self.true = true

    async def think(self, items, session):
        recorded = session.sampling
        other = dataclasses.replace(session, sampling=dataclasses.replace(recorded, temperature=self.true))
        async for rollout in super().think(items, other):
            for turn in rollout.turns:
                turn.sampling = recorded
            yield rollout


# --- 8: length pays


def longer(per_token: float):
    """The task's reward, and so much more for each token."""

    def make(world: World):
        class Longer:
            name = "longer"

            def __call__(self, group, measured=None):
                return [Score(reward=per_token * rollout.n_loss_tokens, parts={"longer": per_token}) for rollout in group.rollouts]

        return [world.verifier, Longer()]

    return make


# --- 9: a verifier that fails on a fifth of the problems


def broken(how: str, often: float):
    """invalid: it says that it broke. silent: it says "wrong" whatever was written. often: in this share of its calls on these problems."""

    def make(world: World):
        task = TASKS[world.task][0]

        class Broken:
            name = "task"

            def __call__(self, group, measured=None):
                out = []
                for rollout, text in zip(group.rollouts, group.texts):
                    score = task.score(text, group.item.columns)
                    fails = bucket(group.item.id, 5) == 0 and bucket(f"{group.item.id} {rollout.index} {text}") < 100 * often
                    if fails and how == "invalid":
                        score = Score(0.0, invalid=True, extras={"reason": "timeout"})
                    elif fails:
                        score = Score(0.0, success=0.0)
                    out.append(score)
                return out

        return Broken()

    return make


# --- 10: held-out problems that were trained on


def leaked(share: float, n: int = 100):
    """Held-out rows of which a share stands in the training data (its first 2000 rows)."""

    def make(world: World) -> list[dict[str, Any]]:
        known = int(share * n)
        return world.rows(known) + world.rows(n - known, "test")

    return make


def edit_template(folder: Path, change: Callable[[str], str], target: Path) -> Path:
    """A copy of a model folder whose chat template is changed."""
    import shutil

    shutil.copytree(folder, target, dirs_exist_ok=True)
    file = target / "chat_template.jinja"
    if file.exists():
        file.write_text(change(file.read_text()))
    else:
        settings = json.loads((target / "tokenizer_config.json").read_text())
        settings["chat_template"] = change(settings["chat_template"])
        (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


SHORT = {
    "sort": {"weak": 5, "strong": 3},
    "strings": {"weak": 4, "strong": 2},
    "reverse": {"weak": 4, "strong": 2},
    "dedupe": {"weak": 3, "strong": 1},
    "graph_path": {"weak": 4, "strong": 2},
}
"""Completion limits that cut about half and all of the answers."""


def faults(task: str) -> list[Trial]:
    """All planted faults on one task."""
    out: list[Trial] = []
    for strength in ("weak", "strong"):
        weak = strength == "weak"

        def rl(number: int, name: str, expected: str, strength: str = strength, **fields: Any) -> None:
            out.append(Trial(f"rl-{number:02d}-{name}-{strength}", number, strength, "rl", tuple(expected.split()), **fields))

        def sft(number: int, name: str, expected: str, strength: str = strength, **fields: Any) -> None:
            base = fields.pop("base", "raw")
            out.append(Trial(f"sft-{number:02d}-{name}-{strength}", number, strength, "sft", tuple(expected.split()), base, **fields))

        rl(1, "uniform", "uniform_groups", reward=deaf(0.9 if weak else 1.0))
        rl(2, "cut", "completions_cut", changes={"rl": {"max_new_tokens": SHORT[task][strength]}})
        sft(2, "cut", "completions_cut", changes={"sft": {"max_length": cut_length(task, weak), "too_long": "truncate"}})
        rl(3, "no-eos", "eos_not_learned", base="runon-70" if weak else "mute")
        sft(3, "no-eos", "eos_not_learned", patch=lambda share=0.5 if weak else 1.0: without_ends(share))
        template = half_invitation if weak else no_invitation
        rl(4, "template", "generation_prompt", base="chat", template=template)
        sft(4, "template", "generation_prompt", base="raw-chat", template=template)
        rl(
            5,
            "temperature",
            "logprob_temperature",
            changes={"rl": {"thinker": {"name": "doctor_plants.faults:Warm", "true": 0.9 if weak else 0.6}}},
        )
        rl(6, "rate", "learning_rate", changes={"rl": {"learning_rate": RL_RATE * (10 if weak else 50)}})
        sft(6, "rate", "learning_rate", base="plain", changes={"sft": {"learning_rate": TUNE_RATE * (10 if weak else 50)}})
        collapse = {"objective": {"preset": "dr_grpo", "entropy": {"eta": -1.0 if weak else -4.0}}, "steps": 40, "learning_rate": 1e-3}
        rl(7, "collapse", "entropy_collapse", base="poor", changes={"rl": collapse})
        rl(8, "length", "length_hack", reward=longer(0.1 if weak else 0.3), base="runon-30", changes={"rl": {"steps": 40}})
        for how in ("invalid", "silent"):
            rl(9, f"verifier-{how}", "verifier_fails", reward=broken(how, 0.5 if weak else 1.0))
        rl(10, "leak", "eval_in_train", held_out=leaked(0.05 if weak else 1.0))
        sft(10, "leak", "eval_in_train", held_out=leaked(0.05 if weak else 1.0), changes={"sft": {"eval_steps": 40}})
    return out


def cut_length(task: str, weak: bool) -> int:
    """Tokens of an example such that about half or all of the examples lose their end."""
    import numpy as np

    sizes = [len(problem.prompt) + len(problem.answer) + 1 for setting in TASKS[task] for problem in setting.items(300, 0)]
    return int(np.quantile(sizes, 0.6)) - 1 if weak else min(sizes) - 1
