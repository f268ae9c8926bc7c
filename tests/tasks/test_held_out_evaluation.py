"""Held-out evaluation: hand-computed measures, fixed draws, JSON, paired differences."""

import dataclasses
import json
import math
from typing import Any

import pytest

from burnish.models import tiny
from burnish.models import tokenizer as tokenizers
from burnish.records import Item, Limits, Sampling, Score
from burnish.runs.errors import UserError
from burnish.runs.stats import pass_at_k
from burnish.tasks import reward, to_items
from burnish.tasks.eval_result import EvalResult, ItemResult, paired_difference
from burnish.tasks.evaluation import evaluate
from burnish.tasks.sort import Sort
from burnish.tasks.task import alphabet


@dataclasses.dataclass
class SmallPolicy:
    """As much of a policy as evaluation needs."""

    model: Any
    tokenizer: Any

    @property
    def eos_ids(self):
        return (self.tokenizer.eos_token_id,)

    def encode(self, prompt, tools=None, **_):
        text = prompt if isinstance(prompt, str) else "".join(message["content"] for message in prompt)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


TASK = Sort(length=3)


@pytest.fixture(scope="module")
def policy():
    tokenizer = tokenizers.characters(alphabet(TASK))
    return SmallPolicy(tiny.make("qwen3", tokenizer, hidden=32, layers=1, seed=1), tokenizer)


@pytest.fixture(scope="module")
def items(policy):
    return to_items(TASK.items(12, 0, "test"), policy.encode, limits=Limits(max_new_tokens=6))


def first_letter(group, measured):
    """A reward that random text sometimes earns: the first letter is in the first half of the alphabet."""
    assert measured == {}
    good = [float(text[:1] < "n" and text[:1].isalpha()) for text in group.texts]
    return [Score(reward=2 * value, success=value, parts={"good": value}) for value in good]


def item_result(name, successes, rewards=None):
    n = len(successes)
    rewards = successes if rewards is None else rewards
    return ItemResult(name, successes, rewards, [False] * n, [3] * n, ["x"] * n)


def result(*items, samples=4, **more):
    return EvalResult(list(items), samples=samples, sampling=Sampling().to_dict(), **more)


def test_measures_by_hand():
    found = result(
        item_result("a", [1.0, 0.0, 0.0, 0.0]),
        item_result("b", [1.0, 1.0, None, 0.0], [1.0, 1.0, None, 0.0]),
        item_result("c", [0.5, 0.0, 1.0, 1.0]),  # half right is no solved sample for pass@k
    )
    assert found.success().mean == pytest.approx((1 + 2 + 2.5) / 11)
    assert found.success().clusters == 3
    assert found.pass_at(2).mean == pytest.approx((pass_at_k(4, 1, 2) + pass_at_k(3, 2, 2) + pass_at_k(4, 2, 2)) / 3)
    assert found.pass_at(4).mean == 1.0  # item b has only three
    assert found.pass_at(4).n == 2
    assert found.n_invalid == 1
    summary = found.summary()
    assert list(found.ks) == [1, 2, 4]
    assert summary["mean@4"] == summary["pass@1"]
    assert (summary["invalid"], summary["items"], summary["mean_tokens"], summary["truncated"]) == (1, 3, 3.0, 0.0)
    with pytest.raises(UserError, match="pass@5 needs at least 5 samples"):
        found.pass_at(5)


def test_samples_of_one_prompt_are_no_independent_evidence():
    alike = result(*(item_result(str(i), [float(i % 2)] * 4) for i in range(20)))
    mixed = result(*(item_result(str(i), [1.0, 0.0, 1.0, 0.0]) for i in range(20)), item_result("z", [1.0, 1.0, 0.0, 0.0]))
    single = result(*(item_result(str(i), [float(i % 2)]) for i in range(20)), samples=1)
    width = alike.success().high - alike.success().low
    assert width == pytest.approx(single.success().high - single.success().low)
    assert mixed.success().high - mixed.success().low < 0.1 * width


def test_shares_stay_inside_and_unanimity_is_no_certainty():
    none = result(*(item_result(str(i), [0.0] * 4) for i in range(10))).success()
    assert (none.mean, none.low) == (0.0, 0.0)
    assert 0.2 < none.high < 0.35  # Wilson, 0 of 10
    rare = result(item_result("a", [1.0, 0.0, 0.0, 0.0]), *(item_result(str(i), [0.0] * 4) for i in range(9))).success()
    assert rare.low == 0.0
    unknown = result(item_result("a", [None], [0.3]), item_result("b", [None], [0.5]), samples=1)
    assert math.isnan(unknown.success().mean)
    assert unknown.reward().mean == pytest.approx(0.4)
    assert json.loads(unknown.to_json())["pass@1"]["mean"] is None


