"""Seam: an agent written only against ChatModel: two roles, concurrent calls, one role trained, rewards by role."""

import asyncio

import pytest
import torch

from burnish.records import Item, Limits, Score
from burnish.rl.rollouts.agent import Agent


async def debate(item, chats):
    """Two drafts at once, a critic on each, at once too, and an answer in view of what was said."""
    question = {"role": "user", "content": item.columns["question"]}
    drafts = await asyncio.gather(*(chats["solver"].complete([question]) for _ in range(2)))

    async def criticise(draft):
        return await chats["critic"].complete([{"role": "user", "content": f"Criticise: {len(draft.text)}"}])

    notes = await asyncio.gather(*map(criticise, drafts))
    talk = [question, drafts[0].message, {"role": "user", "content": f"Notes: {len(notes)}. Your answer?"}]
    final = await chats["solver"].complete(talk, max_new_tokens=4)
    return {"answer": final.text, "notes": len(notes)}


def by_role(group, measured):
    """The solver earns by its answer, the critic by its own words; both see the outcome of the episode."""
    return [Score(float(len(r.outcome["answer"])) if r.agent == "solver" else -float(r.n_loss_tokens + r.index)) for r in group.rollouts]


class Questions:
    def draw(self, n, state):
        talks = [[{"role": "user", "content": f"Question {k}?"}] for k in range(n)]
        return [Item(f"q{k}", talk, 2, Limits(max_new_tokens=6), {"question": talk[0]["content"]}) for k, talk in enumerate(talks)]


@pytest.mark.parametrize("trained", [["solver"], ["critic"], ["solver", "critic"]])
def test_roles_are_rollouts_of_one_episode_and_only_the_trained_reach_the_loss(wire, trained):
    run = wire(Agent(debate, ["solver", "critic"], trained), reward=by_role, curriculum=Questions(), template="chatml")
    batch, _ = run.step()
    kept = run.agrees(batch)
    assert [rollout.agent for rollout in kept] == sorted(trained) * 4
    for group in batch.groups:
        assert [(r.index, r.agent) for r in group.rollouts] == [(0, "critic"), (0, "solver"), (1, "critic"), (1, "solver")]
        for rollout in group.rollouts:
            assert rollout.episode == f"{group.item.id}/{rollout.index}"
            assert rollout.outcome["notes"] == 2
            assert {turn.agent for turn in rollout.turns} == {rollout.agent}
            assert len(rollout.turns) == (3 if rollout.agent == "solver" else 2)
            assert all(turn.loss_mask.all() == turn.loss_mask.any() == (rollout.agent in trained) for turn in rollout.turns)
        first, second = (r for r in group.rollouts if r.agent == "solver")
        prompt = run.policy.encode(list(group.item.prompt))
        for rollout in (first, second):
            drafts, final = rollout.turns[:2], rollout.turns[2]
            assert [turn.context_ids for turn in drafts] == [prompt, prompt]
            # The final call goes on from exactly the first draft's ids; nothing of it was encoded again.
            assert final.context_ids[: len(prompt) + len(drafts[0].output_ids)] == prompt + drafts[0].output_ids
        assert [t.output_ids for t in first.turns] != [t.output_ids for t in second.turns]
    # Advantages are taken within a role: each role's two rewards of a group are centred on their own mean.
    table, spread = run.seen["table"], run.seen["advantage"]
    mine = [float(part[0]) for part in spread.split(table.lengths.tolist())]
    score = {id(r): s.reward for g in batch.groups for r, s in zip(g.rollouts, g.scores)}
    for group in batch.groups:
        for agent in trained:
            pair = [n for n, rollout in enumerate(kept) if rollout.agent == agent and rollout.item_id == group.item.id]
            gap = score[id(kept[pair[0]])] - score[id(kept[pair[1]])]
            assert mine[pair[0]] + mine[pair[1]] == pytest.approx(0, abs=1e-9)
            assert torch.sign(torch.tensor(mine[pair[0]])) == torch.sign(torch.tensor(gap))
    assert run.seen["weights"].sum() == pytest.approx(1.0)


def test_what_the_solver_learns_does_not_depend_on_whether_the_critic_is_trained_too(wire):
    seen = {}
    for trained in (("solver",), ("solver", "critic")):
        run = wire(Agent(debate, ["solver", "critic"], trained), reward=by_role, curriculum=Questions(), template="chatml")
        batch, _ = run.step()
        kept = run.agrees(batch)
        solver = [n for n, rollout in enumerate(kept) if rollout.agent == "solver"]
        table, places = run.seen["table"].pick(solver)
        seen[trained] = [kept[n].output_ids for n in solver], run.seen["advantage"][places], run.seen["weights"][places] * table.n_kept
        seen[trained][2].mul_(len(kept) / len(solver))
    (ids, advantage, weights), (same_ids, same_advantage, same_weights) = seen.values()
    assert ids == same_ids
    assert torch.equal(advantage, same_advantage)
    torch.testing.assert_close(weights, same_weights)  # 1 / (N L): N counts the trained rollouts only
