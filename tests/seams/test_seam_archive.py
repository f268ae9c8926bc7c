"""Seam: a curriculum whose prompts come from an archive that it fills itself, and that survives a kill."""

import pytest
import torch

from burnish.records import Item, Limits, Score


class Archive:
    """Starts from one seed prompt; the best completion seen so far of each prompt becomes a prompt. Draws the best-scored ones."""

    def __init__(self, seed_prompt):
        self.entries = {"root": {"prompt": list(seed_prompt), "score": 0.0, "step": 0}}

    def draw(self, n, state):
        ranked = sorted(self.entries.items(), key=lambda pair: (-pair[1]["score"], pair[0]))
        chosen = [ranked[k % len(ranked)] for k in range(n)]
        return [Item(name, entry["prompt"], 2, Limits(max_new_tokens=5), {"parent": name}) for name, entry in chosen]

    def observe(self, batch):
        for number, group in enumerate(batch.groups):
            best = max(range(len(group.scores)), key=lambda k: group.scores[k].reward)
            prompt = (list(group.item.prompt) + group.rollouts[best].output_ids)[-12:]
            self.entries[f"s{batch.step}-{number}"] = {"prompt": prompt, "score": group.scores[best].reward, "step": batch.step}

    def state_dict(self):
        return {"entries": self.entries}

    def load_state_dict(self, state):
        self.entries = state["entries"]


def large_ids(group, measured):
    return [Score(sum(rollout.output_ids) / 1000) for rollout in group.rollouts]


class Killed(Exception):
    pass


def rows(run):
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in run.metrics()]


def test_prompts_are_the_archives_own_and_a_resumed_run_draws_on_from_it(wire, tmp_path):
    def start(folder, resume=False, fail_at=None):
        seen = []
        run = wire(curriculum=Archive([72, 73]), reward=large_ids)

        def after(batch, metrics):
            seen.append(batch)
            run.agrees(batch)
            if batch.step == fail_at:
                raise Killed

        trainer = run.trainer(tmp_path / folder, total=5, save_steps=2, resume=resume, after=after)
        return run, trainer, seen

    whole, trainer, batches = start("whole")
    trainer.run()
    expected = rows(trainer.run_folder)
    known = {"root": [72, 73]}
    for batch in batches:
        for number, group in enumerate(batch.groups):
            assert group.item.id.split("#")[0] in known
            assert list(group.item.prompt) == known[group.item.columns["parent"]]
            assert all(turn.context_ids == list(group.item.prompt) for rollout in group.rollouts for turn in rollout.turns)
            assert all((turn.version == batch.step - 1).all() for rollout in group.rollouts for turn in rollout.turns)
            best = max(zip([score.reward for score in group.scores], [-r.index for r in group.rollouts], group.rollouts))[2]
            grown = (list(group.item.prompt) + best.output_ids)[-12:]
            known[f"s{batch.step}-{number}"] = grown
    assert len(known) == 11
    assert {group.item.columns["parent"] for batch in batches for group in batch.groups} - {"root"}

    _, trainer, _ = start("broken", fail_at=4)
    with pytest.raises(Killed):
        trainer.run()
    resumed, trainer, rest = start("broken", resume=True)
    trainer.run()
    assert [batch.step for batch in rest] == [3, 4, 5]
    assert resumed.source.curriculum.entries == whole.source.curriculum.entries
    assert rows(trainer.run_folder) == expected
    assert [row["step"] for row in expected] == [1, 2, 3, 4, 5]
    for one, two in zip(whole.policy.model.parameters(), resumed.policy.model.parameters()):
        assert torch.equal(one, two)