def test_paired_differences_pair_by_id():
    before = result(*(item_result(str(i), [0.0, 1.0, 0.0, float(i % 2)]) for i in range(10)))
    after = result(*(item_result(str(i), [0.0, 1.0, 1.0, float(i % 2)]) for i in reversed(range(10))))
    gain = paired_difference(before, after)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((0.25, 0.25, 0.25))
    assert paired_difference(after, before).mean == pytest.approx(-0.25)
    fewer = result(*after.items[:9])
    with pytest.raises(UserError, match="different items"):
        paired_difference(before, fewer)
    assert paired_difference(before, fewer, only_common=True).n == 9
    broken = result(*after.items[:9], item_result("0", [None] * 4))
    assert paired_difference(before, broken).n == 9
    with pytest.raises(UserError, match="no item in common"):
        paired_difference(result(item_result("a", [None])), result(item_result("a", [None])))


def test_results_survive_json_and_odd_files_are_named(tmp_path):
    found = result(item_result("ä", [1.0, None, 0.5, 0.0]), seed=3, name="base", engine_mode="exact", seconds=1.5)
    assert EvalResult.from_json(found.to_json()) == found
    found.save(tmp_path / "base.json")
    assert EvalResult.load(tmp_path / "base.json").summary() == found.summary()
    (tmp_path / "odd.json").write_text('{"pass@1": 0.3}')
    with pytest.raises(UserError, match=r"odd\.json is no evaluation result"):
        EvalResult.load(tmp_path / "odd.json")
    with pytest.raises(UserError, match="cannot read the evaluation"):
        EvalResult.load(tmp_path / "none.json")


def test_draws_depend_on_the_item_alone(policy, items):
    found = evaluate(policy, items, first_letter, samples=3)
    backwards = evaluate(policy, items[::-1], first_letter, samples=3)
    part = evaluate(policy, items[4:6], first_letter, samples=2)
    by_id = {item.id: item for item in backwards.items}
    assert [item.id for item in found.items] == [item.id for item in items]
    assert all(by_id[item.id] == item for item in found.items)
    assert [item.completions for item in part.items] == [item.completions[:2] for item in found.items[4:6]]
    assert len({text for item in found.items for text in item.completions}) > 12
    assert evaluate(policy, items, first_letter, samples=3, seed=1).items != found.items
    assert 0.0 < found.success().mean < 1.0
    assert found.reward().mean == pytest.approx(2 * found.success().mean)
    assert found.items[0].prompt == policy.decode(items[0].prompt)


def test_limits_truncation_greedy_and_chat(policy, items):
    steps = []
    short = evaluate(policy, items[:4], reward(TASK), samples=2, max_new_tokens=2, progress=lambda done, total: steps.append((done, total)))
    assert all(count <= 2 for item in short.items for count in item.tokens)
    assert short.truncated > 0.5
    assert steps == [(4, 4)]
    greedy = evaluate(policy, items[:4], reward(TASK), samples=2, sampling=Sampling(temperature=0.0))
    assert all(len(set(item.completions)) == 1 for item in greedy.items)
    chat = [dataclasses.replace(item, prompt=[{"role": "user", "content": policy.decode(item.prompt)}]) for item in items[:4]]
    again = evaluate(policy, chat, reward(TASK), samples=2, sampling=Sampling(temperature=0.0))
    assert [item.completions for item in again.items] == [item.completions for item in greedy.items]
    assert again.items[0].prompt.startswith("user: ")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda group, measured: [], "0 values for the 1 rollouts"),
        (lambda group, measured: None, "NoneType"),
        (lambda group, measured: [1.0], "one Score for each"),
        (lambda group, measured: [Score(math.nan)], "must be finite numbers"),
    ],
)
def test_a_bad_reward_is_named(policy, items, bad, words):
    with pytest.raises(UserError, match=words):
        evaluate(policy, items[:1], bad)


def test_no_items_and_an_id_twice_are_refused(policy, items):
    with pytest.raises(UserError, match="no items"):
        evaluate(policy, [], first_letter)
    with pytest.raises(UserError, match="there twice"):
        evaluate(policy, [items[0], items[0]], first_letter)
    with pytest.raises(UserError, match="samples is 0"):
        evaluate(policy, items, first_letter, samples=0)
    assert isinstance(items[0], Item)
