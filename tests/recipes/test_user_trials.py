"""What a new user tried and what went wrong once: parts from files, tools in columns of other names, misleading numbers, quiet failures."""

import io
import json
import warnings

import numpy as np
import pytest
import torch
from rich.console import Console

import burnish
from burnish.models import tiny, tokenizer
from burnish.models.eval_mode import switch_checkpointing
from burnish.models.precision import unmoved_share
from burnish.models.save import save_model
from burnish.recipes.check import check, show
from burnish.recipes.config import TrainConfig
from burnish.recipes.export import export
from burnish.rl.filters.combine import make_filter
from burnish.runs.config import build
from burnish.runs.errors import UserError

MINE = '''
CALLS = []

async def talk(item, chats):
    """Two roles: one asks, one answers."""
    question = await chats["asker"].complete(item.messages)
    answer = await chats["solver"].complete([{"role": "user", "content": f"{len(question.text)}?"}])
    return answer.text

async def alone(item, chat):
    CALLS.append(item.id)
    if len(CALLS) % 4 == 0:
        raise KeyError("now and then")
    return (await chat.complete(item.messages)).text

async def broken(item, chat):
    raise KeyError("a typo")

def function(items, session):
    return []

class Numbers:
    def __init__(self, items):
        pass
    def draw(self, n, state):
        return [1] * n
'''
RL = {"steps": 1, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 6, "learning_rate": 1e-3, "slots": 8, "beta": 0.0}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}}]
DATA = [{"prompt": [{"role": "user", "content": f"{n}+1="}], "answer": str(n + 1)} for n in range(4)]


def low(completions, **columns):
    """TRL's signature; the prompts are messages, so completions are lists of messages."""
    return [sum(letter < "M" for letter in reply[0]["content"]) / 10 for reply in completions]


@pytest.fixture(scope="module")
def words():
    return tokenizer.byte_level("thinking")


@pytest.fixture
def model(words):
    return tiny.make("llama", words, hidden=32, layers=1, max_length=512)


@pytest.fixture
def run(model, words, tmp_path):
    """run(rl fields, ...): one training into tmp_path / "run"."""

    def go(rl=None, data=DATA, reward=low, **fields):
        given = {"model": model, "tokenizer": words, "data": data, "reward": reward, "output": str(tmp_path / "run")}
        return burnish.train(**given | fields, threads=1, rl=RL | (rl or {}))["run"]

    return go


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


# --- parts from a user's file -------------------------------------------------------------------------------------------------------------
def test_an_agent_of_a_users_file_with_two_roles(run, mine):
    thinker = {"name": "agent", "agent": f"{mine}:talk", "roles": ["asker", "solver"], "trained": ["solver"]}
    (row,) = (found := run({"thinker": thinker})).metrics()
    for group in found.rollouts(1):
        assert [r["agent"] for r in group["rollouts"]] == ["asker", "solver"] * 4
        assert group["kept"] == [False, True] * 4
    assert (row["rollouts/drawn"], row["rollouts/kept"]) == (16, 8)
    assert row["sampling/sampling_logp_difference/max"] < 2e-5


