"""The doctor on real short runs: what a run takes down for it, and that faults of the machinery itself are seen."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.recipes.doctor import doctor
from burnish.recipes.python import train
from burnish.records import Rollout, Turn
from burnish.rl.movement import LOGP, moved, picked
from burnish.rl.rollouts.single import Single

WORDS = tokenizer.characters("abcdefgh>userassistant\n"[:9] + "usrint\n", "chatml")
RL = {"steps": 6, "prompts_per_step": 4, "group_size": 4, "max_new_tokens": 6, "learning_rate": 1e-3, "slots": 16, "save_steps": None}


class Warm(Single):
    """Samples hotter than it records."""

    async def think(self, items, session):
        recorded = session.sampling
        async for rollout in super().think(items, dataclasses.replace(session, sampling=dataclasses.replace(recorded, temperature=2.0))):
            for turn in rollout.turns:
                turn.sampling = recorded
            yield rollout


def score(text, columns):
    return len(set(text)) / 6


def rows(n, chat=False):
    texts = ["".join(np.random.default_rng(place).choice(list("abcdefgh"), 5)) for place in range(n)]
    prompts = [[{"role": "user", "content": text}] if chat else f"{text}>" for text in texts]
    return [
        {"prompt": prompt, "completion": [{"role": "assistant", "content": text}] if chat else text} for prompt, text in zip(prompts, texts)
    ]


def model(sharp=0.4):
    made = tiny.make("qwen3", WORDS, hidden=16, layers=1, heads=2, kv_heads=1, max_length=64)
    with torch.no_grad():
        made.lm_head.weight.mul_(sharp / made.lm_head.weight.std())  # far from uniform, so that temperatures differ
    return made


def started(path):
    return json.loads((path / "start.json").read_text())


def run_of(tmp_path, words=WORDS, data=None, stage="rl", **fields):
    more = {"reward": score, "rl": {**RL, **fields.pop("rl", {})}} if stage == "rl" else {}
    out = train(
        model=model(), tokenizer=words, data=data or rows(20), output=tmp_path / "run", stage=stage, threads=1, seed=0, **more, **fields
    )
    return out["run"].path


def test_a_real_run_takes_its_facts_down_and_keeps_its_promises(tmp_path):
    path = run_of(tmp_path, eval={"rows": 5})
    facts = started(path)
    assert facts["prompts"] == {"train": 15, "eval": 5, "shared": 0, "examples": []}
    assert facts["references"]["column"] == "completion"
    assert facts["references"]["tokens"]["50"] == 5
    found = doctor(path)
    assert not {"logprob_temperature", "eval_in_train", "verifier_fails"} & {finding.id for finding in found.alarms}
    states = {one.name: one.state for one in found.invariants}
    assert list(states.values()).count("held") == 6, states
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert all(row["update/kl"] > 0 for row in metrics)
    assert all(abs(row["sampling/sampling_logp_difference/slope"] - 1) < 1e-4 for row in metrics)


def test_a_sampler_at_another_temperature_is_seen(tmp_path):
    found = doctor(run_of(tmp_path, rl={"thinker": f"{__file__}:Warm"}))
    assert "logprob_temperature" in [finding.id for finding in found.alarms], found.to_dict()
    assert "hotter" in next(finding.sentence for finding in found.alarms if finding.id == "logprob_temperature")


def test_prompts_in_both_files_are_counted_whatever_their_spacing(tmp_path):
    held_out = [*rows(3), *({"prompt": f"{row['prompt'][:-1].upper().lower()} >", "completion": "a"} for row in rows(30)[25:])]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))
    path = run_of(tmp_path, stage="sft", eval={"path": str(tmp_path / "eval.jsonl")}, sft={"steps": 12, "eval_steps": 6})
    assert started(path)["prompts"]["shared"] == 3
    found = doctor(path)
    assert [finding.id for finding in found.alarms] == ["eval_in_train"]
    assert "3 of 8" in found.alarms[0].evidence[0]


@pytest.mark.parametrize(("kept", "word"), [(0, "no generation prompt"), (1, "incomplete")])
def test_a_template_that_does_not_open_the_answer(kept, word, tmp_path):
    words = tokenizer.characters("abcdefgh>usrint\n", "chatml")
    head, _, _ = words.chat_template.partition("{%- if add_generation_prompt %}")
    words.chat_template = head + ("{%- if add_generation_prompt %}{{- '<|im_start|>' }}{%- endif %}" if kept else "")
    path = run_of(tmp_path, words, rows(20, chat=True), stage="sft", sft={"steps": 12})
    first = doctor(path).alarms[0]
    assert first.id == "generation_prompt"
    assert word in first.sentence


def test_marks_that_leave_the_end_out_of_the_loss(tmp_path):
    words = tokenizer.characters("abcdefgh>usrint\n", "chatml_marked")
    marked = "{%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}"
    assert marked in words.chat_template
    words.chat_template = words.chat_template.replace(
        marked, "{%- generation %}{{- message.content }}{%- endgeneration %}{{- '<|im_end|>' }}"
    )
    path = run_of(tmp_path, words, rows(20, chat=True), stage="sft", sft={"steps": 12})
    assert started(path)["ends"]["share"] == 0
    assert doctor(path).alarms[0].id == "eos_not_learned"


def test_movement_is_the_kl_of_the_samples():
    policy = Policy(model(), WORDS)
    rollouts = [Rollout(f"i{n}", 0, [Turn([1, 2, 3], [4 + n, 5, 6], np.zeros(3))]) for n in range(8)]
    before = policy.score(rollouts, [LOGP])[LOGP.key].double()
    chosen = picked(rollouts, before, step=1)
    assert [rollout.item_id for rollout, _ in chosen] == ["i0", "i2", "i4", "i6"]
    assert moved(policy, chosen, 1)["update/kl"] == pytest.approx(0, abs=1e-10)
    assert picked(rollouts, before, step=11) == []
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(1.1)
    ids = torch.tensor([[1, 2, 3, 4 + n, 5, 6] for n in (0, 2, 4, 6)])
    logp = torch.log_softmax(policy.model(ids).logits.double(), -1)[:, 2:5].gather(-1, ids[:, 3:, None]).squeeze(-1)
    d = torch.stack([part for _, part in chosen]) - logp
    assert moved(policy, chosen, 1)["update/kl"] == pytest.approx(float((torch.exp(-d) - 1 + d).mean().detach()), rel=1e-4)