def test_an_async_function_is_a_thinker_and_its_broken_episodes_are_counted(run, mine):
    (row,) = (found := run({"thinker": f"{mine}:alone"})).metrics()
    scores = [score for group in found.rollouts(1) for score in group["scores"]]
    assert [score["invalid"] for score in scores].count(True) == 2  # every fourth of eight, before it said a word
    assert (row["rollouts/drawn"], row["rollouts/invalid"], row["rollouts/kept"]) == (8, 2, 6)
    assert row["reward"] == pytest.approx(np.mean([score["reward"] for score in scores if not score["invalid"]]))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"thinker": "{mine}:broken"}, r"every rollout of step 1 ended in an error \(the first: KeyError: 'a typo'\)"),
        ({"thinker": "{mine}:function"}, r"cannot think: it must be a class with `think"),
        ({"curriculum": "{mine}:function"}, r"cannot draw: it must be a class with"),
        ({"curriculum": "{mine}:Numbers"}, "curriculum Numbers drew 1"),
        ({"critic_learning_rate": 1e-5}, "has no critic"),
        ({"minibatches": 3}, r"rl\.minibatches is 3 but a step has only 2 groups"),
    ],
)
def test_what_cannot_work_is_one_line_and_leaves_no_folder(fields, says, run, mine, tmp_path):
    with pytest.raises(UserError, match=says):
        run(json.loads(json.dumps(fields).replace("{mine}", mine)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_named(name, run, tmp_path):
    with pytest.raises(UserError, match=f"model.device '{name}' cannot be used here: .*`burnish info` lists the devices"):
        run(model_args={"device": name})
    assert not (tmp_path / "run").exists()


def test_a_model_goes_to_its_device_and_its_reference_with_it(run):
    (row,) = run({"beta": 0.1}, model_args={"device": "cpu"}).metrics()
    assert row["kl"] == 0


def test_a_model_object_keeps_its_dtype_unless_another_is_asked_for(run, model, tmp_path):
    model.to(torch.float64)
    run()
    assert model.dtype == torch.float64
    run(model_args={"dtype": "float32"}, output=str(tmp_path / "other"))
    assert model.dtype == torch.float32


def test_a_run_whose_filters_keep_nothing_says_so(run):
    with pytest.warns(UserWarning, match=r"in 2 of 2 steps no rollout was kept .* did not move the weights"):
        run({"steps": 2, "filters": ["zero_variance"]}, reward=lambda completions, **columns: [1.0] * len(completions))


def test_baselines_without_anything_to_measure_them_on_are_refused(run):
    with pytest.raises(UserError, match=r"eval\.baselines is set but there is nothing to evaluate on"):
        run(eval={"baselines": {"base": "somewhere"}})


def test_refill_counts_the_rounds_of_a_step_whatever_the_step_draws(run):
    refill = {"name": "refill", "filter": "zero_variance", "prompts": 1, "rounds": 3}
    rows = run({"filters": [refill], "steps": 5}).metrics()  # every group differs: one round a step is enough
    assert [row["filter/refill_rounds"] for row in rows] == [row["rollouts/rounds"] for row in rows] == [1] * 5
    dull = run_groups(make_filter({**refill, "prompts": 2}), [4, 6, 8, 4, 6])
    assert [(found.more, found.counts["refill_rounds"]) for found in dull] == [(2, 1), (2, 2), (0, 3), (2, 1), (2, 2)]


def run_groups(part, sizes):
    """The filter's verdicts on so many groups of equal rewards."""
    from burnish.records import Group, Item, Rollout, Score, Turn

    turn = Turn([1], [2], np.zeros(1))
    dull = Group(Item("a", [1]), [Rollout("a", place, [turn]) for place in range(2)], [Score(1.0), Score(1.0)])
    return [part([dull] * size) for size in sizes]


# --- tools in a column of another name ----------------------------------------------------------------------------------------------------
def test_tools_of_a_named_column_reach_generation_and_evaluation(run, words, model, tmp_path):
    rows = [row | {"functions": TOOLS, "tools": "a note of the user's"} for row in DATA]
    eval_fields = {"rows": 2, "steps": 1}
    found = run(data=rows, data_args={"tools_column": "functions"}, eval=eval_fields)
    for group in found.rollouts(1):
        seen = words.decode(group["rollouts"][0]["turns"][0]["context_ids"])
        assert seen == words.apply_chat_template(group["item"]["prompt"], tools=TOOLS, tokenize=False, add_generation_prompt=True)
        assert '"name": "add"' in seen


def test_check_of_fine_tuning_takes_the_tools_column_and_bad_rows(words, model):
    talk = [{"role": "user", "content": "1+1="}, {"role": "assistant", "content": "2"}]
    rows = [{"messages": talk, "functions": TOOLS}, {"messages": talk[:1], "functions": TOOLS}]
    data = {"path": "data", "tools_column": "functions", "bad_rows": "skip"}
    config = build(TrainConfig, {"stage": "sft", "output": "run", "data": data})
    found = check(config, model=model, tokenizer=words, data=rows)
    assert len(found.rows) == 1
    assert '"name": "add"' in found.rows[0].pieces[0][0]


def test_check_counts_broken_rollouts_and_leaves_them_out(words, model, mine):
    config = build(TrainConfig, {"output": "run", "threads": 1, "rl": {"thinker": f"{mine}:alone", "max_new_tokens": 2, "rewards": ["x"]}})
    found = check(config, model=model, tokenizer=words, data=DATA, reward=lambda completions, **columns: [0.25] * len(completions))
    assert found.warnings[0] == "2 of 8 rollouts ended in an error, the first: KeyError: 'now and then'"
    assert found.warnings[1].endswith("the reference answer '1' scores 0.25; check the reward, the answer or rl.success_above")
    assert found.uniform == 1.0  # a broken rollout's reward of 0 is no difference


def test_check_prints_a_prompt_without_line_breaks_of_its_own(words, model):
    prompt = "one " * 60 + "end"
    config = build(TrainConfig, {"output": "run", "threads": 1, "rl": {"max_new_tokens": 2, "rewards": ["format"]}})
    console = Console(width=40, record=True, file=io.StringIO())
    show(check(config, model=model, tokenizer=words, data=[{"prompt": prompt}], reward=lambda completions, **rest: [0.0] * 2), console)
    assert prompt in console.export_text()


# --- numbers ------------------------------------------------------------------------------------------------------------------------------
def test_reward_and_gradient_of_a_step_are_those_of_its_rollouts(run, model):
    """GRPO by hand on the saved rollouts, in plain PyTorch and float64."""
    plain = tiny.make("llama", tokenizer.byte_level("thinking"), hidden=32, layers=1, max_length=512, dtype=torch.float64)
    plain.load_state_dict(model.state_dict())
    (row,) = (found := run()).metrics()
    groups, loss = found.rollouts(1), 0.0
    for group in groups:
        rewards = np.array([score["reward"] for score in group["scores"]])
        spread = rewards.std(ddof=1)
        for rollout, advantage in zip(group["rollouts"], (rewards - rewards.mean()) / spread if spread else 0 * rewards, strict=True):
            (turn,) = rollout["turns"]
            ids = torch.tensor([turn["context_ids"] + turn["output_ids"]])
            logp = plain(ids).logits[0, len(turn["context_ids"]) - 1 : -1].log_softmax(-1)
            own = logp.gather(1, torch.tensor(turn["output_ids"])[:, None])[:, 0]
            np.testing.assert_allclose(own.detach().numpy(), turn["logprobs"], atol=2e-5)
            loss = loss - advantage * (own - own.detach()).exp().mean() / (4 * len(groups))
    loss.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in plain.parameters() if p.grad is not None))
    assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert row["reward"] == pytest.approx(np.mean([score["reward"] for group in groups for score in group["scores"]]))


def test_the_card_of_an_exported_checkpoint_has_its_own_measurement(model, words, tmp_path):
    save_model(model, words, tmp_path / "model")
    value = iter(range(100))

    def falling(completions, **columns):
        return [1.0 - next(value) / 100 for _ in completions]

    fields = {"rl": RL | {"steps": 2, "success_above": 0.8}, "eval": {"rows": 2, "steps": 1}, "threads": 1}
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DATA))
    paths = {name: str(tmp_path / name) for name in ("model", "run")}
    found = burnish.train(model=paths["model"], data=str(tmp_path / "data.jsonl"), reward=falling, output=paths["run"], **fields)
    rows = {row["step"]: row.get("eval/success") for row in found["run"].metrics()}
    assert (found["best_step"], rows[1], rows[2]) == (1, 1.0, 0.5)
    for which, success in (("best", 1.0), ("last", 0.5)):
        path = export(paths["run"], tmp_path / which, which)
        assert f"value: {success}\n" in (path / "README.md").read_text()


def test_weights_too_coarse_for_the_learning_rate_are_named(run, model):
    assert unmoved_share(model.parameters(), 1e-6) == 0
    model.to(torch.bfloat16)
    with pytest.warns(UserWarning, match=r"9\d% of the trained weights are rounded back .* learning rate 1e-06"):
        run({"learning_rate": 1e-6})


def test_an_adapter_on_coarse_weights_is_fine(run, model):
    model.to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*rounded back.*")
        run({"learning_rate": 1e-6}, model_args={"lora": {"rank": 2}})


def test_a_model_that_cannot_checkpoint_gradients_is_named():
    with pytest.raises(UserError, match="gradient_checkpointing: Linear cannot do it"):
        switch_checkpointing(torch.nn.Linear(2, 2), True)


def test_fields_point_to_nothing_that_is_not_there():
    from burnish.cli import verbs
    from burnish.runs.config import describe_fields

    told = json.dumps(describe_fields(TrainConfig)).split("`burnish ")[1:]
    assert all(text.split()[0].strip("`") in verbs() for text in told)
